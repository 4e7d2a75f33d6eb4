"""Locks: one holder in the whole ring at a time, by a lease that its node renews.

The group of a lock's record says who holds it (:mod:`chordtx.group.locks`). A node asks for it, and waits for
its turn with a watch of that record; then it renews the lease until it gives the lock up.
"""

from __future__ import annotations

from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Protocol, Self, TypeVar

from twisted.internet.defer import CancelledError, Deferred

from chordtx.chord.answers import count_in, ttl_ms
from chordtx.chord.watching import Watch
from chordtx.errors import ChordError, LockLost, NoMajority, ProtocolError
from chordtx.group import operations
from chordtx.group.locks import LEASE_MS_MAX, WAITING_MAX, lock_of
from chordtx.group.messages import Answer
from chordtx.group.operations import CONFLICT, DONE, TOO_LARGE, WRONG_TYPE
from chordtx.mesh.deferreds import Gate

T = TypeVar("T")

_PREFIX = b"lock:"
#: A lease is renewed so many times in its length.
_RENEWALS = 3
#: Whoever waits asks once the other's lease is over, and this much later: the time of the group is another.
_LATER_SECONDS = 0.05
_AGAIN_SECONDS = 0.25
_LOOK_SECONDS_MIN = 0.01


class Node(Protocol):
    """What a lock needs of a node."""

    def do_for_user(self, kind: int, key: bytes, *arguments: object) -> Deferred[Answer]:
        """An operation, at the leader of the key's group."""

    def watch_key(self, key: bytes) -> Watch:
        """Begin a watch of a key."""

    def lease_seconds(self) -> float:
        """A clock that only runs forward, and that counts while the machine sleeps."""

    def sure_seconds(self, seconds: float) -> float:
        """Which part of a time on this clock is over before that time is, on any clock of another node."""

    def holder_name(self) -> str:
        """A name for who holds a lock: another one each time, and such that people know whose it is."""

    def random(self) -> float:
        """From 0 to 1."""

    def within(self, seconds: float, work: Deferred[T]) -> Deferred[T]:
        """Cancel ``work`` when it takes longer, and fail with TimeoutError then."""

    def sleep(self, seconds: float) -> Deferred[None]:
        """Fires after a while."""

    def background(self, work: Coroutine[object, object, object]) -> Deferred[object]:
        """Run a coroutine until it ends or the node stops."""


def lock_key(name: bytes) -> bytes:
    """The key of a lock's record."""
    return _PREFIX + name


class Lock:
    """A lock with a name: of all nodes and programs one holds it at a time.

    ::

        async with node.lock("name", ttl=10) as lock:
            ...

    Who came first has the first turn. The holder has a *lease* of ``ttl`` seconds, which its node renews.
    When the holder dies, or is cut off from the ring, the next one has its turn once the lease is over.

    **A holder that stands still** (its machine sleeps, its process is stopped, or it computes for longer than
    its lease without giving Twisted a turn) cannot know that its lease ends meanwhile. When it goes on,
    another may hold the lock: :attr:`is_held` is False then, :meth:`when_lost` fires, and at the end of the
    block :class:`~chordtx.errors.LockLost` is raised. Until it looks, it may do what it believes to be its
    right. So what a lock protects should refuse who comes late: each holder has a :attr:`token` that is
    greater than those of all before it. Pass it on with every request, and have the other end refuse any
    token smaller than the greatest that it has seen.

    Leases are measured by the time of the lock's group, which follows the wall clocks of a majority of its
    members, and by the lease clock of the holder. Where most clocks jump ahead, leases end early: then only
    the tokens tell holders apart.

    An instance is for one holder: make another one to hold the lock once more at the same time.

    :ivar token: of the present hold, an int; of the last one, when it is over. 0 before the first.
    """

    def __init__(self, node: Node, key: bytes, ttl_seconds: float) -> None:
        lease_ms = ttl_ms(ttl_seconds)
        if lease_ms is None or lease_ms > LEASE_MS_MAX:
            raise ValueError("a lock's lease is up to a year")
        self.token = 0
        self._node = node
        self._key = key
        self._lease_ms = lease_ms
        # For those who measure by another clock it may be over so much earlier.
        self._lease_seconds = node.sure_seconds(lease_ms / 1000)
        self._holder: str | None = None
        self._is_acquired = False
        self._until = 0.0
        self._lost = Gate()
        self._renewing: list[Deferred[object]] = []

    @property
    def is_held(self) -> bool:
        """Whether it is held: until its lease ends nobody else has it."""
        return self._is_acquired and not self._lost.is_open and self._node.lease_seconds() < self._until

    def when_lost(self) -> Deferred[None]:
        """Fires when the present hold is lost: its lease has ended, and could not be renewed."""
        return self._lost.when_open()

    def acquire(self, wait: bool = True) -> Deferred[bool]:
        """Hold it. Fires with True once it is held; with False when another has it and ``wait`` is False.
        A lease that is shorter than a request takes is never held.

        Cancelling it gives up the place in the queue. Fails with TypeError when there is something else under
        the lock's key; with :class:`~chordtx.errors.NoMajority` when its group cannot be reached at first,
        but not later, while it waits; and with a ChordError when 500 wait already.

        :raises RuntimeError: when it is held, or waited for, by this instance.
        """
        if self._holder is not None:
            raise RuntimeError("this lock is held or waited for already: make another one of its name")
        self._holder = self._node.holder_name()
        self._lost = Gate()
        return Deferred.fromCoroutine(self._acquire(self._holder, wait))

    def release(self) -> Deferred[None]:
        """Give it up. Fires once the next one has its turn.

        Fails with :class:`~chordtx.errors.LockLost` when it was lost before. When its group cannot be reached
        the lease ends by itself.

        :raises RuntimeError: when it is not held by this instance.
        """
        holder = self._holder
        if holder is None or not self._is_acquired:
            raise RuntimeError("this lock is not held")
        was_held = self.is_held
        self._is_acquired, self._holder = False, None
        for each in self._renewing:
            each.cancel()
        return Deferred.fromCoroutine(self._release(holder, was_held))

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.left(error)

    def left(self, error: BaseException | None) -> Deferred[None]:
        """A ``with`` block was left, by this exception or by none: :meth:`release`. What the block has raised
        counts more than that the lock was lost meanwhile.
        """
        released = self.release()
        if error is not None:
            released.addErrback(lambda failure: failure.trap(ChordError) and None)
        return released

    def given_up(self) -> None:
        """Whoever has asked for it is gone, and was not told any more whether it is held: it is not."""
        if self._is_acquired:
            self.left(CancelledError())

    # The work

    async def _acquire(self, holder: str, wait: bool) -> bool:
        try:
            left = await self._ask(holder, wait)
            if left is not None and wait:
                await self._wait(holder)
        except Exception:  # it was cancelled, or could not be asked for
            self._holder = None
            self._node.background(self._give_up(holder))
            raise
        if left is not None and not wait:
            self._holder = None
            if not left:  # it may have been ours, and be so still for its group
                self._node.background(self._give_up(holder))
            return False
        self._is_acquired = True
        self._renewing = [self._node.background(work) for work in (self._renew(holder), self._look(holder))]
        return True

    async def _ask(self, holder: str, wait: bool) -> float | None:
        """Ask for it.

        :returns: None when it is held now; else how long the other's lease still is. 0 as well when the
            answer came so late that the lease that it tells of may be over.
        """
        asked_at = self._node.lease_seconds()
        answer = await self._node.do_for_user(operations.LOCK, self._key, holder, self._lease_ms, wait)
        if answer.status == DONE:
            until = asked_at + self._lease_seconds
            if self._node.lease_seconds() >= until:
                return 0.0
            self.token, self._until = count_in(answer), until
            return None
        if answer.status == WRONG_TYPE:
            raise TypeError("what is stored under the lock's key is no lock")
        if answer.status == TOO_LARGE:
            raise ChordError(f"{WAITING_MAX} wait for the lock already")
        if answer.status != CONFLICT:
            raise ProtocolError("an answer of another kind was expected")
        return max(0.0, count_in(answer) / 1000)

    async def _wait(self, holder: str) -> None:
        """Wait for one's turn: ask whenever it may have come."""
        watch = self._node.watch_key(self._key)
        try:
            await watch.when_ready()  # no change is missed from here on
            while True:
                try:
                    left = await self._ask(holder, wait=True)
                except NoMajority:  # who waits goes on waiting, whatever fails meanwhile
                    left = _AGAIN_SECONDS
                if left is None:
                    return
                with suppress(TimeoutError):
                    late = left + _LATER_SECONDS * (1 + self._node.random())
                    await self._node.within(late, Deferred.fromCoroutine(_turn(watch, holder)))
        finally:
            await watch.aclose()

    async def _renew(self, holder: str) -> None:
        """Renew the lease, again and again."""
        pause = self._lease_seconds / _RENEWALS
        while True:
            await self._node.sleep(pause)
            asked_at = self._node.lease_seconds()
            try:
                answer = await self._node.do_for_user(operations.RENEW, self._key, holder, self._lease_ms)
            except NoMajority:
                pause = min(_AGAIN_SECONDS, self._lease_seconds / 10)
                continue
            if answer.status != DONE or not self.is_held:
                self._is_lost(holder)
                return
            self._until = asked_at + self._lease_seconds
            pause = self._lease_seconds / _RENEWALS

    async def _look(self, holder: str) -> None:
        """See when it is lost. In steps, for this clock may stand still while that of the lease does not."""
        while (left := self._until - self._node.lease_seconds()) > 0:
            await self._node.sleep(min(left, max(self._lease_seconds / 10, _LOOK_SECONDS_MIN)))
        self._is_lost(holder)

    def _is_lost(self, holder: str) -> None:
        if self._is_acquired and not self._lost.is_open:
            self._node.background(self._give_up(holder))
            self._lost.opened()

    async def _release(self, holder: str, was_held: bool) -> None:
        if was_held:
            try:
                answer = await self._node.do_for_user(operations.UNLOCK, self._key, holder)
            except NoMajority:
                return
            was_held = answer.status == DONE
        if not was_held:
            raise LockLost("the lease had ended before the lock was given up", self.token)

    async def _give_up(self, holder: str) -> None:
        with suppress(ChordError):
            await self._node.do_for_user(operations.UNLOCK, self._key, holder)


async def _turn(watch: Watch, holder: str) -> None:
    """Ends when it may be this holder's turn, after what became of the lock's record."""
    async for event in watch:
        lock = lock_of(event.value)
        if lock is None or lock.holder in (None, holder) or all(each != holder for each, _ in lock.waiting):
            return
