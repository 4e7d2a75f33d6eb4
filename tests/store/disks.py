"""Data folders and their disks for tests: with threads that run when they are told to."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from chordtx.store.folder import DataFolder

#: Where a sync costs nothing, if there is such a place: for tests with many and without crashes.
IN_MEMORY = next((path for path in ("/dev/shm",) if os.access(path, os.W_OK)), None)

#: The tables of chordtx 0.1.0, and one record.
_FIRST_VERSION = (
    "PRAGMA journal_mode = WAL",
    "CREATE TABLE records (row INTEGER PRIMARY KEY, place INTEGER NOT NULL, key BLOB NOT NULL,"
    " record BLOB NOT NULL)",
    "CREATE UNIQUE INDEX records_by_place ON records (place, key)",
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    "INSERT INTO records (place, key, record) VALUES (1, x'6b6579', x'00')",
    "PRAGMA application_id = 0x63687478",
    "PRAGMA user_version = 1",
)


class Threads:
    """What is to run in a thread, kept until :meth:`run`; ``at_once`` runs it as it comes."""

    def __init__(self, at_once: bool = False) -> None:
        self.at_once = at_once
        self.waiting: list[tuple[Callable[[], None], Deferred[None]]] = []

    def __call__(self, work: Callable[[], None]) -> Deferred[None]:
        if self.at_once:
            work()
            return succeed(None)
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


def opened(path: Path, subnet: str = "demo", clock: Clock | None = None) -> DataFolder:
    """A folder whose commits are done at once.

    :param clock: tells it when to try again; one that stands still when None.
    """
    return DataFolder(str(path), subnet, Threads(at_once=True), (clock or Clock()).callLater)


def close(folder: DataFolder) -> None:
    """Close it; all is stored."""
    assert result(Deferred.fromCoroutine(folder.close())) == [None]


def make_first_version(path: Path) -> None:
    """A file as chordtx 0.1.0 has left it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in _FIRST_VERSION:
            connection.execute(statement)


def result(deferred: Deferred[Any] | None) -> list[Any]:
    """Fills with the result or the exception."""
    outcome: list[Any] = []
    assert deferred is not None
    deferred.addErrback(lambda failure: failure.value).addCallback(outcome.append)
    return outcome
