"""Saves the durable state of a node's groups: in order, many changes in one commit, synced.

Batches that are given while a commit is under way go together with the next one. A commit that fails is tried
again with all that came after it, for as long as it takes. Meanwhile the saves are not reported as synced, so
nothing that depends on them is sent.

It must not know files: those are :class:`~chordtx.store.database.Database`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from chordtx.errors import Stopped, StorageFailed
from chordtx.group.record import RECORD_OVERHEAD_BYTES, cost_bytes
from chordtx.group.replica import Save
from chordtx.store.database import Database
from chordtx.store.reading import Loaded

RunInThread = Callable[[Callable[[], None]], "Deferred[None]"]
CallLater = Callable[[float, Callable[[], None]], Any]

LAZY_SECONDS = 1.0  # until a commit that failed is tried again
#: While commits fail, what is saved piles up in memory: past this much new writes are refused.
UNSAVED_BYTES_MAX = 64 << 20
_NOTHING: Mapping[Any, Any] = MappingProxyType({})


@define
class Batch:
    """What goes to the disk together.

    :ivar saves: by partition; their dicts are the batch's own. :ivar values: by name.
    :ivar waiting: who is told when it is on disk.
    """

    saves: dict[int, Save] = field(factory=dict)
    values: dict[str, bytes] = field(factory=dict)
    waiting: list[Deferred[None]] = field(factory=list)

    def __bool__(self) -> bool:
        return bool(self.saves or self.values)

    def add(self, saves: Mapping[int, Save], values: Mapping[str, bytes]) -> None:
        """Add later saves: they replace what they change."""
        for partition, save in saves.items():
            before = self.saves.get(partition)
            if before is None:
                records, clients, asides = dict(save.records), dict(save.clients), dict(save.asides)
                self.saves[partition] = Save(save.stored, records, clients, asides)
            else:
                before.records.update(save.records)
                before.clients.update(save.clients)
                before.asides.update(save.asides)
                self.saves[partition] = before._replace(stored=save.stored)
        self.values.update(values)

    def put_over(self, failed: Batch) -> None:
        """What failed goes with this one; what is newer here stays."""
        failed.add(self.saves, self.values)
        self.saves, self.values = failed.saves, failed.values
        self.waiting = failed.waiting + self.waiting

    def wait(self) -> Deferred[None]:
        """Fires when it is on disk."""
        waiting: Deferred[None] = Deferred()
        self.waiting.append(waiting)
        return waiting


class GroupStore:
    """See the module.

    :param database: open, and nobody else's.
    :param run_in_thread: calls a function in another thread, and fires when it is done.
    :param call_later: as the reactor's ``callLater``.
    :ivar is_failing: whether the last commit failed.
    """

    _log = Logger()

    def __init__(self, database: Database, run_in_thread: RunInThread, call_later: CallLater) -> None:
        self._database = database
        self._run_in_thread = run_in_thread
        self._call_later = call_later
        self._changed = Batch()
        self._committing: Batch | None = None
        self._timer: Any = None
        self._is_open = True
        self._unsaved_bytes = 0
        self._ended: list[Deferred[Exception | None]] = []
        self.is_failing = False

    # At the start

    def load(self) -> Iterator[Loaded]:
        """See :meth:`Database.load`. It is called once, before anything is saved."""
        for loaded in self._database.load():
            partition = loaded[0]
            if partition in self._database.lost:
                self._log.error(
                    "the state of partition {partition} in {path} is damaged and left out: {reason}",
                    partition=partition,
                    path=str(self._database.path),
                    reason=self._database.lost[partition],
                )
            yield loaded

    @property
    def lost(self) -> Mapping[int, str]:
        """See :attr:`Database.lost`."""
        return self._database.lost

    def values(self) -> dict[str, bytes]:
        """See :meth:`Database.values`."""
        return self._database.values()

    # Saving

    @property
    def is_full(self) -> bool:
        """Whether nothing could be stored for so long that too much waits for it in memory."""
        return self.is_failing and self._unsaved_bytes > UNSAVED_BYTES_MAX

    def save(self, saves: Mapping[int, Save], values: Mapping[str, bytes] = _NOTHING) -> Deferred[None]:
        """Put this on disk, in one commit.

        :param saves: by partition. :param values: to be kept beside, by name.
        :returns: fires when it and all that was given before it are synced. It never fails: where the disk
            does not take it, it is tried again until it does, or the process ends.
        """
        if not self._is_open:
            raise Stopped("the store is closed")
        if self.is_failing:
            self._unsaved_bytes += sum(map(_cost_bytes, saves.values()))
        self._changed.add(saves, values)
        if not self._changed:
            return succeed(None) if self._committing is None else self._committing.wait()
        synced = self._changed.wait()
        if not self.is_failing:
            self._commit()
        return synced

    # Committing

    def _commit_after_a_while(self) -> None:
        if self._timer is None and self._committing is None and self._is_open:
            self._timer = self._call_later(LAZY_SECONDS, self._commit)

    def _stop_waiting(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _commit(self) -> None:
        if self._committing is not None or not self._changed:
            return
        self._stop_waiting()
        batch, self._changed = self._changed, Batch()
        self._committing, commit = batch, self._database.commit
        # There may be no thread any more, when the process is about to end.
        done = maybeDeferred(self._run_in_thread, lambda: commit(batch.saves, batch.values))
        done.addBoth(self._committed, batch)
        done.addErrback(lambda failure: self._log.failure("after a commit", failure))

    def _committed(self, outcome: Any, batch: Batch) -> None:
        self._committing = None
        error = self._failed(outcome) if isinstance(outcome, Failure) else None
        if error is not None:
            self._changed.put_over(batch)
            self._unsaved_bytes = sum(map(_cost_bytes, self._changed.saves.values()))
            self._commit_after_a_while()
        else:
            self._works()
            self._commit()
            for waiting in batch.waiting:
                waiting.callback(None)
        ended, self._ended = self._ended, []
        for each in ended:
            each.callback(error)

    def _works(self) -> None:
        if self.is_failing:
            self.is_failing, self._unsaved_bytes = False, 0
            self._log.info("storing in {path} works again", path=str(self._database.path))

    def _failed(self, failure: Failure) -> Exception:
        error: Any = failure.value
        if not isinstance(error, StorageFailed):
            self._log.failure("a commit failed for a reason that nobody thought of", failure)
            error = StorageFailed(f"{self._database.path}: {error!r}", str(self._database.path), repr(error))
        if not self.is_failing:
            self.is_failing = True
            self._log.error("cannot store, and answers nothing until it can: {error}", error=str(error))
        return error  # type: ignore[no-any-return]

    def close(self) -> Deferred[None]:
        """Commit what there is, and close the file.

        :returns: fires when that is done; fails with :class:`~chordtx.errors.StorageFailed` when something
            is lost by it: whoever waits for that is never told anything. The file is closed in any case.
        """
        if not self._is_open:
            return succeed(None)
        self._is_open = False
        self._stop_waiting()
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        error: Exception | None = None
        while error is None and (self._committing is not None or self._changed):
            ended: Deferred[Exception | None] = Deferred()
            self._ended.append(ended)
            self._commit()
            error = await ended
        self._database.close()
        if error is not None:
            raise error


class InlineGroupStore(GroupStore):
    """The same, with every commit done when :meth:`save` returns, if the disk takes it: for simulations."""

    def __init__(self, database: Database, call_later: CallLater) -> None:
        super().__init__(database, _at_once, call_later)


def _at_once(work: Callable[[], None]) -> Deferred[None]:
    work()
    return succeed(None)


def _cost_bytes(save: Save) -> int:
    """About what a save takes in memory while it waits."""
    records = sum(cost_bytes(key, record) for key, record in save.records.items() if record is not None)
    return records + len(save.clients) * RECORD_OVERHEAD_BYTES
