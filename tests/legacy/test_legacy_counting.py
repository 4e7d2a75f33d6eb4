"""When what legacy peers have stored, or have in their tables, is a write, and when a deletion."""

from __future__ import annotations

from typing import Any

import pytest

from chordtx.config import Limits
from chordtx.errors import ProtocolError
from chordtx.group.rank import Ballot, Epoch, Rank
from chordtx.legacy.counting import CHANGED, FOUND, IN_STEP, STORED, Decision, Opinion, decide
from chordtx.wire import pack_value

RANK = Rank(Epoch(2), Ballot(3, b"us"), 7)
OLDER = Rank(Epoch(2), Ballot(3, b"us"), 6)
STANDS = Decision(is_new=False)


def stored(value: Any, base: Rank | None = RANK, is_delta: bool = False) -> Opinion:
    return Opinion(STORED, is_delta, value, base, 1)


def table(source: int, value: Any, base: Rank | None = RANK) -> Opinion:
    return Opinion(source, False, value, base, 0)


THERE = table(IN_STEP, "value")
DROPPED = table(CHANGED, None)
OTHER = table(CHANGED, "other")
OTHER_NEW = table(CHANGED, "new")


def count(*told: Opinion, rank: Rank | None = RANK, present: Any = "value") -> Decision | None:
    """Each of these is told at a position of its own; at the others nothing is."""
    positions = [[opinion] for opinion in told] + [[] for _ in range(5 - len(told))]
    return decide(positions, rank, present)


def test_three_of_five_make_a_key_and_two_do_not() -> None:
    new = stored("new", None)
    assert count(*[new] * 3, rank=None, present=None) == Decision(True, False, "new")
    assert count(*[new] * 2, rank=None, present=None) is None


def test_what_is_there_is_replaced_by_what_is_told_wherever_somebody_answers() -> None:
    assert count(*[stored("new")] * 5) == Decision(True, False, "new")
    assert decide([[stored("new")]] * 3, RANK, "value") == Decision(True, False, "new")
    assert count(*[stored("stale")] * 4) is None  # py2p sends again what it once had
    assert count(*[stored("new")] * 2, *[OTHER_NEW] * 3) == Decision(True, False, "new")


def test_a_stale_copy_beside_a_write_changes_nothing() -> None:
    told = [stored("new", None), stored("stale", None), stored("new", None), stored("new", None)]
    assert count(*told, rank=None, present=None) == Decision(True, False, "new")
    assert count(stored("stale"), THERE, THERE, THERE, THERE) is None


def test_what_came_before_the_record_is_past() -> None:
    assert count(*[stored("old", OLDER)] * 5) == STANDS
    assert count(*[stored("old", None)] * 5) == STANDS
    assert count(*[stored("old", OLDER)] * 5, rank=None, present=None) is None


def test_of_a_new_key_there_is_no_record() -> None:
    assert count(*[stored("new", None)] * 3, rank=None, present=None) == Decision(True, False, "new")


def test_what_is_there_already_is_not_written_again() -> None:
    assert count(*[stored("value")] * 5) == STANDS
    assert count(*[stored({"a": 1}, is_delta=True)] * 5, present={"a": 1, "b": 2}) == STANDS


def test_a_delta_is_supported_by_maps_that_have_it() -> None:
    delta, merged = stored({"a": 1}, is_delta=True), table(CHANGED, {"a": 1, "b": 2})
    assert count(delta, delta, merged, present={"b": 2}) == Decision(True, True, {"a": 1})
    assert count(delta, delta, stored({"a": 2}, is_delta=True), present={"b": 2}) is None


@pytest.mark.parametrize("number", [3, 4])
def test_what_a_legacy_peer_drops_is_no_deletion(number: int) -> None:
    """It has handed it to a node that is nearer, which we do not know yet."""
    assert count(*[DROPPED] * number) is None
    assert count(*[DROPPED] * number, *[THERE] * (5 - number)) is None


@pytest.mark.parametrize("number", [3, 4])
def test_a_deletion_is_told_where_positions_are_not_its_own(number: int) -> None:
    told = count(*[DROPPED] * number, *[stored(None)] * (5 - number))
    assert told == Decision(True, False, None)


def test_who_owns_all_positions_deletes_in_silence() -> None:
    assert count(*[DROPPED] * 5) == Decision(True, False, None)


def test_what_it_writes_at_most_positions_is_a_write() -> None:
    assert count(*[OTHER] * 3) == Decision(True, False, "other")
    assert count(*[OTHER] * 2) is None


def test_tables_that_are_being_told_support_nothing() -> None:
    """The value from before is still there while that of the record is on its way."""
    being_told = table(IN_STEP, "stale")
    assert count(stored("stale"), *[being_told] * 4) is None


def test_what_is_found_counts_only_without_a_record() -> None:
    found = table(FOUND, "found", None)
    assert count(*[found] * 3, rank=None, present=None) == Decision(True, False, "found")
    assert count(*[found] * 5) == STANDS
    # A write at the positions that are not its own is supported by it all the same.
    assert count(stored("found"), *[found] * 4) == Decision(True, False, "found")


def test_leftovers_do_not_bring_a_deleted_key_back() -> None:
    assert count(*[table(CHANGED, "value", RANK)] * 5, rank=None, present=None) is None
    assert count(*[table(IN_STEP, "value", RANK)] * 5, rank=None, present=None) is None


@pytest.mark.parametrize("opinion", [stored({"a": 1}, None, True), OTHER, table(FOUND, None, None)])
def test_an_opinion_travels(opinion: Opinion) -> None:
    wire = opinion.to_wire(lambda value: pack_value(value, 100))
    assert Opinion.from_wire(wire, Limits()) == opinion


@pytest.mark.parametrize(
    "wire",
    [
        None,
        [],
        [STORED, False, b"\x01", None],
        [STORED, True, b"\x01", None, 1],
        [STORED, 0, b"\x01", None, 1],
        [STORED, False, 1, None, 1],
        [STORED, False, b"\x01", [1, 2], 1],
    ],
)
def test_what_is_no_opinion_is_refused(wire: Any) -> None:
    with pytest.raises(ProtocolError):
        Opinion.from_wire(wire, Limits())
