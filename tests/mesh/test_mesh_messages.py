"""Messages on real sockets: broadcasts, whispers, replies, peers, handlers, dialects, compression."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from chordtx.config import Limits, MeshSettings
from chordtx.errors import NotJoined, ValueTooLarge
from chordtx.mesh import Address, Dialect, MeshConnection, MeshService, ReceivedMessage
from chordtx.mesh import finding as finding_module
from chordtx.wire import Message, flags
from chordtx.wire.frame import frame
from tests.mesh.peers import HOST, ManualPeer, Mesh

# Broadcasts


@pytest_twisted.ensureDeferred
async def test_broadcast_reaches_each_exactly_once_in_a_mesh_with_cycles(mesh: Mesh) -> None:
    nodes = await mesh.complete(6)
    emitted: list[MeshService] = []
    for node in nodes:
        node.on("message", emitted.append)
    for number, node in enumerate(nodes):
        node.send("from", number)
    await mesh.until(lambda: len(emitted) >= 30, "everything everywhere")
    for node in nodes:
        other = nodes[(nodes.index(node) + 1) % 6]
        await node.routing_table[other.id].call("ping", timeout_seconds=20.0)  # whatever was sent has come
    assert len(emitted) == 30
    for number, node in enumerate(nodes):
        received = node.recv(100)
        assert isinstance(received, list)
        assert sorted(message.packets for message in received) == [
            (0, "from", other) for other in range(6) if other != number
        ]
        assert {message.sender for message in received} == {other.id for other in nodes} - {node.id}


@pytest_twisted.ensureDeferred
async def test_broadcast_is_passed_on_byte_for_byte_and_not_back(mesh: Mesh) -> None:
    node = await mesh.node()
    source, other = await mesh.peer(node), await mesh.peer(node)
    # Packed in a way that packing it anew would not give.
    body = source.build(0, "x", type=flags.BROADCAST).body[:-2] + b"\xd9\x01x"
    message = Message.parse(_with_id(body), Limits())
    source.write(frame(message.data))
    source.write(frame(message.data))
    source.say(0, "last", type=flags.BROADCAST)
    await mesh.until(lambda: len(other.heard(0)) >= 2, "both")
    assert next(heard.body for heard in other.messages if heard.payload[0] == 0) == body
    assert [payload[1] for payload in other.heard(0)] == ["x", "last"]
    assert source.heard(0) == []


def _with_id(body: bytes) -> bytes:
    from hashlib import sha256

    return sha256(body).digest() + body


@pytest_twisted.ensureDeferred
async def test_broadcasts_that_are_old_or_our_own_go_nowhere(mesh: Mesh) -> None:
    node = await mesh.node()
    source, other = await mesh.peer(node), await mesh.peer(node)
    source.write(frame(source.build(0, "old", type=flags.BROADCAST, time=source.now() - 100).data))
    own = Message.build(flags.BROADCAST, node.id.encode(), source.now(), (0, "ours"))
    source.write(frame(own.data))
    source.say(0, "new", type=flags.BROADCAST)
    await mesh.until(lambda: other.heard(0), "the last one")
    assert other.heard(0) == [(0, "new")]
    assert [message.packets for message in node.recv(10) or ()] == [(0, "new")]  # type: ignore[union-attr]


@pytest_twisted.ensureDeferred
async def test_broadcast_of_an_unknown_flag_is_passed_on(mesh: Mesh) -> None:
    node = await mesh.node()
    source, other = await mesh.peer(node), await mesh.peer(node)
    source.say(0x33, [1, {"a": b"b"}], type=flags.BROADCAST)
    await mesh.until(lambda: other.heard(0x33), "it")
    assert node.recv() is None


@pytest.mark.parametrize(("here", "there"), [("bin", "str"), ("str", "bin")])
@pytest_twisted.ensureDeferred
async def test_broadcast_reaches_each_legacy_peer_in_its_dialect(mesh: Mesh, here: str, there: str) -> None:
    node = await mesh.node()
    source, other, alike = [await mesh.peer(node, kind) for kind in (here, there, here)]
    said = source.say(0, "hello", type=flags.BROADCAST)
    await mesh.until(lambda: other.heard(0) and alike.heard(0), "it")
    (translated,) = (message for message in other.messages if message.payload[0] == 0)
    assert translated.sender == other.dialect.text(source.id)
    assert [message for message in alike.messages if message.payload[0] == 0] == [said]
    other.write(frame(translated.data))  # comes back by another way, in the other form
    other.say(0, "next", type=flags.BROADCAST)
    await mesh.until(lambda: len(alike.heard(0)) >= 2, "the next one")
    assert [payload[1] for payload in alike.heard(0)] == ["hello", "next"]
    assert len(node.recv(10) or ()) == 2  # type: ignore[arg-type]


@pytest.mark.parametrize("flag", [flags.HANDSHAKE, flags.PEERS, flags.CALL, flags.REPLY, flags.HELLO])
@pytest_twisted.ensureDeferred
async def test_what_is_between_two_nodes_is_no_broadcast(mesh: Mesh, flag: int) -> None:
    node = await mesh.node()
    source, other = await mesh.peer(node, "ours"), await mesh.peer(node, "ours")
    known = len(other.heard(flag))
    source.say(flag, [[1, "ping"]], type=flags.BROADCAST)
    source.say(0, "last", type=flags.BROADCAST)
    await mesh.until(lambda: other.heard(0), "the last one")
    assert len(other.heard(flag)) == known
    assert not source.lost


@pytest.mark.parametrize("flag", [[1], {"a": 1}, "text", None])
@pytest_twisted.ensureDeferred
async def test_a_broadcast_that_begins_with_no_number_is_passed_on_too(mesh: Mesh, flag: Any) -> None:
    node = await mesh.node()
    source, legacy = await mesh.peer(node, "ours"), await mesh.peer(node, "bin")
    source.say(flag, type=flags.BROADCAST)
    source.say(0, "last", type=flags.BROADCAST)
    await mesh.until(lambda: legacy.heard(0), "the last one")
    assert flag in [message.payload[0] for message in legacy.messages]
    assert not source.lost


@pytest_twisted.ensureDeferred
async def test_bad_broadcast_does_not_cut_who_passes_it_on(mesh: Mesh) -> None:
    node = await mesh.node()
    relaying, other = await mesh.peer(node), await mesh.peer(node)
    for payload in [
        (flags.REQUEST,),
        (flags.RESPONSE, 5),
        (flags.REQUEST, [], {}),
        (flags.REQUEST, "r", b"0"),
    ]:
        bad = Message.build(flags.BROADCAST, b"somebodyeLse", relaying.now(), payload)
        relaying.write(frame(bad.data))
    await mesh.served(node, relaying)
    assert not other.heard(flags.REQUEST)
    assert len(mesh.logged("a broadcast is dropped")) == 4
    relaying.say(flags.REQUEST, type=flags.BROADCAST)  # its own
    await mesh.until(lambda: relaying.lost, "the end")


# Whispers and users


@pytest_twisted.ensureDeferred
async def test_send_as_whisper_goes_to_neighbours_only(mesh: Mesh) -> None:
    node = await mesh.node()
    near = [await mesh.peer(node), await mesh.peer(node, "str")]
    node.send("psst", flag=flags.WHISPER, type=flags.WHISPER)
    for peer in near:
        await mesh.until(lambda peer=peer: peer.heard(flags.WHISPER), "it")
        message = next(message for message in peer.messages if message.payload[0] == flags.WHISPER)
        assert (message.type, message.sender) == (flags.WHISPER, peer.dialect.text(node.id))
    near[0].say(flags.WHISPER, "back")
    await mesh.served(node, near[0])
    assert near[1].heard(flags.WHISPER) == [(flags.WHISPER, "psst")]
    received = node.recv()
    assert isinstance(received, ReceivedMessage)
    assert (received.packets, received.sender) == ((flags.WHISPER, "back"), near[0].id)
    assert len(received.id) == 32
    assert "back" in repr(received)


@pytest_twisted.ensureDeferred
async def test_recv_gives_one_or_many(mesh: Mesh) -> None:
    node = await mesh.node(settings=MeshSettings(received_messages_max=4))
    peer = await mesh.peer(node)
    assert node.recv() is None
    assert node.recv(5) == []
    for number in range(6):
        peer.say(flags.WHISPER, number)
    await mesh.served(node, peer)
    first = node.recv()
    assert isinstance(first, ReceivedMessage)
    assert first.packets == (flags.WHISPER, 2)  # the oldest went
    rest = node.recv(10)
    assert isinstance(rest, list)
    assert [message.packets[1] for message in rest] == [3, 4, 5]


@pytest_twisted.ensureDeferred
async def test_messages_that_wait_are_bounded_in_bytes(mesh: Mesh) -> None:
    node = await mesh.node(settings=MeshSettings(received_bytes_max=100_000))
    peer = await mesh.peer(node)
    for number in range(10):
        peer.say(flags.WHISPER, number, bytes(40_000))
    peer.say(flags.WHISPER, "too large", bytes(200_000))
    peer.say(flags.WHISPER, "last")
    await mesh.served(node, peer)
    rest = node.recv(10)
    assert isinstance(rest, list)
    assert [message.packets[1] for message in rest] == ["last"]


@pytest_twisted.ensureDeferred
async def test_handlers_are_asked_in_order_until_one_takes_the_message(
    mesh: Mesh, flush_logged_errors: Callable[..., list[Any]]
) -> None:
    node, asked = await mesh.node(), []
    emitted: list[Any] = []
    node.on("message", emitted.append)

    def broken(message: ReceivedMessage, link: MeshConnection) -> bool:
        asked.append("broken")
        raise IndexError

    def takes_some(message: ReceivedMessage, link: MeshConnection) -> bool:
        asked.append(link.id)
        return message.packets[1] == "mine"

    for handler in (broken, takes_some, lambda message, link: asked.append("last")):
        node.register_handler(handler)
    peer = await mesh.peer(node)
    peer.say(flags.WHISPER, "mine")
    peer.say(0x30, "own flag")
    peer.say(flags.WHISPER, "yours")
    await mesh.served(node, peer)
    assert asked == ["broken", peer.id, "broken", peer.id, "last", "broken", peer.id, "last"]
    received = node.recv(10)
    assert isinstance(received, list)
    assert [message.packets[1] for message in received] == ["yours"]
    assert emitted == [node]
    assert len(flush_logged_errors(IndexError)) == 3


@pytest_twisted.ensureDeferred
async def test_handler_that_is_awaited_takes_or_leaves(mesh: Mesh) -> None:
    node, asked = await mesh.node(), []
    emitted: list[Any] = []
    node.on("message", emitted.append)
    wait: Deferred[None] = Deferred()

    async def takes_some(message: ReceivedMessage, link: MeshConnection) -> bool:
        asked.append(message.packets[1])
        await wait
        return message.packets[1] == "mine"

    node.register_handler(takes_some)
    peer = await mesh.peer(node)
    for text in ("mine", "yours"):
        peer.say(flags.WHISPER, text)
    await mesh.served(node, peer)
    assert (asked, node.recv()) == (["mine", "yours"], None)
    wait.callback(None)
    received = node.recv(10)
    assert isinstance(received, list)
    assert [message.packets[1] for message in received] == ["yours"]
    assert emitted == [node]


@pytest.mark.parametrize("handler", [lambda: None, lambda message: None, lambda a, b, c: None])
@pytest_twisted.ensureDeferred
async def test_handler_that_takes_other_arguments_is_refused(mesh: Mesh, handler: Any) -> None:
    node = await mesh.node()
    with pytest.raises(ValueError):
        node.register_handler(handler)


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_sent_is_told(mesh: Mesh) -> None:
    node = await mesh.node(
        settings=MeshSettings(limits=Limits(frame_bytes_max=10_000, expanded_bytes_max=10_000))
    )
    peer = await mesh.peer(node)
    with pytest.raises(TypeError):
        node.send(object())
    with pytest.raises(ValueTooLarge):
        node.send(bytes(20_000))
    node.send("still")
    await mesh.until(lambda: peer.heard(0), "it")


# Replies


@pytest_twisted.ensureDeferred
async def test_reply_goes_to_the_neighbour(mesh: Mesh) -> None:
    first = await mesh.node()
    second = await mesh.node(first)
    await mesh.linked(first, second)
    second.send("question")
    await mesh.until(lambda: first._inbox._kept, "the question")
    question = first.recv()
    assert isinstance(question, ReceivedMessage)
    await question.reply("answer", 1)
    await mesh.until(lambda: second._inbox._kept, "the answer")
    answer = second.recv()
    assert isinstance(answer, ReceivedMessage)
    assert answer.packets == (flags.WHISPER, "answer", 1)
    assert answer.sender == first.id


def _stays_apart(node: MeshService) -> None:
    node._peer_met = lambda peer, address: None  # type: ignore[method-assign]


@pytest_twisted.ensureDeferred
async def test_reply_finds_and_connects_to_a_node_that_is_no_neighbour(mesh: Mesh) -> None:
    nodes = [await mesh.node() for _ in range(4)]
    for node in nodes:
        _stays_apart(node)
    for node, other in pairwise(nodes):
        await node.connect(*other.out_addr)
    first, last = nodes[0], nodes[-1]
    first.send("far")
    await mesh.until(lambda: last._inbox._kept, "the message")
    message = last.recv()
    assert isinstance(message, ReceivedMessage)
    assert first.id not in last.routing_table
    await message.reply("answer")
    await mesh.until(lambda: first._inbox._kept, "the answer")
    assert first.id in last.routing_table


@pytest_twisted.ensureDeferred
async def test_reply_to_nobody_fails(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding_module, "_TIMEOUT_SECONDS", 0.2)
    node = await mesh.node()
    await mesh.peer(node)
    with pytest.raises(NotJoined, match="nobody in the mesh knows"):
        await node.send_to("abc", "x")
    assert not node._finding._requests


@pytest.mark.parametrize("claim", ["nobody listens", "another node"])
@pytest_twisted.ensureDeferred
async def test_reply_by_a_wrong_address_fails(mesh: Mesh, claim: str, free_port: Callable[[], int]) -> None:
    node, other = await mesh.node(), await mesh.node()
    _stays_apart(node)
    peer = await mesh.peer(node)
    sent = node.send_to("abc", "x")
    sent.addErrback(lambda failure: failures.append(failure.value))
    failures: list[Exception] = []
    await mesh.until(lambda: peer.heard(flags.REQUEST), "the request")
    _, request, wanted = peer.heard(flags.REQUEST)[0]
    assert wanted == b"abc"
    port = free_port() if claim == "nobody listens" else other.out_addr[1]
    peer.say(flags.RESPONSE, "another request", [[HOST, port], b"abc"], type=flags.BROADCAST)
    peer.say(flags.RESPONSE, request, None, type=flags.BROADCAST)
    peer.say(flags.RESPONSE, request, [[HOST, port], b"abd"], type=flags.BROADCAST)
    await mesh.served(node, peer)
    assert failures == []
    peer.say(flags.RESPONSE, request, [[HOST, port], b"abc"], type=flags.BROADCAST)
    await mesh.until(lambda: failures, "the failure")
    assert isinstance(failures[0], NotJoined)


@pytest.mark.parametrize("kind", ["bin", "str", "ours"])
@pytest_twisted.ensureDeferred
async def test_peers_are_told_where_a_node_is(mesh: Mesh, kind: str) -> None:
    node, other = await mesh.node(), await mesh.node()
    await node.connect(*other.out_addr)
    peer = await mesh.peer(node, kind)
    text = peer.dialect.text
    peer.say(flags.REQUEST, "r1", text(node.id), type=flags.BROADCAST)
    await mesh.until(lambda: peer.heard(flags.RESPONSE), "a response")
    assert peer.heard(flags.RESPONSE)[0] == (flags.RESPONSE, "r1", [[HOST, node.out_addr[1]], text(node.id)])
    peer.say(flags.REQUEST, "r2", text(other.id), type=flags.BROADCAST)
    await mesh.served(node, peer)
    answer = (flags.RESPONSE, "r2", [[HOST, other.out_addr[1]], text(other.id)])
    if kind == "str":  # it would connect at once, and throw
        assert answer not in peer.heard(flags.RESPONSE)
    else:
        await mesh.until(lambda: answer in peer.heard(flags.RESPONSE), "a response")


# Peers


@pytest_twisted.ensureDeferred
async def test_legacy_peers_are_told_few_and_ours_everyone(mesh: Mesh) -> None:
    nodes = await mesh.complete(7)
    for kind, count in (("bin", 4), ("str", 4), ("ours", 6)):
        peer = await mesh.peer(nodes[0], kind)
        await mesh.served(nodes[0], peer)
        told = peer.heard(flags.PEERS)
        assert len(told[0][1]) == (6 if kind == "ours" else 0)
        assert len(told[1][1]) == count
        by_id = {node.id: node for node in nodes}
        for address, id in told[1][1]:
            text = id if isinstance(id, str) else id.decode()
            assert isinstance(id, str) == (kind == "str")
            assert address == [HOST, by_id[text].out_addr[1]]


@pytest_twisted.ensureDeferred
async def test_peers_are_asked_in_their_dialect(mesh: Mesh) -> None:
    node = await mesh.node()
    peers = [await mesh.peer(node, kind) for kind in ("bin", "str", "ours")]
    node.request_peers()
    for peer in peers:
        await mesh.until(lambda peer=peer: peer.heard(flags.REQUEST), "the request")
        assert peer.heard(flags.REQUEST) == [(flags.REQUEST, peer.dialect.text("*"))]
    peers[0].say(flags.REQUEST, "*")  # py2p itself says it as str
    await mesh.until(lambda: len(peers[0].heard(flags.PEERS)) == 2, "the answer")


@pytest_twisted.ensureDeferred
async def test_node_connects_to_whom_it_is_told_of_up_to_four(mesh: Mesh) -> None:
    node = await mesh.node()
    named = [ManualPeer(name=f"named {number}") for number in range(8)]
    entries = [[[HOST, await mesh.listening_peer(peer)], peer.id.encode()] for peer in named]
    told = await mesh.peer(node)
    told.say(flags.PEERS, entries)
    await mesh.until(lambda: len(node.routing_table) == 5, "four links and that one")
    await mesh.served(node, told)
    assert [peer.transport is not None for peer in named] == [True] * 4 + [False] * 4


@pytest_twisted.ensureDeferred
async def test_entries_that_are_no_peers_are_left_out(mesh: Mesh) -> None:
    node = await mesh.node()
    met: list[str] = []
    node._peer_met = lambda peer, address: met.append(peer)  # type: ignore[method-assign]
    peer = await mesh.peer(node)
    wrong = [None, 5, [], [[HOST, 5]], [[HOST, "5"], b"abc"], [["a b", 5], b"abc"], [[HOST, 5], b"0"], {}]
    wrong += [
        [[HOST, 0], b"abc"],
        [[HOST, 99999], b"abc"],
        [list(node.out_addr), b"abc"],
        [[HOST, 5], node.id],
    ]
    peer.say(flags.PEERS, [*wrong, [[HOST, 5], b"abc"], [[b"127.0.0.1", 5], "abd"]])
    await mesh.served(node, peer)
    assert met == ["abc", "abd"]


@pytest_twisted.ensureDeferred
async def test_lists_of_bogus_peers_start_few_attempts(mesh: Mesh, free_port: Callable[[], int]) -> None:
    node = await mesh.node()
    tried: list[Address] = []
    opened = node._dialing._open_link

    def open_link(address: Address) -> Any:
        tried.append(address)
        return opened(address)

    node._dialing._open_link = open_link  # type: ignore[method-assign]
    peer = await mesh.peer(node)
    peer.say(flags.PEERS, [[[f"192.0.2.{number % 256}", 1 + number], b"abc"] for number in range(1000)])
    await mesh.served(node, peer)
    assert len(tried) == 4
    for number in range(1000):
        node._connect_quietly(Address("192.0.2.1", 1 + number))
    assert node._dialing.count == node.settings.connections_max


# Compression


@pytest_twisted.ensureDeferred
async def test_messages_are_compressed_as_the_peer_offers(mesh: Mesh) -> None:
    node = await mesh.node()
    plain = await mesh.peer(node)
    packed = ManualPeer(name="packed")
    packed.methods = [flags.ZLIB]
    await node.connect(HOST, await mesh.listening_peer(packed))
    before = (plain.received_bytes, packed.received_bytes)
    node.send("x" * 100_000)
    await mesh.until(lambda: plain.heard(0) and packed.heard(0), "it")
    assert plain.received_bytes - before[0] > 100_000
    assert packed.received_bytes - before[1] < 10_000
    plain.say(flags.COMPRESSION, [flags.ZLIB], type=flags.RENEGOTIATE)
    packed.say(flags.COMPRESSION, [], type=flags.RENEGOTIATE)
    await mesh.served(node, plain)
    await mesh.served(node, packed)
    before = (plain.received_bytes, packed.received_bytes)
    node.send("y" * 100_000)
    await mesh.until(lambda: len(plain.heard(0)) == len(packed.heard(0)) == 2, "it")
    assert plain.received_bytes - before[0] < 10_000
    assert packed.received_bytes - before[1] > 100_000


@pytest_twisted.ensureDeferred
async def test_renegotiation_is_answered_when_the_lists_differ_and_ends(mesh: Mesh) -> None:
    node = await mesh.node()
    peer = await mesh.peer(node)
    for theirs, answers in (([flags.ZLIB], 0), ([flags.ZLIB, 99], 1), ([flags.ZLIB, 99], 1), ([], 1)):
        peer.say(flags.COMPRESSION, theirs, type=flags.RENEGOTIATE)
        await mesh.served(node, peer)
        assert len(peer.heard(flags.COMPRESSION)) == answers
    assert peer.heard(flags.COMPRESSION)[0][1] == [flags.ZLIB]
    # Two of our own nodes come to an end.
    second = await mesh.node()
    link = await second.connect(*node.out_addr)
    link.send(flags.COMPRESSION, [flags.ZLIB, 77], type=flags.RENEGOTIATE)
    for _ in range(3):
        assert await link.call("ping", timeout_seconds=20.0) == []


@pytest.mark.parametrize("kind", ["bin", "str", "ours"])
@pytest_twisted.ensureDeferred
async def test_last_message_is_sent_again_once_and_plain(mesh: Mesh, kind: str) -> None:
    node = await mesh.node()
    peer = ManualPeer(Dialect.STR if kind == "str" else Dialect.BIN)
    peer.methods = [flags.ZLIB]
    peer = await mesh.peer(node, kind)
    peer.say(flags.COMPRESSION, [flags.ZLIB], type=flags.RENEGOTIATE)
    node.send("x" * 10_000)
    await mesh.until(lambda: peer.heard(0), "it")
    before = peer.received_bytes
    for _ in range(5):
        peer.say(flags.RESEND, type=flags.RENEGOTIATE)
    await mesh.until(lambda: len(peer.heard(0)) == 2, "it again")
    assert peer.received_bytes - before > 10_000
    await mesh.served(node, peer)
    first, second = (message for message in peer.messages if message.payload[0] == 0)
    assert first == second
    node.send("next")
    await mesh.until(lambda: len(peer.heard(0)) == 3, "the next one")
    peer.say(flags.RESEND, type=flags.RENEGOTIATE)
    await mesh.until(lambda: len(peer.heard(0)) == 4, "the next one again")
