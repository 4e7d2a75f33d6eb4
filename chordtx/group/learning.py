"""A change of members that is being prepared: newcomers copy the records before the epoch is sealed."""

from __future__ import annotations

from chordtx.config import GroupSettings
from chordtx.group.configuration import Member
from chordtx.group.leader import Leader
from chordtx.group.lease import NEVER
from chordtx.group.rank import NodeId


class Learning:
    """See the module.

    :param members: of the next epoch. :param since: when it began.
    :ivar newcomers: who does not have the records yet.
    """

    def __init__(
        self, leader: Leader, members: tuple[Member, ...], settings: GroupSettings, since: float
    ) -> None:
        self.members = members
        self.newcomers = {member.id for member in members} - leader.configuration.ids
        self._leader = leader
        self._settings = settings
        self._since = since
        self._told: dict[NodeId, float] = {}

    def teach(self, now: float) -> bool:
        """Tell newcomers to copy, or to copy again what has changed since.

        :returns: whether there is still time for it.
        """
        if now > self._since + self._settings.learn_timeout_seconds:
            return False
        for id in sorted(self.newcomers):
            if now >= self._told.get(id, NEVER) + 2 * self._settings.copy_timeout_seconds:
                self._told[id] = now
                self._leader.teach(id)
        return True

    def learned(self, by: NodeId) -> None:
        """A newcomer has the records."""
        self.newcomers.discard(by)
        self._leader.learned(by)

    def is_of(self, id: NodeId) -> bool:
        """Whether a node is to be in the next epoch."""
        return any(member.id == id for member in self.members)

    def give_up(self) -> None:
        """Give the change of members up."""
        for id in sorted(self.newcomers):
            self._leader.learned(id)
