"""Legacy peers among themselves: their drivers work, so that a failure beside our nodes says something."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
import pytest_twisted

from tests.interop.peers import LegacyPeer, LegacyPeerError, LegacyPeers, until

pytestmark = pytest.mark.interop


PAIRS_TRIED = 3
FORMED_SECONDS = 15.0


async def with_a_pair(
    legacy_peers: LegacyPeers,
    reactor: Any,
    library: str,
    encryption: str,
    use: Callable[[LegacyPeer, LegacyPeer], Awaitable[None]],
) -> None:
    """Do something with two joined nodes of ``library`` that know each other as storing.

    py2p's threads race: on a busy machine its links come apart, while they are made or afterwards, and stay
    so; nothing of ours takes part in that. Then another two are tried.
    """
    for _ in range(PAIRS_TRIED - 1):
        with suppress(AssertionError):
            await use(*await formed(legacy_peers, reactor, library, encryption))
            return
    await use(*await formed(legacy_peers, reactor, library, encryption))


async def formed(
    legacy_peers: LegacyPeers, reactor: Any, library: str, encryption: str
) -> tuple[LegacyPeer, LegacyPeer]:
    one = await legacy_peers.start(library, subnet="alone", encryption=encryption)
    other = await legacy_peers.start(library, subnet="alone", encryption=encryption)
    assert one.protocol == other.protocol
    await one.join()
    await other.connect(one.port)
    await until(reactor, other.routing_table, bool, FORMED_SECONDS)
    await other.join()
    for peer in (one, other):
        await until(
            reactor,
            peer.routing_table,
            lambda peers: [near["leeching"] for near in peers] == [False],
            FORMED_SECONDS,
        )
    return one, other


@pytest.mark.parametrize("encryption", ["Plaintext", "SSL"])
@pytest.mark.parametrize("library", ["py2p", "js2p"])
@pytest_twisted.ensureDeferred
async def test_two_share_a_dict(
    legacy_peers: LegacyPeers, running_reactor: Any, library: str, encryption: str
) -> None:
    await with_a_pair(
        legacy_peers,
        running_reactor,
        library,
        encryption,
        lambda one, other: share(running_reactor, one, other),
    )


async def share(reactor: Any, one: LegacyPeer, other: LegacyPeer) -> None:
    value = {"any": [1, "text", b"\x00bytes"]}
    await one.set(b"key", value)
    stored = await until(reactor, lambda: both_stored(one, other), lambda found: len(found) == 5)
    assert {method for method, _, _ in stored} == {"sha1", "sha224", "sha256", "sha384", "sha512"}
    for peer in (
        other,
        one,
    ):  # a get of theirs may find nothing in time on a busy machine, and is asked again
        await until(reactor, lambda peer=peer: get_quietly(peer), lambda found: found == value)
    assert await other.keys() == [b"key"]
    assert ["add", b"key"] in await other.events()
    assert (await one.status(), await other.status()) == ("Nominal", "Nominal")


async def get_quietly(peer: LegacyPeer) -> Any:
    """What it reads under the key, None when it does not get an answer in time."""
    try:
        return await peer.get(b"key")
    except (LegacyPeerError, TimeoutError):
        return None


async def both_stored(one: LegacyPeer, other: LegacyPeer) -> list[Any]:
    """What lies in the tables of both."""
    return [*await one.stored(), *await other.stored()]


@pytest.mark.parametrize("library", ["py2p", "js2p"])
@pytest_twisted.ensureDeferred
async def test_two_talk(legacy_peers: LegacyPeers, running_reactor: Any, library: str) -> None:
    await with_a_pair(
        legacy_peers,
        running_reactor,
        library,
        "Plaintext",
        lambda one, other: talk(running_reactor, one, other),
    )


async def talk(reactor: Any, one: LegacyPeer, other: LegacyPeer) -> None:
    await one.send("hello", b"bytes")
    (message,) = await until(reactor, other.recv, bool)
    assert (message["packets"][1:], message["sender"]) == (["hello", b"bytes"], one.id)
    await other.reply(message["index"], "back")
    (answer,) = await until(reactor, one.recv, bool)
    assert answer["packets"][1:] == ["back"]


@pytest.mark.parametrize("library", ["py2p", "js2p"])
@pytest_twisted.ensureDeferred
async def test_errors_come_back(legacy_peers: LegacyPeers, library: str) -> None:
    peer = await legacy_peers.start(library, subnet="alone")
    with pytest.raises(LegacyPeerError):
        await peer.whisper("nobody", 2, "lost")
    await peer.close()
