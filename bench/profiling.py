"""Where the time goes: five nodes and a client in one process, under cProfile."""

from __future__ import annotations

import cProfile
import pstats
from itertools import count
from typing import Any

from measuring import Load, Samples, measure
from systems import KEYS, SUBNET, VALUE
from twisted.internet.task import deferLater

from chordtx.chord import ChordService

NODES = 5
AT_ONCE = 64
_LISTEN = "tcp:0:interface=127.0.0.1"
_SETTLE_SECONDS = 2.0


async def profile(reactor: Any, seconds: float, top: int) -> None:
    """Print the functions with the most time of their own, for sets and then for gets."""
    nodes = [await _started(reactor, [])]
    host, port = nodes[0].out_addr
    for _ in range(NODES - 1):
        nodes.append(await _started(reactor, [f"{host}:{port}"]))
    client = await _started(reactor, [f"{host}:{port}"], listen=None)
    await deferLater(reactor, _SETTLE_SECONDS, lambda: None)
    for key in KEYS:
        await client.set(key, VALUE)
    for load in (Load("set", AT_ONCE), Load("get", AT_ONCE)):
        await _profile_one(client, load, seconds, top)
    for node in [client, *reversed(nodes)]:
        await node.stopService()


async def _started(reactor: Any, peers: list[str], listen: str | None = _LISTEN) -> ChordService:
    node = ChordService(reactor, listen=listen, peers=peers, subnet=SUBNET)
    node.startService()
    await node.when_joined()
    return node


async def _profile_one(client: ChordService, load: Load, seconds: float, top: int) -> None:
    numbers = count()

    def set_next() -> Any:
        return client.set(b"new-%09d" % next(numbers), VALUE)

    def get_next() -> Any:
        return client.get(KEYS[next(numbers) % len(KEYS)])

    operation = {"set": set_next, "get": get_next}[load.operation]
    plain, profiled = Samples(), Samples()
    await measure(seconds, operation, load.at_once, plain)
    profiler = cProfile.Profile()
    profiler.enable()
    try:
        await measure(seconds, operation, load.at_once, profiled)
    finally:
        profiler.disable()
    done = len(profiled.latencies_seconds)
    print(f"\n{load.operation} x {load.at_once}, {NODES} nodes and a client in one process:", end=" ")
    print(f"{plain.ops_per_second:,.0f} a second; {done:,} under the profile")
    pstats.Stats(profiler).sort_stats("tottime").print_stats(top)
