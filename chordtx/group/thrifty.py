"""Which members a leader waits for: as many as make a majority with it, of those that are up to date.

The others hear of changes a little later, of many at once, for nobody waits for them. A member that is slow,
or gone, has acknowledged less than is committed, and so is waited for once only. A leader that asks no more
than a majority is called thrifty in the literature.
"""

from __future__ import annotations

from collections.abc import Mapping

from chordtx.group.rank import NodeId


class Thrifty:
    """One leader's choice.

    :param others: all members but the leader. :param count: how many of them are needed.
    :ivar at_once: whom it waits for. :ivar later: the others.
    """

    __slots__ = ("_count", "_others", "at_once", "later")

    def __init__(self, others: tuple[NodeId, ...], count: int) -> None:
        self._others = others
        self._count = count
        self.at_once, self.later = others[:count], others[count:]

    def choose(self, acknowledged: Mapping[NodeId, int], commit: int) -> None:
        """Choose anew, when somebody that was chosen lacks something that is committed."""
        for id in self.at_once:
            if acknowledged.get(id, -1) < commit:
                break
        else:
            return
        by_progress = sorted(self._others, key=lambda id: acknowledged.get(id, -1), reverse=True)
        self.at_once, self.later = tuple(by_progress[: self._count]), tuple(by_progress[self._count :])
