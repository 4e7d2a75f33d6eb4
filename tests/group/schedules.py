"""Schedules that break what must hold, when the protocol is not kept: each ends quietly when it is.

They are played on :class:`~chordtx.sim.group_world.GroupWorld`, step by step: nothing arrives but what a
schedule delivers. The first are the shortest counterexamples to mistakes in the protocol, the others to
mistakes in this implementation of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack

from chordtx.group import operations
from chordtx.group.configuration import Member
from chordtx.group.group import Group
from chordtx.group.messages import (
    Accept,
    Accepted,
    Compare,
    Confirm,
    ConfirmAnswer,
    Differs,
    Fetch,
    FetchClients,
    Give,
    GiveClients,
    Install,
    Learn,
    Message,
    Newer,
    Operation,
    Prepare,
    Promise,
    Yours,
)
from chordtx.group.rank import NO_RANK
from chordtx.sim.group_world import GroupWorld, Sent, evict

A, B, C, D, E = NODES = (b"1", b"2", b"3", b"4", b"5")
KEY = b"k0"
#: One lease, by the slowest clock.
LEASE = 12


class Play:
    """A world and words for it."""

    def __init__(self, *members: bytes, spares: tuple[bytes, ...] = (), **settings: Any) -> None:
        self.world = GroupWorld(members or (A, B, C), spares, **settings)
        self._values = 0

    def leads(self, id: bytes, *, among: tuple[bytes, ...] = NODES, released: Any = None) -> None:
        """A node stands, and what it and some others say arrives."""
        self.world.on_group(id, lambda group: group.stand(trial=False, released=released))
        self.run(id, *among)

    def run(self, *among: bytes, kinds: tuple[type[Message], ...] = ()) -> None:
        """All that is under way between some nodes arrives, in order, and what comes of it."""
        net = self.world.net
        while chosen := [sent for sent in net if self._is_chosen(sent, among, kinds)]:
            net.remove(chosen[0])
            self.world.deliver(chosen[0])

    @staticmethod
    def _is_chosen(sent: Sent, among: tuple[bytes, ...], kinds: tuple[type[Message], ...]) -> bool:
        is_between = sent.by in among and sent.to in among
        return is_between and (not kinds or isinstance(sent.message, kinds))

    def lose(self) -> None:
        """What is under way is lost."""
        self.world.net.clear()

    def wait(self, time: int = LEASE) -> None:
        """Time passes."""
        self.world.time += time

    def group(self, id: bytes) -> Group:
        """A node's part in the group."""
        group = self.world.group(id)
        assert group is not None
        return group

    def is_leading(self, id: bytes) -> None:
        """The schedule needs that a node leads: it does."""
        assert id in self.world.leading(), (id, self.world.leading())

    def ask(self, client: bytes, id: bytes, kind: int, *arguments: Any) -> Operation:
        """A client's operation arrives at a node."""
        operation = self.world.clients.call(client, kind, KEY, arguments)
        self.world.do(id, operation)
        return operation

    def set(self, client: bytes, id: bytes) -> Operation:
        """A client writes what nobody has written."""
        self._values += 1
        return self.ask(client, id, operations.SET, msgpack.packb(self._values), None)

    def add(self, client: bytes, id: bytes) -> Operation:
        """A client increments."""
        return self.ask(client, id, operations.INCREMENT, msgpack.packb(1))

    def get(self, client: bytes, id: bytes) -> None:
        """A client reads."""
        self.ask(client, id, operations.GET)

    def seal(self, id: bytes, *members: bytes) -> None:
        """The leader ends its epoch."""
        self.world.on_group(id, lambda group: group.seal(Member(each) for each in members))

    def end(self) -> None:
        """What clients were told has an explanation."""
        self.world.clients.must_be_linearizable()
        self.world.must_hold_leases()


def renewed_while_the_next_epoch_begins() -> None:
    """The old leader's lease in e is renewed while e + 1 begins."""
    play = Play(spares=(D, E))
    play.leads(A)
    play.seal(A, C, D, E)
    play.run(A, B, C, kinds=(Accept, Accepted))
    play.run(*NODES, kinds=(Prepare, Promise))
    play.run(A, D, E, kinds=(Install,))
    play.run(D, E)
    play.lose()
    play.wait()
    play.world.event(A, lambda groups: groups.turn.to_confirm.update((B, C)))
    play.run(A, B)
    play.lose()
    play.leads(D, among=(D, E))
    play.set(b"A", D)
    play.run(D, E)
    play.get(b"B", A)
    play.run(A, B)
    play.end()


def told_to_go_and_asked_again() -> None:
    """A was told to go; C never heard of e + 1: they are no majority of e any more."""
    play = Play(spares=(D, E))
    play.leads(A)
    play.seal(A, B, D, E)
    play.run(A, B)
    play.run(A, B, D, E)
    play.lose()
    play.leads(B, among=(B, D, E), released=play.group(B).replica.promised)
    play.set(b"A", B)
    play.run(B, D, E)
    play.lose()
    play.wait()
    play.leads(C, among=(A, C))
    play.get(b"B", C)
    play.run(A, C)
    play.end()


def who_finds_an_epoch_sealed() -> None:
    """The next epoch has begun, and A never heard so: who finds the old one sealed must not read in it."""
    play = Play(spares=(D,))
    play.leads(A)
    play.seal(A, B, C, D)
    play.run(A, B, C, kinds=(Accept, Accepted))
    play.run(*NODES[:4], kinds=(Prepare, Promise))
    play.run(A, B, D, kinds=(Install, Compare, Differs, Fetch, Give, FetchClients, GiveClients))
    play.lose()
    play.wait()
    play.leads(B, among=(B, D))
    play.is_leading(B)
    play.set(b"A", B)
    play.run(B, D)
    play.lose()
    play.wait()
    play.leads(C, among=(A, C))
    play.get(b"B", C)
    play.run(A, C)
    play.end()


def an_effect_without_its_id() -> None:
    """Changes 1 and 2 of one key: the first is lost, the second arrives."""
    play = Play()
    play.leads(A)
    first = play.add(b"A", A)
    play.lose()
    second = play.add(b"B", A)
    play.run(*NODES, kinds=(Accept,))
    play.lose()
    play.wait()
    play.leads(B, among=(B, C))
    play.world.do(B, first)
    play.run(B, C)
    play.get(b"C", B)
    play.world.do(B, second)
    play.run(B, C)
    play.end()


def one_number_two_candidates() -> None:
    """B never heard of A's first ballot, and has one with the same number."""
    play = Play()
    play.leads(A, among=(A, C))
    play.lose()
    play.set(b"A", A)
    play.run(A, C)
    play.wait()
    play.leads(B, among=(B, C))
    play.set(b"B", B)
    play.run(B, C)
    play.end()


def a_promise_is_forgotten() -> None:
    """B promises to C, crashes, and must not take changes of A's any more."""
    play = Play()
    play.leads(A)
    play.wait()
    play.world.on_group(C, lambda group: group.stand(trial=False))
    play.run(B, C, kinds=(Prepare, Promise))
    play.world.crash(B)
    play.world.restart(B)
    held = [sent for sent in play.world.net if sent.by == C]
    play.lose()
    play.set(b"A", A)
    play.run(A, B)
    play.lose()
    play.world.net += held
    play.run(B, C)
    play.is_leading(C)
    play.get(b"B", C)
    play.run(B, C)
    play.end()


def a_crash_before_the_disk_has_it() -> None:
    """B takes a change, and crashes before the change is on its disk."""
    play = Play()
    play.leads(A)
    play.world.syncs = False
    play.set(b"A", A)
    play.world.sync(A, 10)
    play.run(A, B)
    play.world.crash(B)
    play.world.restart(B)
    play.lose()
    play.world.syncs = True
    play.wait()
    play.leads(C, among=(B, C))
    play.is_leading(C)
    play.get(b"B", C)
    play.run(B, C)
    play.end()


def turns_wait_for_their_own_saves() -> None:
    """B has two changes on their way to its disk, and a turn between them in which nothing happened."""
    play = Play()
    play.leads(A)
    play.world.syncs = False
    for client in (b"A", b"B"):
        play.set(client, A)
        play.world.sync(A, 10)
        play.run(A, B)
        play.world.event(B, lambda groups: None)
    play.world.sync(B, 2)
    play.run(A, B)
    play.world.crash(B)
    play.world.restart(B)
    play.lose()
    play.world.syncs = True
    play.wait()
    play.leads(C, among=(B, C))
    play.is_leading(C)
    play.get(b"C", C)
    play.run(B, C)
    play.end()


def a_damaged_state_promises_nothing() -> None:
    """A and B have a change, C missed it; A is gone, and B comes back without its state."""
    play = Play()
    play.leads(A)
    play.set(b"A", A)
    play.run(A, B)
    play.lose()
    play.world.crash(A)
    play.world.crash(B)
    play.world.hosts[B].disk.damage(0)
    play.world.restart(B)
    play.wait()
    play.leads(C, among=(B, C))
    play.leads(B, among=(B, C))
    play.get(b"B", C)
    play.get(b"C", B)
    play.run(B, C)
    assert play.world.leading() == []
    play.lose()
    play.world.restart(A)
    play.wait()
    for _ in range(2):  # the first time it is told of C's ballot
        play.leads(A, among=(A, B, C))
    play.is_leading(A)
    play.wait()
    play.leads(B, among=(B, C))
    play.is_leading(B)
    play.end()


def a_lease_counted_from_the_answer() -> None:
    """The acknowledgement of a confirm comes late: the lease began when the confirm was sent."""
    _late_answer(confirms=True)


def a_lease_counted_from_the_acknowledgement() -> None:
    """The acknowledgement of a change comes late."""
    _late_answer(confirms=False)


def _late_answer(*, confirms: bool) -> None:
    play = Play()
    play.leads(A)
    play.wait()
    if confirms:
        play.world.event(A, lambda groups: groups.turn.to_confirm.update((B,)))
        play.run(A, B, kinds=(Confirm,))
    else:
        play.set(b"A", A)
        play.run(A, B, kinds=(Accept,))
    late = [sent for sent in play.world.net if sent.by == B]
    play.lose()
    play.wait(9)
    for sent in late:
        play.world.deliver(sent)
    play.wait(2)
    play.leads(C, among=(B, C))
    play.is_leading(C)
    play.set(b"B", C)
    play.run(B, C)
    play.get(b"C", A)
    play.end()


def a_slow_clock_and_a_fast_one() -> None:
    """The leader's clock runs at 9, the other's at 11: what is counted of a lease allows for that."""
    play = Play(rates={A: 9, B: 11, C: 11})
    play.leads(A)
    play.wait()
    play.set(b"A", A)
    play.run(A, B)
    play.lose()
    play.wait(10)
    play.leads(C, among=(B, C))
    play.is_leading(C)
    play.set(b"B", C)
    play.run(B, C)
    play.get(b"C", A)
    play.end()


def a_promise_against_a_lease() -> None:
    """A leads and has a lease: C gets no promise."""
    play = Play()
    play.leads(A)
    play.wait()
    play.set(b"A", A)
    play.run(A, B)
    play.lose()
    play.wait(1)
    play.leads(C, among=(B, C))
    if C in play.world.leading():
        play.set(b"B", C)
        play.run(B, C)
    play.get(b"C", A)
    play.end()


def a_lease_forgotten_by_a_restart() -> None:
    """B has granted a lease, and is started again."""
    play = Play()
    play.leads(A)
    play.wait()
    play.set(b"A", A)
    play.run(A, B)
    play.lose()
    play.world.crash(B)
    play.world.restart(B)
    play.wait(1)
    play.leads(C, among=(B, C))
    if C in play.world.leading():
        play.set(b"B", C)
        play.run(B, C)
    play.get(b"C", A)
    play.end()


def a_lease_granted_by_a_confirm() -> None:
    """Who has answered a confirm gives no promise against it."""
    play = Play()
    play.leads(A)
    play.wait(2 * LEASE)
    play.world.event(A, lambda groups: groups.turn.to_confirm.update((B,)))
    play.run(A, B, kinds=(Confirm, ConfirmAnswer))
    play.lose()
    play.wait(1)
    play.leads(C, among=(B, C))
    if C in play.world.leading():
        play.set(b"B", C)
        play.run(B, C)
    play.get(b"C", A)
    play.end()


def a_confirm_from_before_the_read() -> None:
    """An answer to a confirm that was sent before the read came says nothing about the lead now."""
    play = Play()
    play.leads(A)
    play.wait()
    play.world.event(A, lambda groups: groups.turn.to_confirm.update((B,)))
    play.run(A, B, kinds=(Confirm,))
    late = [sent for sent in play.world.net if sent.by == B]
    play.lose()
    play.wait()
    play.leads(C, among=(B, C))
    play.is_leading(C)
    play.set(b"B", C)
    play.run(B, C)
    play.world.event(
        A, lambda groups: groups.do(b"C", 0, play.world.clients.call(b"C", operations.GET, KEY, ()))
    )
    for sent in late:
        play.world.deliver(sent)
    play.end()


def a_confirm_for_another_leader() -> None:
    """B follows C now: what it answers to A does not count for this partition."""
    play = Play()
    play.leads(A)
    play.wait()
    play.leads(C, among=(B, C))
    play.is_leading(C)
    play.set(b"B", C)
    play.run(B, C)
    play.lose()
    play.get(b"C", A)
    play.run(A, B, kinds=(Confirm, ConfirmAnswer))
    play.end()


def a_listing_by_who_was_deposed() -> None:
    """A led, and does not know that B leads now."""
    play = Play()
    play.leads(A)
    play.lose()
    play.wait()
    play.leads(B, among=(B, C))
    play.is_leading(B)
    play.set(b"A", B)
    play.run(B, C)
    play.ask(b"B", A, operations.LIST, b"", None, 10, True)
    play.run(A, B)
    play.end()


def watched(play: Play, client: bytes, id: bytes) -> None:
    """A watcher is told what has changed since it was told last."""
    position = play.world.clients.position(client, 0)
    play.ask(client, id, operations.WATCH, b"", True, position, 0)
    play.world.event(id, lambda groups: groups.tick())
    play.run(*NODES, kinds=(Confirm, ConfirmAnswer))
    assert client not in play.world.clients.pending


def watched_while_keys_come_and_go() -> None:
    """A key is written, deleted and written again; nothing is told before a majority has it."""
    play = Play()
    play.leads(A)
    for step in (play.set, lambda client, id: play.ask(client, id, operations.DELETE, None), play.set):
        watched(play, b"W", A)
        step(b"A", A)
        watched(play, b"V", A)
        play.run(A, B, C)
    watched(play, b"W", A)
    watched(play, b"V", A)
    play.ask(b"A", A, operations.DELETE, None)
    play.run(A, B, C)
    watched(play, b"W", A)
    play.end()


def watched_at_one_that_missed_it() -> None:
    """B missed that a key came and went, and has A's state from a copy; who watched at A goes on at B."""
    play = Play()
    play.leads(A)
    watched(play, b"W", A)
    play.set(b"A", A)
    play.run(A, C)
    play.ask(b"A", A, operations.DELETE, None)
    play.run(A, C)
    play.lose()
    play.wait()
    play.leads(B, among=(B, C))
    play.is_leading(B)
    watched(play, b"W", B)
    play.set(b"A", B)
    play.run(B, C)
    watched(play, b"W", B)
    play.end()


def watched_at_one_that_was_restarted() -> None:
    """B had it that a key came and went, and was started again since; who watched at A goes on at B."""
    play = Play()
    play.leads(A)
    watched(play, b"W", A)
    play.set(b"A", A)
    play.run(A, B, C)
    play.ask(b"A", A, operations.DELETE, None)
    play.run(A, B, C)
    play.wait(1)
    play.run(A, B, C)
    play.world.crash(B)
    play.world.restart(B)
    play.lose()
    play.wait()
    play.leads(B, among=(B, C))
    play.is_leading(B)
    watched(play, b"W", B)
    play.end()


def one_of_two_changes_is_committed() -> None:
    """Both of one key; A reads when B has the first one."""
    play = Play()
    play.leads(A)
    for client in (b"A", b"B", b"C"):
        play.set(client, A)
    for accept in [sent for sent in play.world.net if sent.to == B and isinstance(sent.message, Accept)][:2]:
        play.world.net.remove(accept)
        play.world.deliver(accept)
        play.run(A, B, kinds=(Accepted,))
        play.get(b"D%d" % len(play.world.net), A)
    play.end()


def handed_over_without_a_stop() -> None:
    """Who hands its lead over reads no more: the leases of its ballot are in nobody's way."""
    play = Play()
    play.leads(A)
    play.wait()
    play.set(b"A", A)
    play.run(A, B, C)
    play.world.on_group(A, lambda group: group.hand_over(B))
    ballot = play.group(B).replica.promised
    play.lose()
    play.leads(B, among=(B, C), released=ballot)
    play.is_leading(B)
    play.set(b"B", B)
    play.run(B, C)
    play.get(b"C", A)
    play.end()


def sent_again_after_the_answer() -> None:
    """A repeated message of an operation whose client has its answer."""
    play = Play()
    play.leads(A)
    first = play.add(b"A", A)
    play.run(*NODES)
    play.add(b"A", A)
    play.run(*NODES)
    play.world.do(A, first)
    play.run(*NODES)
    play.end()


def two_at_a_time() -> None:
    """A client has several operations under way; the answer to one is lost, and it is sent again."""
    play = Play()
    play.leads(A)
    one, two, three = (
        Operation(b"A", number, answered, NO_RANK, operations.INCREMENT, KEY, (b"\x01",))
        for number, answered in ((1, 0), (2, 0), (3, 1))
    )
    for operation in (one, two, three, two):
        play.world.do(A, operation)
        play.run(*NODES)
    play.end()


def forgotten_and_sent_again() -> None:
    """An operation of long ago is sent again, when nobody remembers whether it was done."""
    play = Play()
    play.leads(A)
    first = play.add(b"A", A)
    play.run(*NODES)
    play.world.on_group(A, evict)
    play.run(*NODES)
    play.world.do(A, first)
    play.run(*NODES)
    play.end()


def a_clock_is_put_back() -> None:
    """The clock of the leader, and of another, go back by a day."""
    play = Play()
    play.leads(A)
    play.set(b"A", A)
    play.run(*NODES)
    for id in (A, B):
        play.world.hosts[id].wall_offset_ms = -86_400_000
    for client in (b"B", b"C"):
        play.set(client, A)
        play.run(*NODES)
    play.end()


def expired_by_one_clock() -> None:
    """A leader whose clock is ahead finds a record expired; the next leader's is not."""
    play = Play()
    play.leads(A)
    play.ask(b"A", A, operations.SET, b"\x07", 200_000)
    play.run(*NODES)
    for id in NODES[:3]:
        play.world.hosts[id].wall_offset_ms = 10**7
    play.wait(1)
    play.get(b"B", A)
    for id in NODES[:3]:
        play.world.hosts[id].wall_offset_ms = 0
    play.lose()
    play.wait()
    play.leads(B, among=(B, C))
    play.get(b"C", B)
    play.run(B, C)
    play.end()


def copied_while_changes_come() -> None:
    """C missed much and copies the state, while the leader makes changes, of which it misses one."""
    play = Play(spares=(D,))
    play.leads(A)
    for client in (b"A", b"B"):
        play.set(client, A)
        play.run(A, B)
    play.lose()
    play.world.on_group(A, lambda group: group.leader.install(C))  # type: ignore[union-attr]
    play.run(A, C, kinds=(Install,))
    play.set(b"A", A)
    play.run(A, B)
    play.world.net[:] = [sent for sent in play.world.net if not isinstance(sent.message, Accept)]
    play.add(b"B", A)
    play.run(*NODES)
    play.end()


def learned_and_installed() -> None:
    """A newcomer learns the records, then the epoch changes."""
    play = Play(spares=(D,))
    play.leads(A)
    play.set(b"A", A)
    play.run(*NODES)
    play.world.on_group(A, lambda group: group.change_members([Member(id) for id in (A, B, D)]))
    play.run(A, D, kinds=(Learn,))
    play.set(b"B", A)
    play.run(*NODES)
    assert play.group(D).replica.rank == play.group(A).replica.rank
    play.end()


def newer_is_no_promise() -> None:
    """D hears of a later configuration from C, which has promised it nothing: C and E have committed more."""
    play = Play(A, C, D, spares=(E,))
    play.leads(D)
    play.set(b"A", D)
    old = [sent for sent in play.world.net if sent.to == C and isinstance(sent.message, Accept)]
    play.world.net.remove(old[0])
    play.run(A, D)
    play.seal(D, C, D, E)
    play.run(A, D)
    play.run(C, D, E)
    play.is_leading(D)
    play.lose()
    play.world.deliver(old[0])
    late = [sent for sent in play.world.net if isinstance(sent.message, Newer)]
    assert late
    play.lose()
    play.wait()
    play.leads(E, among=(C, E))
    play.is_leading(E)
    play.set(b"B", E)
    play.run(C, E)
    play.lose()
    play.world.crash(D)
    play.world.restart(D)
    play.wait()
    for _ in range(2):
        play.world.on_group(D, lambda group: group.stand(trial=False))
    play.lose()
    for sent in late:
        play.world.deliver(sent)
    play.world.net[:] = [sent for sent in play.world.net if not isinstance(sent.message, Prepare)]
    play.run(C, D)
    play.end()


def _forced(play: Play) -> None:
    """Long afterwards, A and B go on by force, and take C in."""
    play.wait(50 * LEASE)
    for id in (C, D, E):
        play.world.crash(id)
    play.world.clients.histories += 1
    play.world.on_group(A, lambda group: group.force())
    play.run(A, B)
    play.world.on_group(A, lambda group: group.force_now())
    play.run(A, B)
    play.world.restart(C)
    play.lose()
    play.seal(A, A, B, C)
    play.run(A, B, C)
    play.is_leading(A)
    play.lose()


def a_promise_of_another_history() -> None:
    """A promised B's second ballot, and B hears of it when it stands with its second ballot in a history that
    was begun by force since."""
    play = Play(*NODES)
    play.leads(A)
    play.wait()
    play.world.on_group(B, lambda group: group.stand(trial=False))
    play.run(A, B, kinds=(Prepare,))
    late = [sent for sent in play.world.net if sent.by == A and isinstance(sent.message, Promise)]
    play.lose()
    _forced(play)
    play.set(b"A", A)
    play.run(A, C)
    play.lose()
    play.wait(2 * LEASE)
    play.world.on_group(B, lambda group: group.stand(trial=False))
    play.lose()
    for sent in late:
        play.world.deliver(sent)
    play.run(B, C)
    play.end()


def a_lead_of_another_history_is_handed_over() -> None:
    """What A said when it handed its first ballot over arrives when A leads with its first ballot again, in a
    history that was begun by force since."""
    play = Play(*NODES)
    play.leads(A)
    play.wait()
    play.world.on_group(A, lambda group: group.hand_over(B))
    late = [sent for sent in play.world.net if isinstance(sent.message, Yours)]
    play.lose()
    _forced(play)
    play.set(b"A", A)
    play.run(A, B, C)
    for sent in late:
        play.world.deliver(sent)
    play.run(B, C)
    play.end()


SCHEDULES: tuple[Callable[[], None], ...] = (
    renewed_while_the_next_epoch_begins,
    told_to_go_and_asked_again,
    who_finds_an_epoch_sealed,
    an_effect_without_its_id,
    one_number_two_candidates,
    a_promise_is_forgotten,
    a_crash_before_the_disk_has_it,
    turns_wait_for_their_own_saves,
    a_damaged_state_promises_nothing,
    a_lease_counted_from_the_answer,
    a_lease_counted_from_the_acknowledgement,
    a_slow_clock_and_a_fast_one,
    a_promise_against_a_lease,
    a_lease_forgotten_by_a_restart,
    a_lease_granted_by_a_confirm,
    a_confirm_from_before_the_read,
    a_confirm_for_another_leader,
    a_listing_by_who_was_deposed,
    one_of_two_changes_is_committed,
    watched_while_keys_come_and_go,
    watched_at_one_that_missed_it,
    watched_at_one_that_was_restarted,
    handed_over_without_a_stop,
    sent_again_after_the_answer,
    two_at_a_time,
    forgotten_and_sent_again,
    a_clock_is_put_back,
    expired_by_one_clock,
    copied_while_changes_come,
    learned_and_installed,
    newer_is_no_promise,
    a_promise_of_another_history,
    a_lead_of_another_history_is_handed_over,
)
