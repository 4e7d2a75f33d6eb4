"""Faults planted in what services do beside their groups: clients, the ring, who belongs to it, and news."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from chordtx.chord import departure, key_events
from chordtx.chord.client import _Asking
from chordtx.chord.membership import Membership
from chordtx.chord.node_parts import NodeParts
from chordtx.chord.placement import Placement
from chordtx.chord.ring_identity import Standing
from chordtx.chord.standings import Standings
from chordtx.chord.watching import Watch
from chordtx.dictionary import DictMixin
from chordtx.group import operations
from chordtx.group.confirming import Confirming
from chordtx.group.group import Group
from chordtx.group.locks import Lock
from chordtx.group.messages import Answer, ConfirmAnswer, Install, Learn, Operation
from chordtx.group.rank import COUNT_MAX, NO_RANK
from chordtx.group.replica import Replica
from chordtx.mesh import MeshConnection
from chordtx.mesh.rivals import Rivals
from chordtx.wire import pack_value

Patch = pytest.MonkeyPatch


# Leases


def counts_a_confirm_from_its_answer(patch: Patch) -> None:
    """And not from when it was sent."""
    answered = Confirming.answered

    def late(self: Confirming, by: bytes, answer: ConfirmAnswer) -> list[int]:
        forgotten = answered(self, by, answer)
        if by in self._answered:
            self._answered[by] = self._answered[by]._replace(sent=self._turn.now)
        return forgotten

    patch.setattr(Confirming, "answered", late)


# The ring


def rings_are_not_told_apart(patch: Patch) -> None:
    """A node of another ring is as good as one of this one."""

    def is_of_our_ring(self: Standings, link: MeshConnection) -> bool:
        return self.of(link.id_10) is not None and link.address is not None and link.address.reachable

    def judge(self: Standings, link: MeshConnection, told: Standing, before: Standing | None = None) -> None:
        self._node.standing_changed(link, told, before)

    patch.setattr(Standings, "is_of_our_ring", is_of_our_ring)
    patch.setattr(Standings, "judge", judge)


def one_id_may_run_twice(patch: Patch) -> None:
    """Of two processes with one id the one that came last is taken for the node."""

    async def turn_away(self: Rivals, newcomer: MeshConnection, filed: MeshConnection) -> None:
        self._mesh._file(newcomer)

    patch.setattr(Rivals, "_turn_away", turn_away)


def nobody_knows_who_has_run_since(patch: Patch) -> None:
    """A folder that is older than the node is not noticed."""
    has_run_since = Standings._has_run_since

    def nobody_minds(self: Standings, link: MeshConnection, standing: Standing) -> bool:
        has_run_since(self, link, standing)
        return False

    patch.setattr(Standings, "_has_run_since", nobody_minds)


def goes_on_though_it_is_refused(patch: Patch) -> None:
    """A node that is told why it is refused does not stop."""
    patch.setattr(NodeParts, "refused", lambda self, reason: None)


def stabilization_ends(patch: Patch) -> None:
    """The loop is over after a few rounds, and nobody is told."""
    round = Membership._round
    patch.setattr(
        Membership,
        "_round",
        lambda self: round(self) if self._loop is None or self._loop.rounds < 12 else None,
    )


def who_is_cut_off_waits_for_ever(patch: Patch) -> None:
    """Who has lost all of the ring does not go on alone, and those that come back wait for it."""
    patch.setattr(Membership, "go_on_alone", lambda self: None)


def who_is_alone_gives_records_up(patch: Patch) -> None:
    """A list of successors who all leave counts as the whole ring, and at once."""

    def is_anybody_staying(self: Placement) -> bool:
        return any(not self._is_leaving(contact) for contact in self._ring.successors)

    patch.setattr(Placement, "is_anybody_staying", is_anybody_staying)
    patch.setattr(departure, "_ALONE_SECONDS", 0.01)


# Reads and newcomers


def any_member_answers_reads(patch: Patch) -> None:
    """From the records that it has, as if they were the newest."""
    do = Group.do

    def done(self: Group, who: object, operation: Operation) -> None:
        state = self.replica.state
        if self.leader is None and state is not None and operation.kind == operations.GET:
            status, detail = operations.get(state.records.get(operation.key))
            answer = Answer(operation.client, operation.number, status, detail, NO_RANK, NO_RANK)
            self._turn.answer(who, self.partition, answer)
        else:
            do(self, who, operation)

    patch.setattr(Group, "do", done)


def newcomers_miss_what_has_changed_since(patch: Patch) -> None:
    """What a newcomer has copied counts as the state, whatever has changed meanwhile."""
    begin = Replica._begin_copy

    def begun(self: Replica, by: bytes, pending: Install | Learn) -> None:
        if isinstance(pending, Install) and self.copy is not None and self.copy.state is not None:
            self._take_copy(by, self.copy.state, pending)
        else:
            begin(self, by, pending)

    patch.setattr(Replica, "_begin_copy", begun)


# News


def watches_end_with_their_leader(patch: Patch) -> None:
    """Who watches asks no other leader."""
    try_again = _Asking._try_again

    def tried(self: _Asking, *arguments: Any) -> None:
        if self._kind != operations.WATCH:
            try_again(self, *arguments)

    patch.setattr(_Asking, "_try_again", tried)


def who_watches_is_not_told_of_deletions(patch: Patch) -> None:
    """A leader tells of what comes and of what is changed."""
    told = Watch.told

    def tell(self: Watch, events: Iterable[operations.Event]) -> None:
        told(self, [event for event in events if event[0] != operations.DELETED])

    patch.setattr(Watch, "told", tell)


# Locks


def locks_forget_their_holder(patch: Patch) -> None:
    """Whoever asks for a lock gets it."""
    go_on = Lock.go_on

    def forget(self: Lock, now_ms: int) -> None:
        self.holder = None
        go_on(self, now_ms)

    patch.setattr(Lock, "go_on", forget)


def tokens_stand_still(patch: Patch) -> None:
    """The next holder has the token of the last one."""
    give = Lock.give

    def given(self: Lock, owner: str, lease_ms: int, now_ms: int) -> None:
        token = self.token
        give(self, owner, lease_ms, now_ms)
        self.token = token or self.token

    patch.setattr(Lock, "give", given)


def a_lock_stays_with_who_died(patch: Patch) -> None:
    """Its lease never ends."""
    give = Lock.give

    def given(self: Lock, owner: str, lease_ms: int, now_ms: int) -> None:
        give(self, owner, lease_ms, now_ms)
        self.until_ms = COUNT_MAX

    patch.setattr(Lock, "give", given)


# News, as listeners hear them


def every_write_is_news(patch: Patch) -> None:
    """A key comes again and again."""
    patch.setitem(key_events._IS_GONE, "update", False)


def nobody_hears_of_deletions(patch: Patch) -> None:
    """Only what comes is told."""
    patch.delitem(key_events._IS_GONE, "delete")


def takes_what_is_too_large(patch: Patch) -> None:
    """A value is taken however large it is."""
    patch.setattr(DictMixin, "_pack", lambda self, value: pack_value(value, 1 << 30, self._value_limits))
