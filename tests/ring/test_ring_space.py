"""Which way the ring is walked, and what follows from it."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from chordtx.ring import HASHES, SIZE, between, distance, in_arc, ring_positions, table_positions

# Small numbers and their neighbours round the corner meet far more often than random ones do.
POSITIONS = st.one_of(st.integers(0, 5), st.integers(SIZE - 5, SIZE - 1), st.integers(0, SIZE - 1))


def test_the_ring_is_walked_toward_smaller_ids() -> None:
    assert distance(10, 7) == 3
    assert distance(7, 10) == SIZE - 3
    assert distance(0, SIZE - 1) == 1


def test_a_position_belongs_to_the_node_nearest_at_or_below_it() -> None:
    """The legacy peers' rule: the least (position - id) mod 2**384."""
    ids = [10, 20, 30]
    for position, owner in [(10, 10), (19, 10), (20, 20), (29, 20), (35, 30), (9, 30), (0, 30)]:
        assert min(ids, key=lambda id: distance(position, id)) == owner
        assert [id for id in ids if in_arc(position, ids[(ids.index(id) + 1) % 3], id)] == [owner]


def test_the_walk_once_round_meets_everything_but_where_it_started() -> None:
    assert between(5, 6, 5)
    assert not between(5, 5, 5)
    assert in_arc(5, 5, 5)
    assert in_arc(6, 5, 5)


@given(POSITIONS, POSITIONS, POSITIONS)
def test_between_leaves_out_both_ends_and_an_arc_its_start(a: int, x: int, b: int) -> None:
    if x in (a, b):
        assert not between(a, x, b) or (a == b and x != a)
    assert in_arc(x, a, b) == (between(a, x, b) or x == b or a == b)


@given(POSITIONS, POSITIONS, POSITIONS)
def test_of_three_on_the_ring_one_order_holds(a: int, x: int, b: int) -> None:
    if len({a, x, b}) == 3:
        assert between(a, x, b) != between(b, x, a)
        assert between(a, x, b) == between(x, b, a) == between(b, a, x)


@given(POSITIONS, POSITIONS)
def test_there_and_back_is_once_round(a: int, b: int) -> None:
    assert (distance(a, b) + distance(b, a)) % SIZE == 0
    assert 0 <= distance(a, b) < SIZE


@given(st.binary(max_size=80))
def test_a_key_has_five_positions(key: bytes) -> None:
    for name, position, shift in zip(HASHES, table_positions(key), (224, 160, 128, 0, 0), strict=True):
        assert position == int(hashlib.new(name, key).hexdigest(), 16) << shift
    assert all(0 <= position < SIZE for position in ring_positions(key))


def test_the_position_by_sha512_keeps_all_its_bits_in_the_table_only() -> None:
    in_table, on_ring = table_positions(b"key").sha512, ring_positions(b"key").sha512
    assert in_table > SIZE
    assert on_ring == in_table % SIZE
