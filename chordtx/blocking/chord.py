"""``ChordSocket``: a node of a Chord ring that is used like a dict, as the old library had it."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import random
from typing import Any

from twisted.internet.defer import Deferred

from chordtx.blocking import bridge
from chordtx.blocking.dictionary import DictSocket
from chordtx.blocking.lock import Lock
from chordtx.blocking.mesh import Protocol
from chordtx.blocking.watch import Watch
from chordtx.chord import ChordService, watching
from chordtx.chord.answers import ttl_ms
from chordtx.chord.entry import Entry
from chordtx.chord.exact import pause_seconds_max
from chordtx.errors import NoMajorityTimeout
from chordtx.mesh.deferreds import within
from chordtx.mesh.service import MeshService
from chordtx.ring import Contact
from chordtx.values import Key, Version, check_ttl, key_bytes


class ChordSocket(DictSocket):
    """A node of a ring, with the ring's records as a dict.

    It stores nothing for others before :meth:`join`; until then it uses the ring that it is connected to.
    When a write returns, a majority of the key's replicas has acknowledged it; a call raises
    :class:`chordtx.NoMajority` when a majority cannot be had in time.
    """

    _default = Protocol("chord")

    def _make(self, reactor: Any, **arguments: Any) -> MeshService:
        return ChordService(reactor, leech=True, **arguments)

    # One key, exactly, under any number of callers

    def entry(self, key: Key) -> Entry:
        """The value of ``key``, its version and when it expires.

        :raises KeyError: when nothing is there.
        """
        entry: Entry = bridge.call(self._service.entry, key_bytes(key))
        return entry

    def compare_and_set(self, key: Key, value: Any, version: Version, ttl: float | None = None) -> Version:
        """Store ``value`` if the key still has this version; see
        :meth:`chordtx.ChordService.compare_and_set`.

        :returns: the version that it has then. :raises chordtx.Conflict: when it has another.
        """
        stored: Version = bridge.call(self._service.compare_and_set, key_bytes(key), value, version, ttl)
        return stored

    def delete(self, key: Key, version: str | None = None) -> None:
        """Delete ``key``; with a ``version``, only if it still has that one.

        :raises KeyError: when nothing is there. :raises chordtx.Conflict: when it has another version.
        """
        bridge.call(self._service.delete, key_bytes(key), version)

    def modify(
        self, key: Key, function: Callable[[Any], Any], default: Any = None, ttl: float | None = None
    ) -> Any:
        """Make a new value of the present one, and store it unless somebody came between: else again, with
        the value that is there then.

        :param function: from value to value, called in this thread, maybe several times: it may ask sockets,
            but should change nothing. When it returns None, the key is deleted. What it raises is raised
            here, and nothing is stored.
        :param default: what it is given when there is no value.
        :param ttl: seconds for which the new value stays. When None, it stays for as long as the one before
            would have.
        :returns: the new value.
        """
        if not callable(function):
            raise TypeError("modify takes a function of the present value")
        known, lasts_ms = self._service._as_key(key), ttl_ms(check_ttl(ttl))
        tries = 0
        while True:
            seen: Entry | None = bridge.call(
                lambda: Deferred.fromCoroutine(self._service._entry_or_none(known))
            )
            new = function(default if seen is None else seen.value)
            stored: tuple[Any] | None = bridge.call(self._replaced, known, seen, new, lasts_ms)
            if stored is not None:
                return stored[0]
            tries += 1
            time.sleep(random() * pause_seconds_max(tries))

    def _replaced(self, *what: Any) -> Deferred[tuple[Any] | None]:
        return Deferred.fromCoroutine(self._service._replace(*what))

    def increment(self, key: Key, by: float = 1) -> int | float:
        """Add to the number under ``key``, 0 when there is none; see :meth:`chordtx.ChordService.increment`.

        :returns: the new number. :raises TypeError: when the value is no number.
        :raises OverflowError: when the new one would not fit.
        """
        number: int | float = bridge.call(self._service.increment, key_bytes(key), by)
        return number

    def touch(self, key: Key, ttl: float | None = None) -> None:
        """Let the value of ``key`` stay for ``ttl`` seconds from now, for ever when None.

        :raises KeyError: when nothing is there.
        """
        bridge.call(self._service.touch, key_bytes(key), ttl)

    def lock(self, name: Key, ttl: float = 10.0) -> Lock:
        """A lock for ``with``: one holder in the whole ring at a time. See :class:`chordtx.blocking.Lock`.

        :param ttl: seconds of its lease, which is renewed while it is held: a holder that dies is waited for
            no longer.
        """
        return Lock(self._service.reactor, bridge.call(self._service.lock, key_bytes(name), ttl))

    def watch(self, key: Key | None = None, *, prefix: Key = b"", since: str | None = None) -> Watch:
        """What becomes of a key, of keys that begin with ``prefix``, or of all: ``for event in watch``.

        No change that begins after this has returned is missed. See :class:`chordtx.blocking.Watch`.

        :param since: a version of ``key``: what became of it since then is told too.
        :raises ValueError: when ``since`` is none, or comes without a key; or for a key and a prefix.
        :raises chordtx.NoMajority: when a leader of what is to be watched does not answer in time.
        """
        known, start = None if key is None else key_bytes(key), key_bytes(prefix)
        return Watch(bridge.call(lambda: Deferred.fromCoroutine(self._begun(known, start, since))))

    async def _begun(self, key: bytes | None, prefix: bytes, since: str | None) -> watching.Watch:
        watch: watching.Watch = self._service.watch(key, prefix=prefix, since=since)
        try:
            seconds = self._service._chord_settings.operation_timeout_seconds
            await within(seconds, self._service.reactor, watch.when_ready(), _not_ready)
        except BaseException:
            await watch.aclose()
            raise
        return watch

    # The ring

    @property
    def leeching(self) -> bool:
        """Whether it stores nothing for others."""
        return bool(self._service.leeching)

    @property
    def next(self) -> Contact | None:
        """The next node along the ring."""
        contact: Contact | None = bridge.call(lambda: self._service.next)
        return contact

    @property
    def prev(self) -> Contact | None:
        """The node before on the ring."""
        contact: Contact | None = bridge.call(lambda: self._service.prev)
        return contact

    def join(self) -> None:
        """Begin to store: in the ring of those it is connected to, or in one of its own.

        :raises chordtx.NotJoined: when no ring is reached in time.
        """
        bridge.call(self._service.join)

    def unjoin(self) -> None:
        """Hand over everything, and only use the ring from then on."""
        bridge.call(self._service.unjoin)


def _not_ready() -> NoMajorityTimeout:
    return NoMajorityTimeout("a leader of what is to be watched did not answer in time")
