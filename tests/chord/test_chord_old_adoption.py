"""When what old peers have in their tables is a write, and when a deletion."""

from __future__ import annotations

import pytest

from chordtx.chord.old_adoption import Decision, Opinion, decide
from chordtx.records import Record, Version

WRITTEN = Version(5, b"us")
RECORD = Record(WRITTEN, b"value")
THERE = Opinion(False, "value", None, WRITTEN)
DROPPED = Opinion(False, None, None, WRITTEN)
DELETED = Opinion(False, None, Version(6, b"host"))
OTHER = Opinion(False, "other", None, WRITTEN)


@pytest.mark.parametrize("count", [3, 4])
def test_what_an_old_peer_drops_is_no_deletion(count: int) -> None:
    """It has handed it to a node that is nearer, which we do not know yet."""
    assert decide([[DROPPED]] * count + [[]] * (5 - count), RECORD, "value") is None
    assert decide([[DROPPED]] * count + [[THERE]] * (5 - count), RECORD, "value") is None


@pytest.mark.parametrize("count", [3, 4])
def test_a_deletion_is_told_where_positions_are_not_its_own(count: int) -> None:
    told = decide([[DROPPED]] * count + [[DELETED]] * (5 - count), RECORD, "value")
    assert told == Decision(True, False, None)


def test_who_owns_all_positions_deletes_in_silence() -> None:
    assert decide([[DROPPED]] * 5, RECORD, "value") == Decision(True, False, None)


def test_what_it_writes_at_most_positions_is_a_write() -> None:
    assert decide([[OTHER]] * 3 + [[]] * 2, RECORD, "value") == Decision(True, False, "other")
    assert decide([[OTHER]] * 2 + [[]] * 3, RECORD, "value") is None
