"""What listeners to ``add`` and ``delete`` cost: counted, not timed, on a simulated network.

    python bench/key_events.py --keys 20000 --nodes 8 --listeners 9

Nodes of the ring listen, and last the client, as many as are said. Prints how many frames and bytes are sent
while a client loads new keys: run it with no listeners, too, to see how much of it is for them.
"""

from __future__ import annotations

import argparse
from collections import Counter
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from chordtx import ChordService
from chordtx.mesh import MeshConnection, light
from chordtx.sim.network import Network
from chordtx.sim.virtual import VirtualTime

PORT = 4000
DELAY_SECONDS = 0.0005
AT_ONCE = 64


class Counted:
    """What is sent."""

    def __init__(self) -> None:
        self.frames = self.bytes = 0
        send = MeshConnection.send_message

        def counted(link: Any, message: Any, plain: bool = False) -> None:
            self.frames += 1
            self.bytes += len(message.data)
            send(link, message, plain)

        MeshConnection.send_message = counted  # type: ignore[method-assign]
        made = light.light_frame

        def counted_light(flag: int, body: bytes) -> bytes:
            frame = made(flag, body)
            self.frames += 1
            self.bytes += len(frame)
            return frame

        light.light_frame = counted_light

    def clear(self) -> None:
        self.frames = self.bytes = 0


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
    print(f"{keys} keys set one by one, {AT_ONCE} at a time, in a ring of {nodes}")
    print(f"{listeners} of {nodes + 1} nodes listen")
    print(f"told of each key exactly once: {all(heard[place] == keys for place in range(listeners))}")
    print(f"frames: {counted.frames:,}, {counted.frames / keys:.1f} a key")
    print(f"bytes: {counted.bytes:,}, {counted.bytes / keys:,.0f} a key")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="What listeners cost.")
    parser.add_argument("--keys", type=int, default=20_000)
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--listeners", type=int, default=9)
    given = parser.parse_args()
    main(given.keys, given.nodes, given.listeners)
