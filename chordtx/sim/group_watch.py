"""What must hold of one partition's group, watched from outside: S1 to S6.

S1  one state for each rank.
S2  what a majority of an epoch has accepted is in the state of every leader with a greater ballot, in that
    epoch and after; and no state is dropped before a majority of a later epoch has one.
S3  one configuration follows an epoch.
S4  a read answers with a value that was the newest committed one at a moment between its call and its answer.
S5  no operation takes effect twice; with S2, none that was answered is lost.
S6  the records are what the changes make, in their order.

Each of several histories (:mod:`chordtx.group.group`, by force) is judged by itself. :func:`lease_margin`
tells how far a group is from breaking S4: below zero, luck alone keeps it whole.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import takewhile
from typing import NamedTuple, cast

from attrs import define, field

from chordtx.group.configuration import Configuration
from chordtx.group.group import Group
from chordtx.group.leader import LEADING, SEALED, Leader
from chordtx.group.rank import FIRST_RANK, NO_RANK, Ballot, Epoch, NodeId, Rank
from chordtx.group.replica import Stored
from chordtx.group.state import EXPIRE, KEEP, STORE, Change, State


class Violation(AssertionError):
    """Something that must hold does not. Its text begins with what: S1, S2 ..."""


class Step(NamedTuple):
    """What one change did to one key.

    :ivar client: whose operation it was, empty for a leader's own. :ivar value: None when nothing is there.
    :ivar rank: of the change.
    """

    client: bytes
    number: int
    key: bytes
    value: bytes | None
    has_effect: bool
    rank: Rank


Steps = tuple[Step, ...]


class Committed(NamedTuple):
    """A key had this value from a moment on.

    :ivar rank: its version; NO_RANK for nothing. :ivar changed: the rank of the change.
    """

    moment: int
    value: bytes | None
    rank: Rank
    changed: Rank


_NOTHING_YET = Committed(-1, None, NO_RANK, NO_RANK)


class Line:
    """Steps that only become more. :param what: they are, for the text of a violation."""

    def __init__(self, what: str) -> None:
        self.steps: Steps = ()
        self._what = what
        self._ids: set[tuple[bytes, int]] = set()

    def copy(self) -> Line:
        """One that may go its own way."""
        copy = Line(self._what)
        copy.steps, copy._ids = self.steps, self._ids.copy()
        return copy

    def extend(self, steps: Steps) -> Steps:
        """They are these by now, or were before.

        :returns: the new ones.
        :raises Violation: when some of them were others, or one is there twice.
        """
        before = self.steps
        if before[: len(steps)] == steps:
            return ()
        if steps[: len(before)] != before:
            raise Violation(f"S2 {self._what}: {before} and then {steps}")
        new = steps[len(before) :]
        for step in new:
            if step.client:
                if (step.client, step.number) in self._ids:
                    raise Violation(f"S5 twice in {steps}")
                self._ids.add((step.client, step.number))
        self.steps = steps
        return new


@define
class _History:
    """Of one mark.

    :ivar accepted: what a majority has accepted, in order. :ivar accepted_ballot: under which ballot.
    :ivar known: what leaders know to be committed. :ivar values: of each key, since when.
    """

    accepted: Line = field(factory=lambda: Line("accepted"))
    accepted_ballot: Ballot = FIRST_RANK.ballot
    known: Line = field(factory=lambda: Line("committed"))
    values: dict[bytes, list[Committed]] = field(factory=dict)


class GroupWatch:
    """See the module. It is told of each replica after whatever happened to it.

    :ivar moment: counts calls and answers, and orders them among commits.
    :ivar lease_margin: the least of a lease that was seen, in true time.
    """

    def __init__(self) -> None:
        self.moment = 0
        self.lease_margin = float("inf")
        self.leaders = self.epochs = self.answers = 0
        self._parts: dict[int, _Partition] = defaultdict(_Partition)

    def observe(self, partition: int, id: NodeId, group: Group) -> None:
        """Something happened to a node."""
        part = self._parts[partition]
        leader = group.leader
        if leader is not None:
            part.learn(leader)
        if part.replica_changed(id, group):
            part.taken(id, group)
        if leader is not None:
            if part.commits.get(id) != (leader.rank[:2], leader.commit):
                part.commits[id] = (leader.rank[:2], leader.commit)
                part.committed[leader.rank[:2]] = leader.commit
                part.known(leader, self.moment)
            if leader.stage == LEADING and leader.rank[:2] not in part.led:
                part.led.add(leader.rank[:2])
                self.leaders += 1
                self.epochs = max(self.epochs, leader.configuration.epoch.number)
                part.leads(leader)

    def learn(self, partition: int, leader: Leader) -> None:
        """A leader that has stopped has made this before."""
        self._parts[partition].learn(leader)

    def saw_margin(self, margin: float | None, leader: NodeId) -> None:
        """How far a lease is from breaking, in true time (:func:`lease_margin`).

        :raises Violation: when it is too long.
        """
        if margin is not None:
            self.lease_margin = min(self.lease_margin, margin)
            if margin < 0:
                raise Violation(f"S4 the lease of {leader!r} is counted {-margin} too long")

    def synced(self, partition: int, id: NodeId, stored: Stored) -> None:
        """A node's disk has this."""
        if stored.header is not None:
            self._parts[partition].synced(id, stored.rank, stored.header.configuration)

    def down(self, partition: int, id: NodeId) -> None:
        """A node crashed: what it has now is what is on its disk."""
        part = self._parts[partition]
        part.ranks.pop(id, None)
        part.commits.pop(id, None)

    def tick(self) -> int:
        """The next moment."""
        self.moment += 1
        return self.moment

    def values_since(self, partition: int, mark: int, key: bytes, called: int) -> list[Committed]:
        """Which values of a key were the newest committed one at some moment since a call."""
        values = self._parts[partition].histories[mark].values.get(key, [])
        all_values = [_NOTHING_YET, *values]
        first = max(index for index, each in enumerate(all_values) if each.moment < called)
        return all_values[first:]

    def changes_between(
        self, partition: int, after: Rank, upto: Rank
    ) -> dict[bytes, list[tuple[Committed, Committed]]]:
        """What became of keys after one rank, up to another: each change with what was there before it."""
        found: dict[bytes, list[tuple[Committed, Committed]]] = {}
        for key, values in self._parts[partition].histories[upto.epoch.mark].values.items():
            changes = [
                (before, now)
                for before, now in zip([_NOTHING_YET, *values], values, strict=False)
                if after < now.changed <= upto
            ]
            if changes:
                found[key] = changes
        return found

    def is_committed(self, partition: int, rank: Rank) -> bool:
        """Whether its leader knows that a majority has the state of a rank."""
        return self._parts[partition].committed.get(rank[:2], -1) >= rank.sequence

    def keys(self, partition: int, mark: int) -> set[bytes]:
        """Which keys ever had a committed value."""
        return set(self._parts[partition].histories[mark].values)

    def writer(self, partition: int, rank: Rank) -> tuple[bytes, int] | None:
        """Whose operation a rank is."""
        change = self._parts[partition].changes.get(rank)
        return None if change is None or not change.client else (change.client, change.number)

    def committed_versions(self, partition: int, key: bytes) -> list[Rank]:
        """Which versions a key had, as leaders know: the only ones that a client can hear of."""
        values = self._parts[partition].histories[0].values.get(key, [])
        return [each.rank for each in values if each.rank != NO_RANK]

    def is_known(self, partition: int, rank: Rank) -> bool:
        """Whether leaders know a change to be committed."""
        known = self._parts[partition].histories[rank.epoch.mark].known
        return any(step.rank == rank for step in known.steps)


class _Partition:
    """What was seen of one partition."""

    def __init__(self) -> None:
        self.states: dict[Rank, State] = {}
        self.configurations: dict[Epoch, Configuration] = {}
        self.parents: dict[Rank, Rank] = {}
        self.changes: dict[Rank, Change] = {}
        self.steps: dict[Rank, Steps] = {FIRST_RANK: ()}
        self.histories: dict[int, _History] = defaultdict(_History)
        self.ranks: dict[NodeId, Rank] = {}
        self.epochs: dict[NodeId, Epoch] = {}
        self.reached: dict[int, dict[NodeId, Epoch]] = defaultdict(dict)
        self.commits: dict[NodeId, tuple[object, int]] = {}
        self.committed: dict[object, int] = {}
        self.led: set[object] = set()
        self._now_ms: dict[Rank, int] = {}
        self._named: dict[tuple[object, ...], Rank] = {}
        self._learned: dict[tuple[object, ...], int] = {}
        self._have: dict[tuple[object, ...], dict[NodeId, int]] = defaultdict(dict)

    def learn(self, leader: Leader) -> None:
        """Where the leader's ranks come from."""
        epoch, ballot = leader.configuration.epoch, leader.ballot
        if (epoch, ballot) not in self._learned:
            first = Rank(epoch, ballot, leader.first)
            self._made(first, leader.base, leader.state.now_ms)
        upto = self._learned.get((epoch, ballot), leader.first)
        new = list(takewhile(lambda sent: sent.last > upto, reversed(leader.log.batches)))
        for sent in reversed(new):
            for sequence, change in enumerate(sent.changes, sent.after + 1):
                if sequence > upto:
                    rank = Rank(epoch, ballot, sequence)
                    self._made(rank, Rank(epoch, ballot, sequence - 1), sent.now_ms)
                    self.changes[rank] = change
                    upto = sequence
        self._learned[epoch, ballot] = upto

    def _made(self, rank: Rank, parent: Rank, now_ms: int) -> None:
        self.parents[rank] = parent
        self._now_ms[rank] = now_ms
        if now_ms < self._now_ms.get(parent, 0):
            raise Violation(f"the time of {rank} goes back: {self._now_ms[parent]} and then {now_ms}")
        name = (rank.epoch.mark, rank.ballot, rank.sequence)
        if self._named.setdefault(name, rank) != rank:
            raise Violation(f"S1 one ballot has one sequence: {rank} and {self._named[name]}")

    def replica_changed(self, id: NodeId, group: Group) -> bool:
        """Whether a replica has another rank or epoch than it had."""
        replica = group.replica
        before = (self.ranks.get(id), self.epochs.get(id))
        epoch = replica.epoch
        self.ranks[id], self.epochs[id] = replica.rank, epoch
        reached = self.reached[epoch.mark]
        reached[id] = max(epoch, reached.get(id, epoch))
        rank, left = before[0], replica.left
        if rank not in (None, NO_RANK) and replica.rank == NO_RANK and rank.epoch.mark == left.epoch.mark:
            self._dropped(id, left)  # what belongs to another history is set aside, and not dropped
        return before != (replica.rank, replica.epoch)

    def _dropped(self, id: NodeId, left: Configuration) -> None:
        reached = self.reached[left.epoch.mark]  # what is set aside is kept too
        active = {each for each, epoch in reached.items() if epoch >= left.epoch}
        if left.members and not left.has_majority(active):
            raise Violation(f"S2 {id!r} drops its state, but {left} is not active at a majority")

    def taken(self, id: NodeId, group: Group) -> None:
        """A replica has a rank that it did not have."""
        rank, state = group.replica.rank, group.replica.state
        if state is None:
            return
        configuration = state.configuration
        present = self.configurations.setdefault(configuration.epoch, configuration)
        if present != configuration:
            raise Violation(f"S3 {configuration.epoch}: {present} and {configuration}")
        if rank not in self.states:
            self._must_be_made_by_changes(rank, state)
            self.states[rank] = state.copy()
        elif self.states[rank] != state:
            raise Violation(f"S1 {rank}: {_told(self.states[rank])} and {_told(state)}")

    def synced(self, id: NodeId, rank: Rank, configuration: Configuration) -> None:
        """A replica has this state on its disk, so that a crash does not undo it."""
        have = self._have[rank[:2]]
        have[id] = max(rank.sequence, have.get(id, -1))
        reached = sorted((have.get(each, -1) for each in configuration.ids), reverse=True)
        sequence = reached[configuration.majority - 1]
        if sequence < 0:
            return
        history = self.histories[rank.epoch.mark]
        if history.accepted.extend(self.steps_of(rank._replace(sequence=sequence))):
            history.accepted_ballot = rank.ballot

    def steps_of(self, rank: Rank) -> Steps:
        """All that led to a state, in order."""
        path = []
        at = rank
        while at not in self.steps:
            path.append(at)
            if at not in self.parents:
                raise Violation(f"S1 nobody made {at}")
            at = self.parents[at]
        steps = self.steps[at]
        for at in reversed(path):
            change = self.changes.get(at)
            if change is not None:
                steps += tuple(_steps_of(change, at))
            self.steps[at] = steps
        return steps

    def _must_be_made_by_changes(self, rank: Rank, state: State) -> None:
        made: dict[bytes, bytes] = {}
        at, changes = rank, []
        while at in self.parents and at not in self.states:  # from the latest state that was looked at before
            changes += [(self.changes[at], at)] if at in self.changes else []
            at = self.parents[at]
        before = self.states.get(at)
        if before is None:
            steps = self.steps_of(rank)
        else:
            made = {key: record.value for key, record in before.records.items()}
            steps = tuple(step for change in reversed(changes) for step in _steps_of(*change))
        for step in steps:
            if step.has_effect:
                if step.value is None:
                    made.pop(step.key, None)
                else:
                    made[step.key] = step.value
        present = {key: record.value for key, record in state.records.items()}
        if made != present:
            raise Violation(f"S6 {rank}: {present} is not what the changes make: {made}")

    def known(self, leader: Leader, moment: int) -> None:
        """A leader knows more to be committed."""
        if leader.commit < leader.first:
            return
        history = self.histories[leader.configuration.epoch.mark]
        for step in history.known.extend(self.steps_of(leader.committed_rank)):
            if step.has_effect:
                rank = NO_RANK if step.value is None else step.rank
                history.values.setdefault(step.key, []).append(Committed(moment, step.value, rank, step.rank))

    def leads(self, leader: Leader) -> None:
        """A leader serves. One that learns late, overtaken by a greater ballot, can only lose."""
        history = self.histories[leader.configuration.epoch.mark]
        accepted = history.accepted.steps
        if leader.ballot >= history.accepted_ballot:
            mine = self.steps_of(leader.committed_rank)
            if mine[: len(accepted)] != accepted:
                raise Violation(f"S2 {leader.ballot} leads with {mine}, but accepted were {accepted}")


def _steps_of(change: Change, rank: Rank) -> Iterable[Step]:
    if change.kind == EXPIRE and not change.client:
        keys = cast("tuple[bytes, ...]", change.result)
        return [Step(b"", 0, key, None, True, rank) for key in keys]
    if not change.client:
        return []
    value = change.value if change.effect == STORE else None
    return [Step(change.client, change.number, change.key, value, change.effect != KEEP, rank)]


def _told(state: State) -> str:
    return f"{state.header} {state.records} { {id: client.done for id, client in state.clients.items()} }"


# How far from breaking


def lease_margin(
    leader: Group,
    members: Mapping[NodeId, Group | None],
    rates: Mapping[NodeId, float],
    now: Mapping[NodeId, float],
) -> float | None:
    """How much true time lies between the end of a leader's lease, as it believes, and the moment when a
    majority could promise to somebody else.

    :param members: of its configuration; None for one that is down, which begins with a whole lease.
    :param rates: of the lease clocks, in ticks per unit of true time. :param now: on each lease clock.
    :returns: None when it has no lease.
    """
    lead = leader.leader
    if lead is None or lead.stage not in (LEADING, SEALED) or not lead.is_leased() or not lead.others:
        return None
    me = leader.me.id
    until = (lead._held_lease.until - now[me]) / rates[me]
    free = []
    for id in sorted(lead.configuration.ids):
        group = members.get(id)
        if id == me or group is None or group.replica.history.mark != lead.configuration.epoch.mark:
            free.append(float("inf"))  # one that has gone on to another history promises nothing in this one
        elif group.replica.promised > lead.ballot:
            free.append(0.0)
        else:
            free.append(group.replica.lease_seconds_left(b"", None) / rates[id])
    free.sort()
    return free[lead.configuration.majority - 1] - until
