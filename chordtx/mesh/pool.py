"""A bound on the bytes that all links of a node hold together: which link has to give way. Pure."""

from __future__ import annotations

from typing import Protocol

#: From this share on a link that can wait has to. The rest is for those whose size is not known beforehand.
_ROOM_SHARE = 1 / 3
#: The share that links to nodes outside of the ring may hold together.
_STRANGERS_SHARE = 1 / 2


class Holder(Protocol):
    """A link, as far as it holds memory for its peer."""

    @property
    def precedence(self) -> tuple[bool, float]:
        """The holder with the smallest gives way first: no member of the ring, and stuck for longest."""

    def give_way(self) -> None:
        """Let go of what is held: the bound is passed. May not raise."""


class Waiter(Protocol):
    """A link that is to hold more only once there is room for it."""

    def room_made(self) -> None:
        """There may be room now. May not raise."""


class Pool:
    """Bytes that links hold.

    :param bytes_max: past it links give way, one after another, until it is kept.
    :param members_bytes_max: where only members of the ring hold something, they may hold so much together.
    :ivar held_bytes: what is held now.
    """

    def __init__(self, bytes_max: int, members_bytes_max: int = 0) -> None:
        self._bytes_max = bytes_max
        self._members_bytes_max = max(bytes_max, members_bytes_max)
        self._room_bytes = _ROOM_SHARE * bytes_max
        self._strangers_bytes_max = _STRANGERS_SHARE * bytes_max
        self._holders: dict[Holder, int] = {}
        self._waiting: dict[Waiter, int] = {}
        self.held_bytes = 0

    def hold(self, holder: Holder, count: int) -> None:
        """``holder`` holds this number of bytes now, instead of what it held before."""
        if count == self._holders.get(holder, 0):
            return
        self.held_bytes += count - self._holders.pop(holder, 0)
        if count:
            self._holders[holder] = count  # the last to be looked at
            self._make_room()
        self._wake()

    def release(self, holder: Holder) -> None:
        """``holder`` holds nothing any more."""
        self.held_bytes -= self._holders.pop(holder, 0)
        self._wake()

    def has_room(self, count: int) -> bool:
        """Whether there is room for this many bytes more. (More than the bound has room when nothing is
        held.)"""
        return not count or not self._holders or self.held_bytes + count <= self._room_bytes

    def wait(self, waiter: Waiter, count: int) -> None:
        """Tell ``waiter`` when there is room for this many bytes more, in the order of the calls."""
        self._waiting[waiter] = count

    def forget(self, waiter: Waiter) -> None:
        """``waiter`` wants nothing any more."""
        self._waiting.pop(waiter, None)

    def has_stuck(self, since: float) -> bool:
        """Whether somebody who holds something has been stuck since then, or longer."""
        return any(holder.precedence[1] <= since for holder in self._holders)

    def _wake(self) -> None:
        if self._waiting:
            waiter, count = next(iter(self._waiting.items()))
            if self.has_room(count):
                del self._waiting[waiter]
                waiter.room_made()

    def _make_room(self) -> None:
        while self.held_bytes > self._strangers_bytes_max:
            first = min(self._holders, key=lambda holder: holder.precedence)
            is_member = first.precedence[0]
            bytes_max = self._members_bytes_max if is_member else self._bytes_max
            if self.held_bytes <= bytes_max and (is_member or not self._strangers_hold_too_much()):
                break
            self.release(first)
            first.give_way()

    def _strangers_hold_too_much(self) -> bool:
        held = sum(count for holder, count in self._holders.items() if not holder.precedence[0])
        return held > self._strangers_bytes_max
