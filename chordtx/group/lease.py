"""Leases: as long as a member grants one, it promises nothing to anybody but its leader.

The member counts a lease from when it received what it acknowledges; the leader counts it from when it *sent*
that, and a little shorter (:attr:`~chordtx.config.GroupSettings.counted_seconds`), so it believes in
a lease only while the member keeps it. Both by clocks that only run forward and count while a machine sleeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from chordtx.group.rank import Ballot, Epoch, NodeId

NEVER = float("-inf")


class Granted(NamedTuple):
    """What a member has granted. :ivar until: by its own lease clock."""

    ballot: Ballot
    until: float


class Confirmed(NamedTuple):
    """The latest confirm that a member has answered for a partition.

    :ivar number: confirms of one node are numbered as they are sent. :ivar sent: when.
    """

    number: int
    sent: float


NOT_CONFIRMED = Confirmed(-1, NEVER)


class PairLeases(Protocol):
    """Leases by pairs of nodes, each for all partitions that one of them leads and the other follows it in:
    :class:`chordtx.group.confirming.Confirming`."""

    @property
    def latest_number(self) -> int:
        """The number of the confirm that was sent last."""

    def granted_until(self, leader: NodeId) -> float:
        """Until when this node has granted one to another, in all partitions where it follows that one."""

    def confirmed_by(self, member: NodeId, partition: int, ballot: Ballot, epoch: Epoch) -> Confirmed:
        """What ``member`` has answered to this node for a partition."""

    def acknowledged_by(self, member: NodeId, partition: int, ballot: Ballot, epoch: Epoch) -> None:
        """``member`` has this node's state: from now on one confirm stands for this partition too."""

    def read_with(self, members: tuple[NodeId, ...]) -> None:
        """Something is read under the leases of these members: for a while they are renewed in time."""

    def leads_no_more(self, partition: int) -> None:
        """This node does not lead a partition any more."""

    def follows(self, partition: int, following: tuple[Ballot, Epoch] | None) -> None:
        """Whom this node follows in a partition, if anybody."""


class Held:
    """What a leader knows of the leases that its members have granted it.

    :param is_member: whether the leader itself is a member. :param others: the other members.
    :ivar until: as :meth:`reckon` found it.
    """

    __slots__ = ("_is_member", "_others", "_sent", "until")

    def __init__(self, others: tuple[NodeId, ...], *, is_member: bool) -> None:
        self._others = others
        self._is_member = is_member
        self._sent: dict[NodeId, float] = {}
        self.until = NEVER

    def granted(self, by: NodeId, sent: float) -> None:
        """A member acknowledged what was sent at that time."""
        if sent > self._sent.get(by, NEVER):
            self._sent[by] = sent

    def reckon(self, counted_seconds: float, now: float, confirmed: Mapping[NodeId, Confirmed]) -> float:
        """Until when a majority's leases run, the leader's own with them (its own runs as long as it leads).

        :param confirmed: what the other members have answered.
        """
        sent = [max(self._sent.get(id, NEVER), confirmed[id].sent) for id in self._others]
        sent.sort(reverse=True)
        if self._is_member:
            sent.insert(0, now)
        self.until = sent[len(sent) // 2] + counted_seconds
        return self.until
