"""The disk under the groups of one simulated host: real files, and crashes that leave them as a disk may.

What was synced survives. Of a commit that was under way anything may have come to stand: nothing, a part that
is cut off, some of its sectors and not others, sectors with bytes that nobody wrote; or all of it, though
nobody was told. While SQLite copies its log into the database, some pages there may be new and some old.

Taken for granted, as SQLite does: a write harms nothing beside what it writes; and the log's header, which is
synced before what follows it, lies in one sector, which is written whole or not at all.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from chordtx.errors import StorageFailed
from chordtx.group.rank import NodeId
from chordtx.group.replica import Save
from chordtx.store.database import Database
from chordtx.store.group_store import CallLater, InlineGroupStore
from chordtx.store.reading import Loaded

_SYNC_SECONDS = 0.004
_SECTOR_BYTES = 512
_LOG_HEADER_BYTES = 32


class Files(NamedTuple):
    """What is in the database's file, and in its write-ahead log."""

    database: bytes
    log: bytes


def read_files(path: Path) -> Files:
    """The files of the database at ``path`` as they are; empty where they are not there."""
    return Files(*(each.read_bytes() if each.exists() else b"" for each in (path, _beside(path, "-wal"))))


def write_files(path: Path, files: Files) -> None:
    """Have them be like this for whoever opens the database at ``path`` next. It must be closed."""
    path.write_bytes(files.database)
    _beside(path, "-wal").write_bytes(files.log)
    _beside(path, "-shm").unlink(missing_ok=True)


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def torn(before: Files, after: Files, rng: Random) -> Files:
    """What a crash may leave when the files were to go from ``before`` to ``after`` by one commit."""
    if rng.random() < 0.2:
        return before
    if rng.random() < 0.2:
        # The commit is synced: its pages may be on their way from the log into the database.
        return Files(_mixed(before.database, after.database, rng, 0.0), after.log)
    log = before.log
    if log and log[:_LOG_HEADER_BYTES] != after.log[:_LOG_HEADER_BYTES]:
        log = after.log[:_LOG_HEADER_BYTES] + log[_LOG_HEADER_BYTES:]
    garbled = rng.choice((0.0, 0.0, 0.05, 0.5))
    log = _cut(log, after.log, rng) if rng.random() < 0.4 else _mixed(log, after.log, rng, garbled)
    return Files(before.database, log)


def _span(before: bytes, after: bytes) -> tuple[int, int]:
    """From the first to behind the last byte that was written."""
    start, end = _alike(before, after), len(after)
    if len(after) <= len(before):
        end -= _alike(before[start:end][::-1], after[start:][::-1])
    return start, end


def _alike(one: bytes, other: bytes) -> int:
    """How many bytes they begin with in common."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _cut(before: bytes, after: bytes, rng: Random) -> bytes:
    """Written up to somewhere."""
    place = rng.randint(*_span(before, after))
    return after[:place] + before[place:]


def _mixed(before: bytes, after: bytes, rng: Random, garbled: float) -> bytes:
    """Each sector is as it was, or as it was to be, or garbled with this probability."""
    start, end = _span(before, after)
    made = bytearray(before.ljust(end, b"\0"))
    share = rng.random()
    while start < end:
        stop = min(end, (start // _SECTOR_BYTES + 1) * _SECTOR_BYTES)
        if rng.random() < garbled:
            made[start:stop] = rng.randbytes(stop - start)
        elif rng.random() < share:
            made[start:stop] = after[start:stop]
        start = stop
    return bytes(made)


class GroupDisk:
    """What a host keeps of its groups when its process ends.

    :param path: of the database; a folder in memory will do, for nothing is really synced here.
    :ivar full_for: how many reasons there are that it takes nothing more.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.full_for = 0
        self._database: Database | None = None

    @property
    def is_open(self) -> bool:
        """Whether a process uses it."""
        return self._database is not None

    def opened(self) -> Database:
        """The database, for a process that begins."""
        assert self._database is None, "it is in use"
        self._database = Database(self.path)
        return self._database

    def write(self, work: Callable[[], None]) -> None:
        """Do a commit. :raises StorageFailed: when the disk is full."""
        if self.full_for:
            raise StorageFailed(f"{self.path}: no space is left", str(self.path), "no space is left")
        work()

    def closed(self) -> None:
        """A process has ended and closed its database."""
        self._database = None

    def crash(self, rng: Random, under_way: Callable[[], None] | None = None) -> None:
        """The process ends at once.

        :param under_way: does the commit that was not finished yet (:attr:`SimulatedThread.under_way`).
        """
        assert self._database is not None, "it is not in use"
        before = left = read_files(self.path)
        if under_way is not None:
            try:
                under_way()
            except StorageFailed:
                pass  # the disk was full: then nothing of it was committed
            else:
                left = torn(before, read_files(self.path), rng)
        self._database.close()
        self._database = None
        write_files(self.path, left)


class SimulatedThread:
    """Stands in for the thread in which a store commits: a commit takes a while of simulated time.

    :param call_later: of the process, which is never called once that has ended. :param disk: written to.
    :ivar under_way: does the commit that has begun and is not on disk yet.
    """

    def __init__(self, call_later: CallLater, rng: Random, disk: GroupDisk) -> None:
        self._call_later = call_later
        self._rng = rng
        self._disk = disk
        self.under_way: Callable[[], None] | None = None

    def __call__(self, work: Callable[[], None]) -> Deferred[None]:
        """Do it, when its time is over. It is a store's ``run_in_thread``."""
        self.under_way = lambda: self._disk.write(work)
        done: Deferred[None] = Deferred()
        self._call_later(_SYNC_SECONDS * (0.5 + self._rng.random()), lambda: self._do(work, done))
        return done

    def _do(self, work: Callable[[], None], done: Deferred[Any]) -> None:
        self.under_way = None
        try:
            self._disk.write(work)
        except Exception:
            done.errback()
        else:
            done.callback(None)


class StoredOnDisk:
    """The disk of a host in a :class:`~chordtx.sim.group_world.GroupWorld`: the real store on it, which has
    stored a save when the call returns.

    :param rng: for what a crash leaves.
    """

    def __init__(self, path: Path, rng: Random) -> None:
        self._disk = GroupDisk(path)
        self._rng = rng
        self._store: InlineGroupStore | None = None
        self._database: Database | None = None

    def _opened(self) -> InlineGroupStore:
        if self._store is None:
            self._database = self._disk.opened()
            self._store = InlineGroupStore(self._database, Clock().callLater)
        return self._store

    def load(self) -> Iterator[Loaded]:
        """What a process finds when it begins."""
        return self._opened().load()

    def save(self, saves: Mapping[int, Save]) -> None:
        """It is synced."""
        assert self._opened().save(saves).called, "there is no reason why it should fail"

    def crash(self, under_way: Mapping[int, Save]) -> None:
        """The process ends. :param under_way: what it was about to save: all of it is there, or nothing."""
        database, self._database, self._store = self._database, None, None
        assert database is not None
        self._disk.crash(self._rng, (lambda: database.commit(under_way, {})) if under_way else None)

    def damage(self, partition: int) -> None:
        """The state of a partition is damaged, while no process runs."""
        with closing(sqlite3.connect(self._disk.path)) as connection:
            damaged = "UPDATE partitions SET header = x'00' WHERE partition = ?"
            connection.execute(damaged, (partition,))
            connection.commit()

    def close(self) -> None:
        """It is over."""
        if self._database is not None:
            self._database.close()
            self._disk.closed()
            self._database = self._store = None


def disks_in(
    folder: Path, seed: int, make: Callable[[Path, Random], StoredOnDisk] = StoredOnDisk
) -> Callable[[NodeId], StoredOnDisk]:
    """Makes a disk for each host. :param folder: an empty one. :param seed: for what crashes leave."""

    def disk(id: NodeId) -> StoredOnDisk:
        return make(folder / f"{id.hex()}.sqlite", Random(f"{seed} {id!r}"))

    return disk
