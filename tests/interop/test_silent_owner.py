"""A key all of whose positions one legacy peer owns: it overwrites and deletes that without a word."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater

from chordtx.legacy.tables import Place, places_of
from chordtx.mesh import MeshConnection
from chordtx.ring import SIZE, distance
from chordtx.wire import decode_id, encode_id
from tests.interop.mixed_ring import MixedRing, add_legacy, in_step, let_join, start_ours
from tests.interop.peers import LegacyPeers, until

pytestmark = pytest.mark.interop


def owned_by(ring: MixedRing, library: str) -> bytes | None:
    """A key whose five positions all belong to the legacy peer; None when its arc is too small for that."""
    peer = decode_id(ring.old[library].id, bits_max=384)
    for number in range(20_000):
        key = f"silent {number}".encode()
        nearer = [
            distance(place.position, peer) < min(distance(place.position, node.id_10) for node in ring.ours)
            for place in places_of(key)
        ]
        if all(nearer):
            return key
    return None


@pytest.mark.parametrize("library", ["py2p", "js2p"])
@pytest_twisted.ensureDeferred
async def test_what_it_does_alone_is_seen_by_all(
    legacy_peers: LegacyPeers, running_reactor: Any, library: str
) -> None:
    ours = await start_ours(running_reactor, "silent", count=2)
    ring = MixedRing(running_reactor, ours, {}, [])
    try:
        peer = await add_legacy(ring, legacy_peers, library)
        while (key := owned_by(ring, library)) is None:
            await peer.kill()  # ids come by chance: another one has another arc
            peer = await add_legacy(ring, legacy_peers, library)
        await ours[0].set(key, "first")
        await ring.all_read(key, "first")
        for name in ring.names:
            await ring.write(library, key, f"by the old one, before {name}")
            await ring.all_read(key, f"by the old one, before {name}")
            await ring.write(name, key, f"by {name}")
            await ring.all_read(key, f"by {name}")
        await until(running_reactor, peer.keys, lambda keys: key in keys)
        await peer.delete(key)
        for number in range(len(ours)):
            await until(
                running_reactor, lambda number=number: ring.read(number, key), lambda found: found is None
            )
    finally:
        await DeferredList([node.stopService() for node in ours])


@pytest_twisted.ensureDeferred
async def test_while_it_hangs_everything_goes_on(legacy_peers: LegacyPeers, running_reactor: Any) -> None:
    peer = await legacy_peers.start("py2p", subnet="silent", encryption="Plaintext")
    ids = [encode_id((decode_id(peer.id, bits_max=384) - number) % SIZE) for number in (1, 2, 3)]
    ours = await start_ours(running_reactor, "silent", ids=ids)
    ring = MixedRing(running_reactor, ours, {}, [])
    try:
        await let_join(ring, "py2p", peer)
        await ours[0].set(b"key", 1)
        members = [node._ring.successors for node in ours]
        peer.hang()
        for number, node in enumerate(ours, start=2):
            await node.set(b"key", number)
            assert await ours[0].get(b"key") == number
        assert [node._ring.successors for node in ours] == members
        peer.hang(False)
        await ring.all_read(b"key", 4)
    finally:
        await DeferredList([node.stopService() for node in ours])


@pytest_twisted.ensureDeferred
async def test_its_empty_tables_delete_nothing_when_it_leaves(
    legacy_peers: LegacyPeers, running_reactor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """py2p says that it ceases to store, and empties its tables: whoever asks it just then finds nothing."""
    peer = await legacy_peers.start("py2p", subnet="silent", encryption="Plaintext")
    place = decode_id(peer.id, bits_max=384)
    ids = [encode_id((place - number) % SIZE) for number in (1, 2, 3)]  # so that the ring is all its own
    ours = await start_ours(running_reactor, "silent", ids=ids)
    ring = MixedRing(running_reactor, ours, {}, [])
    try:
        await let_join(ring, "py2p", peer)
        kept = {f"kept {number}".encode(): number for number in range(60)}
        await ours[0].update(kept)
        await in_step(ring)  # what it has in its tables says something from now on

        def as_it_leaves(link: MeshConnection, place: Place) -> Deferred[Any]:
            def left(_: None) -> None:
                link.leeching = True  # what it says before is always there before the answer

            return deferLater(running_reactor, 0.05).addCallback(left)

        for node in ours:
            monkeypatch.setattr(node._legacy._tables, "get", as_it_leaves)
        for node in ours:
            assert await node.get_many(kept) == kept
        monkeypatch.undo()
        for node in ours:
            node.routing_table[peer.id].leeching = False
        await peer.command("be_about_to_unjoin")
        for node in ours:
            assert await node.get_many(kept) == kept
        await peer.unjoin()
        await peer.close()
        for node in ours:
            assert await node.get_many(kept) == kept
    finally:
        await DeferredList([node.stopService() for node in ours])
