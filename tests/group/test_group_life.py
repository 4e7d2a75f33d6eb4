"""Groups that live by their own timers, as a node's loop drives them: nobody tells them to stand."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from random import Random

import pytest

from chordtx.config import GroupSettings
from chordtx.group import operations
from chordtx.group.configuration import Member, by_preference
from chordtx.group.groups import Groups
from chordtx.group.messages import NODE_LEVEL, Confirm, ConfirmAnswer, Operation, Yours
from chordtx.group.rank import NO_RANK, Epoch
from chordtx.group.watchers import AT_ONCE
from tests.group.schedules import KEY, NODES, A, B, C, D, E, Play

#: In the units of the world's lease clocks: 10 of them pass with each unit of its time.
SETTINGS = GroupSettings(
    lease_seconds=1.0,
    majority_timeout_seconds=2.0,
    copy_timeout_seconds=1.0,
    ids_seconds=20.0,
    learn_timeout_seconds=10.0,
)
#: So that one unit of the world's time is a tenth of a second.
RATE = 0.1


class Life(Play):
    """Nodes whose messages arrive at once, and whose timers run."""

    def __init__(self, *members: bytes, spares: tuple[bytes, ...] = (), **settings: object) -> None:
        super().__init__(*members, spares=spares, settings=SETTINGS, rate=RATE, **settings)
        self.cut: set[bytes] = set()

    def live(self, seconds: float, without: bytes | None = None) -> None:
        """So much time passes. :param without: a node that hears of nothing meanwhile."""
        world = self.world
        for _ in range(round(seconds / RATE)):
            world.time += 1
            for id in world.hosts:
                world.event(id, lambda groups: groups.tick())
            if without is None:
                self.settle()
            else:
                self.settle_but(without)

    def settle(self) -> None:
        """All messages arrive, but those from or to nodes that are cut off."""
        net = self.world.net
        while net:
            sent = net.pop(0)
            if not {sent.by, sent.to} & self.cut:
                self.world.deliver(sent)

    def settle_but(self, id: bytes) -> None:
        """All messages arrive, but those to one node, which are lost."""
        net = self.world.net
        while net:
            sent = net.pop(0)
            if not {sent.by, sent.to} & self.cut and sent.to != id:
                self.world.deliver(sent)

    def cut_off(self, *ids: bytes) -> None:
        """Nothing comes from them or to them; the others notice, and so do they."""
        self.cut |= set(ids)
        for id in self.world.hosts:
            for other in self.world.hosts:
                if other != id and {id, other} & set(ids):
                    self.world.event(id, lambda groups, other=other: groups.lost(other))  # type: ignore[misc]

    def leader(self) -> bytes:
        """Who serves, of those who are not cut off."""
        (leader,) = [id for id in self.world.leading() if id not in self.cut]
        return leader

    def put(self, client: bytes) -> None:
        """A write that is answered."""
        self.set(client, self.leader())
        self.settle()
        assert client not in self.world.clients.pending

    def read(self, client: bytes) -> bytes | None:
        """A read that is answered: what it said."""
        self.get(client, self.leader())
        self.settle()
        call = self.world.clients.calls[0, KEY][-1]
        assert call.ended is not None
        return None if call.result == (operations.ABSENT, None) else call.result[0]

    def is_leaving(self, id: bytes) -> None:
        """A node is about to leave its groups."""
        groups = self.world.hosts[id].groups
        assert groups is not None
        groups.turn.is_leaving = lambda: True

    def members(self, *ids: bytes) -> None:
        """The leader is asked to change the group."""
        self.world.on_group(self.leader(), lambda group: group.change_members(map(Member, ids)))


def preferred(ids: Iterable[bytes]) -> bytes:
    return by_preference(0, ids)[0]


def test_the_preferred_member_leads_at_once() -> None:
    life = Life(*NODES)
    life.live(0.3)
    assert life.leader() == preferred(NODES)
    life.put(b"A")
    assert life.read(b"B") == b"\x01"


def test_a_leader_that_is_gone_is_followed_within_a_lease() -> None:
    life = Life(*NODES)
    life.live(0.3)
    life.put(b"A")
    first = life.leader()
    life.cut_off(first)
    life.live(1.6)
    assert life.leader() != first
    assert life.read(b"B") == b"\x01"
    life.put(b"C")
    life.end()


def test_who_was_promised_and_gave_up_is_in_nobodys_way() -> None:
    """Though it leads other groups, in which its leases are renewed again and again."""
    life = Life(*NODES)
    life.live(0.3)
    life.put(b"A")
    life.cut_off(life.leader())
    life.live(1.0)
    assert not set(life.world.leading()) - life.cut
    others = [id for id in NODES if id not in life.cut]
    gave_up = next(id for id in others if id != preferred(others))
    life.world.on_group(gave_up, lambda group: group.stand(trial=False))
    life.settle_but(gave_up)
    life.world.on_group(gave_up, lambda group: group._step_down())
    for number in range(15):
        for id in others:
            confirm = [(NODE_LEVEL, Confirm(number, 0))]
            life.world.event(id, lambda groups, confirm=confirm: groups.received(gave_up, confirm))  # type: ignore[misc]
        life.live(0.1)
    assert life.leader() in others
    assert life.read(b"B") == b"\x01"
    life.end()


def test_a_lead_that_is_handed_to_one_that_is_gone_is_taken_again() -> None:
    """Though nobody asks for a leader."""
    life = Life(*NODES)
    life.live(0.3)
    life.put(b"A")
    first = life.leader()
    to = next(id for id in NODES if id != first)
    life.cut_off(to)
    life.world.on_group(first, lambda group: group.hand_over(to))
    life.live(0.1)
    assert not life.world.leading()
    life.live(4)
    assert life.leader() != to
    assert life.read(b"B") == b"\x01"
    life.end()


def test_who_has_handed_its_lead_over_does_not_want_it_back() -> None:
    life = Life(*NODES)
    life.live(0.3)
    first = life.leader()
    to = next(id for id in NODES if id != first)
    life.world.on_group(first, lambda group: group.hand_over(to))
    life.live(6)
    assert life.leader() == to
    assert life.group(first).tries.at is None


def test_one_that_comes_back_gets_what_it_missed() -> None:
    life = Life(*NODES)
    life.live(0.3)
    first = life.leader()
    life.cut_off(first)
    life.live(2)
    for client in (b"A", b"B", b"C"):
        life.put(client)
    life.cut.clear()
    life.live(3)
    ranks = {life.group(id).replica.rank for id in NODES}
    assert len(ranks) == 1
    assert life.world.leading() == [life.leader()]
    life.end()


def test_nobody_leads_without_a_majority_and_somebody_does_with_one() -> None:
    life = Life(*NODES)
    life.live(0.3)
    life.put(b"A")
    first = life.leader()
    others = [id for id in NODES if id != first][:3]
    life.cut_off(*others)
    life.set(b"B", first)
    life.live(6)
    assert life.world.leading() == []
    life.cut.clear()
    life.live(4)
    assert life.read(b"C") is not None
    life.end()


def test_who_was_cut_off_deposes_nobody() -> None:
    """It asks first, and is refused: the leader's leases run."""
    life = Life(*NODES)
    life.live(0.3)
    leader = life.leader()
    other = next(id for id in NODES if id != leader)
    life.cut_off(other)
    for _ in range(8):
        life.live(0.5)
        life.read(b"A")
    life.cut.clear()
    life.live(0.1)
    life.read(b"A")
    life.world.event(other, lambda groups: groups.lost(leader))
    for _ in range(6):
        life.live(0.5)
        life.read(b"A")
    assert life.leader() == leader


def test_a_group_grows_and_shrinks() -> None:
    life = Life(A, spares=(B, C, D, E))
    life.live(0.3)
    life.put(b"A")
    life.members(*NODES)
    life.live(1)
    assert {life.group(id).replica.rank for id in NODES} == {life.group(life.leader()).replica.rank}
    life.put(b"B")
    life.members(B, D, E)
    life.live(2)
    assert life.leader() in (B, D, E)
    assert [life.group(id).replica.state for id in (A, C)] == [None, None]
    assert life.read(b"C") == b"\x02"
    life.end()


def test_who_was_away_while_the_group_moved_is_told_and_stands_no_more() -> None:
    """Those who moved with it have told it of the epoch that is active, so that it asks in that one."""
    life = Life(A, B, C, spares=(D, E))
    life.live(0.3)
    life.put(b"A")
    away = next(id for id in (A, B, C) if id != life.leader())
    life.cut_off(away)
    life.live(2)
    life.members(*({A, B, C, D, E} - {away}))
    life.live(2)
    life.members(D, E)
    life.live(2)
    life.cut.clear()
    life.world.event(away, lambda groups: groups.lost(life.leader()))
    life.world.on_group(away, lambda group: group.want_leader())
    life.live(1)
    behind = life.group(away)
    assert (behind.configuration.ids, behind.replica.state) == ({D, E}, None)
    assert (behind.candidate, behind.tries.at) == (None, None)
    assert life.read(b"C") == b"\x01"
    life.end()


def test_a_newcomer_that_does_not_answer_is_not_waited_for() -> None:
    life = Life(A, B, C, spares=(D,))
    life.live(0.3)
    life.cut_off(D)
    life.members(A, B, D)
    life.live(11)
    assert life.group(life.leader()).configuration.ids == {A, B, C}
    life.cut.clear()
    life.members(A, B, D)
    life.live(3)
    assert life.group(life.leader()).configuration.ids == {A, B, D}


def test_who_is_about_to_leave_comes_to_no_group() -> None:
    life = Life(A, B, C, spares=(D,))
    life.live(0.3)
    life.is_leaving(D)
    life.members(A, B, D)
    life.live(0.5)
    led = life.group(life.leader())
    assert (led.configuration.ids, led.is_changing) == ({A, B, C}, False)
    assert life.group(D).replica.copy is None


@pytest.mark.parametrize("has_been_in_it", [False, True])
def test_who_leaves_after_it_has_copied_the_records_is_not_named(has_been_in_it: bool) -> None:
    life = Life(A, B, D, spares=(C, E)) if has_been_in_it else Life(A, B, C, spares=(D, E))
    life.live(0.3)
    life.put(b"A")
    life.members(A, B, C)
    life.live(1)
    life.cut_off(E)
    life.members(A, B, D, E)
    life.live(1)
    led, leaves = life.group(life.leader()), life.group(D)
    assert (led.is_changing, leaves.replica.copy is None) == (True, False)
    life.is_leaving(D)
    life.world.on_group(D, lambda group: group.replica.ask_whether_gone((life.leader(),)))
    life.live(0.1)
    assert (led.is_changing, leaves.replica.copy) == (False, None)
    life.cut.clear()
    life.live(1)
    assert led.configuration.ids == {A, B, C}
    life.members(A, B, C, E)
    life.live(2)
    assert life.group(life.leader()).configuration.ids == {A, B, C, E}
    life.end()


@pytest.mark.parametrize("members", [(A, B, C), (B, C)])
def test_a_newcomer_that_is_not_to_come_any_more_holds_nothing_up(members: tuple[bytes, ...]) -> None:
    life = Life(A, B, C, spares=(D,))
    life.live(0.3)
    life.cut_off(D)
    life.members(A, B, C, D)
    life.live(0.5)
    assert life.group(life.leader()).is_changing
    life.members(*members)
    life.live(1.5)
    led = life.group(life.leader())
    assert led.configuration.ids == set(members)
    assert not led.is_changing


def test_a_group_that_nobody_uses_sends_nothing() -> None:
    life = Life(*NODES)
    life.live(0.3)
    life.put(b"A")
    life.read(b"B")
    life.live(60)
    before = len(life.world.net)
    sent = []
    for _ in range(100):
        life.world.time += 1
        for id in NODES:
            life.world.event(id, lambda groups: groups.tick())
        sent += life.world.net
        life.world.net.clear()
    assert (before, sent) == (0, [])
    wakes = [host.groups.seconds_to_wake() for host in life.world.hosts.values() if host.groups is not None]
    assert wakes == [None] * 5


def test_timers_do_not_pile_up() -> None:
    life = Life(*NODES)
    life.live(0.3)
    for _ in range(30):
        life.put(b"A")
        life.live(1)
    groups = life.world.hosts[life.leader()].groups
    assert groups is not None
    assert len(groups._wakes) <= 2


def test_leases_are_renewed_while_somebody_reads() -> None:
    """No read waits for a confirm, once the first has."""
    life = Life(*NODES)
    life.live(0.3)
    life.read(b"A")
    for _ in range(30):
        life.live(0.2)
        life.get(b"A", life.leader())
        assert b"A" not in life.world.clients.pending
        life.settle()


def test_a_read_after_idleness_takes_one_round_of_confirms() -> None:
    life = Life(*NODES)
    life.live(0.3)
    life.put(b"A")
    life.live(5)
    life.get(b"B", life.leader())
    kinds = [type(sent.message) for sent in life.world.net]
    assert kinds == [Confirm] * 4
    life.settle()
    assert b"B" not in life.world.clients.pending


def watch(life: Life, client: bytes, wait_ms: int = 2000) -> None:
    """A client wants to know what changes from where it was."""
    life.ask(
        client, life.leader(), operations.WATCH, b"", True, life.world.clients.position(client, 0), wait_ms
    )
    life.settle()


def test_a_watcher_waits_until_a_key_changes() -> None:
    life = Life(*NODES)
    life.live(0.3)
    watch(life, b"W")
    assert b"W" not in life.world.clients.pending
    watch(life, b"W")
    life.live(1)
    assert b"W" in life.world.clients.pending
    life.put(b"A")
    assert b"W" not in life.world.clients.pending
    watch(life, b"W")
    life.live(2.5)
    assert b"W" not in life.world.clients.pending  # it has waited long enough
    life.end()


def test_a_watcher_goes_on_where_it_was_when_another_one_leads() -> None:
    life = Life(*NODES)
    life.live(0.3)
    watch(life, b"W")
    life.put(b"A")
    first = life.leader()
    watch(life, b"W")
    watch(life, b"W", 50_000)
    life.cut_off(first)
    life.live(3)
    life.put(b"B")
    life.cut.clear()
    life.live(0.5)
    assert b"W" not in life.world.clients.pending or life.leader() != first
    life.world.clients.give_up(b"W")
    watch(life, b"W")
    assert b"W" not in life.world.clients.pending
    life.end()


def test_many_watchers_are_answered_some_at_a_time() -> None:
    life = Life(A)
    life.live(0.3)
    clients = [b"W%d" % number for number in range(3 * AT_ONCE)]
    for client in clients:
        watch(life, client)
        watch(life, client)
    groups, pending = life.world.hosts[A].groups, life.world.clients.pending
    assert groups is not None
    assert len(pending) == len(clients)
    life.set(b"A", A)
    left = [len(pending)]
    while groups.seconds_to_wake() == 0:
        life.world.event(A, lambda groups: None)
        left.append(len(pending))
    assert left[0] >= len(clients) - 2 * AT_ONCE
    assert left == sorted(left, reverse=True)
    assert max(before - after for before, after in pairwise(left)) <= AT_ONCE
    assert not pending


def test_watchers_are_told_that_a_leader_does_not_know_all_that_came_and_went() -> None:
    life = Life(A, B, C)
    life.live(0.3)
    watch(life, b"W")
    position = life.world.clients.position(b"W", 0)
    for _ in range(600):
        life.put(b"A")
        life.ask(b"A", life.leader(), operations.DELETE, None)
        life.settle()
    told: list[object] = []
    operation = Operation(b"X", 1, 0, NO_RANK, operations.WATCH, b"", (b"", True, position, 0))
    life.world.event(life.leader(), lambda groups: groups.do(b"X", 0, operation))
    life.world.clients.answered = lambda who, partition, answer: told.append(answer.detail)  # type: ignore[method-assign]
    life.world.event(life.leader(), lambda groups: groups.do(b"X", 0, operation))
    ((_, is_reset, events, _),) = told  # type: ignore[misc]
    assert (is_reset, events) == (True, [])


def test_what_expires_is_removed_by_itself() -> None:
    life = Life(*NODES)
    life.live(0.3)
    life.ask(b"A", life.leader(), operations.SET, b"\x07", 3_000)
    life.settle()
    life.live(2)
    assert life.read(b"B") == b"\x07"
    life.live(2)
    assert [life.group(id).replica.state.records for id in NODES] == [{}] * 5  # type: ignore[union-attr]
    assert life.read(b"B") is None
    life.end()


def test_operations_of_clients_that_fell_silent_are_forgotten() -> None:
    life = Life(*NODES)
    life.live(0.3)
    life.put(b"A")
    life.live(15)
    assert list(life.group(B).replica.state.clients) == [b"A"]  # type: ignore[union-attr]
    life.live(20)
    assert [life.group(id).replica.state.clients for id in NODES] == [{}] * 5  # type: ignore[union-attr]


@pytest.mark.parametrize("survivors", [(A, B), (C, D)])
def test_survivors_go_on_by_force_and_the_others_join(survivors: tuple[bytes, ...]) -> None:
    life = Life(*NODES)
    life.live(0.3)
    life.put(b"A")
    others = [id for id in NODES if id not in survivors]
    for id in others:
        life.world.crash(id)
    life.cut_off(*others)
    life.live(5)
    life.world.clients.histories += 1
    first = survivors[0]
    life.world.on_group(first, lambda group: group.force())
    life.settle()
    life.world.on_group(first, lambda group: group.force_now())
    life.settle()
    assert life.leader() == first
    assert life.group(first).configuration.ids == set(survivors)
    life.put(b"B")
    life.cut.clear()
    for id in others:
        life.world.restart(id)
    life.live(3)
    life.members(*NODES)
    life.live(5)
    assert {life.group(id).replica.rank for id in NODES} == {life.group(first).replica.rank}
    assert life.read(b"C") == b"\x02"
    assert [list(life.group(id).replica.asides) for id in NODES] == [[0]] * 5


def test_a_survivor_whose_question_is_too_old_says_that_it_does_not_go_on() -> None:
    life = Life(*NODES)
    life.live(0.3)
    life.put(b"A")
    others = [C, D, E]
    for id in others:
        life.world.crash(id)
    life.cut_off(*others)
    life.live(5)
    life.world.clients.histories += 1
    told: list[bool] = []
    for seconds in (10, 0):
        life.world.on_group(A, lambda group: group.force())
        life.settle()
        life.live(seconds)
        life.world.on_group(A, lambda group: told.append(group.force_now()))
        life.settle()
        assert life.world.leading() == [A] * told[-1]
    assert told == [False, True]


def ended(life: Life, *ids: bytes) -> None:
    """Processes end, and the others hear so."""
    for id in ids:
        life.world.crash(id)
        for other in life.world.hosts:
            if life.world.hosts[other].is_up:
                life.world.event(other, lambda groups, id=id: groups.lost(id, has_ended=True))  # type: ignore[misc]


def test_survivors_of_nodes_without_disks_go_on_by_themselves() -> None:
    life = Life(*NODES, has_disk=False)
    life.live(0.3)
    life.put(b"A")
    life.world.clients.histories += 1
    ended(life, A, B, C)
    life.live(9)
    assert {life.group(id).replica.epoch.number for id in (D, E)} == {0}
    life.live(5)
    assert life.leader() == preferred((D, E))
    assert life.group(life.leader()).configuration.ids == {D, E}
    life.put(b"B")
    assert life.read(b"C") == b"\x02"
    assert {life.group(id).replica.rank for id in (D, E)} == {life.group(D).replica.rank}


@pytest.mark.parametrize("has_disk", [True, False])
def test_survivors_wait_for_whoever_may_come_back(has_disk: bool) -> None:
    """With a disk; or fallen silent, which says nothing about its process."""
    life = Life(*NODES, has_disk=has_disk)
    life.live(0.3)
    life.put(b"A")
    if has_disk:
        ended(life, A, B, C)
    else:
        for id in (A, B, C):
            life.world.crash(id)
        life.cut_off(A, B, C)
    life.live(60)
    assert {life.group(id).replica.epoch.number for id in (D, E)} == {0}


def test_all_are_started_again() -> None:
    life = Life(*NODES)
    life.live(0.3)
    life.put(b"A")
    for id in NODES:
        life.world.crash(id)
    life.world.net.clear()
    life.live(100)
    for id in NODES:
        life.world.restart(id)
    life.live(3)
    assert life.read(b"B") == b"\x01"
    life.end()


def test_what_a_turn_gave_away_gets_nothing_of_a_later_one() -> None:
    """It may wait for the disk still."""
    groups = Groups(Member(A), GroupSettings(), Random(1))
    groups.begin(0.0, 0)
    first = groups.end()
    groups.begin(0.0, 0)
    groups.create([0])
    assert groups.end().when_synced
    assert (first.at_once, first.when_synced, first.answers) == ({}, {}, [])


def test_who_was_told_only_just_now_keeps_up_and_who_is_silent_for_long_does_not() -> None:
    life = Life(*NODES)
    life.live(0.3)
    group = life.world.group(life.leader())
    assert group is not None
    assert group.leader is not None
    leader, late = group.leader, next(id for id in NODES if id != group.me.id)
    life.put(b"A")
    assert all(leader.keeps_up(id) for id in leader.others)

    def put_without(client: bytes) -> None:
        life.set(client, group.me.id)
        life.settle_but(late)

    put_without(b"B")
    assert leader.acknowledged[late] < leader.commit
    assert leader.keeps_up(late)
    for number in range(15):
        life.live(0.1, without=late)
        put_without(b"%d" % number)
    assert not leader.keeps_up(late)
    assert all(leader.keeps_up(id) for id in leader.others if id != late)
    life.live(1.2)
    assert leader.keeps_up(late)
    life.end()


def test_who_follows_a_lead_that_is_over_is_told_so_when_it_answers_for_other_partitions() -> None:
    """Or its lease would be renewed for ever, and it would promise nothing to anybody."""
    life = Life(*NODES)
    life.live(0.3)
    first = life.leader()
    group = life.world.group(first)
    assert group is not None
    over = group.own_ballot()
    assert over is not None
    follower = next(id for id in NODES if id != first)
    life.world.on_group(first, lambda group: group._step_down())
    answer = [(NODE_LEVEL, ConfirmAnswer(1, ((0, over.number, Epoch(0)),)))]
    life.world.event(first, lambda groups: groups.received(follower, answer))
    assert [(sent.to, sent.message) for sent in life.world.net] == [(follower, Yours(over, 0))]
    life.live(0.1)
    assert life.leader() in NODES
    life.end()
