"""Keys that strangers only ask for, or name, take no memory for long."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from chordtx.chord import ChordService
from chordtx.config import ChordSettings
from chordtx.group.operations import GET, TAKE
from chordtx.group.rank import NO_RANK
from chordtx.ring.partitions import partition_of
from chordtx.wire import flags
from tests.fuzz.memory import held_bytes
from tests.mesh.fuzz import Stranger
from tests.sim.cluster import Cluster

BITS = 3
KEY_BYTES = 60_000
KEYS = 150
#: 9 MB are said. Names that legacy peers tell are kept by each of seven nodes, up to a bound.
ASKED_BYTES_MAX = 4 * 10**6
NAMED_BYTES_MAX = 20 * 10**6


def calls(number: int, key: bytes) -> tuple[Any, ...]:
    """All methods that take a key, for a node of ours."""
    partition = partition_of(key, BITS)
    asked = [
        ["do", partition, b"c" * 16, GET, key, []],
        ["do", partition, b"c" * 16, 2 * number + 2, 2 * number, NO_RANK, TAKE, key, []],
        ["legacy_hint", key],
        ["legacy_refresh", key],
    ]
    return (flags.CALL, [[number * len(asked) + place, *call] for place, call in enumerate(asked)])


def notice(number: int, key: bytes) -> tuple[Any, ...]:
    """A legacy peer names a key."""
    return (flags.NOTIFY, key)


def deletion(number: int, key: bytes) -> tuple[Any, ...]:
    """A legacy peer has deleted a key."""
    return (flags.NOTIFY, key, b"del")


@pytest.mark.parametrize(
    ("kind", "payload", "bytes_max"),
    [
        ("ours", calls, ASKED_BYTES_MAX),
        ("bin", notice, NAMED_BYTES_MAX),
        ("bin", deletion, NAMED_BYTES_MAX),
    ],
)
def test_long_keys_are_not_kept(
    kind: str, payload: Callable[[int, bytes], tuple[Any, ...]], bytes_max: int
) -> None:
    nodes = Cluster(ChordService)
    members = nodes.several(7, subnet="chord", settings=ChordSettings(partition_bits=BITS))
    nodes.run(15)
    rng = Random(1)
    stranger = Stranger(members[0], kind, rng)
    stranger.greet()
    before_bytes = held_bytes()
    for number in range(KEYS):
        stranger.say(*payload(number, rng.randbytes(KEY_BYTES)))
        nodes.run(0.02)
    assert not stranger.gone
    nodes.run(25)
    stranger.transport.clear()
    assert held_bytes() - before_bytes < bytes_max
    stranger.end()
