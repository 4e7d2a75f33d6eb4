"""What announcing keys costs: counted, not timed, on a simulated network.

    python bench/announcements.py --keys 20000 --nodes 8 --listeners 9

Nodes of the ring listen, and last the client, as many as are said. Prints how many frames and bytes of all
that is sent while a client loads keys announce them, and what that comes to for a million keys.
"""

from __future__ import annotations

import argparse
from collections import Counter
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from chordtx import ChordService
from chordtx.mesh import MeshConnection
from chordtx.sim.network import Network
from chordtx.sim.virtual import VirtualTime
from chordtx.wire import flags

PORT = 4000
DELAY_SECONDS = 0.0005
AT_ONCE = 64


class Counted:
    """What is sent, by whether it announces."""

    def __init__(self) -> None:
        self.frames: Counter[bool] = Counter()
        self.bytes: Counter[bool] = Counter()
        self.announcements: set[bytes] = set()
        send = MeshConnection.send_message

        def counted(link: Any, message: Any, plain: bool = False) -> None:
            announces = message.payload[0] == flags.ANNOUNCE
            self.frames[announces] += 1
            self.bytes[announces] += len(message.data)
            if announces:
                self.announcements.add(message.id)
            send(link, message, plain)

        MeshConnection.send_message = counted  # type: ignore[method-assign]

    def clear(self) -> None:
        self.frames.clear()
        self.bytes.clear()
        self.announcements.clear()


def ring(time: VirtualTime, network: Network, count: int) -> list[ChordService]:
    """A ring, and a client as its last."""
    nodes: list[ChordService] = []
    for number in range(count + 1):
        host = f"10.0.0.{number + 1}"
        is_client = number == count
        node = ChordService(
            network.process(host),
            listen=None if is_client else f"tcp:{PORT}:interface={host}",
            peers=[f"10.0.0.1:{PORT}"] if nodes else [],
            leech=is_client,
            rng=Random(number),
        )
        nodes.append(node)
        node.startService()
        time.run(time.now + 3)
    time.run(time.now + 20)
    return nodes


async def load(client: ChordService, keys: int) -> None:
    waiting = iter(range(keys))

    async def one_after_another() -> None:
        for number in waiting:
            await client.set(f"key number {number}", number)

    await gatherResults([Deferred.fromCoroutine(one_after_another()) for _ in range(AT_ONCE)])


def main(keys: int, nodes: int, listeners: int) -> None:
    counted = Counted()
    time = VirtualTime(Random(1))
    network = Network(time, Random(2), lambda *_: DELAY_SECONDS)
    members = ring(time, network, nodes)
    heard: Counter[int] = Counter()
    for place, node in enumerate(members[:listeners]):
        node.on("add", lambda _, key, place=place: heard.update([place]))
    time.run(time.now + 2)
    counted.clear()
    done: list[Any] = []
    Deferred.fromCoroutine(load(members[-1], keys)).addBoth(done.append)
    while not done:
        time.run(time.now + 0.1)
    time.run(time.now + 2)
    frames, size = counted.frames, counted.bytes
    each = size[True] / (keys * nodes)
    print(f"{keys} keys set one by one, {AT_ONCE} at a time, in a ring of {nodes}")
    print(f"{listeners} of {nodes + 1} nodes listen")
    print(f"told of each key exactly once: {all(heard[place] == keys for place in range(listeners))}")
    count = len(counted.announcements)
    print(f"announcements: {count}, of {keys / count if count else 0:.0f} keys each")
    print(f"frames: {frames.total():,}, of which {frames[True] / frames.total():.1%} announce")
    print(f"bytes: {size.total():,}, of which {size[True] / size.total():.1%} announce")
    print(f"that is {each:.0f} bytes a key and node: {each * 1e6 / 2**20:.0f} MiB to each for a million keys")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="What announcing keys costs.")
    parser.add_argument("--keys", type=int, default=20_000)
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--listeners", type=int, default=9)
    given = parser.parse_args()
    main(given.keys, given.nodes, given.listeners)
