"""Light frames: who gets them, when a message goes instead, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from chordtx import Limits
from chordtx.errors import ProtocolError, ValueTooLarge
from chordtx.mesh.light import LIGHT_BYTES_MAX, LightSender
from chordtx.wire import Codec, Light, flags, light_frame
from chordtx.wire.packing import pack
from tests.mesh.peers import ManualPeer, Mesh

ARC = b"a" * 48
CALLS = [[1, "ping"]]
REPLIES = [[1, 0]]


class Link:
    """Says what it is given to send. :ivar sent: payloads of messages, and what light frames hold."""

    def __init__(self) -> None:
        self.heard_at = 100.0
        self.arc_start: bytes | None = ARC
        self.sent: list[Any] = []
        self._codec = Codec(Limits())
        self._codec.greeted(ours=True)
        self.sender = LightSender(self, lambda: self.arc_start)
        self.sender.peer_reads_light = True

    def send(self, *payload: Any) -> None:
        self.sent.append(payload)

    def write(self, data: bytes) -> None:
        self._codec.receive_data(data)
        came = self._codec.next_received()
        assert isinstance(came, Light)
        self.sent.append([came.flag, came.content])

    def is_light(self) -> list[bool]:
        """Of what was sent since this was asked last."""
        kinds, self.sent = [type(each) is list for each in self.sent], []
        return kinds


def test_calls_and_answers_go_light_once_the_time_and_the_arc_were_told() -> None:
    link = Link()
    link.sender.send_replies(REPLIES)
    link.sender.send_replies(REPLIES)
    link.sender.send_calls(CALLS)
    assert link.sent == [(flags.REPLY, ARC, REPLIES), [flags.REPLY, REPLIES], [flags.CALL, CALLS]]


def test_nothing_is_light_for_a_peer_that_reads_none() -> None:
    link = Link()
    link.sender.peer_reads_light = False
    for _ in range(2):
        link.sender.send_calls(CALLS)
        link.sender.send_replies(REPLIES)
        link.sender.send_groups(b"frame")
    assert link.is_light() == [False] * 6


def test_the_time_is_told_again_after_a_while() -> None:
    link = Link()
    link.sender.send_calls(CALLS)
    link.heard_at += 4.9
    link.sender.send_calls(CALLS)
    link.heard_at += 0.1
    link.sender.send_calls(CALLS)
    link.sender.send_replies(REPLIES)  # tells the arc
    link.sender.send_replies(REPLIES)
    assert link.is_light() == [False, True, False, False, True]


def test_an_arc_that_changes_is_told_at_once() -> None:
    link = Link()
    link.sender.send_replies(REPLIES)
    for arc_start in (b"b" * 48, None):
        link.arc_start = arc_start
        link.sender.send_replies(REPLIES)
        link.sender.send_replies(REPLIES)
        assert link.sent[-2:] == [(flags.REPLY, arc_start, REPLIES), [flags.REPLY, REPLIES]]


def test_what_is_long_goes_in_a_message() -> None:
    link = Link()
    link.sender.send_calls(CALLS)
    longest = [b"x" * (LIGHT_BYTES_MAX - 4)]
    assert len(pack(longest)) == LIGHT_BYTES_MAX
    link.sender.send_calls(longest)
    link.sender.send_calls([longest[0] + b"x"])
    link.sender.send_groups(b"x" * LIGHT_BYTES_MAX)
    link.sender.send_groups(b"x" * (LIGHT_BYTES_MAX + 1))
    assert link.is_light() == [False, True, False, True, False]


def test_what_could_not_be_sent_has_told_nothing() -> None:
    link = Link()
    send = link.send

    def refuses(*payload: Any) -> None:
        raise ValueTooLarge("too large for a frame")

    link.send = refuses  # type: ignore[method-assign]
    for sends in (link.sender.send_replies, link.sender.send_calls):
        with pytest.raises(ValueTooLarge):
            sends(REPLIES)
    link.send = send  # type: ignore[method-assign]
    link.sender.send_calls(CALLS)
    link.sender.send_replies(REPLIES)
    assert link.is_light() == [False, False]


def test_what_cannot_be_packed_is_told_to_who_asks() -> None:
    link = Link()
    link.sender.send_calls(CALLS)
    with pytest.raises(TypeError):
        link.sender.send_calls([[1, "method", object()]])


def test_a_link_that_is_gone_sends_nothing() -> None:
    link = Link()
    link.sender.stop()
    link.sender.send_calls(CALLS)
    link.sender.send_replies(REPLIES)
    link.sender.send_groups(b"frame")
    assert link.sent == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes([flags.ANNOUNCE]) + pack([]),
        bytes([flags.CALL]),
        bytes([flags.CALL]) + pack([1])[:-1],
        bytes([flags.REPLY]) + b"\x91" * 80 + b"\x90",
    ],
    ids=["empty", "another flag", "nothing in it", "cut short", "nested"],
)
def test_a_light_frame_of_something_else_is_an_error(data: bytes) -> None:
    codec = Codec(Limits())
    codec.greeted(ours=True)
    whole = light_frame(0, data[1:])
    codec.receive_data(whole[:4] + data if data else b"\x80\0\0\0")
    with pytest.raises(ProtocolError):
        codec.next_received()


def asked(peer: ManualPeer, name: str) -> list[Any] | None:
    """The call of this name that came in a light frame."""
    calls = (call for light in peer.light if light.flag == flags.CALL for call in light.content)
    return next((call for call in calls if call[1] == name), None)


@pytest_twisted.ensureDeferred
async def test_calls_travel_light_both_ways(mesh: Mesh) -> None:
    node = await mesh.node()
    peer = await mesh.peer(node, "light")
    link = node.routing_table[peer.id]
    link.call("first", timeout_seconds=9).addErrback(lambda _: None)  # tells the time
    await mesh.until(lambda: peer.heard(flags.CALL), "a message")
    peer.write(light_frame(flags.CALL, pack([[2, "ping"]])))
    await mesh.until(lambda: (flags.REPLY, [[2, 0]]) in [each[:2] for each in peer.light], "a light answer")
    answer: Deferred[list[Any]] = link.call("second", 7, timeout_seconds=9)
    await mesh.until(lambda: asked(peer, "second"), "a light call")
    number, *called = asked(peer, "second") or []
    assert called == ["second", 7]
    peer.write(light_frame(flags.REPLY, pack([[number, 0, "done"]])))
    assert await answer == ["done"]


@pytest_twisted.ensureDeferred
async def test_a_node_that_reads_no_light_frames_gets_none(mesh: Mesh) -> None:
    node = await mesh.node()
    peer = await mesh.peer(node, "ours")
    for number in range(3):
        peer.say(flags.CALL, [[number, "ping"]])
    await mesh.until(lambda: sum(len(payload[2]) for payload in peer.heard(flags.REPLY)) == 3, "answers")
    assert peer.light == []


@pytest.mark.parametrize("kind", ["bin", "str", "silent"])
@pytest_twisted.ensureDeferred
async def test_a_light_frame_of_a_legacy_peer_or_a_stranger_ends_its_link(mesh: Mesh, kind: str) -> None:
    node = await mesh.node()
    peer = await mesh.peer(node, kind)
    peer.write(light_frame(flags.CALL, pack([[1, "ping"]])))
    await mesh.until(lambda: peer.lost, "the end of the link")
    assert peer.light == []


@pytest_twisted.ensureDeferred
async def test_a_light_answer_stands_by_the_arc_that_was_told_before(mesh: Mesh) -> None:
    node = await mesh.node()
    peer = await mesh.peer(node, "light")
    link = node.routing_table[peer.id]
    told: list[bytes | None] = []
    node._arc_told = lambda link: told.append(link.arc_start)  # type: ignore[method-assign]
    peer.say(flags.REPLY, ARC, [])
    peer.write(light_frame(flags.REPLY, pack([])))
    await mesh.until(lambda: len(told) == 2, "two answers")
    assert told == [ARC, ARC]
    assert link.arc_start == ARC
