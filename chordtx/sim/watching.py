"""Programs of a simulated run that watch: each keeps a copy of the dict up to date, as users would.

Of each key each change is told at most once, in order, and at the end every copy is what the ring has.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from chordtx.chord.watching import RESET, Event, Watch
from chordtx.errors import ChordError
from chordtx.group.rank import Rank, rank_of
from chordtx.sim.hosts import Host
from chordtx.sim.world import World

_WATCHERS = 2
#: Now and then a program does something else for a while, so that changes wait for it.
_SLOW_SHARE = 0.05
_SLOW_SECONDS = 5.0
#: All that was written is told after so many times this long.
_TRIES = 20
_TRY_SECONDS = 2.0
_TOLD_SECONDS = 60.0


class Run(Protocol):
    """What these programs need of a run."""

    world: World

    async def outcome(self, host: Host, work: Deferred[Any]) -> Any:
        """What came of a call: its result or an error."""

    async def end_of(self, host: Host, work: Deferred[Any]) -> Any:
        """The same of what may take any time."""

    def violated(self, what: str) -> None:
        """Something promised was not kept."""

    async def some_caller(self, rng: Random) -> Host | None:
        """After a while: a host whose node may be asked. None when the run is over."""


class _Copy:
    """What one program knows.

    :ivar values: of the keys that are there. :ivar is_complete: whether it goes on from a whole listing.
    """

    def __init__(self, name: str, host: Host, run: Run) -> None:
        self.name = name
        self.host = host
        assert host.service is not None
        self.service: Any = host.service
        self.values: dict[bytes, Any] = {}
        self.versions: dict[bytes, Rank] = {}
        self.is_complete = False
        self.watch: Watch = self.service.watch()
        self._run = run
        self._told: dict[bytes, Rank] = {}

    async def follow(self, rng: Random) -> None:
        """Keep it up to date, until the process ends."""
        run = self._run
        ready = await run.end_of(self.host, self.watch.when_ready())
        if isinstance(ready, Exception):
            return
        await self._list()
        try:
            async for event in self.watch:
                if event.kind == RESET:
                    self._told.clear()
                    await self._list()
                else:
                    self._happened(event)
                if rng.random() < _SLOW_SHARE:
                    await run.world.wait(rng.uniform(0.0, _SLOW_SECONDS))
        except ChordError as error:
            run.world.log(f"{self.name} watches no more: {error}")

    async def _list(self) -> None:
        """Begin with what is there. What is told meanwhile may be older, or be in the listing already."""
        self.is_complete = False
        while self.host.service is self.service:
            found: dict[bytes, Any] = {}
            versions: dict[bytes, Rank] = {}
            listed = await self._run.outcome(self.host, Deferred.fromCoroutine(self._listed(found, versions)))
            if not isinstance(listed, Exception):
                self.values, self.versions, self.is_complete = found, versions, True
                return
            await self._run.world.wait(1.0)

    async def _listed(self, found: dict[bytes, Any], versions: dict[bytes, Rank]) -> None:
        async for entry in self.service.entries():
            found[entry.key] = entry.value
            versions[entry.key] = rank_of(entry.version)

    def _happened(self, event: Event) -> None:
        key, version = event.key, event.version
        assert key is not None
        assert version is not None
        rank = rank_of(version)
        before = self._told.get(key)
        if before is not None and before >= rank:
            self._run.violated(f"{self.name} is told of {key!r} in disorder, or twice: {before}, {rank}")
        self._told[key] = rank
        if (known := self.versions.get(key)) is not None and known > rank:
            return  # the listing is newer
        if event.kind in ("delete", "expire"):
            self.values.pop(key, None)
            self.versions.pop(key, None)
        else:
            self.values[key], self.versions[key] = event.value, rank


class Watching:
    """The watching programs of one run."""

    def __init__(self, run: Run, seed: int) -> None:
        self._run = run
        self._seed = seed
        self._copies: list[_Copy] = []

    def works(self) -> list[Callable[[], Any]]:
        """What they do."""
        return [partial(self._watch_for_ever, f"watcher {number}") for number in range(_WATCHERS)]

    async def _watch_for_ever(self, name: str) -> None:
        """On one node until its process ends, and then on another one."""
        rng = Random(f"{self._seed} {name}")
        while (host := await self._run.some_caller(rng)) is not None:
            copy = _Copy(name, host, self._run)
            self._copies.append(copy)
            following = Deferred.fromCoroutine(copy.follow(rng))
            await self._run.end_of(host, following)
            copy.is_complete = False

    def judge(self) -> None:
        """In quiet, every copy is what is there."""
        world = self._run.world
        alive = {id(host.service) for host in (*world.hosts, *world.guests) if host.service is not None}
        copies = [copy for copy in self._copies if id(copy.service) in alive and copy.is_complete]
        different: list[_Copy] = copies
        for _ in range(_TRIES):  # for locks that were held, and what expires, change what is there
            values = self._listed()
            different = [copy for copy in copies if copy.values != values]
            if not different:
                return
            world.run_for(_TRY_SECONDS)
        for copy in different:
            keys = [key for key in {*values, *copy.values} if values.get(key) != copy.values.get(key)]
            text = f"{copy.name} at {copy.host.name} does not know the newest of {sorted(keys)[:5]}"
            self._run.violated(text)

    def _listed(self) -> dict[bytes, Any]:
        world = self._run.world
        service: Any = world.members()[0].service
        found: list[Any] = []
        service.copy().addBoth(found.append)
        world.run_until(partial(bool, found), _TOLD_SECONDS)
        if found and isinstance(found[0], dict):
            return found[0]
        self._run.violated(f"a listing fails: {found}")
        return {}
