"""Whatever strangers say, only they are answered or cut off; nobody else notices.

Scripted cases, and bytes that are no message; ``tests/fuzz`` says everything that has a meaning.
That nothing unexpected is raised shows in the log: an error in it fails the test (see ``conftest``).
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from random import Random
from typing import Any

import msgpack
import pytest
import pytest_twisted
from attrs import evolve

from chordtx.config import MeshSettings
from chordtx.mesh import MeshService
from chordtx.wire import Message, compression, flags
from chordtx.wire.frame import frame
from tests.mesh.fuzz import KINDS, Stranger, broken_body, broken_bytes
from tests.mesh.peers import HOST, ManualPeer, Mesh

#: Strangers here say all in one turn of the reactor.
FAST = MeshSettings(decoded_bytes_per_second_max=1 << 40, turn_seconds_max=1e6)


class Strangers:
    """Link after link to one service, each used until it is ended."""

    def __init__(self, node: MeshService, kind: str, seed: int) -> None:
        self.rng = Random(f"{kind} {seed}")
        self._node = node
        self._kind = kind
        self._all: list[Stranger] = []
        self.count = 0

    def one(self) -> Stranger:
        """One that is linked."""
        if not self._all or self._all[-1].gone:
            self._all = [Stranger(self._node, self._kind, self.rng)]
            self._all[-1].greet()
            self.count += 1
        return self._all[-1]

    def end(self) -> None:
        """The last one goes."""
        for stranger in self._all:
            stranger.end()


def good_payloads(node: MeshService) -> list[tuple[Any, ...]]:
    """What a mesh node understands, said right."""
    return [
        (flags.PEERS, [[[HOST, 1], b"abc"], [[HOST, 2], "abd"]]),
        (flags.REQUEST, b"*"),
        (flags.REQUEST, "request", node.id),
        (flags.RESPONSE, "request", [[HOST, 1], b"abc"]),
        (flags.COMPRESSION, [flags.ZLIB, flags.BZ2]),
        (flags.RESEND,),
        (flags.HANDSHAKE, b"abc", node._protocol_id.encode(), [HOST, 1], [flags.ZLIB]),
        (flags.HANDSHAKE, "0"),
        (flags.HELLO, 1),
        (flags.CALL, [[1, "ping"], [2, "echo", [1]]]),
        (flags.REPLY, bytes(48), [[1, 0, "x"], [2, 1, "no"]]),
        (flags.BROADCAST, "text", b"bytes", {"a": [1, 2.5, None]}),
    ]


@pytest.mark.parametrize("breaking", [broken_bytes, broken_body])
@pytest.mark.parametrize("is_linked", [False, True])
@pytest_twisted.ensureDeferred
async def test_frames_that_are_broken(
    mesh: Mesh, breaking: Callable[[bytes, Random], bytes], is_linked: bool
) -> None:
    node = await mesh.node(settings=FAST)
    honest = await mesh.peer(node)
    strangers = Strangers(node, "ours", 3)
    rng = strangers.rng
    good = good_payloads(node)
    for _ in range(3000):
        stranger = strangers.one() if is_linked else Stranger(node, "bin", rng)
        stranger.write(breaking(stranger.data(*rng.choice(good)), rng))
        stranger.write(stranger.data(*rng.choice(good)))
        stranger.end()
    strangers.end()
    await mesh.served(node, honest)


@pytest_twisted.ensureDeferred
async def test_bytes_of_any_kind(mesh: Mesh) -> None:
    node = await mesh.node(settings=FAST)
    honest = await mesh.peer(node)
    rng = Random(4)
    for _ in range(10_000):
        stranger = Stranger(node, "bin", rng)
        stranger.write(rng.randbytes(rng.randrange(1, 60)))
        stranger.end()
    await mesh.served(node, honest)
    assert not node.awaiting_ids


@pytest_twisted.ensureDeferred
async def test_messages_may_come_byte_by_byte(mesh: Mesh) -> None:
    node = await mesh.node(settings=FAST)
    stranger = Stranger(node, "bin", Random(5))
    greeting = stranger.data(
        flags.HANDSHAKE, stranger.id.encode(), node._protocol_id.encode(), [HOST, 0], [flags.ZLIB]
    )
    said = [stranger.data(flags.WHISPER, number, bytes(2000)) for number in range(5)]
    for byte in b"".join([greeting, *said]):
        stranger.write(bytes([byte]))
    received = node.recv(10)
    assert isinstance(received, list)
    assert [message.packets[1] for message in received] == list(range(5))
    stranger.end()


@pytest_twisted.ensureDeferred
async def test_torn_at_every_place(mesh: Mesh) -> None:
    node = await mesh.node(settings=FAST)
    stranger = Stranger(node, "bin", Random(6))
    stranger.greet()
    data = stranger.data(flags.WHISPER, "torn")
    for place in range(len(data) + 1):
        stranger.write(data[:place])
        stranger.write(data[place:] + data[:place])
        stranger.write(data[place:])
    received = node.recv(10_000)
    assert isinstance(received, list)
    assert len(received) == 2 * (len(data) + 1)
    stranger.end()


def _checked(body: bytes) -> bytes:
    from hashlib import sha256

    return sha256(body).digest() + body


#: Frames that end the link at once: what is in them, and what the log says.
ENDS: dict[str, Callable[[Stranger], bytes]] = {
    "a wrong checksum": lambda stranger: (lambda data: data[:-1] + bytes([data[-1] ^ 1]))(
        stranger.data(flags.WHISPER, "x")
    ),
    "too long": lambda stranger: b"\xff\xff\xff\xff",
    "longer than the limit by one": lambda stranger: (16 * (1 << 20) + 1).to_bytes(4, "big"),
    "nested too deep": lambda stranger: frame(_checked(b"\x94\x02\xa1x\x00" + b"\x91" * 5000 + b"\xc0")),
    "arrays that claim everything": lambda stranger: frame(
        _checked(b"\x94\x02\xa1x\x00" + b"\xdd\xff\xff\xff\xff" * 1000)
    ),
    "no array": lambda stranger: frame(_checked(msgpack.packb({"a": 1}))),
    "too few entries": lambda stranger: frame(_checked(msgpack.packb([2, "x", 0]))),
    "type of a wrong kind": lambda stranger: frame(_checked(msgpack.packb(["2", "x", 0, 2]))),
    "sender of a wrong kind": lambda stranger: frame(_checked(msgpack.packb([2, 5, 0, 2]))),
    "time of a wrong kind": lambda stranger: frame(_checked(msgpack.packb([2, "x", "now", 2]))),
    "an empty frame": lambda stranger: frame(b""),
    "a checksum of nothing": lambda stranger: frame(_checked(b"")),
    "a map with a list as key": lambda stranger: frame(_checked(b"\x94\x02\xa1x\x00\x81\x90\xc0")),
    "a bomb": lambda stranger: frame(compression.compress(bytes(1 << 26), flags.BZ2)),
    "another handshake": lambda stranger: stranger.data(
        flags.HANDSHAKE, "abc", stranger.node._protocol_id, [HOST, 1], []
    ),
    "another subnet": lambda stranger: stranger.data(flags.HANDSHAKE, stranger.id, "another", [HOST, 1], []),
    "peers that are no list": lambda stranger: stranger.data(flags.PEERS, "everybody"),
    "an empty request": lambda stranger: stranger.data(flags.REQUEST),
    "a request that is too long": lambda stranger: stranger.data(flags.REQUEST, "x" * 1000, "abc"),
    "a request for no id": lambda stranger: stranger.data(flags.REQUEST, "x", "0"),
    "methods that are no list": lambda stranger: stranger.data(
        flags.COMPRESSION, "zlib", type=flags.RENEGOTIATE
    ),
    "methods without end": lambda stranger: stranger.data(
        flags.COMPRESSION, [1] * 10_000, type=flags.RENEGOTIATE
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", ENDS)
@pytest_twisted.ensureDeferred
async def test_offender_alone_is_cut_off_and_logged(mesh: Mesh, kind: str, bad: str) -> None:
    node = await mesh.node(settings=FAST)
    honest = await mesh.peer(node)
    stranger, other = Stranger(node, kind, Random(7)), Stranger(node, kind, Random(8))
    stranger.greet()
    other.greet()
    stranger.write(ENDS[bad](stranger))
    assert stranger.gone
    assert stranger.id not in node.routing_table
    assert len(mesh.logged("is refused")) == 1
    assert not other.gone
    await mesh.served(node, honest)
    other.end()


#: What is ignored, or answered with an error, and does not end the link of one of ours.
@pytest.mark.parametrize(
    "payload",
    [
        (flags.WHISPER,),
        (0x3F, {"any": ["thing"]}),
        ([], {}),
        (None,),
        (flags.HELLO, 1),
        (flags.PEERS, [None, 5, [[HOST, "port"], b"abc"]]),
        (flags.RESPONSE, "nobody asked", None),
        (flags.CALL, [[1, "no such method"], [2, "ping", "too", "many"], [3, None]]),
        (flags.REPLY, None, [[77, 0]]),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_does_no_harm_is_ignored(mesh: Mesh, payload: tuple[Any, ...]) -> None:
    node = await mesh.node(settings=FAST)
    for kind in KINDS:
        stranger = Stranger(node, kind, Random(9))
        stranger.greet()
        stranger.say(*payload)
        assert not stranger.gone
        stranger.end()


@pytest_twisted.ensureDeferred
async def test_bug_ends_that_link_and_is_logged(
    mesh: Mesh, flush_logged_errors: Callable[..., list[Any]]
) -> None:
    node = await mesh.node(settings=FAST)
    honest = await mesh.peer(node)

    def broken(link: Any, message: Message) -> None:
        raise IndexError("a bug")

    node._flag_handlers[0x31] = broken
    stranger = Stranger(node, "ours", Random(10))
    stranger.greet()
    stranger.say(0x31)
    assert stranger.gone
    await mesh.served(node, honest)
    other = Stranger(node, "ours", Random(11))
    other.greet()
    passed_on = Message.build(flags.BROADCAST, b"abc", node._now_whole_seconds(), (0x31,))
    other.write(frame(passed_on.data))
    assert not other.gone
    other.end()
    assert len(flush_logged_errors(IndexError)) == 2


@pytest_twisted.ensureDeferred
async def test_memory_stays_bounded(mesh: Mesh) -> None:
    node = await mesh.node(settings=evolve(FAST, received_bytes_max=1 << 20))
    rng = Random(12)
    strangers = [Stranger(node, kind, rng) for kind in KINDS * 3]
    for stranger in strangers:
        stranger.greet()
    payloads = [
        (flags.PEERS, [[["10.0.0.1", number + 1], b"abc"] for number in range(100)]),
        (flags.WHISPER, bytes(100_000)),
        (flags.RESPONSE, "x", [[HOST, 1], b"abc"]),
        (flags.REQUEST, b"*"),
        (flags.CALL, [[number, "no such method"] for number in range(50)]),
        (flags.REPLY, None, [[number, 0] for number in range(50)]),
    ]
    node._peer_met = lambda peer, address: None  # type: ignore[method-assign]
    tracemalloc.start()
    try:
        for _ in range(12):
            for stranger in strangers:
                for payload in payloads:
                    stranger.say(*payload)
                stranger.transport.clear()
            await node.sleep(0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12 << 20
    for stranger in strangers:
        stranger.end()


@pytest_twisted.ensureDeferred
async def test_bad_input_on_real_sockets(mesh: Mesh) -> None:
    node = await mesh.node(settings=FAST)
    honest = await mesh.peer(node)
    rng = Random(13)
    bad: list[ManualPeer] = []
    for _ in range(60):
        peer = await mesh.peer(node, rng.choice(["silent", "bin", "str"]))
        peer.write(rng.randbytes(rng.randrange(5, 300)))
        peer.write(b"\xff" * 8)
        bad.append(peer)
    await mesh.until(lambda: all(peer.lost for peer in bad), "the end of each")
    await mesh.served(node, honest)
    assert list(node.routing_table) == [honest.id]
    await mesh.until(lambda: len(node._links) == 1, "the end of each here")
