"""A ring of ours with legacy peers as members: how a test makes one, and asks all of its nodes alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import define

from chordtx import ChordService, ChordSettings
from chordtx.legacy.host import _DOUBTFUL_SECONDS
from chordtx.legacy.tables import places_of
from tests.interop.peers import LegacyPeer, LegacyPeerError, LegacyPeers, until

HOST = "127.0.0.1"
OURS = 3
#: So long after a node of ours came or went what legacy peers store replaces nothing.
DOUBTFUL_SECONDS = _DOUBTFUL_SECONDS


@define
class MixedRing:
    """Three nodes of ours, and legacy peers by library."""

    reactor: Any
    ours: list[ChordService]
    old: dict[str, LegacyPeer]
    events: list[list[tuple[str, bytes]]]

    def port(self, index: int) -> int:
        return self.ours[index].out_addr[1]

    async def read(self, name: str | int, key: bytes, timeout_seconds: float = 2) -> Any:
        """What the node reads; None for nothing, for which a legacy peer waits the whole time-out."""
        if isinstance(name, int):
            return await self.ours[name].get(key)
        try:
            return await self.old[name].get(key, timeout_seconds=timeout_seconds)
        except (LegacyPeerError, TimeoutError):  # js2p's promises are not all kept
            return None

    async def write(self, name: str | int, key: bytes, value: Any) -> None:
        await (self.ours[name] if isinstance(name, int) else self.old[name]).set(key, value)

    async def delete(self, name: str | int, key: bytes) -> None:
        await (self.ours[name] if isinstance(name, int) else self.old[name]).delete(key)

    async def apply_delta(self, name: str | int, key: bytes, delta: dict[str, Any]) -> None:
        await (self.ours[name] if isinstance(name, int) else self.old[name]).apply_delta(key, delta)

    async def all_read(self, key: bytes, value: Any) -> None:
        """Wait until every node reads this."""
        for name in self.names:
            try:
                await until(
                    self.reactor, lambda name=name: self.read(name, key), lambda found: found == value
                )
            except AssertionError as error:
                raise AssertionError(f"{name} reads {key!r}: {error}; {await self._seen_of(key)}") from error

    async def _seen_of(self, key: bytes) -> str:
        """What explains a wrong answer."""
        seen = [f"{name}: {await self.read(name, key)!r}" for name in self.names]
        for node in self.ours:
            records = {link.id[:6]: link for link in node.routing_table.values() if link.id}
            seen.append(f"{node.id[:6]} has {len(node._legacy._host.entries)} entries, links {list(records)}")
        for library, old in self.old.items():
            seen.append(f"{library} {old.id[:6]}: {await old.command('status')}")
            seen.append(f"{[peer['id'][:6] for peer in await old.routing_table()]}")
            seen.append(old.said[-1000:].decode(errors="replace"))
        tables = {name: await old.stored() for name, old in self.old.items()}
        for place in places_of(key):
            seen.append(f"{place.table}: {place.position:096x}"[:12])
            for name, stored in tables.items():
                there = [value for method, at, value in stored if at == str(place.number)]
                seen.append(f"in the table of {name}: {there}")
            for node in self.ours:
                host = node._legacy._host
                if node._ring.owns(place.position):
                    put = [(link.id[:6], host._table_sync.has(link, place)) for link in host.owners_at(place)]
                    seen.append(f"host {node.id[:6]}: {host.entries.get(place)}, {put}")
        return "; ".join(seen)

    async def believes(self) -> bool:
        """Whether all of ours take what legacy peers store for writes, and not for copies sent again."""
        return all(
            node.reactor.seconds() > node._legacy._host._ours_changed_at + DOUBTFUL_SECONDS
            for node in self.ours
        )

    @property
    def names(self) -> list[str | int]:
        return [*range(len(self.ours)), *self.old]


async def start_ours(
    reactor: Any,
    subnet: str,
    encryption: str = "Plaintext",
    count: int = OURS,
    ids: Sequence[str] = (),
    **settings: Any,
) -> list[ChordService]:
    """:param ids: of the nodes; by chance, where there are none."""
    settings.setdefault("settings", ChordSettings(partition_bits=4))
    ours: list[ChordService] = []
    for number in range(count):
        peers = [f"{HOST}:{ours[0].out_addr[1]}"] if ours else []
        node = ChordService(
            reactor, f"tcp:0:interface={HOST}", peers=peers, subnet=subnet, encryption=encryption, **settings
        )
        if ids:
            node._be(ids[number])
        node.recv(0)  # messages are kept from now on
        node.startService()
        ours.append(node)
        await node.when_joined()
    return ours


def listen_to(node: ChordService) -> list[tuple[str, bytes]]:
    heard: list[tuple[str, bytes]] = []
    node.on("add", lambda _, key: heard.append(("add", key)))
    node.on("delete", lambda _, key: heard.append(("delete", key)))
    return heard


async def add_legacy(
    ring: MixedRing, legacy_peers: LegacyPeers, library: str, **arguments: Any
) -> LegacyPeer:
    """A legacy peer that stores, known to all of ours as storing, and they to it."""
    peer = await legacy_peers.start(
        library, subnet=ring.ours[0].subnet, encryption=ring.ours[0].encryption, **arguments
    )
    return await let_join(ring, library, peer)


async def let_join(ring: MixedRing, library: str, peer: LegacyPeer) -> LegacyPeer:
    """Let a legacy peer that listens join and store."""
    ring.old[library] = peer
    await peer.connect(ring.port(len(ring.old) % len(ring.ours)))
    # py2p answers our first word on who stores with its own, from another thread: what it says at the same
    # time on beginning to store may come before that, and be taken back by it.
    await until(ring.reactor, peer.routing_table, lambda near: any(p["leeching"] is False for p in near))
    await peer.join()

    async def known() -> list[bool]:
        return [
            peer.id in node.routing_table and not node.routing_table[peer.id].leeching for node in ring.ours
        ]

    await until(ring.reactor, known, all)
    await until(
        ring.reactor,
        peer.routing_table,
        lambda near: sum(p["leeching"] is False for p in near) == len(ring.ours),
    )
    await until(ring.reactor, ring.believes, bool)
    return peer


async def in_step(ring: MixedRing) -> None:
    """Wait until each position has its host, which has been told, and has looked into legacy peers' tables.

    What a legacy peer changes in its own tables before that may be undone: nobody can tell it from what was
    there when the host was another one.
    """

    async def are_in_step() -> bool:
        return all(is_in_step(node, len(ring.ours)) for node in ring.ours) and await ring.believes()

    ids = {node.id for node in ring.ours}
    for peer in ring.old.values():  # and each legacy peer knows who stores
        await until(
            ring.reactor,
            peer.routing_table,
            lambda near: {each["id"] for each in near if each["leeching"] is False} == ids,
        )
    await until(ring.reactor, are_in_step, bool)


def is_in_step(node: ChordService, count: int) -> bool:
    everyone, host = node._routing.arcs.everyone(), node._legacy._host
    return (
        everyone is not None
        and len(everyone) == count == len(node._ring.successors) + 1
        and host._has_been_told()
        and all(
            host._table_sync.has(link, place)
            for place, _ in host._pointers.all()
            if node._ring.owns(place.position)
            for link in host.owners_at(place)
        )
    )
