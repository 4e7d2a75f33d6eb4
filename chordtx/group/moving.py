"""Between two epochs: the one is sealed and committed, and the same ballot is to be promised in the next."""

from __future__ import annotations

from chordtx.config import GroupSettings
from chordtx.group.candidate import Candidate
from chordtx.group.configuration import Configuration
from chordtx.group.leader import Leader
from chordtx.group.messages import Prepare
from chordtx.group.replica import Replica
from chordtx.group.turn import Turn


class Move:
    """See the module.

    :ivar following: the configuration of the next epoch.
    :ivar candidate: what has been answered to the ballot.
    """

    def __init__(self, leader: Leader, replica: Replica, turn: Turn, settings: GroupSettings) -> None:
        assert leader.state.next is not None
        self.following: Configuration = leader.configuration.successor(leader.state.next)
        own = replica.report(leader.ballot, trial=False)
        self.candidate = Candidate(replica.me, leader.ballot, own, released=None, trial=False, since=turn.now)
        self.candidate.answered(replica.me, own)  # it has promised this ballot long ago
        self._epoch = leader.configuration.epoch
        self._partition = replica.partition
        self._me = replica.me
        self._turn = turn
        self._settings = settings
        self._ask()

    def _ask(self) -> None:
        """Who has not answered."""
        self._asked = self._turn.now
        asked = Prepare(self.candidate.ballot, self._epoch, None, False)
        for id in sorted(self.following.ids - self.candidate.answers.keys()):
            self._turn.send(id, self._partition, asked)

    def tick(self) -> None:
        """Time has passed: members that have not answered are asked again."""
        if self._turn.now > self._asked + self._settings.copy_timeout_seconds:
            self._ask()

    @property
    def has_begun(self) -> bool:
        """Whether somebody has been in the next epoch, or a later one, already."""
        return self.candidate.latest.epoch > self._epoch

    @property
    def is_promised(self) -> bool:
        """Whether a majority of the next epoch has promised."""
        return self.following.has_majority(self.candidate.answers)
