"""One confirm between two nodes stands for all partitions that one leads and the other follows it in.

So leases cost frames by pairs of nodes, and not by partitions. Both sides keep the list of these
partitions, each with ballot and epoch: the leader's has those in which the other has acknowledged its state;
the follower's has those in which it holds that state, and has promised nobody else anything since. A confirm
carries a digest of the leader's list. Where the follower's is another one it answers with its list, and only
what is in both counts.

A follower grants its lease for everything that it follows the sender in, whether the sender counts it or not:
to grant too much is safe.
"""

from __future__ import annotations

from collections import deque
from hashlib import blake2b
from typing import NamedTuple

import msgpack

from chordtx.config import GroupSettings
from chordtx.group.lease import NEVER, NOT_CONFIRMED, Confirmed
from chordtx.group.messages import NODE_LEVEL, Confirm, ConfirmAnswer
from chordtx.group.rank import Ballot, Epoch, NodeId
from chordtx.group.turn import Turn

Followed = tuple[int, Epoch]

#: Confirms to one node that have not been answered; more are sent once one is.
_UNDER_WAY_MAX = 8


class _List:
    """Partitions with ballot number and epoch, and the digest of all of them."""

    __slots__ = ("digest", "entries")

    def __init__(self) -> None:
        self.entries: dict[int, Followed] = {}
        self.digest = 0

    def put(self, partition: int, entry: Followed | None) -> None:
        """Put one in, or take one out. Entries that somebody else has a reference to are left as they are."""
        before = self.entries.get(partition)
        if before == entry:
            return
        self.entries = dict(self.entries)
        if before is not None:
            self.digest ^= _digest(partition, before)
            del self.entries[partition]
        if entry is not None:
            self.digest ^= _digest(partition, entry)
            self.entries[partition] = entry


class _Sent(NamedTuple):
    """A confirm on its way."""

    number: int
    sent: float
    entries: dict[int, Followed]


class Confirming:
    """See the module. One for each node.

    :param turn: what it sends goes there.
    """

    def __init__(self, turn: Turn, settings: GroupSettings) -> None:
        self.latest_number = 0
        self._turn = turn
        self._settings = settings
        self._led: dict[NodeId, _List] = {}
        self._followed: dict[NodeId, _List] = {}
        self._leader_of: dict[int, NodeId] = {}
        self._granted: dict[NodeId, float] = {}
        self._sent: dict[NodeId, deque[_Sent]] = {}
        self._wanted: set[NodeId] = set()
        self._answered: dict[NodeId, _Sent] = {}
        self._asked_at: dict[NodeId, float] = {}
        self._read_at: dict[NodeId, float] = {}

    # The leader's side

    def acknowledged_by(self, member: NodeId, partition: int, ballot: Ballot, epoch: Epoch) -> None:
        """``member`` has this node's state: from now on one confirm stands for this partition too."""
        self._led.setdefault(member, _List()).put(partition, (ballot.number, epoch))

    def leads_no_more(self, partition: int) -> None:
        """This node does not lead a partition any more."""
        for each in self._led.values():
            each.put(partition, None)

    def read_with(self, members: tuple[NodeId, ...]) -> None:
        """Something is read under the leases of these members: for a while they are renewed in time."""
        now, read_at = self._turn.now, self._read_at
        for member in members:
            read_at[member] = now

    @property
    def is_renewing(self) -> bool:
        """Whether there are leases to be renewed in time."""
        return bool(self._read_at)

    def renew(self) -> None:
        """Time has passed: leases of what was read lately are renewed when half of them is over."""
        settings, now = self._settings, self._turn.now
        for member, read_at in list(self._read_at.items()):
            if read_at + settings.lease_seconds <= now or not settings.leases:
                del self._read_at[member]
            elif self._asked_at.get(member, NEVER) + settings.counted_seconds / 2 <= now:
                self._turn.to_confirm.add(member)

    def confirm(self, member: NodeId) -> None:
        """Ask for leases now."""
        led = self._led.get(member)
        if led is None or not led.entries:
            return
        under_way = self._sent.setdefault(member, deque())
        while under_way and under_way[0].sent + self._settings.lease_seconds < self._turn.now:
            under_way.popleft()  # lost, or its answer
        if len(under_way) >= _UNDER_WAY_MAX:
            self._wanted.add(member)
            return
        self.latest_number += 1
        self._asked_at[member] = self._turn.now
        under_way.append(_Sent(self.latest_number, self._turn.now, led.entries))
        self._turn.send_at_once((member,), NODE_LEVEL, Confirm(self.latest_number, led.digest))

    def answered(self, by: NodeId, answer: ConfirmAnswer) -> list[int]:
        """A confirm was answered: for the partitions that were on both lists.

        :returns: those that were on this node's list, but not on the other one's.
        """
        under_way = self._sent.get(by, deque())
        while under_way and under_way[0].number < answer.number:
            under_way.popleft()  # answered by this too
        if not under_way or under_way[0].number != answer.number:
            return []
        sent = under_way.popleft()
        if by in self._wanted:
            self._wanted.discard(by)
            self._turn.to_confirm.add(by)
        entries = sent.entries
        if answer.followed is not None:
            theirs = {partition: (number, epoch) for partition, number, epoch in answer.followed}
            entries = {each: entry for each, entry in entries.items() if theirs.get(each) == entry}
        self._answered[by] = sent._replace(entries=entries)
        forgotten = []
        if len(entries) < len(sent.entries):
            led = self._led[by]
            for partition in sent.entries.keys() - entries.keys():
                if led.entries.get(partition) == sent.entries[partition]:
                    led.put(partition, None)
                    forgotten.append(partition)
        return forgotten

    def confirmed_by(self, member: NodeId, partition: int, ballot: Ballot, epoch: Epoch) -> Confirmed:
        """What ``member`` has answered to this node for a partition."""
        answered = self._answered.get(member)
        if answered is None or answered.entries.get(partition) != (ballot.number, epoch):
            return NOT_CONFIRMED
        return Confirmed(answered.number, answered.sent)

    # The follower's side

    def follows(self, partition: int, following: tuple[Ballot, Epoch] | None) -> None:
        """Whom this node follows in a partition, if anybody."""
        before = self._leader_of.get(partition)
        leader = None if following is None else following[0].node
        if before is not None and before != leader:
            self._followed[before].put(partition, None)
            del self._leader_of[partition]
        if following is not None and leader is not None:
            self._leader_of[partition] = leader
            self._followed.setdefault(leader, _List()).put(partition, (following[0].number, following[1]))

    def received(self, by: NodeId, asked: Confirm) -> None:
        """A leader wants its leases renewed."""
        self._granted[by] = self._turn.now + self._settings.lease_seconds
        followed = self._followed.get(by)
        entries: dict[int, Followed] = {} if followed is None else followed.entries
        answer = None
        if asked.digest != (0 if followed is None else followed.digest):
            answer = tuple((partition, *entry) for partition, entry in entries.items())
        self._turn.send(by, NODE_LEVEL, ConfirmAnswer(asked.number, answer))

    def granted_until(self, leader: NodeId) -> float:
        """Until when this node has granted one to another, in all partitions where it follows that one."""
        return self._granted.get(leader, NEVER)


def _digest(partition: int, entry: Followed) -> int:
    return int.from_bytes(blake2b(msgpack.packb((partition, entry)), digest_size=8).digest(), "big")
