"""One run: real services on virtual time and a simulated network, clients that use them, and faults.

Everything is drawn from one seed, so that the same seed gives the same run, event by event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from math import inf
from random import Random
from typing import Any

import msgpack
from attrs import define, field, frozen
from twisted.internet.defer import Deferred

from chordtx.chord import ChordService
from chordtx.config import ChordSettings, MeshSettings
from chordtx.records import Record
from chordtx.sim.disk import SimulatedDisk, SimulatedStore
from chordtx.sim.history import Operation
from chordtx.sim.invariants import zave_violations
from chordtx.sim.network import Network
from chordtx.sim.plan import FALSE_ALARMS, SPLITS, Episode, Fault, draw_episodes
from chordtx.sim.virtual import VirtualTime, WallClock

PORT = 4000
NODES_MAX = 24
_LAN_SECONDS = (0.0001, 0.001)
_WAN_SECONDS = (0.005, 0.06)
_WAN_SHARE = 0.2
SKEW_SECONDS = 2.0
# A clock is set to something that is off by up to this; so two differ by less than `clock_drift_seconds_max`.
_CLOCK_OFF_SECONDS = 1700.0
_ALL_CLOCKS_SHARE = 0.3
_ALL_CLOCKS_AHEAD_SECONDS = 3 * 3600.0
# How long before an episode begins, and after it has ended, things may go wrong because of it.
_BEFORE_SECONDS = 1.0
_AFTER_SECONDS = 4.0


@frozen(kw_only=True)
class Options:
    """What a run is like.

    :ivar nodes: how many there are at the start; None draws 8 to 24. :ivar seconds: virtual time with faults.
    :ivar settle_seconds: between faults, and the longest that all may take to be well again at the end.
    :ivar keys: how many are written and read. :ivar clients: how many callers at once.
    :ivar think_seconds: from one call of a client to its next, on average, around a fault.
    :ivar idle_factor: how much longer they think at other times.
    :ivar settings: of all nodes; None draws them.
    """

    nodes: int | None = None
    seconds: float = 180.0
    settle_seconds: float = 12.0
    end_seconds: float = 90.0
    keys: int = 24
    clients: int = 6
    think_seconds: float = 0.4
    idle_factor: float = 12.0
    without: frozenset[Fault] = frozenset()
    settings: ChordSettings | None = None


@define(eq=False)
class Host:
    """One machine.

    :ivar wall_clock: its time of day. :ivar disk: None keeps nothing when its process ends.
    :ivar service: None while no process runs.
    :ivar is_down: whether it crashed and is to come back. :ivar incarnation: how often it was started.
    :ivar calls: what clients asked of it, by key. :ivar when_ended: called when its process ends.
    """

    name: str
    wall_clock: WallClock
    disk: SimulatedDisk | None
    service: ChordService | None = None
    is_leaving: bool = False
    is_down: bool = False
    incarnation: int = 0
    calls: dict[bytes, list[Operation]] = field(factory=dict)
    when_ended: list[Callable[[], None]] = field(factory=list)

    @property
    def is_member(self) -> bool:
        """Whether its node runs, and is to stay."""
        return self.service is not None and not self.is_leaving

    @property
    def address(self) -> str:
        """Where its node is reached."""
        return f"{self.name}:{PORT}"


class ObservedService(ChordService):
    """A node as it is, but that the world is told what it is about to store, and what its ring looks like."""

    stored: Callable[[bytes, Record], None]
    changed: Callable[[list[str]], None]

    def _put_together(self) -> None:
        super()._put_together()
        coordinator: Any = self._coordinator
        store = coordinator._store

        def observed(key: bytes, record: Record, *arguments: Any) -> Any:
            if record.version.writer == self._clock._writer:
                self.stored(key, record)
            return store(key, record, *arguments)

        coordinator._store = observed

    def _ring_changed(self) -> None:
        self.changed(self._ring.check())
        super()._ring_changed()


class World:
    """One run.

    :ivar hosts: all machines there ever were. :ivar faults: how many episodes of each kind there were.
    :ivar split_from: when the first began after which more than one version of the truth may be served.
    """

    def __init__(self, seed: int, options: Options, print_line: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.options = options
        self.rng = Random(f"{seed} faults")
        self.time = VirtualTime(Random(f"{seed} order"))
        self._base_delays: dict[tuple[str, str], float] = {}
        self._delay_rng = Random(f"{seed} distances")
        self.network = Network(self.time, Random(f"{seed} delays"), self._delay_seconds)
        self.hosts: list[Host] = []
        self.faults: Counter[Fault] = Counter()
        self.split_from = inf
        self._may_be_taken_for_dead = False
        self._clocks_ahead_seconds = 0.0
        self._eventful: list[tuple[float, float]] = []
        self.wants_debug = False
        self.stored: Callable[[Host, bytes, int, object], None] = lambda *_: None
        self.complained: Callable[[str], None] = lambda _: None
        self._ended: list[ChordService] = []  # kept, so that Python cleans up after none while the run lasts
        self._print_line = print_line
        self._digest = sha256()
        self.log_lines = 0
        self._settings = options.settings or _draw_settings(Random(f"{seed} settings"))
        self._has_disks = self.rng.random() < 0.5

    # The log

    def log(self, text: str) -> None:
        """Note an event."""
        line = f"{self.time.now:12.6f} {text}"
        self._digest.update(line.encode() + b"\n")
        self.log_lines += 1
        if self._print_line is not None:
            self._print_line(line)

    @property
    def digest(self) -> str:
        """Of all that was noted: the same for the same seed."""
        return self._digest.hexdigest()

    # Hosts

    def _delay_seconds(self, source: str, target: str) -> float:
        pair = (source, target) if source < target else (target, source)
        delay = self._base_delays.get(pair)
        if delay is None:
            bounds = _WAN_SECONDS if self._delay_rng.random() < _WAN_SHARE else _LAN_SECONDS
            delay = self._base_delays[pair] = self._delay_rng.uniform(*bounds)
        return delay

    def members(self) -> list[Host]:
        """Hosts whose node runs and is to stay."""
        return [host for host in self.hosts if host.is_member]

    def add_host(self) -> Host:
        """One more machine, with a node that joins through others."""
        number = len(self.hosts) + 1
        skew_seconds = self.rng.uniform(-SKEW_SECONDS, SKEW_SECONDS)
        clock = WallClock(self.time, self._clocks_ahead_seconds + skew_seconds)
        disk = SimulatedDisk() if self._has_disks else None
        host = Host(f"10.0.{number // 250}.{number % 250 + 1}", clock, disk)
        self.hosts.append(host)
        self.boot(host)
        return host

    def _draw_peers(self, host: Host) -> list[str]:
        """Addresses for a node to join through; some may be of nodes that have left, but never all."""
        others = [each for each in self.hosts if each is not host]
        peers = self.rng.sample(others, min(3, len(others)))
        if not any(each.is_member or each.is_down for each in peers):
            present = [each for each in others if each.is_member or each.is_down]
            peers = self.rng.sample(present, min(3, len(present)))
        return [each.address for each in peers]

    def boot(self, host: Host) -> None:
        """Start the node of a host."""
        reactor = self.network.process(host.name)
        peers = self._draw_peers(host)
        remembered: list[str] = []
        values = {} if host.disk is None else host.disk.values
        if values.get("peers"):
            # It knows who it was and whom it knew, and nobody has to tell it again.
            remembered, peers = values["peers"], []
        host.incarnation += 1
        rng = Random(f"{self.seed} {host.name} {host.incarnation}")
        store = None if host.disk is None else SimulatedStore(reactor, host.disk, rng)
        service = host.service = ObservedService(
            reactor,
            listen=f"tcp:{PORT}:interface={host.name}",
            peers=peers,
            subnet="sim",
            settings=self._settings,
            rng=rng,
            store=store,
            node_id=values.get("id"),
            remembered=remembered,
            wall_clock=host.wall_clock,
        )
        values["id"] = service.id
        service.stored = partial(self._record_stored, host)
        service.changed = partial(self._ring_looks, host)
        host.is_leaving = host.is_down = False
        self.log(f"{host.name} starts as {host.service.id[:8]}, through {' '.join(peers) or 'nobody'}")
        host.service.startService()

    def crash(self, host: Host, is_silent: bool) -> None:
        """End a host's process without a word."""
        assert host.service is not None
        self.log(f"{host.name} {'loses power' if is_silent else 'is killed'}")
        self.network.kill(host.name, is_silent)
        if host.disk is not None:
            host.disk.crash(self.rng)
            host.disk.values["peers"] = [str(address) for address in host.service._known_addresses()]
        _silence(host.service)
        self._ended.append(host.service)
        host.service, host.is_down = None, True
        self._process_ended(host)

    def _process_ended(self, host: Host) -> None:
        host.calls = {}
        when_ended, host.when_ended = host.when_ended, []
        for tell in when_ended:
            tell()

    def _record_stored(self, host: Host, key: bytes, record: Record) -> None:
        value = None if record.value is None else msgpack.unpackb(record.value)
        self.stored(host, key, record.version.clock, value)

    def _ring_looks(self, host: Host, broken: list[str]) -> None:
        for what in broken:
            self.complained(f"{host.name}: {what}")
        if not self._may_be_taken_for_dead:
            for what in zave_violations(
                each.service._ring for each in self.hosts if each.service is not None
            ):
                self.complained(f"after a change at {host.name}: {what}")

    def differences(self) -> list[str]:
        """What is not as it is in the one true ring."""
        services = [host.service for host in self.members() if host.service is not None]
        rings = sorted((service._ring for service in services), key=lambda ring: -ring.me.id)
        order = [ring.me.id for ring in rings]
        found = [f"{s._own_address()} has not caught up" for s in services if not s._repair.is_settled]
        for place, ring in enumerate(rings):
            after = [*order[place + 1 :], *order[:place]]
            if [contact.id for contact in ring.successors] != after[: ring.list_length]:
                found.append(f"successors of {ring.me.host}")
            if (None if ring.predecessor is None else ring.predecessor.id) != (after[-1] if after else None):
                found.append(f"predecessor of {ring.me.host}")
        return found

    def leave(self, host: Host) -> None:
        """Stop a host's node politely."""
        assert host.service is not None
        self.log(f"{host.name} leaves")
        host.is_leaving = True
        service = host.service

        def left(_: Any) -> None:
            self.log(f"{host.name} has left")
            if host.service is service:
                host.service = None
                self.network.kill(host.name, is_silent=False)
                self._process_ended(host)

        self._depart(service).addBoth(left)

    def _depart(self, service: ChordService) -> Deferred[None]:
        """Have a node leave for good."""
        return service.stopService()

    # Time

    def run_for(self, seconds: float) -> None:
        """Let that much time pass."""
        self.time.run(self.time.now + seconds)

    def run_until(self, is_so: Callable[[], bool], seconds: float) -> bool:
        """Let time pass until something is so. :returns: whether it came to be in time."""
        deadline = self.time.now + seconds
        while self.time.now < deadline:
            if is_so():
                return True
            self.run_for(0.25)
        return is_so()

    def wait(self, seconds: float) -> Deferred[None]:
        """Fires after a while, by the world's clock."""
        done: Deferred[None] = Deferred()
        self.time.call_later(seconds, lambda: done.callback(None))
        return done

    # Faults

    def schedule(self, episodes: list[Episode]) -> None:
        """Let the episodes come."""
        for episode in episodes:
            self.time.call_later(episode.at, partial(self._begin, episode))
            begins = self.time.now + episode.at
            self._eventful.append((begins - _BEFORE_SECONDS, begins + episode.seconds + _AFTER_SECONDS))

    @property
    def is_eventful(self) -> bool:
        """Whether some episode is about to begin, goes on, or has ended only just now."""
        return any(begins <= self.time.now < ends for begins, ends in self._eventful)

    def episodes(self) -> list[Episode]:
        """Those of this seed."""
        options = self.options
        return draw_episodes(self.rng, options.seconds, options.settle_seconds, options.without)

    def _begin(self, episode: Episode) -> None:
        self.faults[episode.fault] += 1
        self.log(f"# {episode.fault.value} ({episode.count}, {episode.seconds:.1f} s)")
        self._may_be_taken_for_dead |= episode.fault in FALSE_ALARMS
        if episode.fault in SPLITS:
            self.split_from = min(self.split_from, self.time.now)
        begin = getattr(self, f"_begin_{episode.fault.name.lower()}")
        begin(episode, Random(episode.draw))

    def _end_later(self, episode: Episode, end: Callable[[], None]) -> None:
        self.time.call_later(episode.seconds, end)

    def _some(self, episode: Episode, rng: Random, leave: int = 4) -> list[Host]:
        members = self.members()
        return rng.sample(members, max(0, min(episode.count, len(members) - leave)))

    def _begin_join(self, episode: Episode, rng: Random) -> None:
        for _ in range(min(episode.count, NODES_MAX - len(self.members()))):
            self.add_host()

    def _begin_leave(self, episode: Episode, rng: Random) -> None:
        for host in self._some(episode, rng):
            self.leave(host)

    def _begin_kill(self, episode: Episode, rng: Random, is_silent: bool = False) -> None:
        for host in self._some(episode, rng):
            self.crash(host, is_silent)
            self._end_later(episode, partial(self.boot, host))

    def _begin_power(self, episode: Episode, rng: Random) -> None:
        self._begin_kill(episode, rng, is_silent=True)

    def _begin_pause(self, episode: Episode, rng: Random) -> None:
        for host in self._some(episode, rng):
            assert host.service is not None
            reactor = host.service.reactor
            self.log(f"{host.name} stands still")
            reactor.is_paused = True
            self._end_later(episode, reactor.resume)

    def _begin_break(self, episode: Episode, rng: Random) -> None:
        for _ in range(episode.count):
            self.network.break_connection()

    def _begin_slow(self, episode: Episode, rng: Random) -> None:
        names = [host.name for host in self.members()]
        for _ in range(episode.count):
            source, target = rng.sample(names, 2)
            factor = rng.choice([10.0, 30.0, 100.0])
            self.network.slow_down(source, target, factor)
            self._end_later(episode, partial(self.network.slow_down, source, target, 1))

    def _begin_one_way(self, episode: Episode, rng: Random) -> None:
        names = [host.name for host in self.members()]
        self._cut(episode, [tuple(rng.sample(names, 2)) for _ in range(episode.count)])

    def _begin_non_transitive(self, episode: Episode, rng: Random) -> None:
        names = [host.name for host in self.members()]
        pairs = [tuple(rng.sample(names, 2)) for _ in range(episode.count)]
        self._cut(episode, [way for a, b in pairs for way in ((a, b), (b, a))])

    def _begin_split(self, episode: Episode, rng: Random) -> None:
        names = [host.name for host in self.members()]
        rng.shuffle(names)
        place = rng.randrange(1, len(names))
        some, others = names[:place], names[place:]
        self.log(f"{' '.join(some)} | {' '.join(others)}")
        self._cut(episode, [way for a in some for b in others for way in ((a, b), (b, a))])

    def _cut(self, episode: Episode, ways: list[Any]) -> None:
        for way in ways:
            self.network.cut(*way)
            self._end_later(episode, partial(self.network.mend, *way))

    def _begin_clock(self, episode: Episode, rng: Random) -> None:
        if rng.random() < _ALL_CLOCKS_SHARE:
            self._set_all_clocks(rng.uniform(0.0, _ALL_CLOCKS_AHEAD_SECONDS))
            return
        for host in self._some(episode, rng):
            most_seconds = rng.choice([SKEW_SECONDS, _CLOCK_OFF_SECONDS])
            off_seconds = rng.uniform(-most_seconds, most_seconds)
            host.wall_clock.offset_seconds = self._clocks_ahead_seconds + off_seconds
            self.log(f"the clock of {host.name} is set, and is {off_seconds:.1f} s off")

    def _set_all_clocks(self, ahead_seconds: float) -> None:
        self.log(f"all clocks are set ahead by {ahead_seconds:.1f} s")
        self._clocks_ahead_seconds += ahead_seconds
        for host in self.hosts:
            host.wall_clock.offset_seconds += ahead_seconds


def _draw_settings(rng: Random) -> ChordSettings:
    """Some that an operator may choose."""
    return ChordSettings(
        stabilize_interval_seconds=rng.choice([1.0, 2.0, 3.0]),
        hedge_seconds=rng.choice([0.05, 0.25, 1.0]),
        repair_interval_seconds=rng.choice([5.0, 15.0, 30.0]),
        # Announcements are flooded: seldom here, for they would be most of the messages and decide nothing.
        announce_interval_seconds=60.0,
        mesh=MeshSettings(ping_interval_seconds=rng.choice([1.0, 2.0, 4.0])),
        restart_grace_seconds=rng.choice([0.5, 3.0, 10.0]),
    ).validate()


def _silence(service: ChordService) -> None:
    """Let nothing of a dead process be done when Python cleans up after it."""
    service._closing = True
    service._ring.leave()
