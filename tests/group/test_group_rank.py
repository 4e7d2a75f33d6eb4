"""Ballots, epochs and ranks: how they are ordered, and what is none."""

from __future__ import annotations

import base64
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given

from chordtx.errors import ProtocolError
from chordtx.group.rank import (
    COUNT_MAX,
    FIRST_RANK,
    NO_BALLOT,
    NO_EPOCH,
    NO_RANK,
    Ballot,
    Epoch,
    Rank,
    ballot_from_wire,
    epoch_from_wire,
    rank_from_wire,
    rank_of,
    version_of,
)
from tests.group.values import packed, ranks

BALLOT, EPOCH = [1, b"a"], [0, 0]


def test_the_number_decides_between_ballots_and_then_the_node() -> None:
    assert Ballot(1, b"z") < Ballot(2, b"a") < Ballot(2, b"b")
    assert sorted([Ballot(0, b"a"), NO_BALLOT]) == [NO_BALLOT, Ballot(0, b"a")]


def test_the_epoch_decides_between_ranks_then_the_ballot_then_the_sequence() -> None:
    low, high = Ballot(1, b"a"), Ballot(2, b"a")
    rising = [
        NO_RANK,
        FIRST_RANK,
        Rank(Epoch(0), low, 9),
        Rank(Epoch(0), high, 1),
        Rank(Epoch(0), high, 2),
        Rank(Epoch(0, 5), low, 0),
        Rank(Epoch(1), NO_BALLOT, 0),
    ]
    assert all(one < other for one, other in pairwise(rising))


def test_the_next_epoch_is_of_the_same_history() -> None:
    assert Epoch(3, 7).successor() == Epoch(4, 7)
    assert NO_EPOCH.successor() == FIRST_RANK.epoch


@given(ranks)
def test_a_rank_comes_back_from_plain_arrays(rank: Rank) -> None:
    epoch, ballot, sequence = rank
    for plain in ([list(epoch), list(ballot), sequence], (tuple(epoch), tuple(ballot), sequence), rank):
        back = rank_from_wire(plain)
        assert back == rank
        assert (type(back), type(back.epoch), type(back.ballot)) == (Rank, Epoch, Ballot)


@pytest.mark.parametrize(
    ("read", "wrong"),
    [
        *[
            (ballot_from_wire, wrong)
            for wrong in (
                None, 1, b"ab", {0: 1, 1: b"a"}, [], [1], [1, b"a", 0], [b"a", 1], [1, "a"], [1.0, b"a"],
                [True, b"a"], [-1, b"a"], [COUNT_MAX + 1, b"a"], [1, bytes(49)], [1, None],
            )
        ],
        *[
            (epoch_from_wire, wrong)
            for wrong in (
                None, 0, [], [0], [0, 0, 0], [-2, 0], [0, -1], [True, 0], [0, False], [0.0, 0],
                [COUNT_MAX + 1, 0], [0, COUNT_MAX + 1], ["0", 0],
            )
        ],
        *[
            (rank_from_wire, wrong)
            for wrong in (
                None, [], [EPOCH, BALLOT], [EPOCH, BALLOT, 0, 0], [EPOCH, BALLOT, -1], [EPOCH, BALLOT, True],
                [EPOCH, BALLOT, 1.0], [EPOCH, BALLOT, COUNT_MAX + 1], [BALLOT, EPOCH, 0], [EPOCH, None, 0],
                [None, BALLOT, 0],
            )
        ],
    ],
)  # fmt: skip
def test_what_is_none_is_refused(read: Callable[[object], object], wrong: object) -> None:
    with pytest.raises(ProtocolError):
        read(wrong)


@given(ranks, ranks)
def test_versions_are_equal_for_equal_ranks_alone(one: Rank, other: Rank) -> None:
    assert rank_of(version_of(one)) == one
    assert (version_of(one) == version_of(other)) == (one == other)


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "?",
        "nonsense",
        "\ud800",
        "é",
        version_of(FIRST_RANK)[:-1],
        version_of(FIRST_RANK) + "=",
        version_of(FIRST_RANK) + "\n",
        " " + version_of(FIRST_RANK),
        version_of(FIRST_RANK) + "AAAA",
        base64.urlsafe_b64encode(packed([1, 2, 3])).decode(),
        base64.urlsafe_b64encode(b"\xdd\xff\xff\xff\xff" * 1000).decode(),
    ],
)
def test_what_is_no_version_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="no version of chordtx"):
        rank_of(wrong)
