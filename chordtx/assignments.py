"""``service[key] = value`` and ``del service[key]``: work that nobody waits for one by one.

A loop that assigns never lets the reactor run, and may be far ahead of the network. So only some of the work
is under way at once. The rest waits its turn, in order: a key and a packed value each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from attrs import define, frozen
from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

#: What may be under way at once: enough to keep every leader busy.
UNDER_WAY_MAX = 1000
UNDER_WAY_BYTES_MAX = 4 << 20


@define(eq=False)
class _Batch:
    """What was begun between two flushes.

    :ivar left: how much of it is not over. :ivar failed: the failure of the first that failed, in the order
        in which they were added; it is logged if nobody asks. :ivar done: fires when nothing is left.
    """

    begun: int = 0
    left: int = 0
    failed: Deferred[Any] | None = None
    failed_number: int = 0
    done: Deferred[None] | None = None

    def ended(self, number: int, failure: Failure | None) -> None:
        self.left -= 1
        if failure is not None and (self.failed is None or number < self.failed_number):
            self._forget_failure()
            self.failed, self.failed_number = fail(failure), number
        if not self.left and self.done is not None and not self.done.called:
            self.done.callback(None)

    def outcome(self) -> Deferred[None]:
        """Fires when all of it is over, and fails as the first did."""
        if self.left:
            self.done = Deferred()
            return self.done.addCallback(lambda _: self._told())
        return self._told()

    def _told(self) -> Deferred[None]:
        failed, self.failed = self.failed, None
        return succeed(None) if failed is None else failed

    def _forget_failure(self) -> None:
        if self.failed is not None:
            self.failed.addErrback(lambda _: None)


@frozen(eq=False)
class _Work:
    """One assignment or deletion, and which one of its batch it is."""

    key: bytes
    size_bytes: int
    begin: Callable[[], Deferred[Any]]
    batch: _Batch
    number: int


class Assignments:
    """See the module. One for each service.

    Work on one key is done one after another, so that the last assignment counts.
    """

    def __init__(self) -> None:
        self._batch = _Batch()
        self._waiting: deque[_Work] = deque()
        #: The keys that are worked on, or wait in ``_waiting``, and what is to be done to each after that.
        self._after: dict[bytes, deque[_Work] | None] = {}
        self._under_way = 0
        self._under_way_bytes = 0
        self._is_starting = False

    @property
    def under_way(self) -> int:
        """How much is under way, and waits for nothing here."""
        return self._under_way

    def add(self, key: bytes, size_bytes: int, begin: Callable[[], Deferred[Any]]) -> None:
        """Do something to a key as soon as there is room.

        :param size_bytes: what it holds while it is under way. :param begin: begins it.
        """
        batch = self._batch
        work = _Work(key, size_bytes, begin, batch, batch.begun)
        batch.begun += 1
        batch.left += 1
        if key in self._after:
            after = self._after[key]
            if after is None:
                after = self._after[key] = deque()
            after.append(work)
        else:
            self._after[key] = None
            self._waiting.append(work)
            self._start()

    def flush(self) -> Deferred[None] | None:
        """Fires when all is over that was added until now, and fails with the first failure among it.

        Each failure is told once. Cancelling it ends the waiting, and not the work.

        :returns: None when nothing was added since the last time.
        """
        batch, self._batch = self._batch, _Batch()
        return batch.outcome() if batch.begun else None

    def _start(self) -> None:
        if self._is_starting:
            return  # something that ended at once: the loop below goes on with what comes after it
        self._is_starting = True
        try:
            while self._waiting and self._has_room(self._waiting[0].size_bytes):
                self._begin(self._waiting.popleft())
        finally:
            self._is_starting = False

    def _has_room(self, size_bytes: int) -> bool:
        if not self._under_way:
            return True  # whatever its size
        return self._under_way < UNDER_WAY_MAX and self._under_way_bytes + size_bytes <= UNDER_WAY_BYTES_MAX

    def _begin(self, work: _Work) -> None:
        self._under_way += 1
        self._under_way_bytes += work.size_bytes
        work.begin().addBoth(self._ended, work)

    def _ended(self, outcome: Any, work: _Work) -> None:
        self._under_way -= 1
        self._under_way_bytes -= work.size_bytes
        after = self._after[work.key]
        if after:
            self._waiting.appendleft(after.popleft())  # it came before all that waits there
        else:
            del self._after[work.key]
        work.batch.ended(work.number, outcome if isinstance(outcome, Failure) else None)
        self._start()
