"""A ring of one that is nothing but a dict, with the methods that the command line and ``twistd`` call."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from chordtx import ABSENT, Conflict, Entry, Event, Stopped
from chordtx.chord.set_aside import Kept
from chordtx.group.rank import Ballot, Epoch, Rank, version_of


class FakeChord(Service):
    """Stands in for ``ChordService``.

    The class attributes are what all of one test's nodes share; ``fresh`` makes a class for a test.
    """

    records: dict[bytes, Any]
    expiries: dict[bytes, float]
    events: list[Event]
    made: list[FakeChord]
    kept: list[Kept]
    listen_failure: Exception | None = None
    join_failure: Exception | None = None
    set_failure: Exception | None = None

    @classmethod
    def fresh(cls) -> type[FakeChord]:
        """A class of its own, with an empty ring."""
        return type(
            "FreshFakeChord", (cls,), {"records": {}, "expiries": {}, "events": [], "made": [], "kept": []}
        )

    @classmethod
    def version(cls, key: bytes) -> str:
        """Of a key that is there: another one for each value."""
        return version_of(Rank(Epoch(0), Ballot(1, repr(cls.records[key]).encode()), 1))

    def __init__(self, reactor: Any, **arguments: Any) -> None:
        self.arguments = arguments
        self.ttls: list[float | None] = []
        self.stopped = False
        self.status = {"id": "abc", "address": "127.0.0.1:1", "subnet": arguments.get("subnet")}
        self.made.append(self)

    def when_left(self) -> Deferred[None]:
        return Deferred()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        self.stopped = True
        return succeed(None)

    def when_listening(self) -> Deferred[None]:
        return fail(self.listen_failure) if self.listen_failure else succeed(None)

    def when_joined(self) -> Deferred[None]:
        return fail(self.join_failure) if self.join_failure else succeed(None)

    def get(self, key: bytes, default: Any = None) -> Deferred[Any]:
        return succeed(self.records.get(key, default))

    def set(self, key: bytes, value: Any, ttl: float | None = None) -> Deferred[None]:
        if self.set_failure:
            return fail(self.set_failure)
        self.records[key] = value
        self.ttls.append(ttl)
        return succeed(None)

    def entry(self, key: bytes) -> Deferred[Entry]:
        if key not in self.records:
            return fail(KeyError(key))
        return succeed(Entry(key, self.records[key], self.version(key), self.expiries.get(key)))

    def compare_and_set(
        self, key: bytes, value: Any, version: Any, ttl: float | None = None
    ) -> Deferred[Any]:
        present = self.version(key) if key in self.records else ABSENT
        if present != version:
            return fail(Conflict("another version", present))
        return self.set(key, value, ttl)

    def increment(self, key: bytes, by: float) -> Deferred[float]:
        present = self.records.get(key, 0)
        if not isinstance(present, int | float):
            return fail(TypeError("the value is no number"))
        if abs(present + by) > 1 << 64:
            return fail(OverflowError("the number would not fit"))
        self.records[key] = present + by
        return succeed(present + by)

    def touch(self, key: bytes, ttl: float | None = None) -> Deferred[None]:
        if key not in self.records:
            return fail(KeyError(key))
        self.ttls.append(ttl)
        return succeed(None)

    def watch(self, key: bytes | None, *, prefix: bytes, since: str | None) -> FakeWatch:
        self.watched = (key, prefix, since)
        return FakeWatch(self.events)

    def delete(self, key: bytes, version: str | None = None) -> Deferred[None]:
        if key not in self.records:
            return fail(KeyError(key))
        if version not in (None, self.version(key)):
            return fail(Conflict("another version", self.version(key)))
        del self.records[key]
        return succeed(None)

    async def keys(
        self, prefix: bytes = b"", *, after: bytes | None = None, limit: int | None = None
    ) -> AsyncIterator[bytes]:
        found = [key for key in self.records if key.startswith(prefix)]
        for key in found[0 if after is None else found.index(after) + 1 :][:limit]:
            yield key

    async def entries(self) -> AsyncIterator[Entry]:
        for key in list(self.records):
            yield await self.entry(key)

    async def set_aside(self, peer: str) -> AsyncIterator[Kept]:
        for kept in self.kept:
            yield kept

    def order(self, peer: str, what: str) -> Deferred[list[Any]]:
        return succeed([{"what": what, "of": peer, **self.status}])

    def ring(self) -> Deferred[list[dict[str, Any]]]:
        node = {
            "id": "abc",
            "address": "127.0.0.1:1",
            "kind": "chordtx",
            "leads": 3,
            "records": len(self.records),
        }
        return succeed([node])


class FakeWatch(AsyncIterator[Event]):
    """What became of keys; then it fails as it does when the node stops."""

    def __init__(self, events: list[Event]) -> None:
        self._events = iter(events)
        self._is_closed = False

    def when_ready(self) -> Deferred[FakeWatch]:
        return succeed(self)

    async def __anext__(self) -> Event:
        assert not self._is_closed
        for event in self._events:
            return event
        raise Stopped("the node has stopped")

    async def aclose(self) -> None:
        self._is_closed = True


class ReadyReactor(Clock):
    """Virtual time, and descriptors that can always be read."""

    def addReader(self, reader: Any) -> None:
        reader.doRead()

    def removeReader(self, reader: Any) -> None:
        pass

    def callWhenRunning(self, function: Any, *arguments: Any) -> None:
        function(*arguments)
