"""Replica sets: distinct, as many as there are, the same for everybody, and changed by little."""

from __future__ import annotations

import random
from itertools import cycle, islice

from hypothesis import given
from hypothesis import strategies as st

from chordtx.records import Unknown, places_taken, replica_set
from chordtx.ring import SIZE, ArcTable, Contact, distance, ring_positions

IDS = st.integers(0, 60)
RINGS = st.sets(IDS, min_size=1, max_size=15)
FIVE = st.lists(IDS, min_size=5, max_size=5)


def contact(id: int) -> Contact:
    return Contact(id, "127.0.0.1", 1)


def true_set(ring: set[int], positions: list[int], size: int = 5) -> tuple[Contact, ...]:
    """The replica set, all of the ring being known."""

    def owner(position: int) -> Contact:
        return contact(min(ring, key=lambda id: distance(position, id)))

    def following(id: int) -> Contact:
        return contact(min(ring, key=lambda other: distance(id, other) or SIZE))

    found = replica_set(positions, owner, following, size)
    assert not isinstance(found, Unknown)
    return found


@given(RINGS, FIVE)
def test_five_distinct_nodes_or_all_there_are(ring: set[int], positions: list[int]) -> None:
    found = true_set(ring, positions)
    assert len(set(found)) == len(found) == min(5, len(ring))


@given(RINGS, FIVE)
def test_the_owner_of_each_position_is_in_it(ring: set[int], positions: list[int]) -> None:
    found = {c.id for c in true_set(ring, positions)}
    assert {min(ring, key=lambda id: distance(position, id)) for position in positions} <= found


@given(RINGS, FIVE, st.randoms())
def test_the_order_of_the_positions_does_not_matter(
    ring: set[int], positions: list[int], generator: random.Random
) -> None:
    shuffled = positions[:]
    generator.shuffle(shuffled)
    assert set(true_set(ring, positions)) == set(true_set(ring, shuffled))


@given(RINGS, IDS, FIVE)
def test_one_join_or_crash_changes_it_by_one_node_at_most(
    ring: set[int], id: int, positions: list[int]
) -> None:
    """The same two rings, read forward as a join and backward as a crash."""
    without, with_it = ring - {id}, ring | {id}
    if not without:
        return
    before, after = set(true_set(without, positions)), set(true_set(with_it, positions))
    assert after - before <= {contact(id)}
    assert len(before - after) <= 1


@given(RINGS, FIVE, st.integers(1, 9))
def test_other_sizes(ring: set[int], positions: list[int], size: int) -> None:
    assert len(true_set(ring, positions, size)) == min(size, len(ring))


def test_a_taken_owner_is_passed_over_for_the_next_one_along() -> None:
    assert true_set({90, 70, 50, 30, 10}, [95, 92, 91, 55, 15]) == tuple(map(contact, (90, 70, 50, 30, 10)))
    assert true_set({90, 70, 50, 30, 20, 10}, [95, 25, 95, 25, 95]) == tuple(
        map(contact, (90, 20, 70, 10, 50))
    )
    assert true_set({90, 70, 50}, [5, 5, 5, 5, 5]) == tuple(map(contact, (90, 70, 50)))


def test_what_is_not_known_is_named() -> None:
    table = ArcTable(10)
    assert replica_set([7] * 5, table.owner, table.following) == Unknown(7)
    table.learn_chain([contact(9), contact(5)])
    assert replica_set([7] * 5, table.owner, table.following) == Unknown(4)
    table.learn_chain([contact(5), contact(0)])
    assert replica_set([7] * 5, table.owner, table.following) == Unknown(SIZE - 1)
    table.learn_chain([contact(0), contact(9)])
    assert replica_set([7] * 5, table.owner, table.following) == tuple(map(contact, (5, 0, 9)))


@given(st.integers(0, 1_000), st.binary(max_size=4))
def test_whoever_looks_up_what_is_named_gets_the_true_set(seed: int, key: bytes) -> None:
    """From knowing nothing, by as many look-ups as are asked for and no more than the set needs."""
    generator = random.Random(seed)
    ring = sorted((generator.randrange(SIZE) for _ in range(generator.randrange(1, 12))), reverse=True)
    table, positions = ArcTable(100), list(ring_positions(key))
    for _ in range(len(ring) + 5):
        found = replica_set(positions, table.owner, table.following)
        if not isinstance(found, Unknown):
            break
        id = min(ring, key=lambda id: distance(found.position, id))
        table.learn_arc(contact(id), ring[ring.index(id) - 1])
    assert found == true_set(set(ring), positions)


@given(RINGS, FIVE, st.integers(1, 8))
def test_a_ring_known_whole_gives_the_same_faster(ring: set[int], positions: list[int], size: int) -> None:
    ids = sorted(ring)
    gone_through = list(islice(cycle(positions), size))
    taken = [contact(ids[place]) for place in places_taken(ids, gone_through, size)]
    assert tuple(taken) == true_set(ring, positions, size)
