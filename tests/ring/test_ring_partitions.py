"""Which partition a key belongs to, and who owns where it begins."""

from __future__ import annotations

from hashlib import sha384

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chordtx.ring import BITS, Contact, in_arc
from chordtx.ring.partitions import lowest_position, owned_partitions, partition_of


def contact(id: int) -> Contact:
    return Contact(id, "127.0.0.1", 1)


@given(st.binary(max_size=40), st.integers(1, 16))
def test_a_key_lies_in_its_partition(key: bytes, bits: int) -> None:
    position = int.from_bytes(sha384(key).digest(), "big")
    partition = partition_of(key, bits)
    assert lowest_position(partition, bits) <= position
    assert partition == (1 << bits) - 1 or position < lowest_position(partition + 1, bits)


ids = st.one_of(
    st.integers(0, (1 << BITS) - 1),
    st.builds(
        lambda top, by: ((top << (BITS - 4)) + by) % (1 << BITS), st.integers(0, 15), st.integers(-1, 1)
    ),
)


@given(ids, ids)
def test_who_owns_the_lowest_position_is_the_owner(me: int, predecessor: int) -> None:
    if me != predecessor:
        owned = set(owned_partitions(contact(me), contact(predecessor), 4))
        assert owned == {each for each in range(16) if in_arc(lowest_position(each, 4), predecessor, me)}


@given(st.lists(ids, min_size=1, max_size=6, unique=True))
def test_every_partition_has_one_owner(nodes: list[int]) -> None:
    ring = sorted(nodes, reverse=True)
    owned: list[int] = []
    for place, id in enumerate(ring):
        before = contact(ring[place - 1]) if len(ring) > 1 else None
        owned += owned_partitions(contact(id), before, 4)
    assert sorted(owned) == list(range(16))


@pytest.mark.parametrize("bits", [1, 4, 10, 16])
def test_a_node_alone_owns_all(bits: int) -> None:
    assert list(owned_partitions(contact(5), None, bits)) == list(range(1 << bits))
