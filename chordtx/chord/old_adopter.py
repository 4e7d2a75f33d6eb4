"""An old peer's stores become a write: the adopter's part.

The *adopter* of a key is the host of its first position. When something tells that an old peer may have
written the key, it asks the hosts of all five, and writes what most of them tell. So a stale copy that an
old peer sends to one position undoes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from itertools import chain
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, DeferredSemaphore
from twisted.logger import Logger

from chordtx.chord.announcements import as_key
from chordtx.chord.coordinator import Coordinator
from chordtx.chord.old_adoption import Opinion, decide
from chordtx.chord.old_entries import places_of
from chordtx.chord.old_hosting import OldHost
from chordtx.chord.old_tables import Place
from chordtx.config import Limits
from chordtx.errors import ProtocolError, ValueTooLarge
from chordtx.records import HybridClock, Record, Version

_DELAYS_SECONDS = (0.03, 0.1, 0.3, 1.0, 2.0)
_DELETED_REMEMBERED_MAX = 1000
#: Keys that are looked into at once, and those that wait: anybody may name keys, a frame full at a time.
_LOOKED_INTO_AT_ONCE = 32
_ADOPTING_MAX = 5_000
_ADOPTING_BYTES_MAX = 16 << 20
_OWN_WORD_SECONDS = 1.0
_UNTOLD = object()
AtHost = Callable[..., Coroutine[Any, Any, list[Any]]]


class Adopter:
    """One node's adoptions.

    :param node: the service. :param host: our own part as a host.
    :param at_host: asks a position's host: ``at_host(position, method, *arguments)``.
    """

    _log = Logger()

    def __init__(
        self,
        node: Any,
        host: OldHost,
        coordinator: Coordinator,
        clock: HybridClock,
        limits: Limits,
        at_host: AtHost,
    ) -> None:
        self._node = node
        self._host = host
        self._coordinator = coordinator
        self._clock = clock
        self._limits = limits
        self._at_host = at_host
        self._adopting: dict[bytes, bool] = {}  # key -> whether there was a hint since
        self._adopting_bytes = 0
        self._told_deleted: dict[Place, object] = {}  # by one place of the key, which may be long
        self._looking = DeferredSemaphore(_LOOKED_INTO_AT_ONCE)

    def deletion_told(self, key: bytes) -> None:
        """An old peer has announced that it deleted a key: nobody else needs to."""
        self._told_deleted[places_of(key)[-1]] = None
        if len(self._told_deleted) > _DELETED_REMEMBERED_MAX:
            del self._told_deleted[next(iter(self._told_deleted))]

    def hint(self, key: bytes) -> None:
        """Tell the adopter of a key that an old peer may have written it."""
        self._node._background(self._at_host(places_of(key)[0].position, "old_hint", key))

    async def hinted(self, key: Any) -> list[Any]:
        """``old_hint(key)``: an old peer may have written this; its adopter looks into it."""
        key = self._hosted(key)
        if key in self._adopting:
            self._adopting[key] = True
        elif len(self._adopting) >= _ADOPTING_MAX or self._adopting_bytes >= _ADOPTING_BYTES_MAX:
            text = "{key} is not looked into: there are too many that old peers may have written"
            self._node._limited_log.warn(text, key=repr(key[:80]))
        else:
            self._adopting[key] = False
            self._adopting_bytes += len(key)
            self._node._background(self._adopt(key))
        return []

    def _hosted(self, key: Any) -> bytes:
        """:raises ChordError: when it is no key, or another node is its adopter."""
        named = as_key(key)
        if len(named) > self._node._key_bytes_max:
            raise ProtocolError("the key is too long")
        self._host.must_host(places_of(named)[0])
        return named

    async def refresh(self, key: Any) -> list[Any]:
        """``old_refresh(key)``: answered once what an old peer may have changed by itself is a write."""
        await self._try_to_adopt(self._hosted(key))
        return []

    async def _adopt(self, key: bytes) -> None:
        try:
            while True:
                self._adopting[key] = False
                await self._adopt_once(key)
                if not self._adopting[key]:
                    return
        finally:
            del self._adopting[key]
            self._adopting_bytes -= len(key)

    async def _adopt_once(self, key: bytes) -> None:
        for seconds in _DELAYS_SECONDS:
            await self._node.sleep(seconds)
            begun = self._clock.tick(self._node._wall_ms())
            if await self._looking.run(lambda: Deferred.fromCoroutine(self._look_into(key))):
                break
        await self._tell_settled(key, begun)

    async def _look_into(self, key: bytes) -> bool:
        await self._node.sleep(0)  # many in a row would be one long turn
        return await self._try_to_adopt(key)

    async def _try_to_adopt(self, key: bytes) -> bool:
        """Ask all five positions.

        :returns: whether it is settled: written, or nothing to write.
        """
        record = await self._coordinator.read(key, ask_old=False)
        opinions = await self._opinions(key)
        decision = decide(opinions, record, None if record is None else self._host.value(record))
        if decision is None:
            return False
        if decision.is_new:
            try:
                await self._write(key, decision.value, decision.is_delta)
            except (ValueTooLarge, TypeError) as error:
                text = "{key} stays as it is, for what an old peer wrote cannot be kept: {error}"
                self._log.warn(text, key=repr(key[:80]), error=str(error))
        return True

    async def _opinions(self, key: bytes) -> list[list[Opinion]]:
        asked = [
            Deferred.fromCoroutine(self._at_host(place.position, "old_opinion", key, place.to_wire()))
            for place in places_of(key)
        ]
        opinions = []
        for succeeded, reply in await DeferredList(asked, consumeErrors=True):
            if succeeded:
                opinions.append([Opinion.from_wire(wire, self._limits) for wire in reply])
        for opinion in chain.from_iterable(opinions):
            if opinion.stamp is not None:
                self._clock.observe(opinion.stamp, self._node._wall_ms())
        return opinions

    async def _write(self, key: bytes, value: Any, is_delta: bool) -> None:
        if is_delta:
            fields = {self._host.pack(name): self._host.pack(field) for name, field in value.items()}
            await self._node._write_fields(key, fields, ask_old=False)
            return
        blob = None if value is None else self._host.pack(value)
        existed, _ = await self._coordinator.write(key, lambda _, version: Record(version, blob))
        if existed and value is None:
            self._node._background(self._announce_deletion(key))

    async def _announce_deletion(self, key: bytes) -> None:
        """js2p never says what it deletes. py2p does, but its word may come after its stores."""
        await self._node.sleep(_OWN_WORD_SECONDS)
        if self._told_deleted.pop(places_of(key)[-1], _UNTOLD) is _UNTOLD:
            self._node._announce(key, deleted=True)

    async def _tell_settled(self, key: bytes, begun: Version) -> None:
        told = [
            Deferred.fromCoroutine(
                self._at_host(place.position, "old_settled", key, place.to_wire(), [*begun])
            )
            for place in places_of(key)
        ]
        await DeferredList(told, consumeErrors=True)
