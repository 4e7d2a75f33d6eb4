"""A run from its beginning to the verdict: clients at work, faults, a time to get well, and the checks."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from random import Random
from typing import Any

import msgpack
from attrs import define, field
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure

from chordtx.errors import (
    ChordError,
    Conflict,
    LockLost,
    NoMajority,
    NotJoined,
    Stopped,
    StorageFull,
    ValueTooLarge,
)
from chordtx.sim.exact_clients import ExactClients
from chordtx.sim.faults import NODES_MAX, Faults
from chordtx.sim.history import Kind, Operation, TooHard, by_key, unexplained
from chordtx.sim.hosts import SKEW_SECONDS, Host
from chordtx.sim.plan import Fault
from chordtx.sim.watching import Watching
from chordtx.sim.world import Options, World

_JOIN_SECONDS = 60.0
_HOT_KEYS = 2
_FEW_SHARE = 0.2
_OFF_SHARE = 0.3
_OFF_DAYS = (0.5, 4.0)
_AFTER_OFF_SECONDS = 15.0
_NOBODY_SECONDS = 5.0
_ENDING_SECONDS = 5.0
_SLICE_SECONDS = 0.5
_LARGE_SHARE = 0.03
# Each change is told before the next one is made, which might overtake it.
_NEWS_SECONDS = 1.2
_NEWS_KEY = b"news"
_LARGE_BYTES = (10_000, 300_000)
_TTL_SECONDS = (0.5, 6.0)
# A record expires in the next whole millisecond; and the sum of clock and time to live is a float.
_EXPIRY_STEP_SECONDS = 0.001
_ROUNDING_SECONDS = 1e-6
# By the time of its group, which is the median of clocks: another leader may have another median.
_EXPIRY_SLACK_SECONDS = 2 * SKEW_SECONDS


class ProcessEnded(ChordError):
    """The process of which something was asked ended meanwhile."""


#: How a call may end among honest nodes.
_DOCUMENTED = (
    KeyError,
    Conflict,
    LockLost,
    NoMajority,
    NotJoined,
    Stopped,
    StorageFull,
    ValueTooLarge,
    ProcessEnded,
)


@define
class Report:
    """What came of a run.

    :ivar violations: what was promised and not kept. :ivar digest: of the log.
    :ivar outcomes: how many calls ended in which way. :ivar well_seconds: how long it took at the end until
        the ring was true, and each partition had one leader and a full group.
    :ivar looks: how often a group was looked at. :ivar leaders: how many ballots have led.
    :ivar lease_margin_seconds: how far a lease was from breaking, at the least.
    :ivar too_hard: how many keys had too much going on at once to tell whether it was right.
    """

    seed: int
    nodes: int = 0
    events: int = 0
    virtual_seconds: float = 0.0
    digest: str = ""
    well_seconds: float = 0.0
    violations: list[str] = field(factory=list)
    faults: Counter[Fault] = field(factory=Counter)
    outcomes: Counter[str] = field(factory=Counter)
    too_hard: int = 0
    looks: int = 0
    leaders: int = 0
    lease_margin_seconds: float = float("inf")


class Run:
    """One run.

    :param folder: for the disks of its hosts. :param print_line: gets each line of the log.
    """

    def __init__(
        self, seed: int, options: Options, folder: Path, print_line: Callable[[str], None] | None = None
    ) -> None:
        self.world = World(seed, options, folder, print_line)
        self.report = Report(seed)
        self.operations: list[Operation] = []
        self._options = options
        self._rng = Random(f"{seed} clients")
        self._keys = [b"key %d" % number for number in range(options.keys)]
        self._fields: dict[bytes, list[str]] = {}
        self._present: set[bytes] = set()
        self._values = 0
        self._under_way: dict[object, str] = {}
        self._is_over = False
        self._exact = ExactClients(self, seed)
        self._watching = Watching(self, seed)
        self.world.complained = self.violated

    def run(self) -> Report:
        """All of it."""
        globalLogPublisher.addObserver(self._logged)  # type: ignore[arg-type]
        try:
            if self._start():
                self._work()
                if not self._is_decided:
                    self._get_well()
                    self._judge()
        finally:
            globalLogPublisher.removeObserver(self._logged)  # type: ignore[arg-type]
        world, report = self.world, self.report
        report.nodes = len(world.hosts)
        report.events = world.time.events
        report.virtual_seconds = world.time.now
        report.digest = world.digest
        report.faults = world.faults
        report.looks, report.leaders = world.watch.looks, world.watch.leaders
        report.lease_margin_seconds = world.watch.lease_margin
        return report

    def violated(self, what: str) -> None:
        """Note that something promised was not kept."""
        if len(self.report.violations) < 20:
            self.report.violations.append(what)
        self.world.log(f"! {what}")

    def _logged(self, event: LogEvent) -> None:
        level = event.get("log_level", LogLevel.info)
        text = formatEvent(event)
        if level is LogLevel.critical:
            failure = event.get("log_failure")
            trace = "" if failure is None else failure.getTraceback()
            self.violated(f"a bug: {text} {trace}")
        elif level is not LogLevel.debug or self.world.wants_debug:
            source = event.get("log_source")
            id = getattr(source, "id", None) or getattr(getattr(source, "owner", None), "id", None) or ""
            self.world.log(f"{str(id)[:8]} {text}")

    # The run

    def _start(self) -> bool:
        """A small ring that is used while it grows, all at once or bit by bit."""
        world, rng = self.world, self._rng
        count = self._options.nodes or self._draw_count(rng)
        early = rng.randint(1, min(4, count))
        pause_seconds = rng.choice([0.0, 0.05, 0.3])
        for number in range(count):
            world.add_host()
            world.run_for(rng.uniform(0.0, 2 * pause_seconds))
            if number + 1 == early:
                self._start_clients()
        for _ in range(rng.choice([0, 1, 2])):
            world.add_guest()
        if self._options.has_listeners:
            self._begin_to_listen()
        if not world.run_until(lambda: not world.differences(), _JOIN_SECONDS):
            self.violated(f"no ring formed: {world.differences()[:3]}")
            return False
        return True

    def _begin_to_listen(self) -> None:
        """Of keys that come and go one node hears, and all that only use the ring."""
        world = self.world
        for host in (*Random(f"{world.seed} listeners").sample(world.hosts, 1), *world.guests):
            host.has_listener = True
            if host.service is not None:
                world.news.listen(host.name, host.service)

    def _draw_count(self, rng: Random) -> int:
        """Now and then few; rings without disks are large enough that some may go."""
        if rng.random() < _FEW_SHARE:
            return rng.randint(1, 4) if self.world.has_disks else rng.randint(4, 7)
        return 8 + int((NODES_MAX - 7) * rng.random() ** 3)

    def _start_clients(self) -> None:
        world = self.world
        if not world.run_until(lambda: not world.differences(), _JOIN_SECONDS):
            self.violated(f"no small ring formed: {world.differences()[:3]}")
        for number in range(self._options.clients):
            rng = Random(self._rng.getrandbits(64))
            self._begin(self._client(f"client {number}", rng))
        for work in (*self._exact.works(), *self._watching.works()):
            self._begin(work())

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        Deferred.fromCoroutine(work).addErrback(self._client_failed)

    def _work(self) -> None:
        world = self.world
        world.log("# the ring stands")
        world.schedule(world.episodes(), Faults(world).begin)
        ends_at = world.time.now + self._options.seconds
        slice_seconds = _SLICE_SECONDS if self._options.stops else self._options.seconds
        while world.time.now < ends_at and not self._is_decided:
            world.run_for(min(slice_seconds, ends_at - world.time.now))
        may_be_off = world.has_disks and Fault.OFF not in self._options.without
        if may_be_off and not self._is_decided and self._rng.random() < _OFF_SHARE:
            world.switch_off(self._rng.uniform(*_OFF_DAYS))
            world.run_for(_AFTER_OFF_SECONDS)

    @property
    def _is_decided(self) -> bool:
        return self._options.stops and bool(self.report.violations)

    def _client_failed(self, failure: Any) -> None:
        self.violated(f"a client failed: {failure.getTraceback()}")

    async def _client(self, name: str, rng: Random) -> None:
        while (host := await self.some_caller(rng)) is not None:
            draw = rng.random()
            if draw < 0.1:
                await self._write_field(name, host, rng)
            elif draw < 0.15:
                await self._write_for_a_while(name, host, rng)
            elif draw < 0.17:
                await self._read_at_once(name, host)
            else:
                kind = rng.choices([Kind.GET, Kind.SET, Kind.DELETE], [4, 5, 1])[0]
                key = self.some_key(rng)
                await self._operate(name, host, kind, key)
                if kind is not Kind.GET:
                    await self._look_at_once(name, key, rng)

    async def some_caller(self, rng: Random) -> Host | None:
        """After a while: a host whose node may be asked. None when the run is over."""
        while not self._is_over:
            await self.world.when_on()
            await self.world.wait(rng.expovariate(1 / self._think_seconds()))
            callers = self.world.callers()
            if callers and not self._is_over:
                return rng.choice(callers)
            await self.world.wait(_NOBODY_SECONDS)
        return None

    def new_value(self) -> int:
        """One that nobody has written."""
        self._values += 1
        return self._values

    def _think_seconds(self) -> float:
        """Clients are busy while something goes wrong or has just done so: that is when faults show."""
        options = self._options
        return options.think_seconds * (1.0 if self.world.is_eventful else options.idle_factor)

    async def _look_at_once(self, client: str, key: bytes, rng: Random) -> None:
        """Read what was just written, elsewhere."""
        callers = self.world.callers()
        for host in rng.sample(callers, min(2, len(callers))):
            if host.service is not None:
                await self._operate(client, host, Kind.GET, key)

    def some_key(self, rng: Random) -> bytes:
        """Of those that all write: half the time one of few, so that several are at the same key at once."""
        return rng.choice(self._keys[:_HOT_KEYS] if rng.random() < 0.5 else self._keys)

    async def _operate(self, client: str, host: Host, kind: Kind, key: bytes) -> None:
        service = host.service
        assert service is not None
        self._values += 1
        value = self._values if kind is Kind.SET else None
        operation = Operation(client, kind, key, value, self.world.time.now)
        if kind is Kind.GET:
            work: Deferred[Any] = service.get(key)
        elif kind is Kind.SET:
            stored = self._as_stored(value)
            work = maybeDeferred(service.set, key, stored)
            if self._is_refused_for_its_size(stored, work):
                return
        else:
            work = service.delete(key)
        self.operations.append(operation)
        outcome = await self.outcome(host, work)
        self.noted(operation, outcome)
        told = f"{outcome[0]} and more" if isinstance(outcome, list) else outcome
        self.world.log(f"{client} {host.name} {kind.name} {key.decode()} {value or ''} -> {told}")

    def _is_refused_for_its_size(self, stored: Any, work: Deferred[Any]) -> bool:
        """A value is refused at once when it is past the limit, and only then."""
        is_too_large = len(msgpack.packb(stored)) > self.world.settings.value_bytes_max
        result = getattr(work, "result", None)
        is_refused = isinstance(result, Failure) and isinstance(result.value, ValueTooLarge)
        if is_refused:
            work.addErrback(lambda _: None)
            self.report.outcomes["set ValueTooLarge"] += 1
        if is_refused != is_too_large:
            self.violated("a value is refused" if is_refused else "a value past the limit is taken")
        return is_refused

    async def _read_at_once(self, client: str, host: Host) -> None:
        """All keys at once: of each it counts as a read."""
        service = host.service
        assert service is not None
        began_at = self.world.time.now
        found = await self.outcome(host, service.copy())
        self.world.log(f"{client} {host.name} COPY -> {type(found).__name__}")
        self.report.outcomes[f"copy {type(found).__name__}"] += 1
        if not isinstance(found, Exception):
            self.operations += [
                Operation(client, Kind.GET, key, _number_in(found.get(key)), began_at, self.world.time.now)
                for key in self._keys
            ]

    def _as_stored(self, number: int | None) -> Any:
        """A number, or sometimes a large value that it can be told from."""
        if self._rng.random() >= _LARGE_SHARE:
            return number
        return [number, bytes(self._rng.randint(*_LARGE_BYTES))]

    def noted(self, operation: Operation, outcome: Any) -> None:
        """An operation has ended."""
        kind = operation.kind
        if isinstance(outcome, KeyError | Conflict) or not isinstance(outcome, Exception):
            operation.ended_at = self.world.time.now
        if isinstance(outcome, KeyError):
            operation.value = False if kind is Kind.DELETE else None
        elif not isinstance(outcome, Exception) and kind not in (Kind.SET, Kind.COMPARE_AND_SET):
            operation.value = True if kind is Kind.DELETE else _number_in(outcome)
        name = type(outcome).__name__ if isinstance(outcome, Exception) else "answered"
        self.report.outcomes[f"{kind.name.lower()} {name}"] += 1

    async def outcome(self, host: Host, work: Deferred[Any]) -> Any:
        """What came of a call: its result, an error, or the process's end, whichever is first."""
        call = object()
        self._under_way[call] = f"a call at {host.name}, begun at {self.world.time.now:.1f} s"
        outcome = await self.end_of(host, work)
        del self._under_way[call]
        return outcome

    async def end_of(self, host: Host, work: Deferred[Any]) -> Any:
        """The same of what may take any time."""
        done: Deferred[Any] = Deferred()

        def ended(result: Any) -> None:
            if not done.called:
                done.callback(result)

        work.addCallbacks(ended, lambda failure: ended(failure.value))
        host.when_ended.append(lambda: ended(ProcessEnded("the process has ended")))
        outcome = await done
        if isinstance(outcome, Exception) and not isinstance(outcome, _DOCUMENTED):
            self.violated(f"a call failed with {outcome!r}")
        return outcome

    async def _write_field(self, client: str, host: Host, rng: Random) -> None:
        """Several write into one map at once, each a field of its own: all of them are to stay."""
        service = host.service
        assert service is not None
        self._values += 1
        key, name = b"map %d" % rng.randrange(3), f"field {self._values}"
        outcome = await self.outcome(host, service.apply_delta(key, {name: 1}))
        self.world.log(f"{client} {host.name} DELTA {key.decode()} {name} -> {type(outcome).__name__}")
        self.report.outcomes[f"delta {type(outcome).__name__}"] += 1
        if not isinstance(outcome, Exception):
            self._fields.setdefault(key, []).append(name)

    async def _write_for_a_while(self, client: str, host: Host, rng: Random) -> None:
        """Write something that expires, and read it, by the time of its group."""
        service = host.service
        assert service is not None
        self._values += 1
        key, ttl = b"brief %d" % self._values, rng.uniform(*_TTL_SECONDS)
        written = [self.world.time.now]
        outcome = await self.outcome(host, service.set(key, self._values, ttl=ttl))
        written.append(self.world.time.now)
        self.world.log(f"{client} {host.name} BRIEF {key.decode()} {ttl:.1f} s -> {type(outcome).__name__}")
        self.report.outcomes[f"brief {type(outcome).__name__}"] += 1
        await self.world.wait(rng.uniform(0.0, 2 * ttl))
        readers = self.world.callers()
        if isinstance(outcome, Exception) or not readers or self._is_over:
            return
        host = rng.choice(readers)
        reader: Any = host.service
        read = [self.world.time.now]
        found = await self.outcome(host, reader.get(key))
        read.append(self.world.time.now)
        if isinstance(found, Exception) or self.world.faults[Fault.CLOCK]:
            return
        first = min(written) + ttl - _ROUNDING_SECONDS - _EXPIRY_SLACK_SECONDS
        last = max(written) + ttl + _EXPIRY_STEP_SECONDS + _EXPIRY_SLACK_SECONDS
        if found is not None and min(read) > last:
            self.violated(f"{key!r} is read at {host.name} though it has expired")
        if found is None and max(read) < first:
            self.violated(f"{key!r} is not read at {host.name} though it has not expired")

    # The end

    def _get_well(self) -> None:
        world = self.world
        self._is_over = True
        world.log("# the faults are over")
        for host in world.hosts:
            if host.service is None and host.is_down:
                world.boot(host)
        begun_at = world.time.now
        is_well = world.run_until(
            lambda: not world.differences() and not world.misplaced(), self._options.end_seconds
        )
        self.report.well_seconds = world.time.now - begun_at
        if not is_well:
            for difference in world.differences()[:5]:
                self.violated(f"no true ring at the end: {difference}")
            for wrong in world.misplaced()[:5]:
                self.violated(f"not well: {wrong}")

    def _judge(self) -> None:
        if self.report.violations:
            return
        self._judge_calls()
        self._read_all()
        self._exact.judge()
        self._watching.judge()
        self._judge_news()
        for key, operations in by_key(self.operations).items():
            try:
                wrong = unexplained(operations)
            except TooHard:
                self.report.too_hard += 1
            else:
                if wrong is not None:
                    self.violated(f"{key!r}: not linearizable: {wrong}")

    def _judge_calls(self) -> None:
        """Each call ends, as it may."""
        seconds = self.world.settings.operation_timeout_seconds + _ENDING_SECONDS
        if not self.world.run_until(lambda: not self._under_way, seconds):
            for call in self._under_way.values():
                self.violated(f"it does not end: {call}")

    def _judge_news(self) -> None:
        news = self.world.news
        for what in news.untrue(self.operations):
            self.violated(f"news that are not true: {what}")
        running = {id(host.service) for host in (*self.world.hosts, *self.world.guests)}
        # Who was cut off asks anew when what it asked before has failed.
        self.world.run_for(self.world.settings.operation_timeout_seconds + _ENDING_SECONDS)
        for what in news.missed(self.operations, self._present, lambda service: id(service) in running):
            self.violated(f"news are missed: {what}")
        self._hear_in_quiet()

    def _hear_in_quiet(self) -> None:
        """Whoever listens hears all that becomes of a key, each change once, in order."""
        world, expected = self.world, []
        service: Any = self._rng.choice(world.members()).service
        running = {id(host.service) for host in (*world.hosts, *world.guests)}
        for number in range(2):
            for is_gone in (False, True):
                work = service.delete(_NEWS_KEY) if is_gone else service.set(_NEWS_KEY, number)
                failed: list[Any] = []
                self._complete(work.addErrback(failed.append))
                if failed:
                    return  # too full, which reading has not shown
                expected.append((_NEWS_KEY, is_gone))
                world.run_for(_NEWS_SECONDS)
        for listener in world.news.listeners:
            heard = [change for change in listener.heard if change[0] == _NEWS_KEY]
            if id(listener.service) in running and heard != expected:
                self.violated(f"news are missed, or in disorder, in quiet: {listener.name} hears {heard}")

    def _read_all(self) -> None:
        """In quiet, when nothing may fail."""
        self.world.run_for(max(_TTL_SECONDS) + _EXPIRY_SLACK_SECONDS)
        begun = len(self.operations)
        for key in self._keys:
            members = self.world.members()
            for host in self._rng.sample(members, min(2, len(members))):
                assert host.service is not None
                reading = Deferred.fromCoroutine(self._operate("the end", host, Kind.GET, key))
                self._complete(reading)
        for key, names in self._fields.items():
            host = self._rng.choice(self.world.members())
            assert host.service is not None
            found: list[Any] = []
            self._complete(host.service.get(key).addBoth(found.append))
            missing = [name for name in names if not isinstance(found[0], dict) or name not in found[0]]
            if missing:
                self.violated(f"{key!r}: fields are lost: {missing}")

        unanswered = [each for each in self.operations[begun:] if not each.is_answered]
        if unanswered:
            self.violated(f"{len(unanswered)} reads are not answered, though all is well")
        self._list_all({each.key: each.value for each in self.operations[begun:]})

    def _list_all(self, read: dict[bytes, Any]) -> None:
        """What listings say is what was read."""
        service: Any = self._rng.choice(self.world.members()).service
        found: list[Any] = []
        self._complete(service.copy().addBoth(found.append))
        self._complete(service.count().addBoth(found.append))
        listed, count = found
        self._present = {*listed} if isinstance(listed, dict) else set()
        if not isinstance(listed, dict) or count != len(listed):
            self.violated(
                f"listings fail, or do not agree: {listed if isinstance(listed, Exception) else count}"
            )
        elif {key: _number_in(listed.get(key)) for key in read} != read:
            self.violated("a listing is not what was read")

    def _complete(self, work: Deferred[Any]) -> None:
        while not work.called:
            self.world.run_for(0.05)


def _number_in(stored: Any) -> Any:
    """Which number was stored, be it in a large value."""
    return stored[0] if isinstance(stored, list) else stored


def run_seed(
    seed: int,
    options: Options,
    print_line: Callable[[str], None] | None = None,
    *,
    wants_debug: bool = False,
) -> Report:
    """Run one seed to its verdict.

    :param wants_debug: whether the log has what nodes log for debugging, too.
    """
    with tempfile.TemporaryDirectory() as folder:
        run = Run(seed, options, Path(folder), print_line)
        run.world.wants_debug = wants_debug
        report = run.run()
        run.world.end()
        return report
