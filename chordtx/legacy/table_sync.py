"""Keeps the tables of legacy peers in step with the records, one place at a time."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from itertools import chain, repeat
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.logger import Logger

from chordtx.errors import ChordError
from chordtx.group.rank import Rank
from chordtx.legacy.records import Records
from chordtx.legacy.tables import Place, Tables
from chordtx.mesh import MeshConnection

_AT_ONCE = 32
#: A place that could not be put in step is tried again after these, and the last one again and again.
_RETRY_SECONDS = (0.2, 1.0, 5.0, 15.0)


class Node(Protocol):
    """What this part needs of a node."""

    def sleep(self, seconds: float) -> Deferred[None]:
        """Fires after a while."""

    def background(self, work: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        """Run a coroutine until it ends or the node stops."""


class TableSync:
    """One host's puts into tables of legacy peers, and what it knows to be there."""

    _log = Logger()

    def __init__(self, node: Node, tables: Tables, records: Records) -> None:
        self._node = node
        self._tables = tables
        self._records = records
        self._working = DeferredSemaphore(_AT_ONCE)
        # The record whose value was put at each place of a legacy peer: what it changes there by itself
        # shows. (By weak links: a put may end after its link has.)
        self._put_for: WeakKeyDictionary[MeshConnection, dict[Place, Rank | None]] = WeakKeyDictionary()
        self._under_way: dict[tuple[MeshConnection, Place], bool] = {}  # -> whether it is wanted again

    def forget(self, link: MeshConnection) -> None:
        """A legacy peer is gone."""
        self._put_for.pop(link, None)

    def keep_only(self, owns: Callable[[int], bool]) -> None:
        """Forget what was put at positions of others, who may change it."""
        self._tables.keep_only(owns)
        for ranks in self._put_for.values():
            for place in [place for place in ranks if not owns(place.position)]:
                del ranks[place]

    def has(self, link: MeshConnection, place: Place) -> bool:
        """Whether a record's value was put at a place, and none since."""
        return place in self._put_for.get(link, {})

    def is_at_it(self, link: MeshConnection, place: Place) -> bool:
        """Whether a record's value is being put there."""
        return (link, place) in self._under_way

    def rank_at(self, link: MeshConnection, place: Place) -> Rank | None:
        """Of the record whose value was put there; None where it was that there is none."""
        return self._put_for[link][place]

    def keep(self, link: MeshConnection, place: Place, key: bytes) -> None:
        """The record of the key at this place has changed: put its value into the legacy peer's table."""
        self._put_for.setdefault(link, {}).pop(place, None)
        if (link, place) in self._under_way:
            self._under_way[link, place] = True
        else:
            self._under_way[link, place] = False
            self._node.background(self._keep(link, place, key))

    async def _keep(self, link: MeshConnection, place: Place, key: bytes) -> None:
        try:
            for seconds in chain(_RETRY_SECONDS, repeat(_RETRY_SECONDS[-1])):
                try:
                    await self._working.run(lambda: Deferred.fromCoroutine(self._put(link, place, key)))
                    return
                except ChordError as error:
                    self._log.debug("{link} has not confirmed an entry: {error}", link=link, error=str(error))
                await self._node.sleep(seconds)
        finally:
            del self._under_way[link, place]

    async def _put(self, link: MeshConnection, place: Place, key: bytes) -> None:
        """Put what the record holds by then; again, when it has changed meanwhile."""
        await self._node.sleep(0)  # many that fail at once, one after the other, would be nested too deep
        while not link.closed and not link.leeching:
            self._under_way[link, place] = False
            seen = await self._records.read(key)
            is_confirmed = await self._tables.put(link, place, seen.value)
            if not self._under_way[link, place]:
                self._put_for.setdefault(link, {})[place] = seen.rank
                if not is_confirmed:
                    raise ChordError("it does not answer")
                return

    async def pass_on(self, link: MeshConnection, place: Place, value: Any) -> None:
        """Put what another legacy peer has stored at a place that both take for theirs."""
        self._put_for.get(link, {}).pop(place, None)
        try:
            await self._tables.put(link, place, value)
        except ChordError as error:
            self._log.debug("{link} has not confirmed an entry: {error}", link=link, error=str(error))
