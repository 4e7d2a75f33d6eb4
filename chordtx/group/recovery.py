"""When a majority is gone for good: the survivors begin a history of their own.

Nobody does this where a missing member may come back. Ballots, leases and promises of two histories are never
compared with one another: every epoch has the mark of its history, a random number for one that was begun by
force. When two histories meet, the one with the greater (epoch, mark) goes on; a replica of the other keeps
its state aside, and joins as one without rank. Nothing is merged. What holds of groups holds within one
history.
"""

from __future__ import annotations

from collections.abc import Container

from chordtx.config import GroupSettings
from chordtx.group.configuration import Configuration, Member, by_preference
from chordtx.group.rank import Epoch, NodeId, Rank
from chordtx.group.state import State
from chordtx.group.turn import Turn


def forced(state: State, rank: Rank, survivors: Container[bytes], mark: int) -> State:
    """The state that survivors go on with.

    :param state: the greatest that any of them has. :param rank: of it.
    :param survivors: who answered. :param mark: a random number above 0.
    """
    members = dict(state.configuration.members) | dict(state.next or ())
    going_on = tuple(Member(id, has_disk) for id, has_disk in members.items() if id in survivors)
    epoch = Epoch(state.configuration.epoch.number + 1, mark)
    return state.succeed(Configuration(epoch, going_on, rank))


class Survivors:
    """Whether those who are left may go on by themselves.

    They may when a majority cannot come back: members without a disk whose processes are known to have ended.
    Who has a disk, or has only fallen silent, may come back; then it is for an operator to say.
    """

    def __init__(self, partition: int, me: NodeId, turn: Turn, settings: GroupSettings) -> None:
        self._partition = partition
        self._me = me
        self._turn = turn
        self._settings = settings
        self._gone: set[NodeId] = set()
        self._since = turn.now

    def ended(self, node: NodeId) -> None:
        """A node's process has ended."""
        if node not in self._gone:
            self._gone.add(node)
            self._since = self._turn.now

    def lives(self, node: NodeId) -> None:
        """A node can be reached."""
        self._gone.discard(node)

    def of(self, configuration: Configuration) -> frozenset[NodeId] | None:
        """Who goes on without the others, now; None while nobody may. The most preferred of them begins, and
        the others wait twice as long for it."""
        ended = {
            member.id for member in configuration.members if member.id in self._gone and not member.has_disk
        }
        left = configuration.ids - ended
        if self._me not in left or configuration.has_majority(left):
            return None
        seconds = self._settings.recover_after_seconds
        if by_preference(self._partition, left)[0] != self._me:
            seconds *= 2
        return left if self._turn.now >= self._since + seconds else None

    def are_counted(self, configuration: Configuration) -> bool:
        """Whether there are too few left for a majority, and this node is one of them."""
        left = configuration.ids - self._ended_in(configuration) if self._gone else configuration.ids
        return self._me in left and not configuration.has_majority(left)

    def _ended_in(self, configuration: Configuration) -> set[NodeId]:
        return {
            member.id for member in configuration.members if member.id in self._gone and not member.has_disk
        }
