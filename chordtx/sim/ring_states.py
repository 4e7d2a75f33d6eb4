"""Every state that a small ring can come to: all orders of its messages, of joins, faults and timers.

Breadth first from a true ring. A state is what each node knows, what is under way, and what may happen yet;
one that was met before is not gone through again. Messages of the same words count as one. Between states
there is one event, after which the ring is looked at as in :mod:`chordtx.sim.ring_search`. From every state
in which nothing is under way and nothing more is to come, the true ring must be a few rounds away.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Any, NamedTuple

from attrs import define, field, frozen

from chordtx.ring import SIZE, PlaceSearch, RingNode
from chordtx.sim.invariants import name_of, violations
from chordtx.sim.ring_model import RingModel
from chordtx.sim.ring_search import calm_down, grow


@frozen
class Plan:
    """What may happen to a small ring, in any order.

    :ivar list_length: r. :ivar base: places of the nodes that the true ring has at first, of ``places`` that
        there are on the circle. :ivar joiners: places of those that join.
    :ivar crashes: how many nodes may crash, :ivar leaves: and leave. :ivar ticks: how many timers may go off
        while something is under way or to come.
    """

    list_length: int
    base: tuple[int, ...]
    joiners: tuple[int, ...] = ()
    crashes: int = 0
    leaves: int = 0
    ticks: int = 0
    places: int = 16

    def id(self, place: int) -> int:
        """The id of the node at a place."""
        return SIZE // self.places * place + 1


@define
class Explored:
    """What was found.

    :ivar events: ways from one state to another. :ivar ends: states in which nothing is under way or to come.
    :ivar rounds: of stabilization from the worst of these to the true ring.
    :ivar violations: of the first state that had any; none, for a ring that works.
    """

    states: int = 0
    events: int = 0
    ends: int = 0
    rounds: int = 0
    violations: list[str] = field(factory=list)


class ToCome(NamedTuple):
    """What may happen yet, how often."""

    joins: int
    crashes: int
    leaves: int
    ticks: int


DELIVER, LOOK_UP, CRASH, LEAVE, TICK = "deliver", "look up", "crash", "leave", "tick"
Event = tuple[str, Any]


class _State(NamedTuple):
    nodes: tuple[int, ...]
    pending: frozenset[int]
    others: int
    to_come: ToCome


class _Table:
    """Numbers for values, so that states are small and quickly compared."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._numbers: dict[Any, int] = {}

    def number(self, value: Hashable) -> int:
        number = self._numbers.get(value)
        if number is None:
            number = self._numbers[value] = len(self.values)
            self.values.append(value)
        return number


class Exploration:
    """All that a plan can lead to."""

    def __init__(
        self,
        plan: Plan,
        node_type: type[RingNode] = RingNode,
        search_type: type[PlaceSearch] = PlaceSearch,
    ) -> None:
        self._principals_min = plan.list_length + 1
        self._model = RingModel(0, plan.list_length, node_type, search_type)
        grow(self._model, [plan.id(place) for place in plan.base])
        self._model.drain()
        self._joiners = tuple(plan.id(place) for place in plan.joiners)
        self._ids = (*self._model.nodes, *self._joiners)
        self._model.walk.bits(self._ids)
        self._to_come = ToCome(len(self._joiners), plan.crashes, plan.leaves, plan.ticks)
        self._knowledge, self._messages, self._others = _Table(), _Table(), _Table()
        self._now = [-1] * len(self._ids)
        self._members_in: dict[int, int] = {}  # bits, by what a node knows
        self._skipped_by: dict[int, int] = {}  # by what a node knows, by messages, and by the rest
        self._skipped_in: dict[int, int] = {}
        self._skipped_by_searches: dict[int, int] = {}
        self._looked_at: set[tuple[int, ...]] = set()
        self._principals: dict[_State, int] = {}
        self.report = Explored()

    def run(self, states_max: int = 1_000_000) -> Explored:
        """Through all of them, or up to the first violation."""
        report, principals = self.report, self._principals
        start = self._save()
        principals[start] = self._principals_in(start)
        waiting = deque([start])
        while waiting and not report.violations:
            state = waiting.popleft()
            self._restore(state)
            events = self._events(state)
            for event in events:
                after = self._follow(state, event)
                if after is not None:
                    waiting.append(after)
            if not events:
                self._end(state)
            report.states = len(principals)
            assert report.states <= states_max, "more states than expected"
        return report

    def _follow(self, state: _State, event: Event) -> _State | None:
        """Let an event happen in a state. :returns: the state after it, when it is a new one."""
        self._restore(state)
        ended = self._happen(event)
        after = self._save()
        self.report.events += 1
        is_new = after not in self._principals
        if is_new:
            self._principals[after] = self._principals_in(after)
            self._look_at(after)
        lost = self._principals[state] & ~self._principals[after] & ~ended
        if lost:
            wrong = [f"{name_of(id)}: is a principal no more" for id in self._model.walk.ids(lost)]
            self.report.violations += wrong
        return after if is_new else None

    def _principals_in(self, state: _State) -> int:
        """The principals' bits in the state that the model is in: what it says, remembered part by part."""
        model = self._model
        members = skipped = 0
        for id, number in zip(self._ids, state.nodes, strict=True):
            if number not in self._skipped_by:
                node = model.nodes.get(id)
                is_member = node is not None and node.is_member
                self._members_in[number] = model.walk.bit(id) if is_member else 0
                self._skipped_by[number] = 0 if node is None else model.skipped_by(node)
            members |= self._members_in[number]
            skipped |= self._skipped_by[number]
        for number in state.pending:
            if number not in self._skipped_in:
                self._skipped_in[number] = model.skipped_in(self._messages.values[number])
            skipped |= self._skipped_in[number]
        if state.others not in self._skipped_by_searches:
            self._skipped_by_searches[state.others] = model.skipped_by_searches()
        return members & ~skipped & ~self._skipped_by_searches[state.others]

    def _look_at(self, state: _State) -> None:
        if state.nodes not in self._looked_at:
            self._looked_at.add(state.nodes)
            model = self._model
            wrong = violations(model.places(), model.list_length, self._principals_min)
            self.report.violations += [*model.broken, *wrong]

    def _end(self, state: _State) -> None:
        self._restore(state)
        rounds, wrong = calm_down(self._model)
        self.report.ends += 1
        self.report.rounds = max(self.report.rounds, rounds)
        self.report.violations += wrong
        self._now = [-1] * len(self._ids)

    # Events

    def _events(self, state: _State) -> list[Event]:
        """What may happen next."""
        model, to_come = self._model, self._to_come
        events: list[Event] = [(DELIVER, self._messages.values[number]) for number in sorted(state.pending)]
        members = sorted(model.members)
        lookers = [id for id in model.nodes if not model.nodes[id].is_member and id not in model.searches]
        if to_come.joins:
            lookers.append(self._joiners[-to_come.joins])
        events += [(LOOK_UP, (joiner, owner)) for joiner in lookers for owner in self._owners(joiner)]
        if to_come.crashes or to_come.leaves:
            may_end = [id for id in members if model.may_end(id, self._principals_min)]
            events += [(CRASH, id) for id in may_end if to_come.crashes]
            events += [(LEAVE, id) for id in may_end if to_come.leaves]
        if to_come.ticks and events:
            events += [(TICK, id) for id in members]
        return events

    def _owners(self, position: int) -> list[int]:
        """Whom some member takes for the owner of a position: where a lookup could end."""
        answers = [node.answer(position) for node in self._model.members.values()]
        return sorted({answer[0].id for answer in answers if answer is not None})

    def _happen(self, event: Event) -> int:
        """Let it. :returns: the bit of the node that ended, if one did."""
        model, to_come = self._model, self._to_come
        kind, what = event
        if kind == DELIVER:
            model.pending.remove(what)
            model.deliver(what)
            self._touch(what.node)
        elif kind == LOOK_UP:
            joiner, owner = what
            if joiner not in model.nodes:
                self._to_come = to_come._replace(joins=to_come.joins - 1)
                model.add(joiner)
                self._touch(joiner)
            model.search(joiner, owner)
        elif kind == TICK:
            self._to_come = to_come._replace(ticks=to_come.ticks - 1)
            model.tick(what)
        elif kind == CRASH:
            self._to_come = to_come._replace(crashes=to_come.crashes - 1)
            model.crash(what)
        else:
            self._to_come = to_come._replace(leaves=to_come.leaves - 1)
            model.leave(what)
        if kind in (CRASH, LEAVE):
            self._touch(what)
            return model.walk.bit(what)
        return 0

    # States

    def _touch(self, id: int) -> None:
        self._now[self._ids.index(id)] = -1

    def _save(self) -> _State:
        model, now = self._model, self._now
        for place, id in enumerate(self._ids):
            if now[place] < 0:
                now[place] = self._knowledge.number((id, _known_to(model.nodes.get(id))))
        model.after_a_tick.clear()  # a joiner that found no place looks again, at any time
        searches = tuple((id, _known_to_search(search)) for id, search in sorted(model.searches.items()))
        may_end = self._to_come.crashes or self._to_come.leaves
        told = tuple(sorted(model.told.items())) if may_end else ()  # only the environment asks
        return _State(
            tuple(now),
            frozenset([self._messages.number(message) for message in model.pending]),
            self._others.number((searches, told)),
            self._to_come,
        )

    def _restore(self, state: _State) -> None:
        model, now = self._model, self._now
        for place, number in enumerate(state.nodes):
            if now[place] != number:
                now[place] = number
                self._restore_node(*self._knowledge.values[number])
        model.pending = [self._messages.values[number] for number in state.pending]
        searches, told = self._others.values[state.others]
        model.searches = {id: _search_that_knows(model.search_type(id), known) for id, known in searches}
        model.told = dict(told)
        self._to_come = state.to_come

    def _restore_node(self, id: int, known: Any) -> None:
        model = self._model
        if known is None:
            model.nodes.pop(id, None)
            return
        node = model.nodes.get(id) or model.add(id)
        node._is_member, node._predecessor, node._successors, node._complete, failed = known
        node._failed = dict(failed)


def _known_to(node: RingNode | None) -> Hashable:
    if node is None:
        return None
    failed = tuple(node._failed.items())
    return node._is_member, node._predecessor, node._successors, node._complete, failed


def _known_to_search(search: PlaceSearch) -> Hashable:
    return search.owner, search.after, tuple(search.heard.items())


def _search_that_knows(search: PlaceSearch, known: Any) -> PlaceSearch:
    search.owner, search.after, heard = known
    search.heard = dict(heard)
    return search
