"""The finger table against the paper's own: finger i is the successor of the position 2**i on."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from chordtx.ring import BITS, SIZE, Contact, FingerTable, distance


def contact(id: int) -> Contact:
    return Contact(id % SIZE, "127.0.0.1", 1)


def ids(count: int, seed: int = 0) -> list[int]:
    generator = random.Random(seed)
    return [generator.randrange(SIZE) for _ in range(count)]


def test_with_everybody_learned_each_slot_is_the_papers_finger() -> None:
    me, *others = ids(50)
    table = FingerTable(me)
    for id in others:
        table.learn(contact(id))
    for slot in range(BITS):
        target = (me - 2**slot) % SIZE
        successor = min([me, *others], key=lambda id: distance(target, id))
        expected = None if successor == me else contact(successor)
        known = [c for c in table.contacts() if distance(me, c.id) >= 2**slot]
        assert (known[0] if known else None) == expected


def test_only_about_log2_n_are_kept() -> None:
    me, *others = ids(4_096)
    table = FingerTable(me)
    for id in others:
        table.learn(contact(id))
    assert 10 <= len(table.contacts()) <= 20
    ahead = [distance(me, c.id) for c in table.contacts()]
    assert ahead == sorted(ahead)


def test_a_sweep_skips_what_the_successor_covers_and_comes_round() -> None:
    me, successor = 0, contact(-(2**380) - 1)
    table = FingerTable(me)
    sweep = [table.next_target(successor) for _ in range(6)]
    assert sweep == [(me - 2**slot) % SIZE for slot in (383, 382, 381, 383, 382, 381)]


def test_a_successor_exactly_at_a_slot_covers_it() -> None:
    table = FingerTable(0)
    successor = contact(-(2**382))
    assert [table.next_target(successor) for _ in range(2)] == [SIZE - 2**383] * 2


def test_nothing_to_look_up() -> None:
    table = FingerTable(7)
    assert table.next_target(None) is None
    assert table.next_target(contact(7)) is None
    assert table.next_target(contact(8)) is None  # once round: it covers all


@given(st.lists(st.integers(0, 40), max_size=30), st.integers(0, 40))
def test_the_forgotten_are_gone_and_oneself_is_never_kept(learned: list[int], gone: int) -> None:
    table = FingerTable(20)
    for id in learned:
        table.learn(contact(id))
    table.forget(gone)
    kept = {c.id for c in table.contacts()}
    assert kept <= set(learned) - {20, gone}


def test_a_node_that_came_back_elsewhere_is_found_there() -> None:
    table = FingerTable(0)
    table.learn(Contact(5, "old", 1))
    table.learn(Contact(5, "new", 1))
    assert table.contacts() == (Contact(5, "new", 1),)
