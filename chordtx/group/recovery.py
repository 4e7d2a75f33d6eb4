"""When a majority is gone for good: the survivors begin a history of their own.

Nobody does this where a missing member may come back. Ballots, leases and promises of two histories are never
compared with one another: every epoch has the mark of its history, a random number for one that was begun by
force. When two histories meet, the one with the greater (epoch, mark) goes on; a replica of the other keeps
its state aside, and joins as one without rank. Nothing is merged. What holds of groups holds within one
history.
"""

from __future__ import annotations

from collections.abc import Container

from chordtx.group.configuration import Configuration, Member
from chordtx.group.rank import Epoch, Rank
from chordtx.group.state import State


def forced(state: State, rank: Rank, survivors: Container[bytes], mark: int) -> State:
    """The state that survivors go on with.

    :param state: the greatest that any of them has. :param rank: of it.
    :param survivors: who answered. :param mark: a random number above 0.
    """
    members = dict(state.configuration.members) | dict(state.next or ())
    going_on = tuple(Member(id, has_disk) for id, has_disk in members.items() if id in survivors)
    epoch = Epoch(state.configuration.epoch.number + 1, mark)
    return state.succeed(Configuration(epoch, going_on, rank))
