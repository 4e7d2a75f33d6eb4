"""A ring with data folders under load, while pairs of its processes are killed and started again.

Each key is written by one worker, one write after another, so that what must stand at the end is known: the
last write that was acknowledged, or one after it whose end nobody knows.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, DeferredList

from chordtx import ChordError, ChordService
from tests.processes.daemons import Daemon, Daemons

NODES = 8
KILLED_AT_ONCE = 2
WORKERS = 8
THINK_SECONDS = 0.1
DOWN_SECONDS = 2.0
COPIES = 5
_LOADED_AT_ONCE = 64


@frozen(kw_only=True)
class Plan:
    """What is done.

    :ivar keys: how many there are. :ivar kills: how often a pair is killed. :ivar between_seconds: from one
        time to the next.
    """

    keys: int
    kills: int
    between_seconds: float


@define
class Key:
    """What is known of a key.

    :ivar acknowledged: the last value that was acknowledged, None when it was deleted or never written.
    :ivar possible: what was tried since and may have come to stand.
    """

    acknowledged: int | None = None
    possible: list[int | None] = field(factory=list)

    def may_be(self, value: int | None) -> bool:
        """Whether this may be there now."""
        return value == self.acknowledged or value in self.possible


@define
class Call:
    """One call of the load. :ivar seconds: how long it took; None when it failed."""

    began_at: float
    seconds: float | None


class Soak:
    """One run.

    :ivar ring: the processes by their ports. :ivar calls: all calls of the load.
    """

    def __init__(self, reactor: Any, daemons: Daemons, ports: list[int], folder: Path, plan: Plan) -> None:
        self._reactor = reactor
        self._daemons = daemons
        self._ports = ports
        self._folder = folder
        self._plan = plan
        self._rng = Random(44565)
        self._is_over = False
        self._number = 0
        self.ring: dict[int, Daemon] = {}
        self.keys = {b"key %d" % number: Key() for number in range(plan.keys)}
        self.calls: list[Call] = []
        self.killed_at: list[float] = []
        self.restarted_at = 0.0
        self.wrong_reads: list[str] = []

    async def start(self) -> ChordService:
        """Start the ring. :returns: a client."""
        first, *others = self._ports
        self._start(first)
        client = await self._daemons.client(self.ring[first])
        for port in others:
            self._start(port)
        await self._daemons.whole(client, NODES)
        return await self._daemons.client(*self.ring.values())

    def _start(self, port: int) -> None:
        peers = [word for other in self.ring if other != port for word in ("--peer", f"127.0.0.1:{other}")]
        data = str(self._folder / str(port))
        self.ring[port] = self._daemons.start("--data", data, *peers, port=port)

    async def load(self, client: ChordService) -> None:
        """Write every key once."""
        waiting = iter(self.keys)

        async def one_after_another() -> None:
            for name in waiting:
                await self._write(client, name, is_delete=False)

        await _all(one_after_another() for _ in range(_LOADED_AT_ONCE))

    async def run(self, client: ChordService) -> None:
        """The load, and the kills."""
        names = list(self.keys)
        workers = [
            Deferred.fromCoroutine(self._work(client, names[number::WORKERS], Random(number)))
            for number in range(WORKERS)
        ]
        for _ in range(self._plan.kills):
            await client.sleep(self._plan.between_seconds - DOWN_SECONDS)
            await self._kill_some(client)
        self._is_over = True
        self.restarted_at = self._reactor.seconds()
        await _all_done(workers)

    async def _kill_some(self, client: ChordService) -> None:
        ports = self._rng.sample(self._ports, KILLED_AT_ONCE)
        self.killed_at.append(self._reactor.seconds())
        for port in ports:
            await self.ring[port].kill()
        await client.sleep(DOWN_SECONDS)
        for port in ports:
            self._start(port)

    async def _work(self, client: ChordService, names: list[bytes], rng: Random) -> None:
        while not self._is_over:
            await client.sleep(THINK_SECONDS * (0.5 + rng.random()))
            name = rng.choice(names)
            draw = rng.random()
            if draw < 0.5:
                await self._read(client, name)
            else:
                await self._write(client, name, is_delete=draw > 0.9)

    async def _read(self, client: ChordService, name: bytes) -> None:
        call = self._begun()
        try:
            value = await client.get(name)
        except ChordError:
            return
        call.seconds = self._reactor.seconds() - call.began_at
        if not self.keys[name].may_be(value):
            self.wrong_reads.append(f"{name!r} reads {value!r}, of {self.keys[name]}")

    async def _write(self, client: ChordService, name: bytes, is_delete: bool) -> None:
        self._number += 1
        key, value = self.keys[name], None if is_delete else self._number
        key.possible.append(value)
        call = self._begun()
        try:
            await client.set(name, value)
        except ChordError:
            return
        call.seconds = self._reactor.seconds() - call.began_at
        key.acknowledged, key.possible = value, []

    def _begun(self) -> Call:
        call = Call(self._reactor.seconds(), None)
        self.calls.append(call)
        return call

    # What came of it

    async def lost(self, client: ChordService) -> list[str]:
        """Keys that do not hold what they must."""
        found = await client.get_many(self.keys)
        return [
            f"{name!r} is {found.get(name)!r}, of {key}"
            for name, key in self.keys.items()
            if not key.may_be(found.get(name))
        ]

    async def seconds_until_healthy(self, client: ChordService, patience_seconds: float) -> float:
        """How long it takes until each partition has a leader and five members that lack nothing: nobody
        writes any more."""
        deadline = self._reactor.seconds() + patience_seconds
        while complaints := (await client.health(NODES)).complaints:
            assert self._reactor.seconds() < deadline, complaints
            await client.sleep(0.2)
        return float(self._reactor.seconds() - self.restarted_at)

    def answered_share(self, seconds: float) -> float:
        """Of the calls that began within some time of a kill, the share that was answered in as long."""
        near = [
            call for call in self.calls if any(0 <= call.began_at - at <= seconds for at in self.killed_at)
        ]
        answered = [call for call in near if call.seconds is not None and call.seconds <= seconds]
        return len(answered) / len(near)


async def _all(works: Any) -> None:
    await _all_done([Deferred.fromCoroutine(work) for work in works])


async def _all_done(works: list[Deferred[Any]]) -> None:
    outcomes: Any = await DeferredList(works, consumeErrors=True)
    for succeeded, result in outcomes:
        if not succeeded:
            result.raiseException()
