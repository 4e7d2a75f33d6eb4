"""The service that is fuzzed, among honest ones, on virtual time. Its turns are measured, its log is watched.

Everything here is drawn from a seed. Only the processor time of a turn is real, and it decides nothing but
whether a turn was too long.
"""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from random import Random
from typing import Any

from attrs import evolve
from twisted.logger import LogEvent, eventAsText, globalLogPublisher

from chordtx import (
    ChordService,
    ChordSettings,
    MeshService,
    MeshSettings,
    SyncService,
    SyncSettings,
)
from chordtx.config import GroupSettings
from chordtx.mesh import MeshConnection
from chordtx.sim.network import Network
from chordtx.sim.virtual import NodeReactor, VirtualCall
from chordtx.wire import flags
from tests.fuzz.memory import plain_bytes
from tests.mesh.fuzz import Stranger
from tests.sim.cluster import DELAY_SECONDS, Cluster

TURN_SECONDS_MAX = 0.5
KEPT_BYTES_MAX = 128 * 1024
#: What one look at the clock moves it on by where turns are to end early: six pieces of work a turn.
TICK_SECONDS = 0.0002
#: No real node has so many legacy peers, nor such keys: what bounds them is to be reached here.
MESH = MeshSettings(
    decoded_bytes_per_second_max=1 << 40, received_bytes_max=KEPT_BYTES_MAX, known_peers_max=50
)
PARTITION_BITS = 4
GROUPS = GroupSettings(
    log_bytes_max=20_000, held_operations_max=20, waiting_operations_max=50, ids_seconds=20.0
)
CHORD = ChordSettings(
    mesh=MESH,
    groups=GROUPS,
    partition_bits=PARTITION_BITS,
    positions_unnamed_max=10,
    store_bytes_max=1 << 20,
    placement_settle_seconds=0.3,
)
SYNC = SyncSettings(mesh=MESH, store_records_max=300, store_bytes_max=1 << 20)
NODES = 3
OWN_KEYS = [b"honest %d" % number for number in range(8)]
#: How long broadcasts are remembered, and old links looked for.
FORGET_SECONDS = 130.0
SAY_SECONDS = 10.0
#: Longer than a closed link has timers.
CLOSED_SECONDS = 30.0
LOG_EVENTS_KEPT = 20


class Failed(AssertionError):
    """The service did what it must not do."""


class Meter:
    """The longest of all turns, in seconds of processor time."""

    def __init__(self) -> None:
        self.longest_seconds = 0.0

    def measure(self, turn: Callable[[], Any]) -> None:
        """Do something, in one turn of a reactor. :raises Failed: when it takes too long."""
        began = time.thread_time()
        turn()
        seconds = time.thread_time() - began
        if seconds > self.longest_seconds:
            self.longest_seconds = seconds
        if seconds > TURN_SECONDS_MAX:
            raise Failed(f"a turn took {seconds:.2f} s of the processor")


class MeteredReactor(NodeReactor):
    """A node's reactor whose turns are measured.

    :param tick_seconds: its clock moves on by this at each look, so that turns have an end. With 0 it stands
        still within a turn, and all that strangers ask is served in the turn in which it comes.
    """

    def __init__(self, network: MeteredNetwork, host: str, tick_seconds: float) -> None:
        super().__init__(network.time, network, host)
        self._meter = network.meter
        self._tick_seconds = tick_seconds
        self._shown_seconds = 0.0

    def seconds(self) -> float:
        """Twisted's."""
        if not self._tick_seconds:
            return self.time.now
        self._shown_seconds = max(self._shown_seconds + self._tick_seconds, self.time.now)
        return self._shown_seconds

    def happens(self, call: VirtualCall) -> None:
        """See :class:`~chordtx.sim.virtual.NodeReactor`."""
        self._meter.measure(lambda: super(MeteredReactor, self).happens(call))


class MeteredNetwork(Network):
    """A network of processes whose turns are measured."""

    def __init__(self, *arguments: Any, meter: Meter, tick_seconds: float) -> None:
        super().__init__(*arguments)
        self.meter = meter
        self._tick_seconds = tick_seconds

    def process(self, host: str) -> NodeReactor:
        """See :class:`~chordtx.sim.network.Network`."""
        self._down.pop(host, None)
        reactor = self._processes[host] = MeteredReactor(self, host, self._tick_seconds)
        return reactor


class MeteredCluster(Cluster):
    """Nodes whose turns are measured."""

    def __init__(self, make: Callable[..., Any], seed: int, meter: Meter, tick_seconds: float) -> None:
        super().__init__(make, seed)
        network_rng = Random(self.rng.random())
        self.network = MeteredNetwork(
            self.time, network_rng, lambda *_: DELAY_SECONDS, meter=meter, tick_seconds=tick_seconds
        )


class WatchedLog:
    """What is logged; a failure in it is what fuzzing looks for."""

    def __init__(self) -> None:
        self._failures: list[LogEvent] = []

    def __enter__(self) -> WatchedLog:
        globalLogPublisher.addObserver(self._observe)
        return self

    def __exit__(self, *raised: object) -> None:
        globalLogPublisher.removeObserver(self._observe)

    def _observe(self, event: LogEvent) -> None:
        if event.get("log_failure") is not None and len(self._failures) < LOG_EVENTS_KEPT:
            self._failures.append(event)

    def check(self) -> None:
        """:raises Failed: when there was a failure."""
        if self._failures:
            raise Failed("\n".join(eventAsText(event) for event in self._failures))


def _chord(*arguments: Any, settings: MeshSettings, **options: Any) -> ChordService:
    return ChordService(*arguments, settings=evolve(CHORD, mesh=settings), **options)


def _sync(*arguments: Any, settings: MeshSettings, **options: Any) -> SyncService:
    return SyncService(*arguments, settings=evolve(SYNC, mesh=settings), **options)


MAKE: dict[str, Callable[..., Any]] = {"mesh": MeshService, "chord": _chord, "sync": _sync}


def _stored(node: Any) -> Iterator[Any]:
    if isinstance(node, SyncService):
        yield from vars(node._replica).values()
        return
    yield node._legacy._host.entries._entries
    hosting = node._hosting
    for group in () if hosting is None else hosting.groups.groups.values():
        replica = group.replica
        yield from (replica.state, replica.asides, replica._asides_unsaved)
        yield from (replica.copy, replica._sources, replica._draft, replica._missed)


class World:
    """Honest nodes and legacy peers, and the node that strangers come to.

    :param service: ``mesh``, ``chord`` or ``sync``.
    :param has_short_turns: whether what strangers ask is served in many turns.
    :ivar node: the one that is fuzzed. :ivar others: its neighbours.
    """

    def __init__(self, service: str, seed: int, has_short_turns: bool) -> None:
        self.meter = Meter()
        self._cluster = MeteredCluster(MAKE[service], seed, self.meter, TICK_SECONDS * has_short_turns)
        options: dict[str, Any] = {"settings": MESH}
        if service == "sync":
            options["leasing"] = bool(seed % 4 // 2)
        nodes = self._cluster.several(NODES, **options)
        self.node: Any = nodes[0]
        self.others: list[Any] = nodes[1:]
        self.has_dict = service != "mesh"
        self.node._methods["echo"] = lambda caller, value: [value]
        self._cluster.run(8.0)
        rng = Random(seed)
        self._old = [Stranger(self.node, kind, rng) for kind in ("bin", "str")]
        for peer in self._old:
            peer.greet()
        self.own: dict[bytes, Any] = {}
        self._written = 0
        self.write_own()

    @property
    def stored_bytes(self) -> int:
        """What the records of all nodes take, with what groups and hosts of legacy peers keep beside them."""
        return plain_bytes(chain.from_iterable(map(_stored, self._nodes))) if self.has_dict else 0

    @property
    def _nodes(self) -> list[Any]:
        return [self.node, *self.others]

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self._cluster.run(seconds)

    def write_own(self) -> None:
        """Honest writers write all of their records."""
        for key in OWN_KEYS if self.has_dict else ():
            self._written += 1
            self.own[key] = {"written": self._written}
            self._result(self.others[0].set(key, self.own[key]))
        self.run(0.2)  # a synchronized dict is read from memory

    # Checks

    def check_served(self) -> None:
        """Honest peers are answered as ever. :raises Failed: when one is not."""
        link = self.others[0].routing_table.get(self.node.id)
        if link is None:
            raise Failed("an honest node has lost its link")
        if self._result(link.call("echo", "honest", timeout_seconds=5.0)) != ["honest"]:
            raise Failed("an honest node was answered something else")
        for peer in self._old:
            self._check_old(peer)

    def _check_old(self, peer: Stranger) -> None:
        if not peer.gone:
            peer.transport.clear()
            peer.say(flags.REQUEST, peer.dialect.text("*"))
            self.run(0.05)
        if peer.gone:
            raise Failed(f"an honest legacy peer was cut off: {peer.link.close_reason}")
        if not any(message.payload[0] == flags.PEERS for message in peer.heard()):
            raise Failed("an honest legacy peer was not answered")

    def check_own(self, keys: Iterable[bytes]) -> None:
        """What honest writers wrote stands. :raises Failed: when it does not."""
        for key in keys:
            value = self.own[key]
            found = self._result(self.node.get(key, None))
            if found != value:
                raise Failed(f"{key!r} is {found!r:.200}, not {value!r}")

    def _result(self, work: Any) -> Any:
        try:
            return self._cluster.result(work)
        except Exception as error:
            raise Failed(f"an honest caller got {error!r:.500}") from error

    # The end

    def settle(self, *, is_own_safe: bool) -> None:
        """All strangers are gone: let be forgotten what is remembered for a while only.

        :param is_own_safe: whether strangers were no members: groups that a member has had its way with may
            have nobody any more who leads them.
        """
        self._wait(FORGET_SECONDS)
        for node in (self.node, *self.others):
            node.recv(10**6)
        self.node.send("everybody", "forgets old ids when a new one comes")
        self.run(1.0)
        if is_own_safe:
            self.write_own()
            self.check_own(self.own)

    def _wait(self, seconds: float) -> None:
        """Let time pass in which legacy peers are heard of, or they would be taken for dead."""
        for _ in range(int(seconds / SAY_SECONDS)):
            self.run(SAY_SECONDS)
            for peer in self._old:
                peer.say(flags.REQUEST, peer.dialect.text("*"))
                peer.transport.clear()

    def check_links(self) -> None:
        """No link is held by anybody once it was closed for a while. :raises Failed: when one is."""
        closed = weakref.WeakSet(self._closed_links())
        self._wait(CLOSED_SECONDS)
        gc.collect()
        held = list(closed)
        if held:
            holders = {type(holder).__name__ for holder in gc.get_referrers(held[0])}
            raise Failed(f"{len(held)} closed links are held: {held[0]!r} by {sorted(holders)}")

    def _closed_links(self) -> list[MeshConnection]:
        links = [link for link in gc.get_objects() if isinstance(link, MeshConnection)]
        return [link for link in links if link.closed and link.owner is self.node]

    def stop(self) -> None:
        """Everything ends."""
        for peer in self._old:
            peer.end()
        for node in (self.node, *self.others):
            node.stopService()
        self._cluster.run(40.0)
