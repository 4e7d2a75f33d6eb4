"""Whatever strangers say to a node of a ring, only they are answered or cut off; the ring goes on.

That nothing unexpected is raised shows in the log: an error in it fails the test (see ``conftest``).
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha1, sha256
from random import Random
from typing import Any

import pytest
import pytest_twisted

from chordtx.chord import ChordService
from chordtx.config import ChordSettings, MeshSettings
from chordtx.wire import encode_id, flags
from tests.chord.nodes import Nodes
from tests.mesh.fuzz import KINDS, Stranger, mutated, odd_payloads, odd_value

FAST = ChordSettings(
    call_timeout_seconds=0.2,
    operation_timeout_seconds=1.0,
    mesh=MeshSettings(decoded_bytes_per_second_max=1 << 40, turn_seconds_max=1e6),
)
FLAGS = [
    *(flags.HANDSHAKE, flags.NOTIFY, flags.PEERS, flags.STORE, flags.RETRIEVE, flags.RETRIEVED),
    *(flags.DELTA, flags.ANNOUNCE, flags.REQUEST, flags.RESPONSE, flags.CALL, flags.REPLY),
]
TYPES = [flags.WHISPER] * 4 + [flags.BROADCAST] * 2 + [77]
PLACE = bytes(48)
POSITION = encode_id(int.from_bytes(sha256(b"key").digest(), "big") << 128)
RECORD = [1 << 40, bytes(16), b"\x05", None, [[b"\xa1a", 1 << 41, bytes(16), b"\x06"]]]


def good_payloads(stranger: Stranger) -> list[tuple[Any, ...]]:
    """What a node of a ring understands, said right."""
    text = stranger.dialect.text
    return [
        (flags.HANDSHAKE, "0"),
        (flags.HANDSHAKE, "1"),
        (flags.NOTIFY, b"key"),
        (flags.NOTIFY, "key", b"del"),
        (flags.STORE, text("sha256"), text(POSITION), "value"),
        (flags.STORE, text("sha256"), text(POSITION), None),
        (flags.STORE, text("sha1"), text(encode_id(int.from_bytes(sha1(b"key").digest()) << 224)), {"a": 1}),
        (flags.DELTA, text("sha256"), text(POSITION), {"b": b"2"}),
        (flags.RETRIEVE, text("sha256"), text(POSITION)),
        (flags.RETRIEVED, text("sha256"), text(POSITION), ["value"]),
        (flags.ANNOUNCE, [[b"key", 0], [b"other", 1]]),
    ]


#: Arguments of calls, said right; a method that is not named here gets anything.
GOOD_ARGUMENTS: dict[str, list[Any]] = {
    "read": [b"key"],
    "version": [b"key"],
    "write": [b"key", RECORD],
    "find": [PLACE, 1],
    "keys": [b"\xff" * 48, PLACE, 10, False],
    "belongings": [b"\xff" * 48, 10],
    "fetch": [[b"key"]],
    "offer": [[[b"key", 5, bytes(16)]]],
    "take": [[[b"key", RECORD]]],
}


def calls(node: ChordService, rng: Random, count: int) -> Iterator[list[Any]]:
    """Calls of all methods, with arguments of any kind."""
    names = sorted(set(node._methods) - {"nudge"})
    for number in range(count):
        name = rng.choice(names)
        good = GOOD_ARGUMENTS.get(name)
        if good is not None and rng.random() < 0.5:
            arguments = list(mutated((name, *good), rng)[1:])
        else:
            arguments = [odd_value(rng) for _ in range(rng.randrange(5))]
        yield [number, name, *arguments]


async def still_works(nodes: Nodes, node: ChordService) -> None:
    """The dict is used as before."""
    await node.set(b"mine", "value")
    assert await node.get(b"mine") == "value"


class Strangers:
    """Link after link to one node, each used until it is ended."""

    def __init__(self, node: ChordService, kind: str, seed: int) -> None:
        self.rng = Random(f"{kind} {seed}")
        self._node = node
        self._kind = kind
        self._last: Stranger | None = None

    def one(self) -> Stranger:
        """One that is linked."""
        if self._last is None or self._last.gone:
            self._last = Stranger(self._node, self._kind, self.rng)
            self._last.greet()
        return self._last

    def end(self) -> None:
        """The last one goes."""
        if self._last is not None:
            self._last.end()


@pytest.mark.parametrize("kind", KINDS)
@pytest_twisted.ensureDeferred
async def test_payloads_of_any_kind(nodes: Nodes, kind: str) -> None:
    node = await nodes.first(FAST)
    strangers = Strangers(node, kind, 1)
    for number, payload in enumerate(odd_payloads(strangers.rng, FLAGS, 3000)):
        strangers.one().say(*payload, type=strangers.rng.choice(TYPES))
        if number % 100 == 0:
            await node.sleep(0)
    strangers.end()
    await still_works(nodes, node)


@pytest.mark.parametrize("kind", KINDS)
@pytest_twisted.ensureDeferred
async def test_payloads_that_are_almost_right(nodes: Nodes, kind: str) -> None:
    node = await nodes.first(FAST)
    strangers = Strangers(node, kind, 2)
    rng = strangers.rng
    for number in range(2000):
        stranger = strangers.one()
        payload = rng.choice(good_payloads(stranger))
        stranger.say(*mutated(payload, rng), type=rng.choice(TYPES))
        if number % 50 == 0:
            await node.sleep(0)
    strangers.end()
    await still_works(nodes, node)


@pytest_twisted.ensureDeferred
async def test_calls_of_any_kind(nodes: Nodes) -> None:
    node = await nodes.first(FAST)
    strangers = Strangers(node, "ours", 3)
    for number, call in enumerate(calls(node, strangers.rng, 3000)):
        strangers.one().say(flags.CALL, [call])
        if number % 50 == 0:
            await node.sleep(0)
    strangers.end()
    await still_works(nodes, node)


@pytest.mark.parametrize("seed", range(3))
@pytest_twisted.ensureDeferred
async def test_member_that_answers_anything(nodes: Nodes, seed: int) -> None:
    """It claims to store, so that it is asked, and answers each call with something else."""
    node = await nodes.first(FAST)
    strangers = Strangers(node, "ours", 100 + seed)
    rng = strangers.rng
    answered = 0
    for _ in range(400):
        stranger = strangers.one()
        for call in _calls_heard(stranger):
            results = [odd_value(rng) for _ in range(rng.randrange(4))]
            stranger.say(
                flags.REPLY, rng.choice([None, PLACE]), [[call[0], rng.choice([0, 0, 0, 2]), *results]]
            )
            answered += 1
        stranger.say(flags.HANDSHAKE, "0")
        if rng.random() < 0.2:
            stranger.say(flags.CALL, [[answered, rng.choice(["notify", "left", "nudge"])]])
        await node.sleep(0.002)
    assert answered
    strangers.end()
    await nodes.until(lambda: not node.routing_table, "nobody else")
    await nodes.settled()
    await still_works(nodes, node)


def _calls_heard(stranger: Stranger) -> list[Any]:
    frames = [message.payload for message in stranger.heard() if message.payload[0] == flags.CALL]
    return [call for payload in frames for call in payload[1]]
