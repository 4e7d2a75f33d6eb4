"""Majorities: when they have spoken, when they cannot, and what they said."""

from __future__ import annotations

from itertools import combinations

import pytest

from chordtx.records import Acknowledgements, Record, Version, Votes, majority

OLD = Record(Version(1, b"w"), b"\x01")
NEW = Record(Version(2, b"w"), b"\x02")


@pytest.mark.parametrize("n", range(1, 8))
def test_any_two_majorities_share_a_member(n: int) -> None:
    groups = [set(group) for group in combinations(range(n), majority(n))]
    assert all(a & b for a in groups for b in groups)
    assert majority(n) <= n


def test_a_majority_decides() -> None:
    votes = Votes("abcde")
    for got, member in enumerate("abc"):
        assert not votes.decided
        assert votes.got == got
        votes.add(member, OLD)
    assert votes.decided
    assert votes.needed == 3
    assert votes.waiting == ("d", "e")


def test_the_newest_is_all_answers_merged_and_the_others_are_outdated() -> None:
    votes = Votes("abcde")
    votes.add("a", OLD)
    votes.add("b", None)
    votes.add("c", NEW)
    assert votes.newest == NEW
    assert votes.outdated() == ("a", "b")
    assert not votes.confirmed


def test_it_is_confirmed_only_when_a_majority_has_it() -> None:
    votes = Votes("abcde")
    for member, record in zip("abcd", (NEW, OLD, NEW, NEW), strict=True):
        assert not votes.confirmed
        votes.add(member, record)
    assert votes.confirmed
    assert votes.outdated() == ("b",)


def test_that_nobody_has_anything_can_be_confirmed_too() -> None:
    votes = Votes("abc")
    votes.add("a", None)
    votes.add("b", None)
    assert votes.newest is None
    assert votes.confirmed
    assert votes.outdated() == ()


def test_halves_that_each_know_something_are_both_outdated() -> None:
    """Two fields written at once, each seen by one: nobody has what is to be returned."""
    one = Record(Version(1, b"w"), b"\x80", None, {b"\xa1a": (Version(2, b"w"), b"\x01")})
    other = Record(Version(1, b"w"), b"\x80", None, {b"\xa1b": (Version(3, b"w"), b"\x02")})
    votes = Votes("abc")
    votes.add("a", one)
    votes.add("b", other)
    assert votes.outdated() == ("a", "b")
    assert votes.newest not in (one, other)


@pytest.mark.parametrize("votes", [Votes("abcde"), Acknowledgements("abcde")])
def test_when_too_many_fail_it_is_impossible(votes: Votes[str] | Acknowledgements[str]) -> None:
    for member in "aab":
        votes.failed(member)
    assert not votes.impossible
    votes.failed("nobody")
    assert not votes.impossible
    votes.failed("c")
    assert votes.impossible
    assert votes.waiting == ("d", "e")


def test_nobody_counts_twice_and_strangers_not_at_all() -> None:
    stored = Acknowledgements("abc")
    for member in ("a", "a", "x"):
        stored.add(member)
    assert stored.got == 1
    assert not stored.decided
    stored.add("b")
    assert stored.decided


def test_an_answer_after_its_sender_was_given_up_counts() -> None:
    stored = Acknowledgements("abc")
    for member in "ab":
        stored.failed(member)
    assert stored.impossible
    stored.add("a")
    stored.failed("a")
    assert not stored.impossible
    stored.add("c")
    assert stored.decided


def test_a_member_named_twice_is_one() -> None:
    assert Votes("aab").members == ("a", "b")


def test_of_nobody_there_is_no_majority() -> None:
    stored: Acknowledgements[str] = Acknowledgements(())
    assert stored.impossible
    assert not stored.decided
