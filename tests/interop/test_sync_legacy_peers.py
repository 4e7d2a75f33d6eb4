"""A dict that everybody has a copy of, with a py2p and a js2p node among ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_twisted
from attrs import define, field
from twisted.internet.defer import DeferredList
from twisted.internet.task import deferLater

from chordtx import SyncService
from tests.interop.peers import LegacyPeer, LegacyPeerError, LegacyPeers, until

pytestmark = pytest.mark.interop

HOST = "127.0.0.1"
A_SECOND = 1.1  # legacy peers tell no times apart within one


@define
class Mixed:
    """Two nodes of ours; py2p is linked to one, js2p to the other."""

    reactor: Any
    leasing: bool
    encryption: str = "Plaintext"
    ours: list[SyncService] = field(factory=list)
    old: dict[str, LegacyPeer] = field(factory=dict)

    async def start(self, count: int = 2) -> None:
        for _ in range(count):
            peers = [f"{HOST}:{node.out_addr[1]}" for node in self.ours]
            node = SyncService(
                self.reactor,
                f"tcp:0:interface={HOST}",
                peers=peers,
                subnet="mixed",
                encryption=self.encryption,
                leasing=self.leasing,
            )
            node.startService()
            self.ours.append(node)
            await node.when_listening()
            await until(self.reactor, lambda: self.linked(count=len(self.ours) - 1), bool)

    async def linked(self, count: int) -> bool:
        return all(len(node.routing_table) >= count for node in self.ours)

    async def add(self, legacy_peers: LegacyPeers, library: str, through: int | None = None) -> LegacyPeer:
        peer = await legacy_peers.start(
            library, subnet="mixed", encryption=self.encryption, kind="sync", leasing=self.leasing
        )
        self.old[library] = peer
        if through is not None:
            await self.link(library, through)
        return peer

    async def link(self, library: str, through: int) -> None:
        peer, node = self.old[library], self.ours[through]
        await peer.connect(node.out_addr[1])
        await until(self.reactor, lambda: self.has_link(node, peer), bool)

    async def has_link(self, node: SyncService, peer: LegacyPeer) -> bool:
        return peer.id in node.routing_table

    async def read(self, name: str | int, key: bytes) -> Any:
        if isinstance(name, int):
            return await self.ours[name].get(key)
        try:
            return await self.old[name].get(key)
        except LegacyPeerError as error:
            if error.kind != "KeyError":
                raise
            return None

    async def all_read(self, key: bytes, value: Any, *names: str | int) -> None:
        for name in names or [*range(len(self.ours)), *self.old]:
            try:
                await until(self.reactor, lambda name=name: self.read(name, key), lambda got: got == value)
            except AssertionError as error:
                raise AssertionError(f"{name} reads {key!r}: {error}") from error

    def pause(self) -> Any:
        return deferLater(self.reactor, A_SECOND)


@pytest_twisted.async_yield_fixture
async def mixed(running_reactor: Any) -> AsyncIterator[Callable[[bool], Mixed]]:
    made: list[Mixed] = []

    def make(leasing: bool, encryption: str = "Plaintext") -> Mixed:
        made.append(Mixed(running_reactor, leasing, encryption))
        return made[-1]

    yield make
    for each in made:
        await DeferredList([node.stopService() for node in each.ours])


def events_of(node: SyncService) -> list[tuple[Any, ...]]:
    heard: list[tuple[Any, ...]] = []
    node.on("update", lambda _, key, value, meta: heard.append(("update", key, value)))
    node.on("delete", lambda _, key: heard.append(("delete", key)))
    return heard


@pytest_twisted.ensureDeferred
async def test_later_change_wins_everywhere(mixed: Any, legacy_peers: LegacyPeers) -> None:
    network = mixed(False)
    await network.start()
    py2p = await network.add(legacy_peers, "py2p", 0)
    js2p = await network.add(legacy_peers, "js2p", 1)
    heard = [events_of(node) for node in network.ours]
    writers = {0: network.ours[0], 1: network.ours[1], "py2p": py2p, "js2p": js2p}
    for name, writer in writers.items():
        await writer.set(b"by %s" % str(name).encode(), [name, b"bytes", {"in": 1.5}])
    for name in writers:
        await network.all_read(b"by %s" % str(name).encode(), [name, b"bytes", {"in": 1.5}])
    for number, (name, writer) in enumerate(list(writers.items()) * 2):
        await network.pause()
        await writer.set(b"shared", f"{number} by {name}")
        await network.all_read(b"shared", f"{number} by {name}")
    shared = [("update", b"shared", f"{n} by {name}") for n, name in enumerate(list(writers) * 2)]
    for seen in heard:
        assert [event for event in seen if event[1] == b"shared"] == shared
        assert len(seen) == len(shared) + len(writers)
    await network.ours[0].set(b"map", {"ours": 0})
    await network.all_read(b"map", {"ours": 0})
    await py2p.apply_delta(b"map", {"py2p": 1})
    await network.all_read(b"map", {"ours": 0, "py2p": 1})
    await js2p.apply_delta(b"map", {"js2p": 2})
    await network.all_read(b"map", {"ours": 0, "py2p": 1, "js2p": 2})
    await network.ours[1].apply_delta(b"map", {"ours": 3})
    await network.all_read(b"map", {"ours": 3, "py2p": 1, "js2p": 2})


@pytest_twisted.ensureDeferred
async def test_what_is_deleted_is_gone_everywhere_and_everyone_stays(
    mixed: Any, legacy_peers: LegacyPeers
) -> None:
    network = mixed(False)
    await network.start()
    py2p = await network.add(legacy_peers, "py2p", 0)
    js2p = await network.add(legacy_peers, "js2p", 1)
    for key in (b"one", b"two", b"three"):
        await network.ours[0].set(key, 1)
        await network.all_read(key, 1)
    await network.pause()
    await network.ours[0].delete(b"one")
    await network.all_read(b"one", None)
    await network.ours[1].delete(b"two")
    await network.all_read(b"two", None)
    await py2p.delete(b"three")
    await network.all_read(b"three", None)
    await network.ours[0].set(b"never there for long", 1, ttl=1.0)
    await network.all_read(b"never there for long", None)
    assert network.has_link
    for name, node, old in (("py2p", network.ours[0], py2p), ("js2p", network.ours[1], js2p)):
        await network.pause()
        assert old.id in node.routing_table, name
        await old.set(b"still here", name)
        await network.all_read(b"still here", name)


@pytest_twisted.ensureDeferred
async def test_newcomers_get_everything_whoever_has_it(mixed: Any, legacy_peers: LegacyPeers) -> None:
    network = mixed(False)
    py2p = await network.add(legacy_peers, "py2p")
    js2p = await network.add(legacy_peers, "js2p")
    for number in range(1, 101):  # js2p takes 0 for nothing
        await py2p.set(b"p%d" % number, number)
        await js2p.set(b"j%d" % number, number)
    await network.start()
    for number in range(1, 101):
        await network.ours[number % 2].set(b"o%d" % number, number)
    await network.link("py2p", 0)
    await network.link("js2p", 1)
    for number in range(1, 101):
        for kind in b"pjo":
            await network.all_read(b"%c%d" % (kind, number), number)
    owners = {"p": py2p.id, "j": js2p.id}
    for key, meta in network.ours[0].metadata.items():
        assert meta.owner == owners.get(chr(key[0]), network.ours[int(key[1:]) % 2].id)


@pytest_twisted.ensureDeferred
async def test_split_from_a_legacy_peer_heals(mixed: Any, legacy_peers: LegacyPeers) -> None:
    network = mixed(False)
    await network.start()
    py2p = await network.add(legacy_peers, "py2p", 0)
    for key in (b"changed here", b"changed there", b"deleted here"):
        await network.ours[0].set(key, "old")
        await network.all_read(key, "old")
    network.ours[0].disconnect(py2p.id)
    await until(network.reactor, py2p.routing_table, lambda table: not table)
    await network.pause()
    await network.ours[0].set(b"changed here", "new")
    await network.ours[1].delete(b"deleted here")
    await py2p.set(b"changed there", "new")
    await network.pause()
    await network.link("py2p", 1)
    await network.all_read(b"changed here", "new")
    await network.all_read(b"changed there", "new")
    await network.all_read(b"deleted here", None)


@pytest_twisted.ensureDeferred
async def test_leases_are_kept_by_all_kinds(mixed: Any, legacy_peers: LegacyPeers) -> None:
    network = mixed(True)
    await network.start()
    py2p = await network.add(legacy_peers, "py2p", 0)
    js2p = await network.add(legacy_peers, "js2p", 1)
    writers = {0: network.ours[0], "py2p": py2p, "js2p": js2p}
    for name, writer in writers.items():
        await writer.set(b"of %s" % str(name).encode(), 1)
    for name in writers:
        await network.all_read(b"of %s" % str(name).encode(), 1)
    await network.pause()
    for holder in writers:
        key = b"of %s" % str(holder).encode()
        for name, writer in writers.items():
            if name != holder:
                with pytest.raises((KeyError, LegacyPeerError)):
                    await writer.set(key, 2)
        await writers[holder].set(key, 3)
        await network.all_read(key, 3)
    # Whoever deletes gives the lease up.
    await network.ours[0].delete(b"of 0")
    await network.all_read(b"of 0", None, 0, 1, "py2p")
    await py2p.set(b"of 0", "taken")
    await network.all_read(b"of 0", "taken", 0, 1, "py2p")
    await py2p.delete(b"of py2p")
    await network.all_read(b"of py2p", None, 0, 1)
    await network.ours[1].set(b"of py2p", "taken")
    await network.all_read(b"of py2p", "taken", 0, 1, "py2p")
    assert await network.linked(count=2)


@pytest_twisted.ensureDeferred
async def test_over_ssl_with_py2p(mixed: Any, legacy_peers: LegacyPeers) -> None:
    network = mixed(True, "SSL")
    await network.start()
    py2p = await network.add(legacy_peers, "py2p", 0)
    await network.ours[1].set(b"ours", {"a": [1, b"x"]})
    await network.all_read(b"ours", {"a": [1, b"x"]})
    await py2p.set(b"theirs", 1)
    await network.all_read(b"theirs", 1)
    with pytest.raises(KeyError, match="leased"):
        await network.ours[0].set(b"theirs", 2)
