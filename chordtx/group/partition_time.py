"""The time that a partition keeps, for expiry alone: it never goes back, and no one wrong clock moves it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from heapq import heapify, heappop, heappush

from chordtx.group.rank import COUNT_MAX, NO_RANK, NodeId, Rank
from chordtx.group.record import Record
from chordtx.group.turn import Turn

_MARKS_EVERY_SECONDS = 5.0


class WallClocks:
    """What members have told of their wall clocks: how far each is ahead of this node's lease clock.

    :param me: this node, which knows its own.
    """

    def __init__(self, me: NodeId, turn: Turn) -> None:
        self._me = me
        self._turn = turn
        self._ahead_ms: dict[NodeId, float] = {}

    def told(self, by: NodeId, wall_ms: int) -> None:
        """A member has told its time, just now."""
        self._ahead_ms[by] = wall_ms - self._turn.now * 1000

    def median_ms(self, members: Iterable[NodeId]) -> float:
        """By the clock in the middle, of those members whose clocks are known; of two, the earlier."""
        turn, known = self._turn, self._ahead_ms
        ahead = [known[id] for id in members if id in known and id != self._me]
        ahead.append(turn.wall_ms - turn.now * 1000)
        ahead.sort()
        return ahead[(len(ahead) - 1) // 2] + turn.now * 1000


class PartitionTime:
    """The greater of the median of the members' wall clocks, and the state's time as the leader's lease clock
    takes it on.

    :param state_ms: the time of the state that a leader begins with.
    """

    def __init__(self, state_ms: int, members: frozenset[NodeId], walls: WallClocks, turn: Turn) -> None:
        self._members = members
        self._walls = walls
        self._turn = turn
        self._state_ms = state_ms
        self._since = turn.now

    def now_ms(self) -> int:
        """The present time."""
        advanced = self._state_ms + (self._turn.now - self._since) * 1000
        return min(int(max(advanced, self._walls.median_ms(self._members))), COUNT_MAX)

    def is_now(self, now_ms: int) -> None:
        """A change has this time: it does not go back behind it."""
        self._state_ms = now_ms
        self._since = self._turn.now


class Expiries:
    """Which records expire next.

    :param records: to begin with.
    """

    __slots__ = ("_heap",)

    def __init__(self, records: dict[bytes, Record]) -> None:
        self._heap = [(record.expires_ms, key) for key, record in records.items() if record.expires_ms]
        heapify(self._heap)

    def push(self, expires_ms: int, key: bytes) -> None:
        """A record was written that expires."""
        heappush(self._heap, (expires_ms, key))

    @property
    def next_ms(self) -> int | None:
        """When the next one may be due."""
        return self._heap[0][0] if self._heap else None

    def due(self, now_ms: int) -> list[bytes]:
        """The keys whose records may be expired; they are not told again."""
        heap, due = self._heap, []
        while heap and heap[0][0] <= now_ms:
            due.append(heappop(heap)[1])
        return list(dict.fromkeys(due))


class Marks:
    """How far a leader was at some moments: what was committed long enough ago may be forgotten.

    :param seconds: how long is long enough.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._marks: deque[tuple[float, Rank]] = deque()

    def mark(self, now: float, committed: Rank) -> None:
        """Now and then, this is committed."""
        marks = self._marks
        if not marks or now >= marks[-1][0] + min(_MARKS_EVERY_SECONDS, self._seconds):
            marks.append((now, committed))

    def old(self, now: float) -> Rank:
        """What was committed long enough ago; NO_RANK for nothing more than was told before."""
        marks, upto = self._marks, NO_RANK
        while marks and now >= marks[0][0] + self._seconds:
            upto = marks.popleft()[1]
        return upto

    @property
    def seconds_to_wake(self) -> float:
        """How often it wants to be asked."""
        return min(_MARKS_EVERY_SECONDS, self._seconds)
