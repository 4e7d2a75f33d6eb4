"""Turns what legacy peers store into operations on groups. For each key one host counts.

The host of a key's SHA-384 position *counts* for the key. When a legacy peer may have written the key, that
host asks the hosts of all five positions. It writes what three of them tell, if the record has not changed
since. So a stale copy that a legacy peer sends to one position undoes nothing.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol

from twisted.internet.defer import Deferred, DeferredList, DeferredSemaphore
from twisted.logger import Logger

from chordtx.config import Limits
from chordtx.errors import ChordError, ProtocolError, ValueTooLarge
from chordtx.group.rank import Rank
from chordtx.legacy.counting import Decision, Opinion, decide
from chordtx.legacy.host import Host
from chordtx.legacy.hosts import Hosts
from chordtx.legacy.records import Records, Seen
from chordtx.legacy.tables import NAMING_TABLE, Place, places_of
from chordtx.mesh.limited_log import LimitedLog

_DELAYS_SECONDS = (0.03, 0.1, 0.3, 1.0, 2.0)
#: Keys that are looked into at once, and those that wait: anybody may name keys, a frame full at a time.
_LOOKED_INTO_AT_ONCE = 32
_COUNTED_MAX = 5_000
_COUNTED_BYTES_MAX = 16 << 20


class Node(Protocol):
    """What this part needs of a node."""

    def sleep(self, seconds: float) -> Deferred[None]:
        """Fires after a while."""

    def background(self, work: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        """Run a coroutine until it ends or the node stops."""

    def limited_log(self) -> LimitedLog:
        """For lines that peers can cause."""


class Counter:
    """One node's counts. :param host: its own part as a host."""

    _log = Logger()

    def __init__(
        self, node: Node, host: Host, hosts: Hosts, records: Records, limits: Limits, key_bytes_max: int
    ) -> None:
        self._node = node
        self._host = host
        self._hosts = hosts
        self._records = records
        self._limits = limits
        self._key_bytes_max = key_bytes_max
        self._counted: dict[bytes, bool] = {}  # key -> whether there was a hint since
        self._counted_bytes = 0
        self._looking = DeferredSemaphore(_LOOKED_INTO_AT_ONCE)

    async def hinted(self, key: Any) -> list[Any]:
        """``legacy_hint(key)``: a legacy peer may have written this; its positions are counted."""
        key = self._hosted(key)
        if key in self._counted:
            self._counted[key] = True
        elif len(self._counted) >= _COUNTED_MAX or self._counted_bytes >= _COUNTED_BYTES_MAX:
            text = "{key} is not looked into: there are too many that legacy peers may have written"
            self._node.limited_log().warn(text, key=repr(key[:80]))
        else:
            self._counted[key] = False
            self._counted_bytes += len(key)
            self._node.background(self._count(key))
        return []

    def _hosted(self, key: Any) -> bytes:
        """:raises ChordError: when it is no key, or another node counts for it."""
        if not isinstance(key, bytes) or len(key) > self._key_bytes_max:
            raise ProtocolError("a key is bytes, and not too long")
        self._host.must_host(places_of(key)[NAMING_TABLE])
        return key

    async def refresh(self, key: Any) -> list[Any]:
        """``legacy_refresh(key)``: answered once what a legacy peer may have changed by itself is written."""
        await self._look_into(self._hosted(key), False)
        return []

    async def _count(self, key: bytes) -> None:
        try:
            while True:
                self._counted[key] = False
                await self._look_often(key)
                if not self._counted[key]:
                    return
        finally:
            del self._counted[key]
            self._counted_bytes -= len(key)

    async def _look_often(self, key: bytes) -> None:
        for left, seconds in zip(range(len(_DELAYS_SECONDS) - 1, -1, -1), _DELAYS_SECONDS, strict=True):
            await self._node.sleep(seconds)
            if await self._looking.run(self._look_quietly, key, not left):
                return

    def _look_quietly(self, key: bytes, is_last: bool) -> Deferred[bool]:
        return Deferred.fromCoroutine(self._look(key, is_last))

    async def _look(self, key: bytes, is_last: bool) -> bool:
        await self._node.sleep(0)  # many in a row would be one long turn
        try:
            return await self._look_into(key, is_last)
        except ChordError as error:
            self._log.debug("{key} is not settled yet: {error}", key=repr(key[:80]), error=str(error))
            return False

    async def _look_into(self, key: bytes, is_last: bool) -> bool:
        """Ask all five positions.

        :param is_last: whether what is left over is given up.
        :returns: whether it is settled: written, or nothing to write.
        """
        seen = await self._records.read(key)
        opinions = await self._opinions(key)
        decision = decide([told for _, told in opinions], seen.rank, seen.value)
        was_written = False
        if decision is not None and decision.is_new:
            try:
                was_written = await self._write(key, seen, decision)
            except (ValueTooLarge, TypeError) as error:
                text = "{key} stays as it is, for what a legacy peer wrote cannot be kept: {error}"
                self._log.warn(text, key=repr(key[:80]), error=str(error))
            else:
                if not was_written:
                    return False  # somebody else has written it since
        if decision is not None or is_last:
            await self._tell_settled(key, opinions, was_written, seen.rank)
        return decision is not None

    async def _write(self, key: bytes, seen: Seen, decision: Decision) -> bool:
        if decision.is_delta:
            await self._records.merge(key, decision.value)
            return True
        return await self._records.write(key, seen, decision.value)

    async def _opinions(self, key: bytes) -> list[tuple[Place, list[Opinion]]]:
        places = places_of(key)
        asked = [
            Deferred.fromCoroutine(self._hosts.ask(place.position, "legacy_opinion", key, place.to_wire()))
            for place in places
        ]
        opinions = []
        for place, (succeeded, reply) in zip(
            places, await DeferredList(asked, consumeErrors=True), strict=True
        ):
            if succeeded:
                opinions.append((place, [Opinion.from_wire(wire, self._limits) for wire in reply]))
        return opinions

    async def _tell_settled(
        self, key: bytes, opinions: list[tuple[Place, list[Opinion]]], was_written: bool, before: Rank | None
    ) -> None:
        told = []
        for place, there in opinions:
            number = max((opinion.number for opinion in there), default=0)
            arguments = (key, place.to_wire(), number, was_written, before)
            asked = self._hosts.ask(place.position, "legacy_settled", *arguments)
            told.append(Deferred.fromCoroutine(asked))
        await DeferredList(told, consumeErrors=True)
