"""Stores on disk for tests: with threads that run when they are told to, and a clock that stands still."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from chordtx.records import Record, Version
from chordtx.store import DataFolder, DiskStore
from chordtx.store.database import Database

#: Where a sync costs nothing, if there is such a place: for tests with many and without crashes.
IN_MEMORY = next((path for path in ("/dev/shm",) if os.access(path, os.W_OK)), None)


def record(clock: int, value: bytes | None = b"value") -> Record:
    """A record of one writer."""
    return Record(Version(clock, b"writer"), value)


class Threads:
    """What is to run in a thread, kept until :meth:`run`; ``at_once`` runs it as it comes."""

    def __init__(self, at_once: bool = False) -> None:
        self.at_once = at_once
        self.waiting: list[tuple[Callable[[], None], Deferred[None]]] = []

    def __call__(self, work: Callable[[], None]) -> Deferred[None]:
        if self.at_once:
            try:
                return succeed(work())
            except Exception:
                failed: Deferred[None] = Deferred()
                failed.errback()
                return failed
        done: Deferred[None] = Deferred()
        self.waiting.append((work, done))
        return done

    def run(self) -> None:
        """Do what waits."""
        waiting, self.waiting = self.waiting, []
        for work, done in waiting:
            try:
                work()
            except Exception:
                done.errback()
            else:
                done.callback(None)


class Disk:
    """One store, its clock and its threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = Clock()
        self.threads = Threads()
        self.database = Database(path)
        self.store = DiskStore(self.database, self.threads, self.clock.callLater)

    def commit(self) -> None:
        """Whatever is due happens, to the end."""
        self.clock.advance(10)
        while self.threads.waiting:
            self.threads.run()
            self.clock.advance(10)

    def crash(self) -> None:
        """What was not committed is gone."""
        self.threads.waiting.clear()
        self.database.close()

    def opened_again(self) -> Disk:
        """After :meth:`crash`, or a close."""
        return Disk(self.path)


def opened(path: Path, subnet: str = "demo") -> DataFolder:
    """A folder whose commits are done at once, when their time has come."""
    return DataFolder(str(path), subnet, Threads(at_once=True), Clock().callLater)


def result(deferred: Deferred[Any] | None) -> list[Any]:
    """Fills with the result or the exception."""
    outcome: list[Any] = []
    assert deferred is not None
    deferred.addErrback(lambda failure: failure.value).addCallback(outcome.append)
    return outcome
