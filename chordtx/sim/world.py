"""One run: real services on virtual time and a simulated network, clients that use them, and faults.

Everything is drawn from one seed, so that the same seed gives the same run, event by event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, succeed

from chordtx.chord import ChordService
from chordtx.chord.leaders import node_id_of
from chordtx.config import ChordSettings, GroupSettings, MeshSettings
from chordtx.sim.group_disk import GroupDisk
from chordtx.sim.hosts import PORT, SKEW_SECONDS, Host, ObservedService, opened
from chordtx.sim.invariants import zave_violations
from chordtx.sim.network import Network
from chordtx.sim.news import News
from chordtx.sim.plan import BEYOND_PROOF, Episode, Fault, draw_episodes
from chordtx.sim.service_watch import ServiceWatch
from chordtx.sim.virtual import VirtualTime, WallClock

_LAN_SECONDS = (0.0001, 0.001)
_WAN_SECONDS = (0.005, 0.06)
_WAN_SHARE = 0.2
#: Two clocks that only run forward differ by less than 5 % in rate: that is assumed of them.
_DRIFT_MAX = 0.024
# How long before an episode begins, and after it has ended, things may go wrong because of it.
_BEFORE_SECONDS = 1.0
_AFTER_SECONDS = 4.0
_SMALL_SHARE = 0.25
_SMALL_VALUE_BYTES = 100_000
_SMALL_STORE_BYTES = (300_000, 4_000_000)


@frozen(kw_only=True)
class Options:
    """What a run is like.

    :ivar nodes: how many there are at the start; None draws 8 to 24. :ivar seconds: virtual time with faults.
    :ivar settle_seconds: between faults. :ivar end_seconds: the longest that all may take to be well again at
        the end.
    :ivar keys: how many are written and read. :ivar clients: how many callers at once.
    :ivar think_seconds: from one call of a client to its next, on average, around a fault.
    :ivar idle_factor: how much longer they think at other times.
    :ivar has_listeners: whether somebody listens to keys that come and go.
    :ivar without: faults that are left out.
    :ivar settings: of all nodes; None draws them. :ivar disks: whether hosts have some; None draws it.
    :ivar stops: whether a run is over with the first thing that is wrong.
    """

    nodes: int | None = None
    seconds: float = 180.0
    settle_seconds: float = 12.0
    end_seconds: float = 90.0
    keys: int = 24
    clients: int = 6
    think_seconds: float = 0.4
    idle_factor: float = 12.0
    has_listeners: bool = True
    without: frozenset[Fault] = frozenset()
    settings: ChordSettings | None = None
    disks: bool | None = None
    stops: bool = False


class World:
    """One run.

    :param folder: for the disks of its hosts.
    :ivar hosts: all machines there ever were, but those of ``guests``, whose nodes only use the ring.
    :ivar faults: how many episodes of each kind there were.
    :ivar clocks_ahead_seconds: what all wall clocks were set ahead by.
    """

    def __init__(
        self, seed: int, options: Options, folder: Path, print_line: Callable[[str], None] | None = None
    ) -> None:
        self.seed = seed
        self.options = options
        self.rng = Random(f"{seed} faults")
        self.time = VirtualTime(Random(f"{seed} order"))
        self._base_delays: dict[tuple[str, str], float] = {}
        self._delay_rng = Random(f"{seed} distances")
        self._drift_rng = Random(f"{seed} drifts")
        self.network = Network(self.time, Random(f"{seed} delays"), self._delay_seconds)
        self.hosts: list[Host] = []
        self.about_to_leave: list[Host] = []
        self.guests: list[Host] = []
        self.faults: Counter[Fault] = Counter()
        self._is_beyond_proof = False
        self._is_on: Deferred[None] = succeed(None)
        self.clocks_ahead_seconds = 0.0
        self._eventful: list[tuple[float, float]] = []
        self.wants_debug = False
        self.complained: Callable[[str], None] = lambda _: None
        self.watch = ServiceWatch(lambda what: self.complained(what))
        self.news = News(lambda: self.time.now, self.log)
        self._ended: list[ChordService] = []  # kept, so that Python cleans up after none while the run lasts
        self._print_line = print_line
        self._digest = sha256()
        self.settings = options.settings or _draw_settings(Random(f"{seed} settings"))
        drawn = self.rng.random() < 0.5
        self.has_disks = drawn if options.disks is None else options.disks
        self._folder = folder

    # The log

    def log(self, text: str) -> None:
        """Note an event. Where the disks are is another place in each run, and so is not in it."""
        line = f"{self.time.now:12.6f} {text.replace(str(self._folder), 'disks')}"
        self._digest.update(line.encode() + b"\n")
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
        clock = WallClock(self.time, self.clocks_ahead_seconds + skew_seconds)
        name = f"10.0.{number // 250}.{number % 250 + 1}"
        disk = self.disk(name) if self.has_disks else None
        rate = 1.0 + self._drift_rng.uniform(-_DRIFT_MAX, _DRIFT_MAX)
        host = Host(name, clock, rate, disk)
        self.hosts.append(host)
        self.boot(host)
        return host

    def disk(self, name: str) -> GroupDisk:
        """An empty disk for a host."""
        return GroupDisk(self._folder / name)

    def add_guest(self) -> None:
        """One more machine, with a node that only uses the ring."""
        name = f"10.9.0.{len(self.guests) + 1}"
        guest = Host(name, WallClock(self.time, self.clocks_ahead_seconds), 1.0, None, is_guest=True)
        self.guests.append(guest)
        self.boot(guest)

    def callers(self) -> list[Host]:
        """Hosts whose node may be asked for something."""
        return [
            host
            for host in (*self.members(), *self.guests)
            if host.service is not None and host.service._joining.is_joined
        ]

    def _draw_peers(self, host: Host) -> list[str]:
        """Addresses for a node to join through; some may be of nodes that have left, or are about to, but
        never all."""
        others = [each for each in self.hosts if each is not host]
        peers = self.rng.sample(others, min(3, len(others)))
        present = [each for each in others if each.is_member or each.is_down]
        present = [each for each in present if each not in self.about_to_leave]
        if not any(each in present for each in peers):
            peers = self.rng.sample(present, min(3, len(present)))
        return [each.address for each in peers]

    def boot(self, host: Host, peers: list[str] | None = None) -> None:
        """Start the node of a host. One that was in a ring before knows whom it knew then.

        :param peers: addresses to join through; some of our ring when None.
        """
        reactor = self.network.process(host.name, host.rate)
        if peers is None:
            peers = [] if host.known else self._draw_peers(host)
        host.incarnation += 1
        rng = Random(f"{self.seed} {host.name} {host.incarnation}")
        service = host.service = ObservedService(
            reactor,
            listen=None if host.is_guest else f"tcp:{PORT}:interface={host.name}",
            peers=peers,
            subnet="sim",
            settings=self.settings,
            rng=rng,
            wall_clock=host.wall_clock,
            remembered=host.known,
            open_folder=None if host.disk is None else lambda _: opened(host, reactor, rng),
        )
        if host.is_outsider:
            service.changed, service.observed_by = lambda _: None, ServiceWatch(lambda _: None)
        else:
            service.changed, service.observed_by = partial(self._ring_looks, host), self.watch
        host.is_leaving = host.is_down = False
        self.log(f"{host.name} starts as {service.id[:8]}, through {' '.join(peers) or 'nobody'}")
        service.startService()
        if host.has_listener:
            self.news.listen(host.name, service)

    def crash(self, host: Host, is_silent: bool) -> None:
        """End a host's process without a word."""
        service = host.service
        assert service is not None
        self.log(f"{host.name} {'loses power' if is_silent else 'is killed'}")
        self.network.kill(host.name, is_silent)
        if host.folder is not None:
            host.folder.crash(self.rng)
            host.folder = None
        if service._identity is not None:  # who only waited for a ring is started again as it was at first
            host.known = [str(address) for address in service._known_addresses()]
        _silence(service)
        self._ended.append(service)
        host.service, host.is_down = None, True
        service.observed_by.down(node_id_of(service.id_10))
        self._process_ended(host)

    def end(self) -> None:
        """The run is over: nothing is left to be done when Python cleans up, which may be in a later run."""
        services = [host.service for host in (*self.hosts, *self.guests) if host.service is not None]
        for service in (*services, *self._ended):
            _silence(service)
            service._tasks.cancel()

    def _process_ended(self, host: Host) -> None:
        when_ended, host.when_ended = host.when_ended, []
        for tell in when_ended:
            tell()

    def _ring_looks(self, host: Host, broken: list[str]) -> None:
        for what in broken:
            self.complained(f"{host.name}: {what}")
        if not self._is_beyond_proof:
            for what in zave_violations(
                each.service._ring for each in self.hosts if each.service is not None
            ):
                self.complained(f"after a change at {host.name}: {what}")

    def differences(self) -> list[str]:
        """What is not as it is in the one true ring."""
        services: list[Any] = [host.service for host in self.members()]
        rings = sorted((service._ring for service in services), key=lambda ring: -ring.me.id)
        order = [ring.me.id for ring in rings]
        found = [f"{s._own_address()} is in no ring" for s in services if not s._ring.is_member]
        for place, ring in enumerate(rings):
            after = [*order[place + 1 :], *order[:place]]
            if [contact.id for contact in ring.successors] != after[: ring.list_length]:
                found.append(f"successors of {ring.me.host}")
            if (None if ring.predecessor is None else ring.predecessor.id) != (after[-1] if after else None):
                found.append(f"predecessor of {ring.me.host}")
        return found

    def misplaced(self) -> list[str]:
        """Partitions without a leader, with two, or whose group is too small or too large, or changes."""
        services: list[Any] = [host.service for host in self.members()]
        identity = next((s._identity for s in services if s._identity is not None), None)
        if identity is None:
            return ["no ring has begun"]
        wrong = []
        count = min(identity.replicas, len(services))
        for partition in range(identity.partitions):
            groups = [s._hosting.group(partition) for s in services if s._hosting is not None]
            leading = [group for group in groups if group is not None and group.is_leading]
            if len(leading) != 1:
                wrong.append(f"partition {partition} has {len(leading)} leaders")
            elif leading[0].is_changing:
                wrong.append(f"partition {partition} changes its members")
            elif len(leading[0].configuration.members) != count:
                wrong.append(f"partition {partition} has {len(leading[0].configuration.members)} members")
        return wrong

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
                self.watch.down(node_id_of(service.id_10))
                self.network.kill(host.name, is_silent=False)
                self._process_ended(host)

        self._depart(service).addBoth(left)

    def _depart(self, service: ChordService) -> Deferred[None]:
        """Have a node leave for good. (One that has a disk stays a member when it is only stopped.)"""
        return service.unjoin().addBoth(lambda _: service.stopService())

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

    async def when_on(self) -> None:
        """Wait while everything is switched off."""
        if not self._is_on.called:
            waiting: Deferred[None] = Deferred()
            self._is_on.addCallback(lambda _: waiting.callback(None))
            await waiting

    # Faults

    def schedule(self, episodes: list[Episode], begin: Callable[[Episode], None]) -> None:
        """Let the episodes come. :param begin: does to this world what one is about."""
        for episode in episodes:
            self.time.call_later(episode.at, partial(self._begin, episode, begin))
            begins = self.time.now + episode.at
            self._eventful.append((begins - _BEFORE_SECONDS, begins + episode.seconds + _AFTER_SECONDS))

    @property
    def is_eventful(self) -> bool:
        """Whether some episode is about to begin, goes on, or has ended only just now."""
        return any(begins <= self.time.now < ends for begins, ends in self._eventful)

    def episodes(self) -> list[Episode]:
        """Those of this seed."""
        options = self.options
        return draw_episodes(
            self.rng, options.seconds, options.settle_seconds, options.without, has_disks=self.has_disks
        )

    def _begin(self, episode: Episode, begin: Callable[[Episode], None]) -> None:
        self.faults[episode.fault] += 1
        self.log(f"# {episode.fault.value} ({episode.count}, {episode.seconds:.1f} s)")
        self._is_beyond_proof |= episode.fault in BEYOND_PROOF
        begin(episode)

    def switch_off(self, days: float) -> None:
        """All processes end, and some days later they start again, one after another."""
        self.faults[Fault.OFF] += 1
        self.log(f"# off for {days:.1f} days")
        running = [host for host in (*self.hosts, *self.guests) if host.service is not None]
        self.rng.shuffle(running)
        for host in running:
            self.crash(host, is_silent=self.rng.random() < 0.5)
        self._is_on = Deferred()
        self.run_for(days * 86_400.0)
        self._is_on.callback(None)
        for host in running:
            self.boot(host)
            self.run_for(self.rng.uniform(0.0, 2.0))


def _draw_settings(rng: Random) -> ChordSettings:
    """Some that an operator may choose. Now and then limits are small, so that they are reached."""
    is_small = rng.random() < _SMALL_SHARE
    return ChordSettings(
        partition_bits=rng.choice([2, 3, 4]),
        successors_max=rng.choice([4, 5, 8]),
        stabilize_interval_seconds=rng.choice([1.0, 2.0, 3.0]),
        announce_interval_seconds=rng.choice([0.05, 1.0]),
        mesh=MeshSettings(ping_interval_seconds=rng.choice([1.0, 2.0, 4.0])),
        restart_grace_seconds=rng.choice([3.0, 10.0, 60.0]),
        placement_settle_seconds=rng.choice([0.3, 1.0]),
        value_bytes_max=_SMALL_VALUE_BYTES if is_small else ChordSettings().value_bytes_max,
        store_bytes_max=rng.choice(_SMALL_STORE_BYTES) if is_small else ChordSettings().store_bytes_max,
        groups=GroupSettings(
            lease_seconds=rng.choice([0.3, 1.0]),
            held_operations_max=1 if is_small else GroupSettings().held_operations_max,
            waiting_operations_max=3 if is_small else GroupSettings().waiting_operations_max,
        ),
    ).validate()


def _silence(service: ChordService) -> None:
    """Let nothing of a dead process be done when Python cleans up after it."""
    service._closing = True
    service._ring.leave()
