"""Records on disk: what is acknowledged has been synced.

The life of a merge:

1. It is *changed*: in memory only. Reads see it from now on, and nobody may be told that it is kept.
2. When somebody waits for it (:meth:`DiskStore.synced`), or after a while, everything changed is *committed*
   together, in another thread: a sync takes milliseconds, and the reactor goes on meanwhile. What is merged
   then is changed anew, and goes with the next commit.
3. The commit succeeds: it is on disk, is forgotten here, and those who wait are told. Or it fails (no space
   left): those who wait are told so, and all of it is changed again, under whatever was merged since. It goes
   with the next commit, which is tried soon.

It must not know files: those are :class:`~chordtx.store.database.Database`'s.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from chordtx.errors import Stopped, StorageFailed
from chordtx.records import Record, merge
from chordtx.store.database import PLACE_SHIFT, Database, Place, Row
from chordtx.store.form import Damaged, from_stored, packed_in, packed_of, to_stored
from chordtx.store.interface import IStore
from chordtx.store.memory import KEY_OVERHEAD_BYTES, naming_position

RunInThread = Callable[[Callable[[], None]], "Deferred[None]"]
CallLater = Callable[[float, Callable[[], None]], Any]

LAZY_SECONDS = 1.0  # until what nobody waits for is committed, and until a commit that failed is tried again
#: While commits fail, what is merged piles up in memory: past this much it is refused.
UNSAVED_BYTES_MAX = 64 << 20
_KEYS_READ = 500
_DAMAGED_LOGGED_MAX = 20


@frozen
class Change:
    """What is to be stored under a key, or None where it is to be forgotten.

    :ivar position: the one that names the key.
    """

    position: int
    record: Record | None


@define
class Batch:
    """What goes to the disk together.

    :ivar changes: by key. :ivar values: what is kept beside the records, by name.
    :ivar has_merges: whether there is anything in it that somebody may wait for.
    :ivar waiting: who is told when it is on disk.
    """

    changes: dict[bytes, Change] = field(factory=dict)
    values: dict[str, bytes] = field(factory=dict)
    has_merges: bool = False
    waiting: list[Deferred[None]] = field(factory=list)

    def __bool__(self) -> bool:
        return bool(self.changes or self.values)

    @property
    def cost_bytes(self) -> int:
        """About what it takes in memory."""
        changes = self.changes.items()
        return sum(_cost_bytes(key, change.record) for key, change in changes if change.record is not None)

    def wait(self) -> Deferred[None]:
        """Fires when it is on disk."""
        waiting: Deferred[None] = Deferred()
        self.waiting.append(waiting)
        return waiting

    def put_under(self, failed: Batch) -> None:
        """What failed goes with this one; what is newer here stays."""
        self.changes = {**failed.changes, **self.changes}
        self.values = {**failed.values, **self.values}
        self.has_merges = self.has_merges or failed.has_merges

    def rows(self) -> Iterator[Row]:
        """What is to be stored, made when it is needed: in the thread that commits."""
        for key, change in self.changes.items():
            if change.record is not None:
                stored = to_stored(key, change.record)
                yield change.position >> PLACE_SHIFT, key, stored

    def gone(self) -> Iterator[Place]:
        """What is to be deleted."""
        for key, change in self.changes.items():
            if change.record is None:
                yield change.position >> PLACE_SHIFT, key


@implementer(IStore)
class DiskStore:
    """See :class:`~chordtx.store.IStore`.

    :param database: open, and nobody else's. Everything in it is read once, and checked.
    :param run_in_thread: calls a function in another thread, and fires when it is done.
    :param call_later: as the reactor's ``callLater``.
    :ivar damaged: how many records were found unreadable, and left out.
    :ivar on_lost: called with the key when one is found after the store was opened, again each time while it
        cannot be read: that it is not here says nothing then.
    :raises StorageFailed: when the database as a whole is damaged.
    """

    _log = Logger()

    def __init__(self, database: Database, run_in_thread: RunInThread, call_later: CallLater) -> None:
        self._database = database
        self._run_in_thread = run_in_thread
        self._call_later = call_later
        self._changed = Batch()
        self._committing: Batch | None = None
        self._timer: Any = None
        self._is_failing = False
        self._unsaved_bytes = 0
        self._is_open = True
        self._count = 0
        self.bytes_used = 0
        self.damaged = 0
        self._unreadable: set[bytes] = set()
        self.on_lost: Callable[[bytes], None] = lambda _: None
        self._check_all()

    def _check_all(self) -> None:
        self._database.check()
        for place, key, stored in self._database.everything():
            try:
                record = from_stored(key, stored)
            except Damaged as error:
                self._forget(key, Change(_position_for(place, key), None))
                self._count_damaged(key, str(error))
            else:
                self._count += 1
                self.bytes_used += _cost_bytes(key, record)

    # Reading

    def get(self, key: bytes) -> Record | None:
        """See :meth:`IStore.get`."""
        change = self._change_of(key)
        return self._load(key, naming_position(key)) if change is None else change.record

    def _change_of(self, key: bytes) -> Change | None:
        change = self._changed.changes.get(key)
        if change is None and self._committing is not None:
            return self._committing.changes.get(key)
        return change

    def _load(self, key: bytes, position: int) -> Record | None:
        self._must_be_open()
        try:
            stored = self._database.load(position >> PLACE_SHIFT, key)
            return None if stored is None else from_stored(key, stored)
        except (sqlite3.Error, Damaged) as error:
            self._found_damaged(key, position, error)
            return None

    def _found_damaged(self, key: bytes, position: int, error: Exception) -> None:
        """Something went wrong since everything was checked: what is not here now may well have been."""
        if isinstance(error, Damaged):
            self._forget(key, Change(position, None))
            self._count -= 1
        if key not in self._unreadable:
            self._unreadable.add(key)
            self._count_damaged(key, str(error))
        self.on_lost(key)

    def _forget(self, key: bytes, change: Change) -> None:
        self._changed.changes[key] = change
        self._commit_after(LAZY_SECONDS)

    def _count_damaged(self, key: bytes, reason: str) -> None:
        self.damaged += 1
        if self.damaged <= _DAMAGED_LOGGED_MAX:
            self._log.warn(
                "a record in {path} is damaged, and is left out: {key}: {reason}",
                path=str(self._database.path),
                key=repr(key[:80]),
                reason=reason,
            )

    def keys(self) -> Iterator[bytes]:
        """See :meth:`IStore.keys`. What is dropped meanwhile may be left out."""
        changed = self._changes()
        pages = self._rows(self._database.keys_after, self._database.last_row())
        return chain(
            (key for key, change in changed.items() if change.record is not None),
            (key for _, key in pages if key not in changed),
        )

    def packed(self) -> Iterator[tuple[bytes, bytes]]:
        """See :meth:`IStore.packed`."""
        changed = self._changes()
        pages = self._rows(self._database.records_after, self._database.last_row())
        return chain(
            ((key, packed_of(change.record)) for key, change in changed.items() if change.record is not None),
            ((key, packed_in(stored)) for _, key, stored in pages if key not in changed),
        )

    def _changes(self) -> dict[bytes, Change]:
        """What is not on disk yet."""
        self._must_be_open()
        changed = dict(self._changed.changes)
        return changed if self._committing is None else {**self._committing.changes, **changed}

    def _rows(self, read: Callable[[int, int, int], list[Any]], last_row: int) -> Iterator[Any]:
        """All rows up to one, some read at a time."""
        row = 0
        while row < last_row:
            self._must_be_open()
            try:
                page = read(row, last_row, _KEYS_READ)
            except sqlite3.Error as error:
                raise self._database.failed(error) from error
            yield from page
            row = page[-1][0] if page else last_row

    def keys_down_from(self, position: int, low: int, limit: int) -> list[tuple[int, bytes]]:
        """See :meth:`IStore.keys_down_from`.

        :raises StorageFailed: when the disk cannot be read: a page with gaps would be taken for whole.
        """
        changed = self._changes()
        found = [
            (change.position, key)
            for key, change in changed.items()
            if change.record is not None and low <= change.position <= position
        ]
        try:
            found += self._stored_down_from(position, low, limit, changed)
        except sqlite3.Error as error:
            raise self._database.failed(error) from error
        return sorted(found, reverse=True)[:limit]

    def _stored_down_from(
        self, position: int, low: int, limit: int, changed: dict[bytes, Change]
    ) -> list[tuple[int, bytes]]:
        found: list[tuple[int, bytes]] = []
        top = position >> PLACE_SHIFT
        while len(found) < limit and (page := self._database.page(top, low >> PLACE_SHIFT, limit)):
            placed = [(naming_position(key), key) for _, key in page if key not in changed]
            found += [entry for entry in placed if low <= entry[0] <= position]
            top = page[-1][0] - 1
        return found

    def __len__(self) -> int:
        return self._count

    # Changing

    def merge(self, key: bytes, record: Record) -> Record:
        """See :meth:`IStore.merge`.

        :raises StorageFailed: when nothing could be stored for long, and too much waits for that.
        """
        if self._is_failing and self._unsaved_bytes > UNSAVED_BYTES_MAX:
            path = str(self._database.path)
            raise StorageFailed(f"nothing can be stored in {path}, and too much waits for it", path, "full")
        position = naming_position(key)
        change = self._change_of(key)
        before = self._load(key, position) if change is None else change.record
        after = merge(before, record)
        assert after is not None
        if after != before:
            self._change(key, Change(position, after), before)
            self._changed.has_merges = True
        return after

    def drop(self, key: bytes) -> None:
        """See :meth:`IStore.drop`."""
        before = self.get(key)
        if before is not None:
            self._change(key, Change(naming_position(key), None), before)

    def _change(self, key: bytes, change: Change, before: Record | None) -> None:
        self._must_be_open()
        if before is not None:
            self._count -= 1
            self.bytes_used -= _cost_bytes(key, before)
        if change.record is not None:
            self._count += 1
            self.bytes_used += _cost_bytes(key, change.record)
            self._unsaved_bytes += _cost_bytes(key, change.record)
        self._changed.changes[key] = change
        self._commit_after(LAZY_SECONDS)

    def keep(self, name: str, value: bytes) -> None:
        """Store a value beside the records, with one of the next commits."""
        self._must_be_open()
        self._changed.values[name] = value
        self._commit_after(LAZY_SECONDS)

    def _must_be_open(self) -> None:
        if not self._is_open:
            raise Stopped("the store is closed")

    # Committing

    def synced(self) -> Deferred[None] | None:
        """See :meth:`IStore.synced`.

        Fails with :class:`~chordtx.errors.StorageFailed` when the disk does not take it; it is tried again.
        """
        if self._changed.has_merges:
            if not self._changed.waiting:
                self._commit_after(0.0)
            return self._changed.wait()
        if self._committing is not None and self._committing.has_merges:
            return self._committing.wait()
        return None

    def _commit_after(self, seconds: float) -> None:
        """A commit under way is followed by the next by itself, when somebody waits for that."""
        if self._committing is not None or not self._is_open:
            return
        if self._timer is not None and self._timer.active():
            if seconds > 0:
                return
            self._timer.cancel()
        self._timer = self._call_later(seconds, self._commit)

    def _commit(self) -> None:
        self._timer = None
        if self._committing is None and self._changed:
            batch, self._changed = self._changed, Batch()
            self._committing, self._unsaved_bytes = batch, 0
            database = self._database
            # There may be no thread any more, when the process is about to end.
            done = maybeDeferred(
                self._run_in_thread, lambda: database.commit(batch.rows(), batch.gone(), batch.values)
            )
            done.addBoth(self._committed, batch)
            done.addErrback(lambda failure: self._log.failure("after a commit", failure))

    def _committed(self, outcome: Any, batch: Batch) -> None:
        self._committing = None
        error = None
        if isinstance(outcome, Failure):
            error = self._failed(outcome)
            self._changed.put_under(batch)
            self._unsaved_bytes = self._changed.cost_bytes
        elif self._is_failing:
            self._is_failing = False
            self._log.info("storing in {path} works again", path=str(self._database.path))
        if self._changed.waiting:
            self._commit()
        elif self._changed:
            self._commit_after(LAZY_SECONDS)
        for waiting in batch.waiting:
            if error is None:
                waiting.callback(None)
            else:
                waiting.errback(error)

    def _failed(self, failure: Failure) -> Exception:
        error: Any = failure.value
        if not isinstance(error, StorageFailed):
            self._log.failure("a commit failed for a reason that nobody thought of", failure)
            error = StorageFailed(f"{self._database.path}: {error!r}", str(self._database.path), repr(error))
        if not self._is_failing:
            self._is_failing = True
            self._log.error("cannot store, and refuses writes until it can: {error}", error=str(error))
        return error  # type: ignore[no-any-return]

    def close(self) -> Deferred[None]:
        """Commit what there is, and close the file.

        :returns: fires when that is done; fails with :class:`~chordtx.errors.StorageFailed` when something
            is lost by it. The file is closed in any case.
        """
        if not self._is_open:
            return succeed(None)
        self._is_open = False
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        try:
            while batch := self._committing or self._changed:
                done = batch.wait()
                self._commit()
                await done
        finally:
            while self._committing is not None:
                with suppress(StorageFailed):
                    await self._committing.wait()
            self._database.close()


def _cost_bytes(key: bytes, record: Record) -> int:
    return len(key) + KEY_OVERHEAD_BYTES + record.cost_bytes


def _position_for(place: int, key: bytes) -> int:
    """A position with this place, for a row whose key may not be what it was."""
    position = naming_position(key)
    return position if position >> PLACE_SHIFT == place else place << PLACE_SHIFT
