"""Published legacy peers while nodes of ours join, leave and start again."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import DeferredList

from chordtx import ChordService, ChordSettings
from tests.interop.mixed_ring import HOST, MixedRing, add_legacy, in_step, start_ours
from tests.interop.peers import LegacyPeers, until

pytestmark = pytest.mark.interop

KEYS = [b"key %d" % number for number in range(8)]


async def all_read(ring: MixedRing, value: Any) -> None:
    for key in KEYS:
        await ring.all_read(key, value)


def made(reactor: Any, ring: MixedRing, data: str | None = None) -> ChordService:
    settings = ChordSettings(partition_bits=4)
    peers = [f"{HOST}:{ring.port(0)}"]
    listen = f"tcp:0:interface={HOST}"
    return ChordService(reactor, listen, peers=peers, subnet="changing", settings=settings, data=data)


@pytest.mark.parametrize("library", ["py2p", "js2p"])
@pytest_twisted.ensureDeferred
async def test_hosts_change_while_a_legacy_peer_stores(
    legacy_peers: LegacyPeers, running_reactor: Any, library: str, tmp_path: Any
) -> None:
    ours = await start_ours(running_reactor, "changing", count=2)
    ring = MixedRing(running_reactor, ours, {}, [])
    try:
        await add_legacy(ring, legacy_peers, library)
        for key in KEYS:
            await ours[0].set(key, "first")
        await all_read(ring, "first")
        for number in range(2):  # two come, of which one has a disk
            node = made(running_reactor, ring, str(tmp_path / "data") if number else None)
            ours.append(node)
            node.startService()
            await node.when_joined()
        await all_read(ring, "first")
        await in_step(ring)
        for key in KEYS:
            await ring.write(library, key, "second")
        await all_read(ring, "second")
        await ours.pop(1).stopService()  # one leaves
        await all_read(ring, "second")
        await ours[-1].stopService()  # one starts again, from its disk
        for key in KEYS[:4]:
            await ring.write(0, key, "third")
        ours[-1].startService()
        await ours[-1].when_joined()
        await in_step(ring)
        for key in KEYS[4:]:
            await ring.write(library, key, "third")
        await all_read(ring, "third")
    finally:
        await DeferredList([node.stopService() for node in ours])


@pytest.mark.parametrize("library", ["py2p", "js2p"])
@pytest_twisted.ensureDeferred
async def test_a_legacy_peer_that_only_uses_the_ring(
    legacy_peers: LegacyPeers, running_reactor: Any, library: str
) -> None:
    ours = await start_ours(running_reactor, "using")
    ring = MixedRing(running_reactor, ours, {}, [])
    try:
        for key in KEYS:
            await ours[0].set(key, "first")
        peer = await legacy_peers.start(library, subnet="using", encryption="Plaintext")
        await peer.connect(ring.port(1))
        await until(
            running_reactor, peer.routing_table, lambda near: any(p["leeching"] is False for p in near)
        )
        ring.old[library] = peer
        await all_read(ring, "first")
        await until(running_reactor, ring.believes, bool)
        for key in KEYS:
            await ring.write(library, key, "second")
        await all_read(ring, "second")
    finally:
        await DeferredList([node.stopService() for node in ours])
