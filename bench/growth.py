"""How a ring's costs grow with it: counted, not timed, on a simulated network.

    python bench/growth.py 16 64 200

For each size: links, idle frames and bytes a second a node, and the frames that one set, one get, one join,
one leave and one crash cost the whole ring. Announcements are counted apart.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time as system_time
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import globalLogBeginner

from chordtx.chord.service import ChordService
from chordtx.config import ChordSettings
from chordtx.mesh import MeshConnection
from chordtx.sim.network import Network
from chordtx.sim.virtual import VirtualTime
from chordtx.wire import flags

PORT = 4000
DELAY_SECONDS = 0.0005
IDLE_SECONDS = 30.0
SETTLE_SECONDS_MAX = 120.0
JOIN_APART_SECONDS = 0.2
OPERATIONS = 30
OF_OPERATIONS = ("call do", "reply", "groups")


class Counted:
    """What is sent."""

    def __init__(self) -> None:
        self.frames: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        send = MeshConnection.send_message

        def counted(link: Any, message: Any, plain: bool = False) -> None:
            kind = kind_of(message.payload)
            self.frames[kind] += 1
            self.bytes[kind] += len(message.data)
            send(link, message, plain)

        MeshConnection.send_message = counted  # type: ignore[method-assign]

    def clear(self) -> None:
        self.frames.clear()
        self.bytes.clear()

    def total(self) -> int:
        """Frames, announcements apart."""
        return sum(self.frames.values()) - self.frames["announce"]


NAMES = {number: name.lower() for name, number in vars(flags).items() if isinstance(number, int)}


def kind_of(payload: Any) -> str:
    """What a frame is about: its sub-flag, or the method of its first call."""
    name = NAMES.get(payload[0], str(payload[0])) if payload[0] != flags.ANNOUNCE else "announce"
    if payload[0] == flags.CALL:
        return f"call {payload[1][0][1]}"
    return name


class Ring:
    """One ring of simulated nodes."""

    def __init__(self, seed: int, bits: int) -> None:
        self.rng = Random(seed)
        self.time = VirtualTime(Random(f"{seed} order"))
        self.network = Network(self.time, Random(f"{seed} delays"), lambda source, target: DELAY_SECONDS)
        self.nodes: list[ChordService] = []
        self.hosts: dict[ChordService, str] = {}
        self.settings = ChordSettings(partition_bits=bits)
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
        """Whether the ring is in order, and every partition has one leader and a full group."""
        walk = sorted(self.nodes, key=lambda node: -node.id_10)
        for node, after in zip(walk, [*walk[1:], walk[0]], strict=True):
            successor = node._ring.successor
            if len(walk) > 1 and (successor is None or successor.id != after.id_10):
                return False
        identity = walk[0]._identity
        if identity is None:
            return False
        wanted = min(identity.replicas, len(walk))
        led: Counter[int] = Counter()
        for node in walk:
            assert node._hosting is not None
            for partition in node._hosting.leads:
                group = node._hosting.group(partition)
                assert group is not None
                led[partition] += len(group.configuration.members) == wanted and not group.is_changing
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

    def __init__(self, counted: Counted, size: int, bits: int, seed: int) -> None:
        self.counted = counted
        self.size = size
        self.ring = Ring(seed, bits)
        self.idle_frames = 0.0

    def row(self) -> dict[str, Any]:
        """All of it."""
        began, ring = system_time.monotonic(), self.ring
        told = {"nodes": self.size, "formed_seconds": round(self.form(), 1)}
        links = [len(node.routing_table) for node in ring.nodes]
        told |= {"links_mean": round(sum(links) / self.size, 1), "links_max": max(links)}
        told |= self.idle()
        told["set_frames"] = self.operation(lambda node, key, number: node.set(key, number))
        told["get_frames"] = self.operation(lambda node, key, number: node.get(key))
        told["join_frames"], told["join_seconds"] = self.change(ring.add)
        told["leave_frames"], told["leave_seconds"] = self.change(self.leave)
        told["crash_frames"], told["crash_seconds"] = self.change(self.crash)
        return {**told, "took_seconds": round(system_time.monotonic() - began)}

    def form(self) -> float:
        ring = self.ring
        ring.add()
        ring.run(1.0)
        for _ in range(self.size - 1):
            ring.add()
            ring.run(JOIN_APART_SECONDS)
        seconds = ring.settle()
        ring.run(20.0)
        return seconds

    def idle(self) -> dict[str, Any]:
        counted = self.counted
        counted.clear()
        self.ring.run(IDLE_SECONDS)
        per = IDLE_SECONDS * self.size
        self.idle_frames = sum(counted.frames.values()) / IDLE_SECONDS
        return {
            "idle_frames": round(sum(counted.frames.values()) / per, 2),
            "idle_bytes": round(sum(counted.bytes.values()) / per),
            "idle_kinds": {kind: round(n / per, 2) for kind, n in counted.frames.most_common(5)},
        }

    def operation(self, work: Callable[[ChordService, bytes, int], Deferred[Any]]) -> int:
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
        return sorted(found)[OPERATIONS // 2]

    def change(self, work: Callable[[], Any]) -> tuple[int, float]:
        """Frames beyond those of an idle ring, and virtual seconds, until all is in order again."""
        ring, counted = self.ring, self.counted
        counted.clear()
        began = ring.time.now
        work()
        ring.run(1.0)
        ring.settle()
        seconds = ring.time.now - began
        return round(counted.total() - self.idle_frames * seconds), round(seconds, 1)

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("sizes", type=int, nargs="*", default=[16, 64])
    parser.add_argument("--bits", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)
    counted = Counted()
    for size in arguments.sizes:
        print(json.dumps(Measuring(counted, size, arguments.bits, arguments.seed).row()), flush=True)
        gc.collect()


if __name__ == "__main__":
    main()
