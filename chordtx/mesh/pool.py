"""A bound on what all links of a node hold together. Pure: who holds what, and who must give way."""

from __future__ import annotations

from typing import Protocol


class Holder(Protocol):
    """A link, as far as it holds memory for its peer."""

    @property
    def precedence(self) -> tuple[bool, float]:
        """Who has the smallest gives way first: not a member of the ring, and stuck for longest."""

    def give_way(self) -> None:
        """Let go of what is held: the bound is passed. May not raise."""


class Pool:
    """Bytes that links hold.

    :param bytes_max: past it links give way, one after another, until it is kept.
    :ivar held_bytes: what is held now.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._holders: dict[Holder, int] = {}
        self.held_bytes = 0

    def hold(self, holder: Holder, count: int) -> None:
        """``holder`` holds so many bytes now, instead of what it held before."""
        if count == self._holders.get(holder, 0):
            return
        self.release(holder)
        if count:
            self._holders[holder] = count
            self.held_bytes += count
            self._make_room()

    def release(self, holder: Holder) -> None:
        """``holder`` holds nothing any more."""
        self.held_bytes -= self._holders.pop(holder, 0)

    def _make_room(self) -> None:
        while self.held_bytes > self._bytes_max:
            first = min(self._holders, key=lambda holder: holder.precedence)
            self.release(first)
            first.give_way()
