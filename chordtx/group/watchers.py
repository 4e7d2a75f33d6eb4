"""Watchers at a leader: what they have not been told yet, and who waits until something changes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from heapq import heappop, heappush
from typing import Protocol, cast

from attrs import frozen

from chordtx.group.messages import BUSY, Operation
from chordtx.group.operations import (
    ADDED,
    DONE,
    LIST_BYTES_MAX,
    LIST_ENTRIES_MAX,
    UPDATED,
    Event,
)
from chordtx.group.rank import Rank
from chordtx.group.recent_keys import RecentKeys
from chordtx.group.record import Record
from chordtx.group.turn import Turn

#: So many at most wait at one leader for one partition; more are answered that it is busy.
WATCHERS_MAX = 10_000
#: So many are answered in one turn, that nobody else waits for them.
AT_ONCE = 50

#: What WATCH answers: a position, whether to begin anew, events, and whether there are more.
Told = tuple[Rank, bool, list[Event], bool]
_Arguments = tuple[bytes, bool, Rank | None, int]


def arguments_of(operation: Operation) -> _Arguments:
    """Of a WATCH: a key, or a prefix and True; the position or None; for how many milliseconds it waits."""
    return cast("_Arguments", operation.arguments)


def what_changed(
    operation: Operation, records: Mapping[bytes, Record], recent: RecentKeys, upto: Rank
) -> Told:
    """What a watcher is to be told.

    Of each key only what became of it last: what that has overtaken is left out.

    :param records: the committed ones, up to the rank ``upto``. :param recent: which keys came and went.
    """
    watched, is_prefix, after, _ = arguments_of(operation)
    if after is None:
        return upto, False, [], False
    if after.epoch.mark != upto.epoch.mark or after < recent.since:
        return upto, True, [], False
    went = recent.between(after, upto)
    keys = (key for key in {**records, **went} if key.startswith(watched)) if is_prefix else (watched,)
    events = [event for key in keys if (event := _event(key, records.get(key), went.get(key), after))]
    events.sort(key=lambda event: event[3])
    return _cut(events, upto)


def _event(key: bytes, record: Record | None, went: tuple[Rank, int] | None, after: Rank) -> Event | None:
    if record is not None:
        if record.rank <= after:
            return None
        has_come = went is not None and went[1] == ADDED
        return ADDED if has_come else UPDATED, key, record.value, record.rank
    if went is None or went[1] == ADDED:
        return None
    rank, kind = went
    return kind, key, None, rank


def _cut(events: list[Event], upto: Rank) -> Told:
    """As many as go into one answer."""
    room = LIST_BYTES_MAX
    for index, (_, key, value, _) in enumerate(events):
        room -= len(key) + (0 if value is None else len(value))
        if index and (index >= LIST_ENTRIES_MAX or room < 0):
            return events[index - 1][3], False, events[:index], True
    return upto, False, events, False


@frozen(eq=False)
class _Watcher:
    """A WATCH that waits. :ivar who: asks."""

    who: object
    operation: Operation


class Lead(Protocol):
    """What watchers need of who leads."""

    def told(self, operation: Operation) -> Told:
        """What a watcher is to be told."""

    def answer(self, who: object, operation: Operation, status: int, detail: object) -> None:
        """Answer somebody."""

    def read_leased(self, who: object, operation: Operation) -> None:
        """Answer somebody for whom nothing has changed: that is certain only under a lease."""


class Watchers:
    """Those who wait at one leader.

    :param turn: where it is noted when there is more to tell.
    """

    def __init__(self, lead: Lead, turn: Turn, partition: int) -> None:
        self._lead = lead
        self._turn = turn
        self._partition = partition
        self._by_key: dict[bytes, dict[_Watcher, None]] = {}
        self._by_prefix: dict[bytes, dict[_Watcher, None]] = {}
        self._waiting: dict[_Watcher, None] = {}
        self._ends: list[tuple[float, int, _Watcher]] = []
        self._held = 0
        self._due: deque[_Watcher] = deque()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._due)

    def ask(self, who: object, operation: Operation, now: float) -> None:
        """Somebody wants to know what has changed since a position: it is told so, or it waits.

        What has changed is committed, and stays so, whoever leads: no lease is needed to tell it.
        """
        _, is_reset, events, _ = found = self._lead.told(operation)
        if is_reset or events:
            self._lead.answer(who, operation, DONE, found)
        elif len(self) >= WATCHERS_MAX:
            self._lead.answer(who, operation, BUSY, None)
        else:
            self._hold(_Watcher(who, operation), now + arguments_of(operation)[3] / 1000)

    def _hold(self, watcher: _Watcher, until: float) -> None:
        self._waiting[watcher] = None
        by, watched = self._where(watcher)
        by.setdefault(watched, {})[watcher] = None
        self._held += 1
        heappush(self._ends, (until, self._held, watcher))

    def _where(self, watcher: _Watcher) -> tuple[dict[bytes, dict[_Watcher, None]], bytes]:
        watched, is_prefix, *_ = arguments_of(watcher.operation)
        return (self._by_prefix if is_prefix else self._by_key), watched

    def _forget(self, watcher: _Watcher) -> None:
        del self._waiting[watcher]
        by, watched = self._where(watcher)
        del by[watched][watcher]
        if not by[watched]:
            del by[watched]

    def heard(
        self, news: list[tuple[bytes, bool | None]], *, with_updates: bool
    ) -> list[tuple[bytes, bool | None]]:
        """These keys have changed: whoever watches them is to be told.

        :param news: as :meth:`chordtx.group.uncommitted.Uncommitted.committed` gives them.
        :returns: those that others want to know, who may not care for updates.
        """
        self._changed(dict.fromkeys(key for key, _ in news))
        return news if with_updates else [each for each in news if each[1] is not None]

    def _changed(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            concerned = [*self._by_key.get(key, ())]
            for prefix, watchers in self._by_prefix.items():
                if key.startswith(prefix):
                    concerned += watchers
            for watcher in concerned:
                self._forget(watcher)
            self._due += concerned

    def tell(self) -> None:
        """Answer some of those for whom something has changed, those first who waited first; and all who have
        waited long enough."""
        for _ in range(min(AT_ONCE, len(self._due))):
            watcher = self._due.popleft()
            self._lead.answer(watcher.who, watcher.operation, DONE, self._lead.told(watcher.operation))
        if self._due:
            self._turn.telling.add(self._partition)
        ends, now = self._ends, self._turn.now
        while ends and (ends[0][0] <= now or ends[0][2] not in self._waiting):
            watcher = heappop(ends)[2]
            if watcher in self._waiting:
                self._forget(watcher)
                self._lead.read_leased(watcher.who, watcher.operation)

    def tell_all(self) -> None:
        """The lead ends: everybody goes on elsewhere, from what is committed by now."""
        for who, operation in self.take_all():
            self._lead.answer(who, operation, DONE, self._lead.told(operation))

    def take_all(self) -> list[tuple[object, Operation]]:
        """Nobody waits here any more."""
        everyone = [(watcher.who, watcher.operation) for watcher in (*self._due, *self._waiting)]
        for each in (self._by_key, self._by_prefix, self._waiting, self._ends, self._due):
            each.clear()
        return everyone

    def wakes(self, now: float) -> list[float]:
        """After how many seconds somebody has waited long enough; empty when nobody waits."""
        return [max(0.0, self._ends[0][0] - now)] if self._waiting else []
