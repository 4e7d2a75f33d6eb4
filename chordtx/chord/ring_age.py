"""How long the ring has been going on, and so how long it went on without a node that comes back.

A deletion is remembered for ``tombstone_seconds``. A node that missed it and comes back later than that
would bring the key back, so it drops its old records. But while a whole ring is switched off nobody deletes
anything. So what counts is not for how long a node was away, but the ring's *age*: each member counts the
time for which it was one, keeps the count in its data folder, and takes over a greater count.

1. A node that was away for more than ``absence_seconds_max`` is *in doubt*, and keeps its records.
2. It tells members its age, and they tell theirs: the one that it joins through before it is a member itself,
   and, when it has begun a ring, each member of another ring before that one can ask it for anything.
3. When theirs is ahead by more than ``absence_seconds_max``, the ring went on without it. It drops what was
   written before it was away, and tells the other members that it knows: they may be in doubt too.

For the same reason a deletion is forgotten only once the ring has been going on without a break for
``tombstone_seconds``: those that are started again later than the others may have missed it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from attrs import evolve, frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from chordtx.errors import ChordError, NotJoined, ProtocolError
from chordtx.mesh import MeshConnection
from chordtx.ring import Contact

_COUNT_SECONDS = 10.0
#: A process that stood still for longer than this was not going on.
_COUNTED_SECONDS_MAX = 60.0
_CALL_SECONDS = 5.0
_TIME_MS_MAX = 1 << 53


class _Node(Protocol):
    """What is needed of the service."""

    reactor: Any
    _methods: dict[str, Callable[..., Any]]
    _members: Callable[[], list[MeshConnection]]
    _coming_member: Callable[[MeshConnection], Contact]

    def _wall_ms(self) -> int: ...
    def sleep(self, seconds: float) -> Deferred[None]: ...
    def _keep(self, name: str, round: Callable[[], None], pause: Callable[[], float]) -> Any: ...
    def _background(self, work: Any) -> Deferred[Any]: ...


@frozen
class Kept:
    """What a node has to know again when it starts again; all in milliseconds.

    :ivar seen_ms: when it was last a member: Unix time, None when it never was.
    :ivar age_ms: the ring's age then; None when an earlier version of this program has not kept it.
    :ivar doubt_ms: what was written up to then may have been deleted since; None when nothing may.
    """

    seen_ms: int | None = None
    age_ms: int | None = 0
    doubt_ms: int | None = None


class RingAge:
    """One node's count.

    :param is_member: whether the node is in a ring now.
    :param drop_until: drops the records that were written up to a time (Unix time in milliseconds), and
        returns how many these were.
    """

    _log = Logger()

    def __init__(
        self,
        node: _Node,
        is_member: Callable[[], bool],
        absence_seconds_max: float,
        drop_until: Callable[[int], int],
    ) -> None:
        self._node = node
        self._is_member = is_member
        self._absence_ms_max = int(absence_seconds_max * 1000)
        self._drop_until = drop_until
        self._kept = Kept()
        self._since_ms: int | None = None
        self._counted_at: float = node.reactor.seconds()
        node._methods["ring_age"] = self._told

    # From one run to the next

    def remember(self, kept: Kept) -> None:
        """What was kept from an earlier run."""
        self._kept = kept

    def keep(self) -> Kept:
        """What is to be kept now."""
        self._count()
        return self._kept

    # While the node runs

    def go_on(self) -> None:
        """Count."""
        self._node._keep("counting the ring's age", self._count, lambda: _COUNT_SECONDS)

    def _count(self) -> None:
        now = self._node.reactor.seconds()
        passed_ms = int(1000 * min(max(now - self._counted_at, 0.0), _COUNTED_SECONDS_MAX))
        self._counted_at = now
        if self._is_member():
            kept = self._kept
            self._kept = evolve(kept, seen_ms=self._node._wall_ms(), age_ms=(kept.age_ms or 0) + passed_ms)

    def going_on_seconds(self) -> float:
        """For how long the ring has been going on without a break; 0 when we are in none."""
        return 0.0 if self._since_ms is None else (self._node._wall_ms() - self._since_ms) / 1000

    # Coming back

    def begin(self) -> None:
        """We begin a ring."""
        self._come_back()
        self._since_ms = self._node._wall_ms()

    async def join(self, member: MeshConnection) -> None:
        """We are about to join a ring through this member. :raises ChordError: when it does not answer."""
        self._come_back()
        await self._compare(member)

    def met(self, link: MeshConnection) -> None:
        """There is a member of a ring, ours or another one."""
        if self._is_member() and self._kept.doubt_ms is not None:
            self._node._background(self._compare_quietly(link))

    def _come_back(self) -> None:
        self._since_ms, seen_ms = None, self._kept.seen_ms
        if seen_ms is not None and self._node._wall_ms() - seen_ms > self._absence_ms_max:
            self._kept = evolve(self._kept, doubt_ms=seen_ms + self._absence_ms_max)

    async def _compare_quietly(self, link: MeshConnection) -> None:
        try:
            await self._compare(link)
        except ChordError as error:
            self._log.debug("{link} does not tell its ring's age: {error}", link=link, error=str(error))

    async def _compare(self, link: MeshConnection) -> None:
        try:
            told = await link.call("ring_age", *self._claim(), timeout_seconds=_CALL_SECONDS)
        except ProtocolError:  # an earlier version: nothing is known but that it is in a ring
            told = [None, 0]
        self._heard(*_from_wire(told))

    def _told(self, caller: MeshConnection, age: Any, since: Any) -> list[Any]:
        """``ring_age(age or nil, since or nil)`` -> the same: the age of the caller's ring, and since when
        that has been going on without a break; nil when it is in none. All in milliseconds."""
        if not self._is_member():
            raise NotJoined("this node is in no ring")
        self._node._coming_member(caller)  # who asks before it joins does not store yet
        age_ms, since_ms = _from_wire([age, since])
        if age_ms is not None or since_ms is not None:
            self._heard(age_ms, since_ms)
        return self._claim()

    def _claim(self) -> list[Any]:
        self._count()
        return [self._kept.age_ms, self._since_ms]

    def _heard(self, age_ms: int | None, since_ms: int | None) -> None:
        ahead_ms = self._ahead_ms(age_ms, since_ms)
        age_ms = max(age_ms or 0, self._kept.age_ms or 0)
        self._kept = evolve(self._kept, age_ms=age_ms)
        if since_ms is not None:
            self._since_ms = max(self._since_ms or 0, min(since_ms, self._node._wall_ms()))
        if ahead_ms > self._absence_ms_max:
            self._drop(ahead_ms)

    def _ahead_ms(self, age_ms: int | None, since_ms: int | None) -> int:
        """For how long the peer's ring went on without us; 0 when that does not matter."""
        doubt_ms = self._kept.doubt_ms
        if doubt_ms is None:
            return 0
        if age_ms is not None and self._kept.age_ms is not None:
            return age_ms - self._kept.age_ms
        # An earlier version has not kept it: at the longest since we were away, or the ring was started.
        return self._node._wall_ms() - max(doubt_ms - self._absence_ms_max, since_ms or 0)

    def _drop(self, ahead_ms: int) -> None:
        assert self._kept.doubt_ms is not None
        count = self._drop_until(self._kept.doubt_ms)
        self._kept = evolve(self._kept, doubt_ms=None, seen_ms=self._node._wall_ms())
        text = (
            "the ring went on for {seconds:.0f} s without this node, longer than absence_seconds_max:"
            " {count} old records are dropped"
        )
        self._log.warn(text, seconds=ahead_ms / 1000, count=count)
        if self._is_member():
            for link in self._node._members():
                self._node._background(self._compare_quietly(link))


def _from_wire(told: Sequence[Any]) -> tuple[int | None, int | None]:
    """:raises ProtocolError: when it is no ring's age."""
    if len(told) != 2 or not all(
        value is None or (type(value) is int and 0 <= value < _TIME_MS_MAX) for value in told
    ):
        raise ProtocolError("a ring's age is [milliseconds, milliseconds]")
    return told[0], told[1]
