"""A candidate for leader: which state is to go on, and whether enough members have promised.

Of the answers, the state of the greatest rank is taken whole, once nobody knows of a later epoch than its
own, and a majority of *its* configuration has promised. This is bookkeeping: :mod:`chordtx.group.group` sends
and takes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from chordtx.group.configuration import Configuration
from chordtx.group.messages import Promise
from chordtx.group.rank import NO_RANK, Ballot, NodeId


class Choice(NamedTuple):
    """The state that is to go on.

    :ivar source: a member that has it; the candidate itself, when it does.
    """

    source: NodeId
    report: Promise


class Candidate:
    """A ballot, and what has been answered to it.

    :param me: whose ballot it is. :param own: what it would answer itself.
    :param released: the ballot of a leader that has stopped by itself.
    :param trial: whether it only asks, and promises nothing, not even itself. Otherwise its own promise
        counts once it has told itself so, from disk.
    :param since: when it began, by the lease clock.
    :ivar answers: by member. :ivar asked: who has been asked, in order.
    """

    def __init__(
        self, me: NodeId, ballot: Ballot, own: Promise, *, released: Ballot | None, trial: bool, since: float
    ) -> None:
        self.me = me
        self.ballot = ballot
        self.released = released
        self.trial = trial
        self.since = since
        self.answers: dict[NodeId, Promise] = {me: own}
        self.asked: list[NodeId] = []
        self._has_promised = trial
        self._told = own.configuration

    def answered(self, by: NodeId, answer: Promise) -> None:
        """A member has promised, or would. What it said when it knew less comes late."""
        known = self.answers.get(by)
        is_late = known is not None and answer.configuration.epoch < known.configuration.epoch
        if answer.ballot == self.ballot and answer.trial == self.trial and not is_late:
            self.answers[by] = answer
            self._has_promised |= by == self.me

    def knows(self, configuration: Configuration) -> None:
        """A member has told of a configuration, but promised nothing by that."""
        self._told = max(self._told, configuration, key=lambda known: known.epoch)

    @property
    def latest(self) -> Configuration:
        """The latest configuration that anybody knows."""
        known = (answer.configuration for answer in self.answers.values())
        return max((self._told, *known), key=lambda each: each.epoch)

    @property
    def best(self) -> Choice:
        """The state of the greatest rank; the candidate's own, when it is that."""
        answers = self.answers
        source = max(answers, key=lambda id: (answers[id].rank, id == self.me))
        return Choice(source, answers[source])

    def to_ask(self, others: Iterable[NodeId] = ()) -> list[NodeId]:
        """Who ought to be asked and has not been: the members of the latest configuration, and of the one
        that follows on the best state. They count as asked from now on."""
        best = self.best.report
        wanted = [*self.latest.ids, *(member.id for member in best.next or ()), *others]
        new = [id for id in dict.fromkeys(sorted(wanted)) if id != self.me and id not in self.asked]
        self.asked += new
        return new

    @property
    def choice(self) -> Choice | None:
        """The state to go on with; None while too few have answered for that."""
        if not self._has_promised:
            return None
        best = self.best
        configuration = best.report.configuration
        is_known = best.report.rank != NO_RANK and configuration.epoch >= self.latest.epoch
        return best if is_known and configuration.has_majority(self.answers) else None

    def has_place_in(self, choice: Choice) -> bool:
        """Whether the candidate has anything to do with a state: as its member, or to carry out the change
        of members that it ends with."""
        return self.me in choice.report.configuration.ids or choice.report.next is not None
