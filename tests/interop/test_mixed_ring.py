"""Legacy peers as members of a ring of ours: a py2p node, a js2p node and three of our own, all storing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.internet.task import deferLater

from chordtx import ChordService, ChordSettings, MeshSettings
from chordtx.legacy.tables import places_of
from chordtx.ring import HASHES
from chordtx.wire import Message, decode_id, encode_id, flags, offered
from tests.interop.mixed_ring import HOST, OURS, MixedRing, add_legacy, listen_to, start_ours
from tests.interop.peers import LegacyPeers, until

pytestmark = pytest.mark.interop


@pytest_twisted.async_yield_fixture
async def mixed_ring(legacy_peers: LegacyPeers, running_reactor: Any) -> AsyncIterator[MixedRing]:
    ours = await start_ours(running_reactor, "mixed")
    ring = MixedRing(running_reactor, ours, {}, [listen_to(node) for node in ours])
    await add_legacy(ring, legacy_peers, "py2p")
    await add_legacy(ring, legacy_peers, "js2p")
    yield ring
    await DeferredList([node.stopService() for node in ours])


@pytest_twisted.ensureDeferred
async def test_each_reads_what_each_wrote(mixed_ring: MixedRing) -> None:
    for name in mixed_ring.names:
        for number in range(4):
            key = f"{name} {number}".encode()
            value = {"by": str(name), "bytes": b"\x00\xff", "list": [1, number]}
            await mixed_ring.write(name, key, value)
            await mixed_ring.all_read(key, value)


@pytest_twisted.ensureDeferred
async def test_each_overwrites_what_each_wrote(mixed_ring: MixedRing) -> None:
    for first in mixed_ring.names:
        key = f"of {first}".encode()
        await mixed_ring.write(first, key, "first")
        await mixed_ring.all_read(key, "first")
        for then in mixed_ring.names:
            value = f"by {then}"
            await mixed_ring.write(then, key, value)
            await mixed_ring.all_read(key, value)


@pytest_twisted.ensureDeferred
async def test_each_deletes_what_each_wrote(mixed_ring: MixedRing) -> None:
    keys: list[bytes] = []
    for first in mixed_ring.names:
        for then in mixed_ring.names:
            key = f"{first} deleted by {then}".encode()
            await mixed_ring.write(first, key, "there")
            await mixed_ring.all_read(key, "there")
            if then == "py2p":  # py2p deletes only what it was told of
                await until(
                    mixed_ring.reactor, mixed_ring.old["py2p"].keys, lambda keys, key=key: key in keys
                )
            await mixed_ring.delete(then, key)
            for name in range(OURS):
                await until(
                    mixed_ring.reactor,
                    lambda name=name, key=key: mixed_ring.read(name, key),
                    lambda v: v is None,
                )
            keys.append(key)
    # Together, for a legacy peer waits for the whole time-out when there is nothing.
    for old in mixed_ring.old:
        read = [Deferred.fromCoroutine(mixed_ring.read(old, key)) for key in keys]
        assert await gatherResults(read) == [None] * len(keys)


@pytest_twisted.ensureDeferred
async def test_each_applies_deltas(mixed_ring: MixedRing) -> None:
    for first in mixed_ring.names:
        key = f"map of {first}".encode()
        value: dict[str, Any] = {"first": str(first)}
        await mixed_ring.write(first, key, value)
        await mixed_ring.all_read(key, value)
        for then in mixed_ring.names:
            await mixed_ring.apply_delta(then, key, {f"by {then}": 1})
            value = {**value, f"by {then}": 1}
            await mixed_ring.all_read(key, value)


@pytest_twisted.ensureDeferred
async def test_each_is_told_what_comes_and_goes(mixed_ring: MixedRing) -> None:
    for name in mixed_ring.names:
        key = f"event of {name}".encode()
        await mixed_ring.write(name, key, 1)
        await until(mixed_ring.reactor, lambda key=key: everyone_heard(mixed_ring, key), all)
        await mixed_ring.all_read(key, 1)
        await mixed_ring.delete(name, key)
        if name not in mixed_ring.old:  # js2p never says what it deletes, and py2p not to itself
            await until(
                mixed_ring.reactor, mixed_ring.old["py2p"].events, lambda e, key=key: ["delete", key] in e
            )
        # Nor does js2p send anything, if all the key's positions are its own: then reading finds it out.
        await until(mixed_ring.reactor, lambda key=key: mixed_ring.read(0, key), lambda found: found is None)
        for heard in mixed_ring.events:
            await until(
                mixed_ring.reactor, lambda heard=heard: as_is(heard), lambda h, key=key: ("delete", key) in h
            )
    for heard in mixed_ring.events:
        for name in mixed_ring.names:
            key = f"event of {name}".encode()
            assert [event for event in heard if event[1] == key] == [("add", key), ("delete", key)]


async def as_is(value: Any) -> Any:
    return value


async def everyone_heard(ring: MixedRing, key: bytes) -> list[bool]:
    heard = [("add", key) in events for events in ring.events]
    for name, old in ring.old.items():
        writer = key.endswith(name.encode())  # no legacy peer tells itself
        heard.append(writer or ["add", key] in await old.events())
    return heard


@pytest_twisted.ensureDeferred
async def test_each_gets_broadcasts_once(mixed_ring: MixedRing) -> None:
    for name in mixed_ring.names:
        text = f"hello of {name}"
        sender = mixed_ring.ours[name] if isinstance(name, int) else mixed_ring.old[name]
        sender.send(text, b"\x00") if isinstance(name, int) else await sender.send(text, b"\x00")
        for other in mixed_ring.names:
            if other != name:
                packets = await until(
                    mixed_ring.reactor, lambda other=other: received(mixed_ring, other), bool
                )
                assert packets == [[text, b"\x00"]]
    for name in mixed_ring.names:
        assert await received(mixed_ring, name) == []


async def received(ring: MixedRing, name: str | int) -> list[list[Any]]:
    if isinstance(name, int):
        messages = ring.ours[name].recv(100)
        assert isinstance(messages, list)
        return [list(message.packets[1:]) for message in messages]
    return [message["packets"][1:] for message in await ring.old[name].recv(100)]


@pytest.mark.parametrize("library", ["py2p", "js2p"])
@pytest_twisted.ensureDeferred
async def test_replies_both_ways(mixed_ring: MixedRing, library: str) -> None:
    old, reactor = mixed_ring.old[library], mixed_ring.reactor
    for node in mixed_ring.ours:
        # A message is known by its content and the second in which it was sent: so no two alike.
        await old.send("question", node.out_addr[1])
        message = await until(reactor, lambda node=node: as_is(node.recv()), bool)
        await message.reply("answer", node.out_addr[1])
        (answer,) = await until(reactor, old.recv, bool)
        assert (answer["packets"][1:], answer["sender"]) == (["answer", node.out_addr[1]], node.id)
        for each in mixed_ring.ours:
            each.recv(100)
        node.send("question back", node.out_addr[1])
        (message,) = await until(reactor, old.recv, bool)
        await old.reply(message["index"], "answer back")
        reply = await until(reactor, lambda node=node: as_is(node.recv()), bool)
        assert (reply.packets[1:], reply.sender) == (("answer back",), old.id)
        for each in mixed_ring.ours:
            each.recv(100)


@pytest_twisted.ensureDeferred
async def test_a_stale_copy_undoes_nothing(mixed_ring: MixedRing) -> None:
    py2p, node = mixed_ring.old["py2p"], mixed_ring.ours[0]
    for number in range(5):
        key = f"kept {number}".encode()
        await node.set(key, "new")
        place = places_of(key)[number]
        await py2p.whisper(
            node.id, 11, HASHES[place.table].encode(), encode_id(place.number).encode(), "stale"
        )
    await deferLater(mixed_ring.reactor, 4.5)
    for number in range(5):
        await mixed_ring.all_read(f"kept {number}".encode(), "new")


@pytest_twisted.ensureDeferred
async def test_a_request_written_wrong_and_resend_harm_nobody(mixed_ring: MixedRing) -> None:
    py2p, node = mixed_ring.old["py2p"], mixed_ring.ours[0]
    await py2p.whisper(node.id, 8, "*")
    await py2p.command("renegotiate", peer=node.id, packets=[1, []])
    await py2p.command("renegotiate", peer=node.id, packets=[9])
    await mixed_ring.write("py2p", b"still", "there")
    await mixed_ring.all_read(b"still", "there")


@pytest_twisted.ensureDeferred
async def test_js2p_survives_a_message_that_looks_like_zlib(mixed_ring: MixedRing) -> None:
    """Plain, this one would have its zlib go on for ever."""
    number = 5650
    message = Message.build(flags.WHISPER, "1", 1_700_000_000, (0, number))
    assert (message.id[0] & 15, (message.id[0] << 8 | message.id[1]) % 31) == (8, 0)
    js2p = mixed_ring.old["js2p"]
    for node in mixed_ring.ours:
        node.routing_table[js2p.id].send_message(message)
        (told,) = await until(mixed_ring.reactor, js2p.recv, bool)
        assert told["packets"] == [0, number]


@pytest_twisted.ensureDeferred
async def test_legacy_peers_leave_and_nothing_acknowledged_is_lost(mixed_ring: MixedRing) -> None:
    values = {f"{number}".encode(): {"number": number} for number in range(60)}
    await mixed_ring.ours[1].update(values)
    for number in range(5):
        await mixed_ring.write("py2p", f"old {number}".encode(), number)
        await mixed_ring.all_read(f"old {number}".encode(), number)
        values[f"old {number}".encode()] = number
    py2p, js2p = mixed_ring.old.pop("py2p"), mixed_ring.old.pop("js2p")
    await py2p.unjoin()
    await py2p.close()
    await js2p.kill()
    for node in mixed_ring.ours:
        await until(
            mixed_ring.reactor, lambda node=node: as_is(len(node.routing_table)), lambda n: n == OURS - 1
        )
    for node in mixed_ring.ours:
        assert await node.get_many(values) == values
        assert sorted([key async for key in node.keys()]) == sorted(values)
    await mixed_ring.ours[0].set(b"after", "all")
    await mixed_ring.all_read(b"after", "all")


async def with_what_was_there_before(legacy_peers: LegacyPeers, reactor: Any) -> MixedRing:
    """A py2p node that stored five keys alone, and two nodes of ours that joined it then."""
    py2p = await legacy_peers.py2p(subnet="before")
    await py2p.join()
    for number in range(5):
        await py2p.set(f"early {number}".encode(), [number])
    ring = MixedRing(reactor, [], {"py2p": py2p}, [])
    for _ in range(2):
        node = ChordService(
            reactor, f"tcp:0:interface={HOST}", peers=[f"{HOST}:{py2p.port}"], subnet="before"
        )
        node.startService()
        ring.ours.append(node)
        await node.when_joined()
    return ring


@pytest_twisted.ensureDeferred
async def test_what_legacy_peers_had_before_becomes_the_rings(
    legacy_peers: LegacyPeers, running_reactor: Any
) -> None:
    ring = await with_what_was_there_before(legacy_peers, running_reactor)
    try:
        for number in range(5):
            await ring.all_read(f"early {number}".encode(), [number])
        await ring.old["py2p"].kill()
        for number in range(5):
            assert await ring.ours[0].get(f"early {number}") == [number]
    finally:
        await DeferredList([node.stopService() for node in ring.ours])


@pytest_twisted.ensureDeferred
async def test_what_py2p_had_before_undoes_nothing_when_it_leaves(
    legacy_peers: LegacyPeers, running_reactor: Any
) -> None:
    """It hands its entries to nodes that are nearer, and keeps a copy, which it hands on when it leaves."""
    ring = await with_what_was_there_before(legacy_peers, running_reactor)
    try:
        for number in range(5):
            await ring.all_read(f"early {number}".encode(), [number])
            await ring.ours[1].set(f"early {number}", "new")
            await ring.all_read(f"early {number}".encode(), "new")
        await until(running_reactor, ring.believes, bool)
        await ring.old["py2p"].unjoin()
        await deferLater(running_reactor, 4.5)
        for number in range(5):
            await ring.all_read(f"early {number}".encode(), "new")
    finally:
        await DeferredList([node.stopService() for node in ring.ours])


@pytest.mark.parametrize(
    ("library", "method"),
    [
        *(("py2p", method) for method in (flags.BZ2, flags.GZIP, flags.LZMA, flags.ZLIB, flags.SNAPPY)),
        *(("js2p", method) for method in (flags.GZIP, flags.ZLIB)),
    ],
)
@pytest_twisted.ensureDeferred
async def test_each_compression_of_legacy_peers_is_used_where_we_offer_it(
    legacy_peers: LegacyPeers, running_reactor: Any, library: str, method: int
) -> None:
    settings = ChordSettings(mesh=MeshSettings(compress_bytes_min=1))
    ours = await start_ours(running_reactor, "packed", settings=settings)
    ring = MixedRing(running_reactor, ours, {}, [])
    try:
        old = await add_legacy(ring, legacy_peers, library, compression=[method])
        methods = {tuple(near["compression"]) for near in await old.routing_table()}
        is_offered = method in offered()  # bz2 and lzma are not: with who has nothing else we speak plain
        assert {method in of_one for of_one in methods} == {is_offered}
        for name in ring.names:
            value = {"text": f"of {name} " * 300}
            await ring.write(name, f"packed {name}".encode(), value)
            await ring.all_read(f"packed {name}".encode(), value)
        assert await old.status() == "Nominal"
    finally:
        await DeferredList([node.stopService() for node in ours])


@pytest_twisted.ensureDeferred
async def test_a_ring_over_ssl(legacy_peers: LegacyPeers, running_reactor: Any) -> None:
    ours = await start_ours(running_reactor, "secret", encryption="SSL")
    ring = MixedRing(running_reactor, ours, {}, [])
    try:
        await add_legacy(ring, legacy_peers, "py2p")
        for name in ring.names:
            await ring.write(name, f"over ssl {name}".encode(), [str(name)])
            await ring.all_read(f"over ssl {name}".encode(), [str(name)])
    finally:
        await DeferredList([node.stopService() for node in ours])


@pytest_twisted.ensureDeferred
async def test_a_legacy_peer_of_another_subnet_is_refused(
    legacy_peers: LegacyPeers, running_reactor: Any
) -> None:
    ours = await start_ours(running_reactor, "right")
    try:
        for library in ("py2p", "js2p"):
            stranger = await legacy_peers.start(library, subnet="wrong")
            await stranger.connect(ours[0].out_addr[1])
            await until(running_reactor, stranger.routing_table, lambda near: not near)
            assert stranger.id not in ours[0].routing_table
    finally:
        await DeferredList([node.stopService() for node in ours])


@pytest_twisted.ensureDeferred
async def test_operators_see_legacy_peers_in_the_ring(mixed_ring: MixedRing) -> None:
    for node in mixed_ring.ours:
        ring = await node.ring()
        assert sorted(each["kind"] for each in ring) == ["chordtx"] * OURS + ["js2p", "py2p"]
        ids = [decode_id(each["id"], bits_max=384) for each in ring]
        first = ids.index(max(ids))
        assert ids[first:] + ids[:first] == sorted(ids, reverse=True)
