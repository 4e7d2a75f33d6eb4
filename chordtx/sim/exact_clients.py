"""Clients of a simulated run that do what is exact: they go by versions, count, take, and hold locks.

What they ask for and are told is judged with all other operations (:mod:`chordtx.sim.history`). Of locks it
is judged that of two holds the later has the greater token, that no two are held at once as long as nobody's
clock was set, and that at the end each lock can be had.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any, Protocol

from attrs import define
from twisted.internet.defer import Deferred

from chordtx.chord.locking import Lock
from chordtx.errors import Conflict, LockLost
from chordtx.sim.history import Kind, Operation
from chordtx.sim.hosts import SKEW_SECONDS, Host
from chordtx.sim.plan import Fault
from chordtx.sim.world import World
from chordtx.values import ABSENT, Version

COUNTERS = 2
LOCKS = 2
_LEASE_SECONDS = (1.0, 3.0, 12.0)
_HOLD_SECONDS = 3.0
#: Two leaders may tell the time by clocks that are so far apart.
_SLACK_SECONDS = 2 * SKEW_SECONDS
#: All who may have died while they waited have their turns in this time.
_FREE_SECONDS = 120.0


class Run(Protocol):
    """What these clients need of a run."""

    world: World
    operations: list[Operation]

    def new_value(self) -> int:
        """One that nobody has written."""

    def some_key(self, rng: Random) -> bytes:
        """One of those that all write."""

    async def outcome(self, host: Host, work: Deferred[Any]) -> Any:
        """What came of a call: its result or an error."""

    async def end_of(self, host: Host, work: Deferred[Any]) -> Any:
        """The same of what may take any time."""

    def noted(self, operation: Operation, outcome: Any) -> None:
        """An operation has ended."""

    def violated(self, what: str) -> None:
        """Something promised was not kept."""

    async def some_caller(self, rng: Random) -> Host | None:
        """After a while: a host whose node may be asked. None when the run is over."""


@define(eq=False)
class _Hold:
    """A lock that was held.

    :ivar asked_at: when it was asked for. :ivar held_at: when it was held.
    :ivar until: when its lease ends at the earliest, by true time. :ivar is_over: whether it was given up.
    """

    name: str
    token: int
    asked_at: float
    held_at: float
    until: float
    is_over: bool = False


class ExactClients:
    """Of one run."""

    def __init__(self, run: Run, seed: int) -> None:
        self._run = run
        self._seed = seed
        self._holds: list[_Hold] = []

    def works(self) -> list[Callable[[], Any]]:
        """What the clients do, each for as long as the run goes on."""
        rngs = [Random(f"{self._seed} exact {number}") for number in range(4)]
        return [
            lambda: self._write_exactly("exact 0", rngs[0]),
            lambda: self._write_exactly("exact 1", rngs[1]),
            lambda: self._hold_locks(rngs[2]),
            lambda: self._hold_locks(rngs[3]),
        ]

    # Operations

    async def _write_exactly(self, name: str, rng: Random) -> None:
        while (host := await self._run.some_caller(rng)) is not None:
            draw = rng.random()
            if draw < 0.5:
                await self._count(name, host, rng)
            elif draw < 0.65:
                await self._do(name, host, Kind.POP, self._run.some_key(rng))
            else:
                await self._compare_and_set(name, host, rng)

    async def _count(self, name: str, host: Host, rng: Random) -> None:
        key = b"counter %d" % rng.randrange(COUNTERS)
        kind = rng.choices([Kind.INCREMENT, Kind.GET, Kind.POP], [10, 4, 1])[0]
        await self._do(name, host, kind, key)

    async def _do(self, name: str, host: Host, kind: Kind, key: bytes) -> None:
        service: Any = host.service
        operation = Operation(name, kind, key, None, self._run.world.time.now)
        works = {Kind.INCREMENT: service.increment, Kind.GET: service.get, Kind.POP: service.pop}
        self._run.operations.append(operation)
        outcome = await self._run.outcome(host, works[kind](key))
        self._run.noted(operation, outcome)

    async def _compare_and_set(self, name: str, host: Host, rng: Random) -> None:
        """Go by the version that was read, or by that there was nothing."""
        run, now = self._run, self._run.world.time
        service: Any = host.service
        key = run.some_key(rng)
        expected: object = None
        version: Version = ABSENT
        if rng.random() < 0.8:
            read = Operation(name, Kind.GET, key, None, now.now)
            run.operations.append(read)
            entry = await run.outcome(host, service.entry(key))
            if isinstance(entry, KeyError):
                run.noted(read, None)
            elif isinstance(entry, Exception):
                run.noted(read, entry)
                return
            else:
                version = entry.version
                run.noted(read, entry.value)
                expected = read.value
        if host.service is None or host.service is not service:
            return
        operation = Operation(name, Kind.COMPARE_AND_SET, key, run.new_value(), now.now, expected=expected)
        run.operations.append(operation)
        work = host.service.compare_and_set(key, operation.value, version)
        outcome = await run.outcome(host, work)
        if isinstance(outcome, Conflict):
            operation.has_found_another = True
            if outcome.version == version:
                run.violated(f"a conflict with the very version that was expected: {operation}")
        run.noted(operation, outcome)

    # Locks

    async def _hold_locks(self, rng: Random) -> None:
        run = self._run
        while (host := await run.some_caller(rng)) is not None:
            service: Any = host.service
            name, ttl = f"lock {rng.randrange(LOCKS)}", rng.choice(_LEASE_SECONDS)
            lock: Lock = service.lock(name, ttl=ttl)
            asked_at = run.world.time.now
            got = await run.end_of(host, lock.acquire())
            if got is not True:
                continue
            hold = self._held(name, lock.token, asked_at, ttl)
            await run.world.wait(rng.expovariate(1 / _HOLD_SECONDS))
            hold.is_over = True
            if host.service is service:
                outcome = await run.outcome(host, lock.release())
                run.world.log(f"{host.name} gave {name} up: {outcome!r}")
                if isinstance(outcome, LockLost):
                    self._was_lost(hold)

    def _held(self, name: str, token: int, asked_at: float, ttl: float) -> _Hold:
        run, now = self._run, self._run.world.time.now
        run.world.log(f"{name} is held with token {token}")
        hold = _Hold(name, token, asked_at, now, asked_at + ttl - _SLACK_SECONDS)
        for other in self._holds:
            if other.name == name:
                self._must_agree(other, hold)
        self._holds.append(hold)
        return hold

    def _must_agree(self, other: _Hold, hold: _Hold) -> None:
        run = self._run
        if other.token == hold.token:
            run.violated(f"{hold.name}: two were given token {hold.token}")
        if other.held_at < hold.asked_at and other.token > hold.token:
            run.violated(f"{hold.name}: token {hold.token} came after {other.token}")
        if not other.is_over and hold.held_at < other.until and not run.world.faults[Fault.CLOCK]:
            run.violated(f"{hold.name} is held twice, by {other.token} and {hold.token}")

    def _was_lost(self, hold: _Hold) -> None:
        if self._run.world.time.now < hold.until and not self._run.world.faults[Fault.CLOCK]:
            self._run.violated(f"{hold.name}: the lease of {hold.token} ended early")

    def judge(self) -> None:
        """In quiet, each lock can be had."""
        run = self._run
        for number in range(LOCKS):
            service: Any = run.world.members()[0].service
            lock: Lock = service.lock(f"lock {number}", ttl=_LEASE_SECONDS[0])
            asked_at = run.world.time.now
            got: list[Any] = []
            lock.acquire().addBoth(got.append)
            run.world.run_until(partial(bool, got), _FREE_SECONDS)
            if got != [True]:
                run.violated(f"lock {number} is stuck: {got}")
                continue
            self._held(f"lock {number}", lock.token, asked_at, _LEASE_SECONDS[0])
            lock.release().addErrback(lambda failure: failure.trap(LockLost))
