"""Who keeps a key in a ring known whole: what the slow way says, ties in the first bits included."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from chordtx.records import ReplicaSet, WholeRing, tag_names
from chordtx.ring import SIZE, TOPS, Contact, ring_positions, tops_of
from tests.records.test_records_placement import contact, true_set


@given(st.integers(0, 2**32), st.binary(max_size=8), st.integers(1, 20), st.integers(1, 8))
def test_it_is_the_true_set(seed: int, key: bytes, members: int, replicas: int) -> None:
    """Half of the members lie so near to a position that 64 bits do not tell on which side."""
    generator = random.Random(seed)
    positions = ring_positions(key)
    ids = {
        (generator.choice(positions) + generator.randint(-2, 2)) % SIZE
        if generator.random() < 0.5
        else generator.randrange(SIZE)
        for _ in range(members)
    }
    whole = WholeRing(tuple(contact(id) for id in sorted(ids)), replicas)
    found = whole.replica_set(key, tops_of(key))
    true = true_set(ids, list(positions), replicas)
    assert found.contacts == (true if len(ids) > replicas else whole.everyone)
    assert found.tag == ReplicaSet.of(true).tag
    assert whole.replica_set(key).contacts == found.contacts


@given(st.sets(st.integers(0, SIZE - 1), min_size=1, max_size=12), st.binary(max_size=8))
def test_the_same_owners_give_the_same_object(ids: set[int], key: bytes) -> None:
    whole = WholeRing(tuple(contact(id) for id in sorted(ids)), 5)
    assert whole.replica_set(key, tops_of(key)) is whole.replica_set(key, tops_of(key))


@given(st.binary())
def test_tops_are_the_first_bits_of_the_positions(key: bytes) -> None:
    assert TOPS.unpack(tops_of(key)) == tuple(position >> 320 for position in ring_positions(key))


def test_where_all_keep_everything_not_all_ask_the_same_first() -> None:
    ids = [10, 20, 30]
    firsts = {}
    for own_id in (5, 20, 25, 35):
        contacts = WholeRing(tuple(map(contact, ids)), 5, own_id).replica_set(b"any").contacts
        assert {each.id for each in contacts} == set(ids)
        firsts[own_id] = contacts[0].id
    assert firsts == {5: 10, 20: 20, 25: 30, 35: 10}


def test_a_tag_names_the_members_in_whatever_order() -> None:
    ids = [5 << 350, 9 << 360, 0]
    here, there = (ReplicaSet.of(Contact(id, "127.0.0.1", 1) for id in each) for each in (ids, ids[::-1]))
    assert here.tag == there.tag
    assert tag_names(here.tag, ids)
    assert not tag_names(here.tag, [*ids, 7 << 350])
    assert here.tag != ReplicaSet.of(map(contact, ids[:2])).tag
