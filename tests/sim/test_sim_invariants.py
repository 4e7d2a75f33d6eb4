"""Zave's invariants, each with rings that keep it and rings that do not. The walk goes 50, 40, 30, 20, 10."""

from __future__ import annotations

import pytest

from chordtx.ring import Contact, RingNode
from chordtx.sim.invariants import Place, Walk, principals, rank_errors, violations, zave_violations


def ring(*ids: int, length: int = 2) -> dict[int, Place]:
    """The true one."""
    return {
        id: Place(
            tuple(ids[(place + ahead) % len(ids)] for ahead in range(1, min(length, len(ids) - 1) + 1)),
            ids[place - 1] if len(ids) > 1 else None,
            len(ids) <= length,
        )
        for place, id in enumerate(ids)
    }


@pytest.mark.parametrize("ids", [(50,), (50, 40), (50, 40, 30), (50, 40, 30, 20, 10)])
def test_a_true_ring_breaks_nothing_and_consists_of_principals(ids: tuple[int, ...]) -> None:
    members = ring(*ids)
    assert violations(members, 2, len(ids)) == []
    assert principals(members) == set(ids)
    assert rank_errors(members, 2) == 0


def test_an_appendage_is_no_principal_and_breaks_nothing() -> None:
    members = ring(50, 30, 20, 10) | {40: Place((30, 20))}
    assert violations(members, 2, 4) == []
    assert principals(members) == {50, 30, 20, 10}
    assert rank_errors(members, 2) > 0


def test_too_few_principals() -> None:
    members = ring(50, 40, 30) | {50: Place((30,), 30)}
    assert violations(members, 2, 3) == ["2 principals, and not 3"]


def test_a_member_that_lists_no_live_one() -> None:
    members = ring(50, 40, 30, 20) | {50: Place((45, 44))}
    assert violations(members, 2) == ["00000000: lists no live member"]


def test_whoever_lists_everyone_skips_all_others() -> None:
    """A ring of one that 40 has joined, and that does not know of it yet."""
    members = {50: Place((), None, True), 40: Place((50,))}
    assert principals(members) == {50}
    assert violations(members, 2) == []
    assert violations({**members, 50: Place(())}, 2)


def test_two_rings() -> None:
    members = {50: Place((40,)), 40: Place((50,)), 30: Place((20,)), 20: Place((30,))}
    assert violations(members, 1) == ["0 principals, and not 1", "2 rings"]


def test_a_ring_that_goes_round_twice() -> None:
    members = {50: Place((30,)), 30: Place((10,)), 10: Place((40,)), 40: Place((20,)), 20: Place((50,))}
    assert violations(members, 1) == ["0 principals, and not 1", "a ring goes round more than once"]


@pytest.mark.parametrize(
    ("place", "what"),
    [
        (Place((40, 50)), "lists itself"),
        (Place((40, 40)), "lists a node twice"),
        (Place((30, 40)), "does not list in the order of the walk"),
        (Place((40, 30, 20)), "lists too many"),
        (Place((40, 30), 50), "is its own predecessor"),
    ],
)
def test_what_is_no_list(place: Place, what: str) -> None:
    assert f"00000000: {what}" in violations(ring(50, 40, 30, 20) | {50: place}, 2)


def test_a_list_under_way_skips_as_one_that_is_held_does() -> None:
    members = ring(50, 40, 30, 20)
    assert principals(members, under_way=[(50, 30)]) == {50, 30, 20}
    assert principals(members, given_up=[20]) == {50, 40, 30}


def test_who_comes_later_is_skipped_by_lists_from_before() -> None:
    walk = Walk([50, 40])
    assert walk.ids(walk.skipped((50, 40))) == []
    walk.bit(45)
    assert walk.ids(walk.skipped((50, 40))) == [45]


def test_nodes_are_looked_at_as_they_are() -> None:
    first, second, outsider = (RingNode(Contact(id, "127.0.0.1", 1), 2) for id in (50, 40, 30))
    first.create()
    second.join_answered(first.me, ())
    assert zave_violations([first, second, outsider]) == []
    assert zave_violations([first, second], 2) == ["1 principals, and not 2"]
    assert zave_violations([second, outsider]) == []
    assert zave_violations([]) == ["0 principals, and not 1"]
