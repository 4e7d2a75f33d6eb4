"""Counting answers until a majority has spoken, or cannot speak any more.

``Member`` is whatever names a replica (a :class:`~chordtx.ring.Contact`, or its id). What comes from
somebody outside of the set is not counted; nobody is counted twice; an answer that comes after its
sender was given up counts all the same.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

from chordtx.records.record import Record, merge

Member = TypeVar("Member", bound=Hashable)
Answer = TypeVar("Answer")


def majority(n: int) -> int:
    """:returns: the least number of ``n`` such that any two groups of it share a member."""
    return n // 2 + 1


class _Tally(Generic[Member, Answer]):
    """Who of the members answered what, and who failed.

    :ivar members: the replica set, in the order given.
    :ivar needed: how many answers decide.
    """

    def __init__(self, members: Iterable[Member]) -> None:
        self.members: tuple[Member, ...] = tuple(dict.fromkeys(members))
        self.needed = majority(len(self.members))
        self._answers: dict[Member, Answer] = {}
        self._failed: set[Member] = set()

    def failed(self, member: Member) -> None:
        """``member`` will not answer: dead, late or refusing."""
        if member in self.members and member not in self._answers:
            self._failed.add(member)

    @property
    def got(self) -> int:
        """How many answered."""
        return len(self._answers)

    @property
    def decided(self) -> bool:
        """Whether a majority answered."""
        return self.got >= self.needed

    @property
    def impossible(self) -> bool:
        """Whether too many failed for a majority to answer any more."""
        return len(self.members) - len(self._failed) < self.needed

    @property
    def waiting(self) -> tuple[Member, ...]:
        """Members that neither answered nor failed."""
        return tuple(m for m in self.members if m not in self._answers and m not in self._failed)

    def _answered(self, member: Member, answer: Answer) -> None:
        if member in self.members:
            self._answers[member] = answer
            self._failed.discard(member)


class Votes(_Tally[Member, Record | None]):
    """The answers to a read: what each replica has."""

    def add(self, member: Member, record: Record | None) -> None:
        """``member`` has ``record``; None when it has nothing, not even a tombstone."""
        self._answered(member, record)

    @property
    def newest(self) -> Record | None:
        """All answers merged: what is to be returned once decided."""
        newest: Record | None = None
        for record in self._answers.values():
            newest = merge(newest, record)
        return newest

    def outdated(self) -> tuple[Member, ...]:
        """:returns: the members that answered with anything but :attr:`newest`."""
        newest = self.newest
        return tuple(m for m in self.members if m in self._answers and self._answers[m] != newest)

    @property
    def confirmed(self) -> bool:
        """Whether a majority has :attr:`newest` already. If not, it is to be written back before it is
        returned: else a later read could meet a majority that has not seen it."""
        return self.got - len(self.outdated()) >= self.needed


class Acknowledgements(_Tally[Member, bool]):
    """The answers to a write: who has it stored."""

    def add(self, member: Member) -> None:
        """``member`` has it, or has something newer."""
        self._answered(member, True)
