"""Successor lists are what they ought to be, whatever they are made of."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chordtx.ring import Contact, distance
from chordtx.ring.successors import chain, merged

CONTACTS = st.lists(st.builds(Contact, st.integers(0, 12), st.just("h"), st.just(1)), max_size=12)


def contacts(*ids: int) -> tuple[Contact, ...]:
    return tuple(Contact(id, "h", 1) for id in ids)


def test_a_list_ends_where_the_walk_comes_round() -> None:
    assert chain(5, contacts(3, 1, 5, 3), 8) == (contacts(3, 1), True)
    assert chain(5, contacts(3, 1, 4), 8) == (contacts(3, 1), True)


def test_a_list_is_no_longer_than_it_may_be() -> None:
    assert chain(50, contacts(9, 8, 7, 6), 3) == (contacts(9, 8, 7), False)


def test_a_list_as_long_as_the_ring_is_known_to_be_everyone() -> None:
    assert chain(50, contacts(9, 8, 7, 50), 3) == (contacts(9, 8, 7), True)


def test_merged_lists_take_the_nearest() -> None:
    assert merged(5, contacts(4, 1, 3, 5, 9, 3), 4) == contacts(4, 3, 1, 9)


@given(CONTACTS, st.integers(0, 12), st.integers(1, 8))
def test_no_duplicates_in_order_never_self_and_bounded(named: list[Contact], me: int, length: int) -> None:
    for made in (chain(me, named, length)[0], merged(me, named, length)):
        ahead = [distance(me, c.id) for c in made]
        assert ahead == sorted(set(ahead))
        assert 0 not in ahead
        assert len(made) <= length
