"""What a leader tells of its committed changes."""

from __future__ import annotations

from chordtx.group.rank import FIRST_RANK
from chordtx.group.record import Record
from chordtx.group.uncommitted import Uncommitted

ONE, OTHER = Record(b"\x01", 0, FIRST_RANK, 0), Record(b"\x02", 0, FIRST_RANK, 0)


def noted() -> Uncommitted:
    """A key came, was changed and went, and another one was changed."""
    uncommitted = Uncommitted()
    uncommitted.note(1, b"key", None)
    uncommitted.note(2, b"key", ONE)
    uncommitted.note(3, b"key", OTHER)
    uncommitted.note(4, b"other", ONE)
    return uncommitted


def test_keys_that_came_or_went_are_told() -> None:
    assert noted().committed(4, {b"other": OTHER}) == [(b"key", False), (b"key", True)]


def test_updates_are_told_where_they_are_wanted() -> None:
    uncommitted, newest = noted(), {b"other": OTHER}
    assert uncommitted.committed(2, newest, True) == [(b"key", False), (b"key", None)]
    assert uncommitted.committed(4, newest, True) == [(b"key", True), (b"other", None)]


def test_what_was_kept_as_it_was_is_no_update() -> None:
    uncommitted = Uncommitted()
    uncommitted.note(1, b"key", ONE)
    assert uncommitted.committed(1, {b"key": ONE}, True) == []
