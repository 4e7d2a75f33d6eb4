"""Exact operations on one key, under any number of callers: each is one operation at the leader of the key's
group, or goes by the version of what was read.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from chordtx.chord.answers import number_in, ttl_ms
from chordtx.chord.entry import Entry
from chordtx.chord.locking import Lock, Node, lock_key
from chordtx.dictionary import DictMixin
from chordtx.errors import Conflict
from chordtx.group import operations
from chordtx.group.messages import Answer
from chordtx.group.operations import ABSENT as NOTHING_THERE
from chordtx.group.operations import CONFLICT, DONE, TOO_LARGE, WRONG_TYPE
from chordtx.group.rank import Rank, rank_of, version_of
from chordtx.values import ABSENT, Key, Value, Version, check_ttl, key_bytes

#: After a try that somebody else came before, the next one waits for up to so long times the tries so far.
_PAUSE_SECONDS = 0.002
_PAUSES_MAX = 50


def pause_seconds_max(tries: int) -> float:
    """How long to wait at most before the next try, after so many that somebody else came before."""
    return min(tries, _PAUSES_MAX) * _PAUSE_SECONDS


class ExactOperations(DictMixin):
    """The methods of :class:`~chordtx.ChordService` with which several programs change one key."""

    if TYPE_CHECKING:
        _node: Node

        def _ask(self, kind: int, key: bytes, *arguments: object) -> Deferred[Answer]: ...

        def _entry_of(self, answer: Answer, key: bytes) -> Entry: ...

    def compare_and_set(
        self, key: Key, value: object, version: Version, ttl: float | None = None
    ) -> Deferred[Version]:
        """Store ``value`` if the key still has this version. Fires with the version that it has then.

        Fails with :class:`~chordtx.errors.Conflict`, which has the present version, when it has another.

        :param value: None deletes; then :data:`chordtx.ABSENT` is the version.
        :param version: of an :class:`chordtx.Entry` or an event, or what this method gave;
            :data:`chordtx.ABSENT` stores only where nothing is there.
        :param ttl: seconds after which the value is gone; for ever when None, whatever was there.
        :raises ValueError: when ``version`` is none of chordtx. As :meth:`set`.
        """
        seconds = check_ttl(ttl)
        known, blob = self._item(key, value)
        expected = _rank_or_none(version)
        answer = self._ask(operations.COMPARE_AND_SET, known, expected, blob, ttl_ms(seconds))
        return answer.addCallback(_set_or_conflict, blob is None)

    def delete(self, key: Key, version: str | None = None) -> Deferred[None]:
        """Delete ``key``; fails with KeyError when it has no value.

        :param version: delete it only if it still has this version. Fails with
            :class:`~chordtx.errors.Conflict` when it has another.
        """
        known = self._as_key(key)
        expected = None if version is None else rank_of(version)
        return self._ask(operations.DELETE, known, expected).addCallback(self._deleted, known)

    def _delete_item(self, key: bytes) -> Deferred[None]:
        return self._ask(operations.DELETE, key, None).addCallback(self._deleted, key)

    def _deleted(self, answer: Answer, key: bytes) -> None:
        if answer.status == CONFLICT:
            raise _conflict(answer)
        if answer.status == NOTHING_THERE:
            raise KeyError(self._as_given(key))

    def modify(
        self, key: Key, function: Callable[[Value], object], default: object = None, ttl: float | None = None
    ) -> Deferred[Value]:
        """Make a new value of the present one, and store it unless somebody came between: else again, with
        the value that is there then. Fires with the new value.

        :param function: from value to value; it may be called several times, so it should do nothing else.
            When it returns None, the key is deleted. What it raises is the failure, and nothing is stored.
        :param default: what it is given when there is no value.
        :param ttl: seconds for which the new value stays. When None, it stays for as long as the one before
            would have.
        """
        if not callable(function):
            raise TypeError("modify takes a function of the present value")
        seconds = check_ttl(ttl)
        return self._run(self._modify(self._as_key(key), function, default, ttl_ms(seconds)))

    async def _modify(
        self, key: bytes, function: Callable[[Value], object], default: object, lasts_ms: int | None
    ) -> Value:
        tries = 0
        while True:
            seen = await self._entry_or_none(key)
            new = function(default if seen is None else seen.value)
            stored = await self._replace(key, seen, new, lasts_ms)
            if stored is not None:
                return stored[0]
            tries += 1
            await self._node.sleep(self._node.random() * pause_seconds_max(tries))

    async def _entry_or_none(self, key: bytes) -> Entry | None:
        present = await self._ask(operations.GET, key)
        return None if present.status == NOTHING_THERE else self._entry_of(present, key)

    async def _replace(
        self, key: bytes, seen: Entry | None, value: object, lasts_ms: int | None
    ) -> tuple[Value] | None:
        """Store ``value`` if nobody has changed the key since it was seen.

        :param lasts_ms: for how long it stays; when None, as long as what was seen would have.
        :returns: the value as it is stored then; None when somebody came between.
        """
        blob = None if value is None else self._pack(value)
        if blob is None and seen is None:
            return (None,)  # there is nothing to delete
        lasts: int | tuple[int] | None = lasts_ms
        if lasts is None and seen is not None and seen.expires is not None:
            lasts = (round(1000 * seen.expires),)
        version = None if seen is None else rank_of(seen.version)
        answer = await self._ask(operations.COMPARE_AND_SET, key, version, blob, lasts)
        if answer.status != DONE:
            return None
        return (None if blob is None else self._unpacked(blob),)

    def increment(self, key: Key, by: float = 1) -> Deferred[int | float]:
        """Add to the number under ``key``, 0 when there is none. Fires with the new number.

        It keeps its time to live. Fails with TypeError when the value is no number, and with OverflowError
        when the new one would not fit: whole numbers go from -2**63 to 2**64 - 1.

        :param by: an int or a float. :raises TypeError: for anything else, a bool too.
        :raises ValueError: when it is not finite. :raises OverflowError: when it does not fit.
        """
        if isinstance(by, bool) or not isinstance(by, int | float):
            raise TypeError(f"a key is incremented by an int or a float, not {type(by).__name__}")
        if isinstance(by, float) and not isfinite(by):
            raise ValueError(f"a key cannot be incremented by {by}")
        if isinstance(by, int) and not -(1 << 63) <= by < 1 << 64:
            raise OverflowError("a key is incremented by -2**63 to 2**64 - 1")
        answer = self._ask(operations.INCREMENT, self._as_key(key), self._pack(by))
        return answer.addCallback(_incremented)

    def touch(self, key: Key, ttl: float | None = None) -> Deferred[None]:
        """Let the value of ``key`` stay for ``ttl`` seconds from now, for ever when None. It becomes another
        version. Fails with KeyError when there is no value.

        :raises ValueError: as for :meth:`set`.
        """
        seconds = check_ttl(ttl)
        known = self._as_key(key)
        return self._ask(operations.TOUCH, known, ttl_ms(seconds)).addCallback(self._touched, known)

    def _touched(self, answer: Answer, key: bytes) -> None:
        if answer.status == NOTHING_THERE:
            raise KeyError(self._as_given(key))

    def lock(self, name: Key, ttl: float = 10.0) -> Lock:
        """A lock for ``async with``: one holder in the whole ring at a time. See :class:`chordtx.Lock`.

        :param name: its record has the key ``lock:`` and this. :param ttl: seconds of its lease, which is
            renewed while it is held: a holder that dies is waited for no longer.
        """
        seconds = check_ttl(ttl)
        if seconds is None:
            raise TypeError("a lock needs a ttl: else it would stay with a holder that dies")
        key = self._as_key(lock_key(key_bytes(name)))
        return Lock(self._node, key, seconds)


def _rank_or_none(version: object) -> Rank | None:
    if version is ABSENT:
        return None
    if not isinstance(version, str):
        raise TypeError(f"a version is text, or chordtx.ABSENT, not {type(version).__name__}")
    return rank_of(version)


def _conflict(answer: Answer) -> Conflict:
    if not isinstance(answer.detail, Rank):
        return Conflict("there is no such key", ABSENT)
    return Conflict("the key has another version", version_of(answer.detail))


def _set_or_conflict(answer: Answer, is_gone: bool) -> Version:
    if answer.status == CONFLICT:
        raise _conflict(answer)
    return ABSENT if is_gone else version_of(answer.rank)


def _incremented(answer: Answer) -> int | float:
    if answer.status == WRONG_TYPE:
        raise TypeError("the value is no number")
    if answer.status == TOO_LARGE:
        raise OverflowError("the number would not fit")
    return number_in(answer)
