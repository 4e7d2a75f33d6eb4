"""Every state that a small group can come to: all orders, losses and repetitions of messages.

``python -m chordtx.sim.group_states [NAME ...] [--seconds N] [--states N]``

Breadth first from a group in which nobody leads yet, or one has just begun to. A state is what each node is,
which messages have been sent, what time it is, what may happen yet, and what clients were told. A message
that was sent once may arrive at any later time, and any number of times: so the set of those that were sent
only grows, and to lose one is never to let it arrive. After each step all must hold that is watched in a
random walk.

The code is deterministic, and an event happens to one node: so what it does is found out once for each state
of a node and remembered, and most steps of the search are lookups.
"""

from __future__ import annotations

import sys
import time as clocks
from argparse import ArgumentParser
from array import array
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from attrs import define, field

from chordtx.sim.group_chances import Chance, chances_of
from chordtx.sim.group_copies import Keys, Still, copied
from chordtx.sim.group_ghosts import Effect, Ghost, Recorder, RecordingClients, called
from chordtx.sim.group_plans import PLANS, Plan
from chordtx.sim.group_watch import Violation
from chordtx.sim.group_world import GroupWorld, Host, Sent


class _Reaction(NamedTuple):
    """What an event did.

    :ivar host: the number of the host afterwards. :ivar sent: bits of messages.
    :ivar effects: what is to be told to a ghost.
    """

    host: int
    sent: int
    effects: list[Effect]


_Reactions = dict[int, _Reaction]


class _State(NamedTuple):
    """One state.

    :ivar hosts: numbers of hosts, in order. :ivar sent: bits of messages.
    :ivar left: how often each chance is left, and at the end how many jumps of time.
    :ivar number: states are numbered as they are found.
    """

    hosts: tuple[int, ...]
    sent: int
    time: int
    left: tuple[int, ...]
    ghost: Ghost
    number: int


@define
class Searched:
    """What was found.

    :ivar states: different ones. :ivar steps: ways from one to another.
    :ivar depth: up to which all were seen. :ivar is_whole: whether there are no others.
    :ivar hosts: states of single nodes. :ivar messages: different ones.
    :ivar violation: of what must hold; then :ivar path: how it came to that.
    """

    name: str
    states: int = 0
    steps: int = 0
    depth: int = 0
    is_whole: bool = False
    hosts: int = 0
    messages: int = 0
    seconds: float = 0.0
    violation: str = ""
    path: list[str] = field(factory=list)

    def __str__(self) -> str:
        found = "ALL" if self.is_whole else "some"
        told = (
            f"{self.name:9} {found} states: {self.states}, steps: {self.steps}, depth: {self.depth}, "
            f"of nodes: {self.hosts}, messages: {self.messages}, {self.seconds:.0f} s"
        )
        return "\n    ".join([told, self.violation, *self.path]) if self.violation else told


class GroupStates:
    """All that a plan can lead to."""

    def __init__(self, name: str, plan: Plan) -> None:
        self._plan = plan
        self._world = world = GroupWorld(
            plan.members, plan.spares, partitions=plan.partitions, syncs=plan.syncs
        )
        self._ids = tuple(world.hosts)
        for number, host in enumerate(world.hosts.values(), 1):
            _be_still(host, Still(number))
        if plan.begun:
            _begin(world)
        world.clients.histories += len(plan.force)
        self._start = Ghost(world.watch, world.clients)
        self._recorder = world.watch = Recorder()
        world.clients = RecordingClients(self._recorder)
        self._chances = tuple(chances_of(plan))
        self._keys = Keys(ticks=plan.ticks > 0)
        self._numbers: dict[object, int] = {}
        self._hosts: list[Host] = []
        self._leads: list[bool] = []
        self._messages: list[Sent] = []
        self._message_numbers: dict[object, int] = {}
        self._places: list[int] = []
        self._reactions: dict[tuple[int, int], _Reactions] = {}
        self._leases_held: set[tuple[tuple[int, ...], int]] = set()
        self._seen: set[int] = set()
        self._parents, self._events = array("q"), array("q")
        self.report = Searched(name)

    def run(self, states_max: int = sys.maxsize, seconds: float = float("inf")) -> Searched:
        """Through all of them, or until it is enough, or up to the first violation."""
        report, began = self.report, clocks.monotonic()
        left = (*[chance.times for chance in self._chances], len(self._plan.jumps))
        hosts = [self._number(id, host) for id, host in self._world.hosts.items()]
        layer = [*self._if_new(tuple(hosts), 0, 0, left, self._start, -1, 0)]
        try:
            while layer:
                following: list[_State] = []
                for state in layer:
                    following += self._after(state)
                    if report.states >= states_max or clocks.monotonic() - began > seconds:
                        return report
                report.depth += 1
                layer = following
            report.is_whole = True
        except Violation as violation:
            report.violation = str(violation)
        finally:
            report.hosts, report.messages = len(self._hosts), len(self._messages)
            report.seconds = clocks.monotonic() - began
        return report

    # Steps

    def _after(self, state: _State) -> Iterator[_State]:
        """The states that come next, and are new."""
        hosts, sent, time = state.hosts, state.sent, state.time
        places, rows = self._places, [self._row(number, time) for number in hosts]
        for number in _bits(sent):
            place = places[number]
            reaction = rows[place].get(number) or self._react(state, place, number)
            self.report.steps += 1
            if reaction.host != hosts[place] or reaction.sent & ~sent or reaction.effects:
                yield from self._step(state, place, number, reaction, state.left, state.ghost)
        for index, chance in enumerate(self._chances):
            if state.left[index]:
                yield from self._after_chance(state, rows, index, chance)
        if state.left[-1]:
            self.report.steps += 1
            later = state.time + self._plan.jumps[-state.left[-1]]
            left = (*state.left[:-1], state.left[-1] - 1)
            event = ~(len(self._chances) * len(hosts))
            yield from self._if_new(hosts, sent, later, left, state.ghost, state.number, event)

    def _after_chance(
        self, state: _State, rows: list[_Reactions], index: int, chance: Chance
    ) -> Iterator[_State]:
        left, ghost, operation = list(state.left), state.ghost, chance.operation
        left[index] -= left[index] > 0
        if operation is not None and operation.client not in ghost.clients.pending:
            if (chance.partition, operation.client) in ghost.has_called:
                return  # and has its answer
            ghost = ghost.told(~index, [called(operation, chance.partition)])
        for id in chance.hosts:
            place = self._ids.index(id)
            if chance.may(self._hosts[state.hosts[place]]):
                event = ~(index * len(self._ids) + place)
                reaction = rows[place].get(event) or self._react(state, place, event)
                self.report.steps += 1
                yield from self._step(state, place, event, reaction, tuple(left), ghost)

    def _step(
        self,
        state: _State,
        place: int,
        event: int,
        reaction: _Reaction,
        left: tuple[int, ...],
        ghost: Ghost,
    ) -> Iterator[_State]:
        hosts = state.hosts
        if reaction.host != hosts[place]:
            hosts = (*hosts[:place], reaction.host, *hosts[place + 1 :])
        if reaction.effects:
            try:
                ghost = ghost.told((state.hosts[place], state.time, event), reaction.effects)
            except Violation:
                self._tell_path(state.number, event)
                raise
        yield from self._if_new(
            hosts, state.sent | reaction.sent, state.time, left, ghost, state.number, event
        )

    def _if_new(
        self,
        hosts: tuple[int, ...],
        sent: int,
        time: int,
        left: tuple[int, ...],
        ghost: Ghost,
        parent: int,
        event: int,
    ) -> Iterator[_State]:
        key = hash((hosts, sent, time, left, ghost.key))
        if key in self._seen:
            return
        self._seen.add(key)
        self._parents.append(parent)
        self._events.append(event)
        index = self.report.states
        self.report.states += 1
        try:
            self._must_hold_leases(hosts, time)
        except Violation:
            self._tell_path(index)
            raise
        yield _State(hosts, sent, time, left, ghost, index)

    def _must_hold_leases(self, hosts: tuple[int, ...], time: int) -> None:
        """Looks at hosts as they are, and leaves them so."""
        if (hosts, time) in self._leases_held or not any(map(self._leads.__getitem__, hosts)):
            return
        self._leases_held.add((hosts, time))
        world, reckoned = self._world, []
        world.time = time
        for id, number in zip(self._ids, hosts, strict=True):
            host = world.hosts[id] = self._hosts[number]
            for group in {} if host.groups is None else host.groups.groups.values():
                if group.leader is not None:
                    reckoned.append((group.leader._held_lease, group.leader._held_lease.until))
        try:
            world.must_hold_leases()
        finally:
            for held, until in reckoned:
                held.until = until

    # What events do

    def _row(self, host: int, time: int) -> _Reactions:
        row = self._reactions.get((host, time))
        if row is None:
            row = self._reactions[host, time] = {}
        return row

    def _react(self, state: _State, place: int, event: int) -> _Reaction:
        """For the first time, at a host like this, at this time."""
        world, recorder, id = self._world, self._recorder, self._ids[place]
        host: Host = copied(self._hosts[state.hosts[place]])
        world.hosts[id], world.time, world.net = host, state.time, []
        groups = {} if host.groups is None else host.groups.groups
        recorder.begin(groups, {partition: stored for partition, stored, _, _ in host.disk.load()})
        try:
            if event >= 0:
                world.deliver(copied_sent(self._messages[event]))
            else:
                self._chances[~event // len(self._ids)].happen(world, id)
        except Exception as error:
            self._tell_path(state.number, event)
            raise Violation(f"it breaks: {error!r}") from error
        if host.groups is not None:
            _be_still(host, self._stills(host))
        sent = 0
        for each in world.net:
            if not isinstance(each.message, self._plan.unheard):
                sent |= 1 << self._number_of_message(each)
        reaction = _Reaction(self._number(id, host), sent, recorder.effects)
        self._row(state.hosts[place], state.time)[event] = reaction
        return reaction

    def _stills(self, host: Host) -> Still:
        return Still(1 + self._ids.index(host.me.id))

    def _number(self, id: bytes, host: Host) -> int:
        key = (id, self._keys.of(host))
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._hosts)
            self._hosts.append(host)
            groups = {} if host.groups is None else host.groups.groups
            self._leads.append(any(group.is_leading for group in groups.values()))
        return number

    def _number_of_message(self, sent: Sent) -> int:
        key = (sent.by, sent.to, sent.partition, self._keys.of_message(sent.message))
        number = self._message_numbers.get(key)
        if number is None:
            number = self._message_numbers[key] = len(self._messages)
            self._messages.append(sent)
            self._places.append(self._ids.index(sent.to))
        return number

    # How it came to something

    def _tell_path(self, index: int, *events: int) -> None:
        """Up to a state, and further."""
        path = list(events)
        while index > 0:
            path.insert(0, self._events[index])
            index = self._parents[index]
        self.report.path = [self._told(event) for event in path]

    def _told(self, event: int) -> str:
        if event >= 0:
            by, to, partition, message = self._messages[event]
            return f"{by.decode()} -> {to.decode()} of {partition}: {message}"
        index, place = divmod(~event, len(self._ids))
        if index == len(self._chances):
            return "time passes"
        return f"{self._ids[place].decode()}: {self._chances[index].name}"


def copied_sent(sent: Sent) -> Sent:
    """A message as it is each time that it arrives, whatever became of it before."""
    return sent._replace(message=copied(sent.message))


def _bits(number: int) -> Iterable[int]:
    bits = []
    while number:
        lowest = number & -number
        bits.append(lowest.bit_length() - 1)
        number ^= lowest
    return bits


def _be_still(host: Host, still: Still) -> None:
    host._rng = still
    groups = host.groups
    if groups is not None:
        groups._rng = still
        for group in groups.groups.values():
            group._rng = group.tries._rng = still


def _begin(world: GroupWorld) -> None:
    """The first of the nodes leads."""
    first = next(iter(world.hosts))
    for partition in world.partitions:
        world.on_group(first, lambda group: group.stand(trial=False), partition)
    while world.net or any(host.unsynced for host in world.hosts.values()):
        for id in world.hosts:
            world.sync(id, 100)
        world.settle()


def main() -> int:
    """Search some plans, or all."""
    parser = ArgumentParser(prog="python -m chordtx.sim.group_states", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each plan")
    parser.add_argument("--states", type=int, default=sys.maxsize, help="for each plan")
    options = parser.parse_args()
    found = 0
    for name in options.names or PLANS:
        report = GroupStates(name, PLANS[name]).run(options.states, options.seconds)
        sys.stdout.write(f"{report}\n")
        sys.stdout.flush()
        found += bool(report.violation)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
