"""Standing for leader: whose state goes on, who is asked, and when enough have answered."""

from __future__ import annotations

from itertools import permutations

import pytest

from chordtx.group.candidate import Candidate, Choice
from chordtx.group.configuration import NO_CONFIGURATION, Configuration, Member
from chordtx.group.messages import Promise
from chordtx.group.rank import NO_RANK, Ballot, Epoch, Rank
from tests.group.values import A, B, C, D, E

BALLOT = Ballot(9, b"a")
FIRST = Configuration(Epoch(0), (A, B, C))
SECOND = Configuration(Epoch(1), (C, D, E))
LOW, HIGH = Rank(Epoch(0), Ballot(1, b"b"), 3), Rank(Epoch(0), Ballot(1, b"b"), 4)
LATER = Rank(Epoch(1), Ballot(1, b"b"), 5)


def promise(
    rank: Rank = LOW,
    configuration: Configuration = FIRST,
    following: tuple[Member, ...] | None = None,
    *,
    ballot: Ballot = BALLOT,
    trial: bool = False,
) -> Promise:
    return Promise(ballot, trial, rank, configuration, following, 0)


#: Of a replica without a state.
EMPTY = promise(NO_RANK, NO_CONFIGURATION)


def candidate(own: Promise, *, trial: bool = False) -> Candidate:
    """One that has told itself what it promises."""
    standing = Candidate(b"a", BALLOT, own, released=None, trial=trial, since=0.0)
    standing.answered(b"a", own)
    return standing


@pytest.mark.parametrize("trial", [False, True])
def test_its_own_promise_counts_once_it_has_told_itself_so(trial: bool) -> None:
    """From disk, that is; where it promises nothing it counts at once."""
    own = promise(configuration=Configuration(Epoch(0), (A,)), trial=trial)
    standing = Candidate(b"a", BALLOT, own, released=None, trial=trial, since=0.0)
    standing.answered(b"b", promise(trial=not trial))
    assert standing.choice == (Choice(b"a", own) if trial else None)
    standing.answered(b"a", own)
    assert standing.choice == Choice(b"a", own)


def test_alone_it_is_no_majority_of_three_and_with_another_it_is() -> None:
    standing = candidate(promise())
    assert standing.choice is None
    standing.answered(b"b", promise())
    assert standing.choice == Choice(b"a", promise())


def test_a_member_alone_is_a_majority_of_itself() -> None:
    own = promise(configuration=Configuration(Epoch(0), (A,)))
    assert candidate(own).choice == Choice(b"a", own)


def test_the_greatest_rank_goes_on_in_whatever_order_answers_come() -> None:
    answers = {b"b": promise(HIGH), b"c": promise(LOW)}
    for order in permutations(answers):
        standing = candidate(promise(LOW))
        for by in order:
            standing.answered(by, answers[by])
        assert standing.choice == Choice(b"b", promise(HIGH))


def test_of_equal_ranks_its_own_is_nearest() -> None:
    standing = candidate(promise(HIGH))
    standing.answered(b"b", promise(HIGH))
    standing.answered(b"c", promise(HIGH))
    assert standing.choice == Choice(b"a", promise(HIGH))


def test_who_is_no_member_of_the_state_does_not_count() -> None:
    standing = candidate(promise())
    standing.answered(b"x", promise())
    standing.answered(b"y", EMPTY)
    assert standing.choice is None


def test_members_without_a_state_count_and_a_state_is_needed() -> None:
    standing = candidate(EMPTY)
    standing.answered(b"b", EMPTY)
    standing.answered(b"c", EMPTY)
    assert standing.choice is None
    standing.answered(b"c", promise())
    assert standing.choice == Choice(b"c", promise())


@pytest.mark.parametrize(
    "answer", [promise(ballot=Ballot(8, b"a")), promise(ballot=Ballot(9, b"b")), promise(trial=True)]
)
def test_answers_to_something_else_do_not_count(answer: Promise) -> None:
    standing = candidate(promise())
    standing.answered(b"b", answer)
    assert standing.choice is None


def test_a_trial_counts_answers_to_trials_alone() -> None:
    trying = candidate(promise(trial=True), trial=True)
    trying.answered(b"b", promise())
    assert trying.choice is None
    trying.answered(b"b", promise(trial=True))
    assert trying.choice is not None


def test_a_state_of_an_epoch_that_is_over_does_not_go_on() -> None:
    """A majority of its configuration promises; but somebody has been in the next epoch."""
    standing = candidate(promise(HIGH))
    standing.answered(b"b", promise(HIGH))
    standing.answered(b"d", promise(LATER, SECOND))
    assert standing.latest == SECOND
    assert standing.choice is None  # one of three of the later epoch
    standing.answered(b"e", promise(LATER, SECOND))
    assert standing.choice == Choice(b"d", promise(LATER, SECOND))


def test_that_somebody_knows_of_a_later_epoch_is_enough_to_stop_one_that_is_over() -> None:
    standing = candidate(promise(HIGH))
    standing.answered(b"b", promise(HIGH))
    standing.knows(SECOND)
    assert standing.latest == SECOND
    assert standing.choice is None


def test_who_only_knows_of_an_epoch_has_promised_nothing() -> None:
    """It may accept changes of another leader of that epoch, which this candidate would not have."""
    standing = candidate(promise(HIGH))
    standing.knows(SECOND)
    standing.answered(b"d", promise(LATER, SECOND))
    assert standing.choice is None


def test_who_has_left_for_a_later_epoch_is_heard() -> None:
    standing = candidate(promise(HIGH))
    standing.answered(b"b", promise(NO_RANK, SECOND))
    assert standing.choice is None


def test_who_promises_and_has_left_for_an_epoch_counts_in_it() -> None:
    """It has dropped its state for that configuration, which it may be in again."""
    again = Configuration(Epoch(1), (A, B, C))
    standing = candidate(promise(LATER, again))
    standing.answered(b"b", promise(NO_RANK, again))
    assert standing.choice == Choice(b"a", promise(LATER, again))


def test_the_members_of_the_latest_epoch_are_asked_once_each_but_not_itself() -> None:
    standing = candidate(promise())
    assert standing.to_ask() == [b"b", b"c"]
    assert standing.to_ask() == []
    standing.knows(SECOND)
    assert standing.to_ask() == [b"d", b"e"]
    assert standing.to_ask([b"x", b"a", b"b"]) == [b"x"]
    assert standing.asked == [b"b", b"c", b"d", b"e", b"x"]


def test_who_follows_on_the_best_state_is_asked_too() -> None:
    assert candidate(promise(following=(C, D))).to_ask() == [b"b", b"c", b"d"]
    standing = candidate(promise(LOW, following=(C, D)))
    standing.answered(b"b", promise(HIGH, following=(E,)))
    assert standing.to_ask() == [b"b", b"c", b"e"]


def test_it_has_a_place_in_what_it_is_a_member_of_and_in_what_is_sealed() -> None:
    standing = candidate(promise())
    assert standing.has_place_in(Choice(b"b", promise()))
    assert not standing.has_place_in(Choice(b"d", promise(LATER, SECOND)))
    assert standing.has_place_in(Choice(b"d", promise(LATER, SECOND, (B, C))))
