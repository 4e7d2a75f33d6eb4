"""How a ring's costs grow with it: counted, not timed, on a simulated network.

    python bench/growth.py 16 64 200

For each size: links, idle frames and bytes a second a node, and the frames that one set, one get, one set of
a new key that some nodes listen for, one join, one leave and one crash cost the whole ring.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time as system_time
from collections import Counter
from collections.abc import Callable
from math import inf
from random import Random
from statistics import mean
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import globalLogBeginner

from chordtx.chord.leaders import node_id_of
from chordtx.chord.ring_identity import RingIdentity
from chordtx.chord.service import ChordService
from chordtx.config import ChordSettings, MeshSettings
from chordtx.mesh import MeshConnection, light
from chordtx.mesh.handshake import Greeting
from chordtx.ring.partitions import lowest_position
from chordtx.sim.network import Network
from chordtx.sim.virtual import VirtualTime
from chordtx.wire import Message, flags
from chordtx.wire.packing import unpack_scanned

PORT = 4000
DELAY_SECONDS = 0.0005
IDLE_SECONDS = 30.0
SETTLE_SECONDS_MAX = 120.0
JOIN_APART_SECONDS = 0.2
CALM_SECONDS = 10.0
CALM_WINDOWS_MAX = 12
CALM = 0.98  # a ring is calm when it sends no less than this share of what it sent before
OPERATIONS = 30
LISTENERS = (0, 1, 4, 16)
CHANGES = 3
#: What goes on in any case; lookups are many in a ring that has fingers, and few come with a change.
PERIODIC = ("reply", "call ping", "call find", "call neighbours", "call notify")
AFTER_SECONDS = 5.0
OF_OPERATIONS = ("call do", "reply", "groups")
OF_NEW_KEYS = (*OF_OPERATIONS, "announce", "notify")


class Counted:
    """What is sent, and how many ends of links are opened."""

    def __init__(self) -> None:
        self.opened = 0
        self.frames: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        send = MeshConnection.send_message

        def counted(link: MeshConnection, message: Message, plain: bool = False) -> None:
            kind = kind_of(message.payload)
            self.frames[kind] += 1
            self.bytes[kind] += len(message.data)
            send(link, message, plain)

        MeshConnection.send_message = counted  # type: ignore[assignment, method-assign]
        made = light.light_frame

        def counted_light(flag: int, body: bytes) -> bytes:
            frame = made(flag, body)
            kind = kind_of([flag, unpack_scanned(body) if flag == flags.CALL else None])
            self.frames[kind] += 1
            self.bytes[kind] += len(frame)
            return frame

        light.light_frame = counted_light
        opened = MeshConnection._opened

        def counted_opened(link: MeshConnection, greeting: Greeting, ours: bool) -> None:
            self.opened += 1
            opened(link, greeting, ours)

        MeshConnection._opened = counted_opened  # type: ignore[assignment, method-assign]

    def clear(self) -> None:
        self.frames.clear()
        self.bytes.clear()
        self.opened = 0

    def total(self) -> int:
        """Frames."""
        return sum(self.frames.values())

    def bytes_total(self) -> int:
        """Bytes."""
        return sum(self.bytes.values())


NAMES = {number: name.lower() for name, number in vars(flags).items() if isinstance(number, int)}


def kind_of(payload: Any) -> str:
    """What a frame is about: its sub-flag, or the method of its first call."""
    if payload[0] == flags.CALL:
        return f"call {payload[1][0][1]}"
    return NAMES.get(payload[0], str(payload[0]))


def rows_of(walk: list[ChordService], identity: RingIdentity) -> list[set[bytes]]:
    """Who ought to keep each partition.

    :param walk: all nodes, in the order of the walk.
    """
    ids = [node.id_10 for node in walk]
    rows = []
    for partition in range(identity.partitions):
        position = lowest_position(partition, identity.partition_bits)
        # The walk goes toward smaller ids: the owner is the nearest at or below, or the greatest of all.
        first = next((place for place, id in enumerate(ids) if id <= position), 0)
        row = [ids[(first + place) % len(ids)] for place in range(min(identity.replicas, len(ids)))]
        rows.append({node_id_of(id) for id in row})
    return rows


class Ring:
    """One ring of simulated nodes."""

    def __init__(self, seed: int, bits: int, links: int) -> None:
        self.rng = Random(seed)
        self.time = VirtualTime(Random(f"{seed} order"))
        self.network = Network(self.time, Random(f"{seed} delays"), lambda source, target: DELAY_SECONDS)
        self.nodes: list[ChordService] = []
        self.hosts: dict[ChordService, str] = {}
        self.settings = ChordSettings(partition_bits=bits, mesh=MeshSettings(connections_max=links))
        self.count = 0

    def add(self) -> ChordService:
        number = self.count = self.count + 1
        host = f"10.{number // 65536}.{number // 256 % 256}.{number % 256}"
        peers = [str(node._own_address()) for node in self.rng.sample(self.nodes, min(3, len(self.nodes)))]
        node = ChordService(
            self.network.process(host),
            listen=f"tcp:{PORT}:interface={host}",
            peers=peers,
            settings=self.settings,
            rng=Random(self.rng.getrandbits(64)),
            wall_clock=lambda: self.time.now + 1e9,
        )
        self.hosts[node] = host
        node.startService()
        self.nodes.append(node)
        return node

    def run(self, seconds: float) -> None:
        self.time.run(self.time.now + seconds)

    def result(self, work: Deferred[Any]) -> Any:
        found: list[Any] = []
        work.addBoth(found.append)
        while not found:
            self.run(0.001)
        return found[0]

    def is_settled(self) -> bool:
        """Whether the ring is in order, and every partition has one leader, and is kept by who ought to."""
        walk = sorted(self.nodes, key=lambda node: -node.id_10)
        for node, after in zip(walk, [*walk[1:], walk[0]], strict=True):
            successor = node._ring.successor
            if len(walk) > 1 and (successor is None or successor.id != after.id_10):
                return False
        identity = walk[0]._identity
        if identity is None:
            return False
        rows = rows_of(walk, identity)
        led: Counter[int] = Counter()
        for node in walk:
            assert node._hosting is not None
            for partition in node._hosting.leads:
                group = node._hosting.group(partition)
                assert group is not None
                led[partition] += group.configuration.ids == rows[partition] and not group.is_changing
        return len(led) == identity.partitions and set(led.values()) == {1}

    def settle(self) -> float:
        """Run until it is; :returns: after how long, in virtual seconds."""
        began = self.time.now
        while not self.is_settled():
            if self.time.now - began > SETTLE_SECONDS_MAX:
                print("  not settled in time", file=sys.stderr)
                break
            self.run(0.5)
        return self.time.now - began


class Measuring:
    """One ring, measured."""

    def __init__(self, counted: Counted, size: int, ring: Ring) -> None:
        self.counted = counted
        self.size = size
        self.ring = ring
        self.idle_kinds: Counter[str] = Counter()  # a second

    def row(self) -> dict[str, Any]:
        """All of it."""
        began = system_time.monotonic()
        told: dict[str, Any] = {"nodes": self.size}
        steps = (
            ("ring", self.form),
            ("idle", self.idle),
            ("set", lambda: self.operation("set", lambda node, key, number: node.set(key, number))),
            ("get", lambda: self.operation("get", lambda node, key, number: node.get(key))),
            ("idle again", self.idle),
            ("changes", self.changes),
            ("a new key", self.new_key),
        )
        for name, step in steps:
            told |= step()
            say(f"{self.size} nodes: {name} done after {system_time.monotonic() - began:.0f} s")
        return {**told, "took_seconds": round(system_time.monotonic() - began)}

    def form(self) -> dict[str, Any]:
        """Make the ring, node by node."""
        ring = self.ring
        ring.add()
        ring.run(1.0)
        for _ in range(self.size - 1):
            ring.add()
            ring.run(JOIN_APART_SECONDS)
            if not len(ring.nodes) % 100:
                say(f"{len(ring.nodes)} nodes have come")
        return {"formed_seconds": round(ring.settle(), 1)}

    def idle(self) -> dict[str, Any]:
        """Wait until the ring is calm, and count what goes on in it then."""
        counted, before = self.counted, inf
        for _ in range(CALM_WINDOWS_MAX):
            counted.clear()
            self.ring.run(CALM_SECONDS)
            if counted.total() > CALM * before:
                break
            before = counted.total()
        counted.clear()
        self.ring.run(IDLE_SECONDS)
        per = IDLE_SECONDS * self.size
        self.idle_kinds = Counter({kind: n / IDLE_SECONDS for kind, n in counted.frames.items()})
        links = [len(node.routing_table) for node in self.ring.nodes]
        return {
            "links_mean": round(sum(links) / len(links), 1),
            "links_max": max(links),
            "idle_frames": round(counted.total() / per, 2),
            "idle_bytes": round(counted.bytes_total() / per),
            "idle_opened": round(counted.opened / per, 3),
            "idle_kinds": {kind: round(n / per, 2) for kind, n in counted.frames.most_common(5)},
        }

    def operation(
        self, name: str, work: Callable[[ChordService, bytes, int], Deferred[Any]]
    ) -> dict[str, Any]:
        """Frames of one, when the leader is known: the median of some."""
        ring, found = self.ring, []
        for number in range(OPERATIONS):
            node, key = ring.rng.choice(ring.nodes), b"key %d" % number
            ring.result(work(node, key, 0))
            ring.run(0.1)
            self.counted.clear()
            ring.result(work(node, key, 1))
            ring.run(0.003)
            found.append(sum(self.counted.frames[kind] for kind in OF_OPERATIONS))
        return {f"{name}_frames": sorted(found)[OPERATIONS // 2]}

    def new_key(self) -> dict[str, Any]:
        """Frames of one set of a new key, by how many nodes listen to ``add``: the median of some."""
        ring, told = self.ring, {}
        listening: list[ChordService] = []
        for count in LISTENERS:
            for node in ring.nodes[len(listening) : count]:
                node.on("add", heard)
                listening.append(node)
            for node in listening:
                ring.result(node.when_hearing())
            found = []
            for number in range(OPERATIONS):
                node, key = ring.rng.choice(ring.nodes), b"new key %d, %d" % (count, number)
                ring.result(node.get(key))  # the leader is known then
                ring.run(0.1)
                self.counted.clear()
                ring.result(node.set(key, 1))
                ring.run(0.005)
                found.append(sum(self.counted.frames[kind] for kind in OF_NEW_KEYS))
            told[str(len(listening))] = sorted(found)[OPERATIONS // 2]
        for node in listening:
            node.remove_listener("add", heard)
        return {"new_key_frames": told}

    def changes(self) -> dict[str, Any]:
        """Each kind of change in turn, so that the ring stays as large as it is: the mean of some."""
        told: dict[str, Any] = {}
        for name, work in (("leave", self.leave), ("crash", self.crash)):
            for _ in range(CHANGES):
                for each, does in (("join", self.ring.add), (name, work)):
                    for what, number in self.change(does).items():
                        told.setdefault(f"{each}_{what}", []).append(number)
        return {what: round(mean(numbers), 1) for what, numbers in told.items()}

    def change(self, work: Callable[[], Any]) -> dict[str, float]:
        """Until all is in order again: frames, links that were made, and virtual seconds.

        What goes on in any case is left out, for a large ring sends more of it than the change: and so, since
        most answers are to that, each call counts for its answer too.
        """
        ring, counted = self.ring, self.counted
        counted.clear()
        began = ring.time.now
        work()
        ring.settle()
        seconds = ring.time.now - began
        ring.run(AFTER_SECONDS)
        idle_seconds = ring.time.now - began
        frames = 0.0
        for kind, count in counted.frames.items():
            if kind not in PERIODIC:
                excess = count - idle_seconds * self.idle_kinds[kind]
                frames += 2 * excess if kind.startswith("call ") else excess
        return {"frames": frames, "links": counted.opened / 2, "seconds": seconds}

    def leave(self) -> None:
        self.ring.result(self._some().stopService())

    def crash(self) -> None:
        node = self._some()
        self.ring.network.kill(self.ring.hosts[node], is_silent=False)
        node._closing = True
        node._ring.leave()

    def _some(self) -> ChordService:
        nodes = self.ring.nodes
        return nodes.pop(self.ring.rng.randrange(1, len(nodes)))


def heard(node: ChordService, key: bytes) -> None:
    """A listener."""


def say(text: str) -> None:
    """How far it is."""
    print(f"  {text}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("sizes", type=int, nargs="*", default=[16, 64])
    parser.add_argument("--bits", type=int, default=10, help="of a partition's number")
    parser.add_argument("--links", type=int, default=64, help="connections_max")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)
    gc.set_threshold(200_000, 50, 100)  # by default it would take most of the time
    counted = Counted()
    for size in arguments.sizes:
        ring = Ring(arguments.seed, arguments.bits, arguments.links)
        print(json.dumps(Measuring(counted, size, ring).row()), flush=True)
        gc.collect()


if __name__ == "__main__":
    main()
