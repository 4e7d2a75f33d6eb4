"""A py2p node, a js2p node and three ``twistd chord`` processes in one ring; then the legacy peers go."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import deferLater

from tests.interop.mixed_ring import DOUBTFUL_SECONDS
from tests.interop.peers import LegacyPeer, LegacyPeerError, LegacyPeerGone, LegacyPeers, until
from tests.processes.daemons import Daemons

pytestmark = pytest.mark.interop

SUBNET = "mixed-processes"


@pytest_twisted.async_yield_fixture
async def daemons(running_reactor: Any, free_port: Any) -> AsyncIterator[Daemons]:
    """Makes ``twistd chord`` processes of this subnet, and ends them when the test is over."""
    made = Daemons(running_reactor, free_port, SUBNET)
    yield made
    await made.stop()


async def add_legacy(
    reactor: Any, legacy_peers: LegacyPeers, library: str, port: int, encryption: str
) -> LegacyPeer:
    peer = await legacy_peers.start(library, subnet=SUBNET, encryption=encryption)
    await peer.connect(port)
    await until(reactor, peer.routing_table, bool)
    await peer.join()
    await until(reactor, peer.routing_table, lambda near: sum(p["leeching"] is False for p in near) == 3)
    return peer


async def old_get(peer: LegacyPeer, key: bytes, timeout_seconds: float = 2) -> Any:
    try:
        return await peer.get(key, timeout_seconds=timeout_seconds)
    except (LegacyPeerError, TimeoutError):  # js2p's promises are not all kept
        return None


@pytest.mark.parametrize(
    ("encryption", "libraries"), [("Plaintext", ("py2p", "js2p")), ("SSL", ("py2p",))], ids=["plain", "ssl"]
)
@pytest_twisted.ensureDeferred
async def test_one_ring_of_three_kinds(
    daemons: Daemons,
    legacy_peers: LegacyPeers,
    running_reactor: Any,
    encryption: str,
    libraries: tuple[str, ...],
) -> None:
    first = daemons.start("--encryption", encryption)
    client = await daemons.client(first, encryption=encryption)
    nodes = [first, *(daemons.start("--encryption", encryption, "--peer", first.address) for _ in range(2))]
    await until(running_reactor, lambda: client.health(3), lambda health: not health.complaints)
    clients = [await daemons.client(node, encryption=encryption) for node in nodes]
    old = {
        library: await add_legacy(running_reactor, legacy_peers, library, nodes[number].port, encryption)
        for number, library in enumerate(libraries)
    }
    await deferLater(running_reactor, DOUBTFUL_SECONDS + 1)

    async def all_read(key: bytes, value: Any) -> None:
        for reader in clients:
            await until(running_reactor, lambda reader=reader: reader.get(key), lambda found: found == value)
        for peer in old.values():
            await until(running_reactor, lambda peer=peer: old_get(peer, key), lambda found: found == value)

    writers: dict[str, Any] = {**{f"node {number}": each for number, each in enumerate(clients)}, **old}
    kept: dict[bytes, Any] = {}
    for name, writer in writers.items():
        key = f"by {name}".encode()
        await writer.set(key, {"by": name})
        await all_read(key, {"by": name})
        await writer.apply_delta(key, {"then": b"more"})
        await all_read(key, {"by": name, "then": b"more"})
        for other_name, other in writers.items():
            await other.set(key, other_name)
            await all_read(key, other_name)
            kept[key] = other_name
        await writer.set(key + b" deleted", 1)
        await all_read(key + b" deleted", 1)
        await writer.delete(key + b" deleted")
        await until(
            running_reactor, lambda key=key: clients[0].get(key + b" deleted"), lambda found: found is None
        )

    many = {f"many {number}".encode(): [number, "text", b"\x00"] for number in range(200)}
    await clients[0].update(many)
    kept.update(many)

    # One leaves as its library does, one dies: the three go on, with everything that was acknowledged.
    if "js2p" in old:
        await old.pop("js2p").kill()
    py2p = old.pop("py2p")
    try:
        await py2p.unjoin()
        await py2p.close()
    except LegacyPeerGone:
        # Two of its threads write to one TLS socket, which now and then is the end of it: then it died too.
        assert encryption == "SSL"
    await until(running_reactor, lambda: clients[1].get_many(kept), lambda found: found == kept)
    assert sorted([key async for key in clients[2].keys()]) == sorted(kept)
    await clients[2].set("afterwards", "still")
    await all_read(b"afterwards", "still")
    assert [node.status for node in nodes] == [None] * 3
