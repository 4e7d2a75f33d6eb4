"""Faults planted in whole services, each with the kind of run that is to find it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from attrs import evolve, frozen
from twisted.internet.defer import Deferred, succeed

from chordtx.chord.departure import Departure
from chordtx.chord.placement import Placement
from chordtx.config import ChordSettings, GroupSettings
from chordtx.group import leader as leader_module
from chordtx.group.candidate import Candidate
from chordtx.group.configuration import Configuration, Member
from chordtx.group.confirming import Confirming
from chordtx.group.group import Group
from chordtx.group.leader import LEADING, SEALED, Leader
from chordtx.group.lease import NEVER, Granted, Held
from chordtx.group.messages import Accepted, ConfirmAnswer, Learn, Learned
from chordtx.group.partition_time import PartitionTime
from chordtx.group.rank import NO_BALLOT, Ballot, Epoch, Rank
from chordtx.group.replica import Replica, Stored
from chordtx.group.state import Change, Client, Header, State, Touched
from chordtx.sim.plan import Fault
from chordtx.sim.world import Options
from chordtx.store.group_store import GroupStore
from tests.sim import planted_services as services

Patch = pytest.MonkeyPatch

#: Groups of three, which two nodes that are gone at once can break.
SETTINGS = ChordSettings(
    partition_bits=3,
    replicas=3,
    stabilize_interval_seconds=1.0,
    placement_settle_seconds=0.3,
    restart_grace_seconds=3.0,
    groups=GroupSettings(lease_seconds=1.0),
).validate()


def only(
    *faults: Fault,
    nodes: int = 8,
    settle_seconds: float = 4.0,
    think_seconds: float = 0.15,
    disks: bool | None = None,
) -> Options:
    """A small ring with busy clients at few keys, and one fault after another."""
    return Options(
        nodes=nodes,
        seconds=60.0,
        settle_seconds=settle_seconds,
        clients=10,
        think_seconds=think_seconds,
        idle_factor=1.0,
        has_listeners=False,
        keys=4,
        without=frozenset(Fault) - frozenset(faults),
        settings=SETTINGS,
        disks=disks,
        stops=True,
    )


CUT_OFF = only(Fault.SPLIT, Fault.ONE_WAY, Fault.NON_TRANSITIVE, Fault.PAUSE, nodes=4)
BROKEN = only(Fault.BREAK, Fault.SLOW, nodes=6, settle_seconds=1.0, think_seconds=0.05)
MOVING = only(Fault.JOIN, Fault.LEAVE, Fault.SPLIT, Fault.KILL)
RESTARTING = only(Fault.KILL, Fault.POWER, nodes=5, settle_seconds=2.0, think_seconds=0.08, disks=True)
POWERLESS = only(Fault.POWER, nodes=5, settle_seconds=1.0, think_seconds=0.05, disks=True)
RESTARTED = only(Fault.KILL, Fault.PAUSE, nodes=4, settle_seconds=1.0, think_seconds=0.08, disks=True)
CLOCKS = only(Fault.CLOCK, Fault.KILL, Fault.PAUSE, nodes=6, settle_seconds=2.0)
LEAVING = only(Fault.LEAVE, nodes=12, settle_seconds=1.0, think_seconds=0.04, disks=False)
ASTRAY = only(Fault.JOIN, Fault.UNJOIN, Fault.BREAK, Fault.SPLIT, Fault.SLOW, nodes=7, settle_seconds=1.0)
CROWDED = evolve(CUT_OFF, clients=40, keys=2)
OF_FIVE = evolve(CUT_OFF, nodes=5, settings=evolve(SETTINGS, replicas=5))

JOINING = evolve(only(Fault.JOIN, Fault.LEAVE, Fault.KILL), clients=2)
OTHER = only(Fault.OTHER_RING, nodes=5)
COPIED = only(Fault.TWICE, nodes=5, disks=True)
PUT_BACK = only(Fault.PUT_BACK, nodes=5, disks=True)
#: Where all whom a list of successors names may leave at once.
CROWDS = evolve(
    only(Fault.CROWD, nodes=12, disks=False), clients=4, settings=evolve(SETTINGS, successors_max=3)
)
#: Where whoever stays has lost all whom its list names.
LOSING_MOST = evolve(only(Fault.MOST, nodes=8, disks=True), settings=evolve(SETTINGS, successors_max=3))
#: Long enough that all that is missed is made good, or never.
HEARING = evolve(only(Fault.SPLIT, nodes=5), clients=4, seconds=100.0, has_listeners=True)
HOLDING = evolve(only(Fault.KILL, Fault.BREAK, nodes=5), clients=4)
SMALL = evolve(only(Fault.BREAK, nodes=4), settings=evolve(SETTINGS, value_bytes_max=50_000))


# Leases


def reads_without_a_lease(patch: Patch) -> None:
    """A leader answers reads though others may have taken its place."""
    patch.setattr(Leader, "is_leased", lambda self: self.stage in (LEADING, SEALED))


def counts_all_of_a_lease(patch: Patch) -> None:
    """As if all clocks ran alike."""
    patch.setattr(GroupSettings, "counted_seconds", property(lambda self: self.lease_seconds))


def counts_a_lease_from_the_answer(patch: Patch) -> None:
    """And not from when that was sent which it answers."""
    granted = Leader.accepted

    def accepted(self: Leader, by: bytes, told: Accepted) -> bool:
        return granted(self, by, told._replace(sent=self._turn.now))

    patch.setattr(Leader, "accepted", accepted)


def promises_against_a_lease(patch: Patch) -> None:
    """Who asks is promised something, whatever lease runs."""
    patch.setattr(Replica, "lease_seconds_left", lambda self, asked_by, released: 0.0)


def forgets_leases_at_a_restart(patch: Patch) -> None:
    """A node that starts again does not keep the lease that it may have granted."""
    made = Replica.__init__

    def make(self: Replica, *arguments: Any, **named: Any) -> None:
        made(self, *arguments, **named)
        self._granted = Granted(NO_BALLOT, NEVER)

    patch.setattr(Replica, "__init__", make)


def confirms_for_any_ballot(patch: Patch) -> None:
    """A confirm stands for partitions in which the member follows somebody else by now."""
    answered = Confirming.answered

    def believed(self: Confirming, by: bytes, answer: ConfirmAnswer) -> list[int]:
        return answered(self, by, answer._replace(followed=None))

    patch.setattr(Confirming, "answered", believed)


def one_lease_is_enough(patch: Patch) -> None:
    """The latest of all leases counts, not that of a majority."""

    def reckon(self: Held, counted_seconds: float, now: float, confirmed: Any) -> float:
        sent = [max(self._sent.get(id, NEVER), confirmed[id].sent) for id in self._others]
        self.until = max(sent) + counted_seconds
        return self.until

    patch.setattr(Held, "reckon", reckon)


# Majorities


def a_majority_of_one_less(patch: Patch) -> None:
    """Half of a group is enough."""
    counted = Configuration.__attrs_post_init__

    def counted_wrong(self: Configuration) -> None:
        counted(self)
        object.__setattr__(self, "majority", max(1, len(self.members) // 2))

    patch.setattr(Configuration, "__attrs_post_init__", counted_wrong)


def accepts_any_ballot(patch: Patch) -> None:
    """A member follows a leader though it has promised another one not to."""

    def may_accept(self: Replica, by: bytes, ballot: Ballot, epoch: Epoch) -> bool:
        if not self._is_of_this_history(by, epoch, is_binding=True):
            return False
        self.promise(ballot)
        return True

    patch.setattr(Replica, "_may_accept", may_accept)


def stands_with_anybody(patch: Patch) -> None:
    """A candidate leads though no majority has promised."""
    patch.setattr(Configuration, "has_majority", lambda self, ids: True)


def takes_its_own_state(patch: Patch) -> None:
    """A candidate goes on with what it has itself, and not with the newest that it was told of."""
    choice = Candidate.choice.fget  # type: ignore[attr-defined]

    def own(self: Candidate) -> Any:
        chosen = choice(self)
        mine = self.answers.get(self.me)
        if chosen is None or mine is None or mine.rank.epoch != chosen.report.rank.epoch:
            return chosen
        return chosen._replace(source=self.me, report=mine)

    patch.setattr(Candidate, "choice", property(own))


def serves_before_a_majority_has_its_state(patch: Patch) -> None:
    """A new leader serves at once."""
    begin = Leader.begin

    def begins(self: Leader) -> None:
        begin(self)
        self.commit = self.first
        if self.is_member:
            self.stage = LEADING

    patch.setattr(Leader, "begin", begins)


# Operations


def forgets_what_was_done(patch: Patch) -> None:
    """An operation that is sent again is done again."""

    def remember(self: State, change: Change, rank: Rank, touched: Touched) -> None:
        self.clients.setdefault(change.client, Client(0, rank, {})).newest = rank

    patch.setattr(State, "_remember", remember)


def answers_before_it_is_committed(patch: Patch) -> None:
    """A leader answers a change when it has made it."""
    change = Leader._change

    def answered(self: Leader, who: object, operation: Any) -> None:
        change(self, who, operation)
        while self._waiting:
            waiting = self._waiting.popleft()
            self._turn.answer(waiting.who, self._partition, waiting.answer)

    patch.setattr(Leader, "_change", answered)


def reads_what_is_not_committed(patch: Patch) -> None:
    """A read sees the newest records, which a majority may not have yet."""
    patch.setattr("chordtx.group.uncommitted.Uncommitted.record", lambda self, key, newest: newest.get(key))


def answers_what_has_expired(patch: Patch) -> None:
    """A record is read though its time is over, until it is removed."""
    patch.setattr(leader_module, "is_expired", lambda record, now_ms: False)


def time_goes_back(patch: Patch) -> None:
    """A partition has the time of its clocks, whatever it was before."""
    patch.setattr(PartitionTime, "now_ms", lambda self: int(self._walls.median_ms(self._members)))


def skips_a_change(patch: Patch) -> None:
    """A member that missed changes takes the next ones all the same."""
    accept = Replica.accept

    def accepted(self: Replica, by: bytes, told: Any) -> None:
        rank = self.rank
        if told.changes and rank.sequence < told.after and rank[:2] == (told.epoch, told.ballot):
            self.rank = rank._replace(sequence=told.after)
        accept(self, by, told)

    patch.setattr(Replica, "accept", accepted)


# Members


def members_change_at_once(patch: Patch) -> None:
    """A leader goes on with other members without asking a majority of the old ones."""

    def change_members(self: Group, members: Iterable[Member]) -> None:
        leader, wanted = self.leader, tuple(sorted(members))
        if leader is None or leader.stage != LEADING or wanted == leader.configuration.members:
            return
        self._sequence = leader.newest + 1
        self._leaving |= leader.configuration.ids
        leader.state.configuration = leader.configuration.successor(wanted)
        self._adopt(leader.ballot, leader.state, leader.rank)

    patch.setattr(Group, "change_members", change_members)


def leaves_without_handing_over(patch: Patch) -> None:
    """A node that leaves waits for nobody to take its places."""

    async def leave_groups(self: Departure, timeout_seconds: float) -> None:
        return None

    patch.setattr(Departure, "leave_groups", leave_groups)


def drops_its_state_when_it_asks(patch: Patch) -> None:
    """A node that ought not to be in a group drops its state before it is told that it is gone."""

    def ask_whether_gone(self: Replica, members: Iterable[bytes]) -> None:
        self._drop(self.configuration)

    patch.setattr(Replica, "ask_whether_gone", ask_whether_gone)


def nobody_is_replaced(patch: Patch) -> None:
    """Groups stay as they are, whoever comes and goes."""
    patch.setattr(Placement, "look", lambda self, *, at_once=False: None)


def nobody_stands(patch: Patch) -> None:
    """When a leader is gone, nobody takes its place."""
    patch.setattr(Group, "want_leader", lambda self, gone=None: None)


def learners_learn_nothing(patch: Patch) -> None:
    """A newcomer says at once that it has the records, and that its state is the leader's."""

    def learn(self: Replica, by: bytes, told: Learn) -> None:
        self._turn.send(by, self.partition, Learned(told.ballot, told.rank))
        if self.state is None:
            configuration = Configuration(told.rank.epoch, (Member(self.me, True),))
            self.take(told.rank, State(Header(configuration)))

    patch.setattr(Replica, "learn", learn)


# The disk


def says_so_before_it_is_synced(patch: Patch) -> None:
    """What has to be on disk first is said at once."""
    save = GroupStore.save

    def saved(self: GroupStore, *arguments: Any) -> Deferred[None]:
        save(self, *arguments)
        return succeed(None)

    patch.setattr(GroupStore, "save", saved)


def promises_are_not_saved(patch: Patch) -> None:
    """After a restart a node has promised nothing."""
    stored = Replica._stored

    def without_promise(self: Replica) -> Stored:
        return evolve(stored(self), promised=NO_BALLOT)

    patch.setattr(Replica, "_stored", without_promise)


def operations_are_not_saved(patch: Patch) -> None:
    """After a restart of all members nobody knows what was done."""
    take = Replica.take_save
    patch.setattr(Replica, "take_save", lambda self: take(self)._replace(clients={}))


def deletions_are_not_saved(patch: Patch) -> None:
    """After a restart deleted records are there again."""
    take = Replica.take_save

    def taken(self: Replica) -> Any:
        save = take(self)
        kept = {key: record for key, record in save.records.items() if record is not None}
        return save._replace(records=kept)

    patch.setattr(Replica, "take_save", taken)


@frozen
class Planted:
    """One fault.

    :ivar options: of the runs that look for it. :ivar found_as: a key of :data:`tests.sim.hunt.SAYS`.
    :ivar first: the seed that found it when this was written: it is tried first.
    """

    plant: Callable[[Patch], None]
    options: Options
    found_as: str
    first: int = 0


PLANTED = [
    Planted(reads_without_a_lease, CUT_OFF, "not linearizable", 12),
    Planted(counts_all_of_a_lease, CUT_OFF, "S4, the margin"),
    Planted(counts_a_lease_from_the_answer, CUT_OFF, "S4, the margin", 3),
    Planted(promises_against_a_lease, CUT_OFF, "S4, the margin"),
    Planted(forgets_leases_at_a_restart, RESTARTED, "S4, the margin", 5),
    Planted(confirms_for_any_ballot, CUT_OFF, "S4, the margin", 3),
    Planted(one_lease_is_enough, OF_FIVE, "S4, the margin"),
    Planted(a_majority_of_one_less, CUT_OFF, "S4, the margin"),
    Planted(accepts_any_ballot, CUT_OFF, "S4, the margin", 2),
    Planted(stands_with_anybody, MOVING, "S2", 4),
    Planted(takes_its_own_state, CUT_OFF, "S2", 2),
    Planted(serves_before_a_majority_has_its_state, MOVING, "S2", 2),
    Planted(forgets_what_was_done, BROKEN, "S5"),
    Planted(answers_before_it_is_committed, CUT_OFF, "not linearizable"),
    Planted(reads_what_is_not_committed, CROWDED, "not linearizable"),
    Planted(answers_what_has_expired, MOVING, "a value is read after its time"),
    Planted(time_goes_back, CLOCKS, "the time of a partition goes back"),
    Planted(skips_a_change, BROKEN, "S1"),
    Planted(members_change_at_once, MOVING, "S1"),
    Planted(leaves_without_handing_over, LEAVING, "nobody leads at the end"),
    Planted(drops_its_state_when_it_asks, ASTRAY, "S4, the margin", 1),
    Planted(nobody_is_replaced, MOVING, "groups are too small at the end"),
    Planted(nobody_stands, MOVING, "nobody leads at the end", 4),
    Planted(learners_learn_nothing, MOVING, "S3"),
    Planted(says_so_before_it_is_synced, POWERLESS, "S2", 6),
    Planted(promises_are_not_saved, RESTARTING, "S1", 4),
    Planted(operations_are_not_saved, RESTARTING, "S1"),
    Planted(deletions_are_not_saved, RESTARTING, "S1"),
    Planted(services.counts_a_confirm_from_its_answer, CUT_OFF, "S4, the margin", 1),
    Planted(services.any_member_answers_reads, CUT_OFF, "not linearizable", 3),
    Planted(services.newcomers_miss_what_has_changed_since, MOVING, "S6"),
    Planted(services.rings_are_not_told_apart, OTHER, "two rings become one"),
    Planted(services.one_id_may_run_twice, COPIED, "S4, the margin"),
    Planted(services.nobody_knows_who_has_run_since, PUT_BACK, "S1"),
    Planted(services.goes_on_though_it_is_refused, COPIED, "a copy of a folder is not refused"),
    Planted(services.stabilization_ends, JOINING, "no true ring at the end", 2),
    Planted(services.who_is_cut_off_waits_for_ever, LOSING_MOST, "no true ring at the end", 6),
    Planted(services.who_is_alone_gives_records_up, CROWDS, "nobody leads at the end"),
    Planted(services.watches_end_with_their_leader, HEARING, "a watcher does not know the newest"),
    Planted(services.who_watches_is_not_told_of_deletions, HOLDING, "a watcher does not know the newest"),
    Planted(services.locks_forget_their_holder, HOLDING, "a lock is held twice"),
    Planted(services.tokens_stand_still, HOLDING, "two were given one token"),
    Planted(services.a_lock_stays_with_who_died, HOLDING, "a lock is stuck"),
    Planted(services.every_write_is_news, HEARING, "news that are not true"),
    Planted(services.nobody_hears_of_deletions, HEARING, "news are missed"),
    Planted(services.takes_what_is_too_large, SMALL, "a value past the limit is taken"),
]
