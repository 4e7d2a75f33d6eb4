"""All groups of one node: what came in goes to the group that it concerns, what they want goes out together.

Whoever drives it calls :meth:`Groups.begin`, then any number of events, then :meth:`Groups.end`, which gives
what is to be done. The order is fixed: messages of ``at_once`` may go immediately, and those of ``lazily``
some milliseconds later; those of ``when_synced`` go when these saves, and all before them, are on disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import heappop, heappush
from math import inf
from types import MappingProxyType
from typing import NamedTuple

from chordtx.config import GroupSettings
from chordtx.group.configuration import Member
from chordtx.group.confirming import Confirming
from chordtx.group.group import Group
from chordtx.group.messages import (
    NODE_LEVEL,
    Accept,
    Accepted,
    Answer,
    Confirm,
    ConfirmAnswer,
    Install,
    Learn,
    Message,
    Operation,
    Prepare,
    Yours,
    not_leader,
)
from chordtx.group.rank import FIRST_RANK, Ballot, Epoch, NodeId, named
from chordtx.group.record import cost_bytes
from chordtx.group.replica import Aside, Save, Stored
from chordtx.group.state import State, first_state
from chordtx.group.turn import Outgoing, Randomness, Turn

#: With these a group begins at a node that had none.
_OPENING = (Prepare, Accept, Install, Learn)

_FOR_ITSELF = frozenset((*_OPENING, Yours))

#: Groups are ticked this often at most.
TICK_SECONDS = 0.1
#: After events that happen all the time they are ticked this much later.
_SOON_SECONDS = 0.25


class Ended(NamedTuple):
    """What is to be done after a turn.

    :ivar saves: by partition; empty without a disk. :ivar answers: (who asked, partition, answer).
    :ivar news: (key, whether it went) of keys that came or went where this node leads; see :class:`Turn`.
    """

    saves: dict[int, Save]
    at_once: Outgoing
    lazily: Outgoing
    when_synced: Outgoing
    answers: list[tuple[object, int, Answer]]
    news: list[tuple[bytes, bool | None]]


class Groups:
    """See the module.

    :param me: this node, as a member. Without a disk nothing is saved.
    :param rng: for moments that no other node chooses too.
    :ivar bytes_used: about what all records take in memory.
    """

    def __init__(self, me: Member, settings: GroupSettings, rng: Randomness) -> None:
        self.me = me
        self._id, self._has_disk = me
        self.settings = settings
        self.groups: dict[int, Group] = {}
        self.turn = Turn()
        self.confirming = Confirming(self.turn, settings)
        self.bytes_used = 0
        self._rng = rng
        self._active: set[int] = set()
        self._soon: dict[int, float] = {}
        self._wakes: list[tuple[float, int]] = []
        self._wake_at: dict[int, float] = {}
        self._next_tick = float("-inf")
        self._to_tick = (0, 0)

    # Beginning

    def load(
        self,
        partition: int,
        stored: Stored,
        state: State | None,
        asides: Mapping[int, Aside] = MappingProxyType({}),
    ) -> None:
        """What was on disk, after a start: the present moment is that of :meth:`begin`."""
        group = self._make(partition, stored, state, asides)
        if state is not None:
            self.bytes_used += sum(cost_bytes(key, record) for key, record in state.records.items())
        self.confirming.follows(partition, group.replica.follows)
        group.want_leader()

    def create(self, partitions: Iterable[int]) -> None:
        """Begin a ring: this node alone keeps all partitions."""
        for partition in partitions:
            group = self._make(partition)
            state = first_state([self.me])
            group.replica.take(FIRST_RANK, state)
            group.stand(trial=False)

    def _make(
        self,
        partition: int,
        stored: Stored | None = None,
        state: State | None = None,
        asides: Mapping[int, Aside] = MappingProxyType({}),
    ) -> Group:
        group = Group(
            partition, self.me, self.turn, self.confirming, self.settings, self._rng, stored, state, asides
        )
        self.groups[partition] = group
        self._active.add(partition)
        return group

    # Events

    def begin(self, now: float, wall_ms: int, *, is_full: bool = False) -> None:
        """A turn begins.

        :param now: by the lease clock, in seconds. :param wall_ms: by the wall clock.
        :param is_full: whether this node is to hold no more than it does.
        """
        turn = self.turn
        turn.now, turn.wall_ms, turn.is_full = now, wall_ms, is_full
        if is_full or turn.full:
            turn.heard_full(self.me.id, is_full)

    def received(self, by: NodeId, entries: Iterable[tuple[int, Message]]) -> None:
        """What another node, or this one, has sent."""
        groups, active, handlers = self.groups, self._active, Group.HANDLERS
        for partition, message in entries:
            if partition == NODE_LEVEL:
                self._node_received(by, message)
                continue
            group, kind = groups.get(partition), type(message)
            if kind is Accepted:
                if group is None:
                    continue
                self._tick_soon(partition)
            else:
                if kind in _FOR_ITSELF and ballot_of(message).node != by:
                    continue
                if group is None:
                    if kind not in _OPENING:
                        continue
                    group = self._make(partition)
                if kind is not Accept:  # by which nothing begins that time has to do with
                    active.add(partition)
            handlers[kind](group, by, message)  # type: ignore[arg-type]  # each kind has its own

    def _node_received(self, by: NodeId, message: object) -> None:
        if isinstance(message, Confirm):
            self.confirming.received(by, message)
        elif isinstance(message, ConfirmAnswer):
            self._release(by, message.followed or ())
            for partition in self.confirming.answered(by, message):
                if partition in self.groups:
                    self.groups[partition].forgotten_by(by)
            self._read_on()

    def _release(self, by: NodeId, followed: Iterable[tuple[int, int, Epoch]]) -> None:
        """A member that still follows this node by a ballot that it has given up is told so. Else confirms
        for other partitions would renew that lease for ever, and nobody could lead."""
        for partition, number, epoch in followed:
            ballot, group = Ballot(number, self._id), self.groups.get(partition)
            if group is None or group.own_ballot() != ballot:
                self.turn.send_at_once((by,), partition, Yours(ballot, epoch.mark))

    def _read_on(self) -> None:
        for partition in list(self.turn.reading):
            group = self.groups[partition]
            group.confirmed()
            if group.leader is None or not group.leader.is_reading:
                self.turn.reading.discard(partition)

    def group(self, partition: int) -> Group | None:
        """This node's part in a group, if it has one: it is about to be told something, and is ticked."""
        group = self.groups.get(partition)
        if group is not None:
            self._active.add(partition)
        return group

    def do(self, who: object, partition: int, operation: Operation) -> None:
        """A client's operation. :param who: is named in the answer."""
        group = self.groups.get(partition)
        if group is None:
            self.turn.answer(who, partition, not_leader(operation, None))
            return
        group.do(who, operation)
        leader = group.leader
        if leader is None:
            self._active.add(partition)
        elif leader.has_waiting or leader.watchers:
            self._tick_soon(partition)

    def _tick_soon(self, partition: int) -> None:
        """Something that happens often has happened to a leader: what it leaves behind is looked after."""
        if partition not in self._soon:
            self._soon[partition] = self.turn.now + _SOON_SECONDS

    def lost(self, node: NodeId, *, has_ended: bool = False) -> None:
        """The link to a node broke, or fell silent.

        :param has_ended: its process is known to have ended: the link was reset, its port refuses, or the
            node is back under a new id.
        """
        for partition, group in self.groups.items():
            if group.replica.promised.node == node or (has_ended and node in group.configuration.ids):
                self._active.add(partition)
                group.lost(node, has_ended=has_ended)

    def reached(self, node: NodeId) -> None:
        """There is a link to a node again: groups without a leader try anew; leaders ask how far it is."""
        for partition, group in self.groups.items():
            if group.reached(node):
                self._active.add(partition)

    def tick(self) -> None:
        """Time has passed."""
        now = self.turn.now
        while self._wakes and self._wakes[0][0] <= now:
            at, partition = heappop(self._wakes)
            if self._wake_at.get(partition) == at:
                del self._wake_at[partition]
                self._active.add(partition)
        if now < self._next_tick:
            return
        self._next_tick = now + TICK_SECONDS
        self.confirming.renew()
        for partition in [each for each, at in self._soon.items() if at <= now]:
            del self._soon[partition]
            self._active.add(partition)
        due, self._active = sorted(self._active), set()
        for partition in due:
            group = self.groups[partition]
            group.tick()
            seconds = group.seconds_to_wake()
            if seconds is not None:
                self._wake(partition, now + seconds)

    def _wake(self, partition: int, at: float) -> None:
        """One entry for each group counts: the earliest."""
        if at < self._wake_at.get(partition, inf):
            self._wake_at[partition] = at
            heappush(self._wakes, (at, partition))

    def seconds_to_wake(self) -> float | None:
        """After how long it wants to be ticked; None when nothing is due, ever."""
        if self.turn.telling:
            return 0.0
        is_busy = self._active or self._soon or self.confirming.is_renewing
        wakes = [self._next_tick] if is_busy else []
        if self._wakes:
            wakes.append(self._wakes[0][0])
        return max(0.0, min(wakes) - self.turn.now) if wakes else None

    # The end of a turn

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing has come of this turn so far: it need not be ended."""
        return self.turn.is_empty and self._to_tick == (len(self._active), len(self._soon))

    def end(self) -> Ended:
        """What is to be done."""
        turn = self.turn
        self._to_tick = (len(self._active), len(self._soon))
        if turn.telling:
            self._tell_watchers()
        if turn.unflushed:
            self._flush()
        if not self._has_disk:  # what it tells itself waits for nothing
            while (own := turn.when_synced.pop(self._id, None)) is not None:
                self.received(self._id, own)
                self._flush()
        if turn.to_confirm:
            for member in sorted(turn.to_confirm):
                self.confirming.confirm(member)
            turn.to_confirm.clear()
        saves = self._saves() if turn.unsaved else {}
        # What is given away is not touched again: it may wait for a disk while the next turns go on.
        ended = named(Ended, (saves, turn.at_once, turn.lazily, turn.when_synced, turn.answers, turn.news))
        turn.at_once, turn.lazily = {}, {}
        turn.when_synced, turn.answers, turn.news = {}, [], []
        return ended

    def _tell_watchers(self) -> None:
        telling, self.turn.telling = self.turn.telling, set()
        for partition in sorted(telling):
            leader = self.groups[partition].leader
            if leader is not None:
                leader.watchers.tell()

    def _flush(self) -> None:
        unflushed = self.turn.unflushed
        if unflushed:
            for flush in unflushed:
                flush()
            unflushed.clear()

    def _saves(self) -> dict[int, Save]:
        unsaved, groups = self.turn.unsaved, self.groups
        saves = {}
        for partition in unsaved:
            replica = groups[partition].replica
            for key, before, after in replica.touched.records:
                if before is not None and after is not None:
                    self.bytes_used += len(after.value) - len(before.value)
                elif after is not None:
                    self.bytes_used += cost_bytes(key, after)
                elif before is not None:
                    self.bytes_used -= cost_bytes(key, before)
            if self._has_disk:
                saves[partition] = replica.take_save()
            else:
                replica.touched.records.clear()
                replica.touched.clients.clear()
        unsaved.clear()
        return saves


def ballot_of(message: Message) -> Ballot:
    """Of a message that only a ballot's own node may send."""
    return message.rank.ballot if type(message) is Install else message.ballot  # type: ignore[union-attr]
