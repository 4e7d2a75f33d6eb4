"""A link that is gone holds no memory: one that a stranger opened, not even until Python collects garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from random import Random
from typing import Any
from weakref import WeakSet

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from chordtx.config import MeshSettings
from chordtx.errors import WrongSubnet
from chordtx.mesh import MeshConnection, MeshService
from chordtx.wire import flags
from tests.mesh.fuzz import Stranger
from tests.mesh.peers import LISTEN, ManualPeer, Mesh

LINKS = 1000
SETTINGS = MeshSettings(turn_seconds_max=1e6, decoded_bytes_per_second_max=1 << 40)
BEGUN = (1 << 20).to_bytes(4, "big") + bytes(50_000)


@pytest.fixture
def links(monkeypatch: pytest.MonkeyPatch) -> Iterator[WeakSet[MeshConnection]]:
    """All links that there are, while Python does not look for cyclic garbage."""
    found: WeakSet[MeshConnection] = WeakSet()
    init = MeshConnection.__init__

    def noted(self: MeshConnection, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        found.add(self)

    monkeypatch.setattr(MeshConnection, "__init__", noted)
    gc.collect()
    gc.disable()
    yield found
    gc.enable()


def says_nothing(stranger: Stranger) -> None:
    """A connection."""


def begins_a_first_frame(stranger: Stranger) -> None:
    stranger.write(b"\x00\x00\x08\x00" + bytes(1000))


def begins_a_frame(stranger: Stranger) -> None:
    stranger.greet()
    stranger.write(BEGUN)


def sends_garbage(stranger: Stranger) -> None:
    stranger.greet()
    stranger.write(b"\x00\x00\x00\x30" + bytes(0x30))


def is_of_another_subnet(stranger: Stranger) -> None:
    stranger.say(flags.HANDSHAKE, stranger.id, "another", ["127.0.0.1", 0], [])


def waits_for_answers(stranger: Stranger) -> None:
    stranger.greet()
    stranger.say(flags.CALL, [[1, "wait"], [2, "ping"], [3, "no such method"]])


def is_waited_for(stranger: Stranger) -> None:
    stranger.greet()
    stranger.link.call("ping", timeout_seconds=5.0).addErrback(lambda _: None)
    stranger.link.calls.flush()


def does_not_read(stranger: Stranger) -> None:
    stranger.greet()
    producer: Any = stranger.transport.producer
    producer.pauseProducing()
    for _ in range(3):
        stranger.link.send(flags.WHISPER, bytes(100_000))


def raises(stranger: Stranger) -> None:
    stranger.greet()
    stranger.say(flags.PEERS, "no list", bytes(100_000))


ENDS = [
    says_nothing,
    begins_a_first_frame,
    begins_a_frame,
    sends_garbage,
    is_of_another_subnet,
    waits_for_answers,
    is_waited_for,
    does_not_read,
    raises,
]


@pytest.mark.parametrize("kind", ["bin", "ours"])
@pytest_twisted.ensureDeferred
async def test_no_link_that_has_come_and_gone_is_left(
    mesh: Mesh, links: WeakSet[MeshConnection], kind: str
) -> None:
    node = await mesh.node(settings=SETTINGS)
    node._methods["wait"] = lambda caller: Deferred()
    rng = Random(1)
    for number in range(LINKS):
        stranger = Stranger(node, kind, rng)
        ENDS[number % len(ENDS)](stranger)
        stranger.end()
        if number % 50 == 0:
            await node.sleep(0)  # what was put off to the end of the turn is done
    assert await left(mesh.reactor, links, but=stranger.link) == []  # which is in hand yet
    assert (node._bounds.unsent.held_bytes, node._bounds.unfinished.held_bytes) == (0, 0)
    assert len(node._links) == 0


async def left(reactor: Any, links: WeakSet[MeshConnection], but: MeshConnection | None = None) -> list[str]:
    """Who holds the links that are left, once what a socket puts off for some turns is done."""
    for _ in range(5):
        await deferLater(reactor, 0)
    return [str([type(holder) for holder in gc.get_referrers(link)]) for link in links if link is not but]


@pytest_twisted.ensureDeferred
async def test_no_link_that_was_connected_to_is_left(mesh: Mesh, links: WeakSet[MeshConnection]) -> None:
    node, other = await mesh.node(settings=SETTINGS), await mesh.node()
    for number in range(60):
        if number % 3 == 0:
            link = await node.connect(*other.out_addr)
            node.disconnect(link)
            del link
        elif number % 3 == 1:
            port = await mesh.listening_peer(ManualPeer(subnet="another"))
            with pytest.raises(WrongSubnet):
                await node.connect("127.0.0.1", port)
        else:
            with pytest.raises(Exception, match=r"\w"):
                await node.connect("127.0.0.1", 1)
    for each in (node, other):
        await each.stopService()
    gc.collect()  # an error that a caller of ours was raised has a traceback, and that is a cycle
    assert await left(mesh.reactor, links) == []


@pytest_twisted.ensureDeferred
async def test_no_link_that_broke_in_the_middle_is_left(mesh: Mesh, links: WeakSet[MeshConnection]) -> None:
    node = await mesh.node(settings=SETTINGS)
    for kind in ("bin", "str", "ours", "silent") * 5:
        peer = await mesh.peer(node, kind)
        peer.write(BEGUN)
        await node.sleep(0)
        peer.end()
        mesh.peers.clear()
    await mesh.until(lambda: not node._links, "the end")
    assert await left(mesh.reactor, links) == []


@pytest_twisted.ensureDeferred
async def test_links_of_a_service_that_stopped_are_gone(mesh: Mesh, links: WeakSet[MeshConnection]) -> None:
    nodes = [MeshService(mesh.reactor, listen=LISTEN) for _ in range(2)]
    for node in nodes:
        node.startService()
        await node.when_listening()
    await nodes[0].connect(*nodes[1].out_addr)
    for node in nodes:
        await node.stopService()
    gc.collect()  # work that was cancelled has a traceback, and that is a cycle
    assert await left(mesh.reactor, links) == []
