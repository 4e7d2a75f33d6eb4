"""Locks: records that say who holds something, and who waits for it. Pure functions, as in
:mod:`chordtx.group.operations`.

A lock's record holds a packed map::

    {"holder": text or None, "token": number, "until": time, "waiting": [[text, milliseconds], ...]}

*Until* is when the holder's lease ends, in the partition's time. *Waiting* are those whose turn comes next,
the first come first, each with the length of the lease that it wants. Each time that the lock gets another
holder its *token* grows: it is one more than the last, or the partition's time in milliseconds where that is
greater. So it grows even over a record that is gone, since the record stays until the partition's time is
past its token.
"""

from __future__ import annotations

from typing import TypeGuard

import msgpack
from attrs import define

from chordtx.group.outcomes import (
    ABSENT,
    CONFLICT,
    DONE,
    TOO_LARGE,
    WRONG_TYPE,
    Moment,
    Outcome,
    Result,
)
from chordtx.group.rank import COUNT_MAX
from chordtx.group.record import Record

#: Who wait for one lock at most.
WAITING_MAX = 500
OWNER_BYTES_MAX = 128
#: A year: the longest lease.
LEASE_MS_MAX = 366 * 24 * 3600 * 1000
#: A lock that nobody holds is forgotten after this, and once the partition's time is past its token.
_KEPT_MS = 60_000
_FOUR_ENTRIES = 0x84  # in msgpack


@define
class Lock:
    """What stands in a lock's record.

    :ivar holder: None while nobody has it. :ivar token: of the last holder.
    :ivar until_ms: when its lease ends. :ivar waiting: owners and the milliseconds that they want, the first
        come first.
    """

    holder: str | None
    token: int
    until_ms: int
    waiting: list[tuple[str, int]]

    def give(self, owner: str, lease_ms: int, now_ms: int) -> None:
        """Somebody else holds it now."""
        self.holder = owner
        self.token = max(self.token + 1, now_ms)
        self.until_ms = min(now_ms + lease_ms, COUNT_MAX)

    def go_on(self, now_ms: int) -> None:
        """If nobody holds it, or the lease is over, the next one's turn has come."""
        if self.holder is not None and self.until_ms > now_ms:
            return
        if self.waiting:
            self.give(*self.waiting.pop(0), now_ms)
        else:
            self.holder, self.until_ms = None, 0

    def packed(self) -> bytes:
        """The value of its record."""
        names = {
            "holder": self.holder,
            "token": self.token,
            "until": self.until_ms,
            "waiting": self.waiting,
        }
        data: bytes = msgpack.packb(names)
        return data

    def expires_ms(self, now_ms: int) -> int:
        """When the record may go: not while somebody may have a turn."""
        leases = sum(lease_ms for _, lease_ms in self.waiting)
        return min(max(now_ms, self.until_ms, self.token) + leases + _KEPT_MS, COUNT_MAX)


def lock_of(value: object) -> Lock | None:
    """The lock in a record's value, unpacked; None when it is none."""
    if not isinstance(value, dict) or len(value) != 4:
        return None
    holder, token, until_ms, waiting = (value.get(name) for name in ("holder", "token", "until", "waiting"))
    if not (holder is None or type(holder) is str) or not _is_count(token) or not _is_count(until_ms):
        return None
    if not isinstance(waiting, list) or not all(map(_is_waiting, waiting)):
        return None
    return Lock(holder, token, until_ms, [(owner, lease_ms) for owner, lease_ms in waiting])


def _is_count(obj: object) -> TypeGuard[int]:
    return type(obj) is int and 0 <= obj <= COUNT_MAX


def _is_waiting(obj: object) -> bool:
    if not isinstance(obj, list) or len(obj) != 2:
        return False
    owner, lease_ms = obj
    return type(owner) is str and type(lease_ms) is int and 0 < lease_ms <= LEASE_MS_MAX


def acquire(record: Record | None, at: Moment, arguments: tuple[str, int, bool]) -> Outcome:
    """Hold it, or stand in the queue for it.

    :param arguments: owner, the lease's milliseconds, whether to wait.
    :returns: DONE with the token; CONFLICT with the milliseconds that are left of the other's lease.
    """
    owner, lease_ms, waits = arguments
    lock = _in(record)
    if lock is None:
        return record, (WRONG_TYPE, None)
    lock.go_on(at.now_ms)
    if lock.holder is None:
        lock.give(owner, lease_ms, at.now_ms)
    elif lock.holder == owner:
        lock.until_ms = max(lock.until_ms, min(at.now_ms + lease_ms, COUNT_MAX))
    else:
        left_ms = lock.until_ms - at.now_ms
        if waits and all(each != owner for each, _ in lock.waiting):
            if len(lock.waiting) >= WAITING_MAX:
                return record, (TOO_LARGE, None)
            lock.waiting.append((owner, lease_ms))
        return _kept(lock, record, at, (CONFLICT, left_ms))
    return _kept(lock, record, at, (DONE, lock.token))


def renew(record: Record | None, at: Moment, arguments: tuple[str, int]) -> Outcome:
    """Hold it for longer, if it is still held.

    :param arguments: owner, the lease's milliseconds from now.
    :returns: DONE with the token; ABSENT when somebody else holds it, or nobody.
    """
    owner, lease_ms = arguments
    lock = _in(record)
    if lock is None:
        return record, (WRONG_TYPE, None)
    if lock.holder != owner:
        return record, (ABSENT, None)
    lock.until_ms = max(lock.until_ms, min(at.now_ms + lease_ms, COUNT_MAX))
    return _kept(lock, record, at, (DONE, lock.token))


def release(record: Record | None, at: Moment, arguments: tuple[str]) -> Outcome:
    """Give it up, or one's place in the queue.

    :returns: DONE; ABSENT when it was neither held nor waited for.
    """
    (owner,) = arguments
    lock = _in(record)
    if lock is None:
        return record, (WRONG_TYPE, None)
    waiting = [each for each in lock.waiting if each[0] != owner]
    if lock.holder != owner and len(waiting) == len(lock.waiting):
        return record, (ABSENT, None)
    lock.waiting = waiting
    if lock.holder == owner:
        lock.holder = None
    lock.go_on(at.now_ms)
    return _kept(lock, record, at, (DONE, None))


def _in(record: Record | None) -> Lock | None:
    """None for a record of something else."""
    if record is None:
        return Lock(None, 0, 0, [])
    if record.value[0] != _FOUR_ENTRIES:
        return None
    try:
        return lock_of(msgpack.unpackb(record.value))
    except (ValueError, msgpack.exceptions.UnpackException):
        return None


def _kept(lock: Lock, record: Record | None, at: Moment, result: Result) -> Outcome:
    value = lock.packed()
    if record is not None and value == record.value:
        return record, result
    if len(value) > at.value_bytes_max:
        return record, (TOO_LARGE, None)
    return Record(value, lock.expires_ms(at.now_ms), at.rank, at.now_ms), result
