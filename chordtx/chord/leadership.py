"""Sees to it that each group has a leader, and that this is the member whom all prefer."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Protocol

from chordtx.group.configuration import Configuration, Member, by_preference
from chordtx.group.group import Group
from chordtx.group.groups import Groups
from chordtx.group.leader import LEADING, Leader
from chordtx.group.rank import NodeId

#: How many leads are given to those who are preferred at once.
_HANDED_MAX = 16
#: How many leads a node that stops gives away at once; or the part of its leads, if that is more.
_GIVEN_AT_ONCE = 16
_GIVEN_SHARE = 16
#: Leads that are as they ought to be are looked at again this often.
_LOOK_SECONDS = 1.0


class Links(Protocol):
    """What is known of other nodes."""

    def is_linked(self, id: NodeId) -> bool:
        """Whether a node can be reached at this moment."""

    def may_lead(self, id: NodeId) -> bool:
        """Whether a node can be reached, and stays for now."""


class Hosting(Protocol):
    """The groups that a node is in."""

    @property
    def me(self) -> Member:
        """The node."""

    @property
    def groups(self) -> Groups:
        """Its groups."""

    @property
    def leads(self) -> list[int]:
        """The partitions that it leads, and serves."""

    def is_to_change(self, partition: int) -> bool:
        """Whether a group that it leads is to have other members."""

    def begin(self) -> Groups:
        """A turn of the groups begins, or goes on: this is the time now."""

    def wants_end(self) -> None:
        """Something was done in this turn: it ends soon."""


class Leadership:
    """See the module. One for each node that keeps something.

    :param seconds: a clock that only runs forward.
    """

    def __init__(self, hosting: Hosting, links: Links, seconds: Callable[[], float]) -> None:
        self._hosting = hosting
        self._links = links
        self._seconds = seconds
        self._next_look = -inf
        self._preferred_of: dict[int, tuple[Configuration, NodeId]] = {}

    def look(self) -> None:
        """Look at all groups. To be called often: it looks again soon where there was something to do, and
        later where there was not."""
        now = self._seconds()
        if now >= self._next_look:
            self._seek_leaders()
            self._next_look = now + (0.0 if self._hand_over_leads() else _LOOK_SECONDS)

    def _seek_leaders(self) -> None:
        """Where nobody leads, this node tries to."""
        groups = self._hosting.begin()
        is_there: dict[NodeId, bool] = {self._hosting.me.id: False}  # who follows itself follows nobody
        alone = [each for each, group in groups.groups.items() if self._is_left_alone(group, is_there)]
        for partition in alone:
            if (group := groups.group(partition)) is not None:
                group.want_leader()
        if alone:
            self._hosting.wants_end()

    def _is_left_alone(self, group: Group, is_there: dict[NodeId, bool]) -> bool:
        """Whether nobody leads or tries to, as far as this node knows: the node that it has promised to
        follow is itself, or no member (any more), or cannot be reached."""
        if group.leader is not None or group.candidate is not None or group.tries.at is not None:
            return False
        replica = group.replica
        promised, members = replica.promised.node, replica.configuration.ids
        if promised not in is_there:
            is_there[promised] = self._links.is_linked(promised)
        return self._hosting.me.id in members and not (is_there[promised] and promised in members)

    def _hand_over_leads(self) -> int:
        """Groups that another member is preferred to lead are handed to that one, some at a time.

        :returns: how many.
        """
        groups = self._hosting.begin()
        handed = 0
        for partition, group in groups.groups.items():
            leader = group.leader
            if leader is None or leader.stage != LEADING:
                continue
            if group.is_changing or self._hosting.is_to_change(partition):
                continue
            preferred = self._preferred(partition, group.configuration)
            if preferred != self._hosting.me.id and self._may_take_lead(preferred, leader):
                groups.group(partition)
                group.hand_over(preferred)
                handed += 1
                if handed >= _HANDED_MAX:
                    break
        if handed:
            self._hosting.wants_end()
        return handed

    def _preferred(self, partition: int, configuration: Configuration) -> NodeId:
        """Who is to lead. It is asked again and again for all groups, and changes with their members only."""
        known = self._preferred_of.get(partition)
        if known is None or known[0] is not configuration:
            known = (configuration, by_preference(partition, configuration.ids)[0])
            self._preferred_of[partition] = known
        return known[1]

    def _may_take_lead(self, id: NodeId, leader: Leader) -> bool:
        """A member that lacks nothing at this moment leads the soonest."""
        has_all = leader.acknowledged.get(id, -1) >= leader.commit
        return has_all and self._links.is_linked(id) and self._links.may_lead(id)

    def give_away(self) -> int:
        """Hand some leads to other members that have everything: not all at once, for until the others lead
        their keys have to wait.

        :returns: how many there were to hand over, or are still under way.
        """
        groups, leads, me = self._hosting.begin(), self._hosting.leads, self._hosting.me.id
        left = max(_GIVEN_AT_ONCE, len(leads) // _GIVEN_SHARE)
        for partition in leads:
            if not left:
                break
            group = groups.group(partition)
            assert group is not None
            leader = group.leader
            if leader is None or leader.stage != LEADING:
                continue
            for id in by_preference(partition, group.configuration.ids - {me}):
                if self._may_take_lead(id, leader):
                    group.hand_over(id)
                    left -= 1
                    break
        self._hosting.wants_end()
        return len(leads)
