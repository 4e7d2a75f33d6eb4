"""A question to several: whom it asks, when it ends, and what counts."""

from __future__ import annotations

from typing import Any
from weakref import ref

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from chordtx.chord.poll import Poll
from chordtx.mesh.calls import tell
from chordtx.ring import Contact

MEMBERS = [Contact(number, "127.0.0.1", 1000 + number) for number in range(5)]


class Asked:
    """Remembers who was asked; the test answers."""

    def __init__(self) -> None:
        self.calls: dict[int, Deferred[list[Any]]] = {}

    def __call__(self, poll: Poll, contact: Contact) -> None:
        self.calls[contact.id] = Deferred()
        tell(poll, contact, self.calls[contact.id])


def test_a_majority_decides() -> None:
    ask = Asked()
    poll = Poll(ask, MEMBERS, needed=3, first=5)
    for number in (4, 2):
        ask.calls[number].callback([number])
    assert not poll.done.called
    ask.calls[0].callback([0])
    assert poll.done.called
    assert poll.decided
    assert poll.answers == {MEMBERS[number]: [number] for number in (4, 2, 0)}


def test_the_next_is_asked_for_each_that_fails_or_has_no_vote() -> None:
    ask = Asked()
    poll = Poll(ask, MEMBERS, needed=2, first=2, is_vote=lambda answer: bool(answer[0]))
    assert list(ask.calls) == [0, 1]
    ask.calls[0].errback(ValueError())
    assert list(ask.calls) == [0, 1, 2]
    ask.calls[1].callback([False])
    assert list(ask.calls) == [0, 1, 2, 3]
    ask.calls[2].callback([True])
    ask.calls[3].callback([True])
    assert poll.decided
    assert poll.votes == 2
    assert list(poll.failures) == [MEMBERS[0]]


def test_it_ends_when_nobody_is_left() -> None:
    ask = Asked()
    poll = Poll(ask, MEMBERS[:2], needed=2, first=2)
    ask.calls[0].errback(ValueError())
    assert not poll.done.called
    ask.calls[1].callback([1])
    assert poll.done.called
    assert not poll.decided


def test_everyone_is_asked_when_it_takes_long() -> None:
    ask, clock = Asked(), Clock()
    poll = Poll(ask, MEMBERS, needed=3, first=3)
    poll.hedge(clock, 0.5)
    clock.advance(0.4)
    assert len(ask.calls) == 3
    clock.advance(0.2)
    assert len(ask.calls) == 5
    for number in (1, 3, 4):
        ask.calls[number].callback([])
    assert poll.decided


def test_nothing_is_left_on_the_clock() -> None:
    for ends in ("decided", "cancelled"):
        ask, clock = Asked(), Clock()
        poll = Poll(ask, MEMBERS, needed=1, first=1)
        poll.hedge(clock, 0.5)
        assert clock.getDelayedCalls()
        if ends == "decided":
            ask.calls[0].callback([])
        else:
            poll.done.addErrback(lambda failure: failure.trap(CancelledError))
            poll.done.cancel()
        assert not clock.getDelayedCalls()


def test_cancelling_it_ends_it_and_nobody_more_is_asked() -> None:
    ask = Asked()
    poll = Poll(ask, MEMBERS, needed=3, first=3)
    poll.done.cancel()
    failures: list[Any] = []
    poll.done.addErrback(failures.append)
    assert failures[0].check(CancelledError)
    ask.calls[0].errback(ValueError())
    ask.calls[1].callback([])
    assert len(ask.calls) == 3


def test_answers_after_the_end_are_told() -> None:
    ask = Asked()
    poll = Poll(ask, MEMBERS, needed=2, first=5)
    late: list[int] = []
    poll.when_late(lambda: late.append(len(poll.answers)))
    ask.calls[0].callback([])
    assert late == []
    ask.calls[1].callback([])
    assert poll.done.called
    ask.calls[2].callback([])
    ask.calls[3].errback(ValueError())
    ask.calls[4].callback([])
    assert late[-2:] == [3, 4]


def test_answers_at_once_and_errors_at_once_count() -> None:
    def ask(poll: Poll, contact: Contact) -> None:
        if contact.id % 2:
            poll.failed(contact, Failure(ValueError()))
        else:
            poll.answered(contact, [contact.id])

    poll = Poll(ask, MEMBERS, needed=3, first=3)
    assert poll.decided
    assert len(poll.failures) == 2


@pytest.mark.parametrize("wants_all", [False, True])
def test_an_answer_can_want_all_others(wants_all: bool) -> None:
    ask = Asked()
    poll = Poll(ask, MEMBERS, needed=3, first=5, wants_all=lambda answer: bool(answer[0]))
    for number in range(3):
        ask.calls[number].callback([wants_all])
    assert poll.done.called != wants_all
    ask.calls[3].errback(ValueError())
    ask.calls[4].callback([False])
    assert poll.done.called


def test_the_end_of_the_last_answer_is_told_once_and_nothing_is_held_past_it() -> None:
    ask = Asked()
    ended: list[str] = []
    poll = Poll(ask, MEMBERS, needed=3, first=5, finished=lambda: ended.append("finished"))
    poll.done.addCallback(lambda _: ended.append("done"))
    holder = Late(poll)
    late = ref(holder)
    poll.when_late(holder.tell)
    del holder
    for number in range(4):
        ask.calls[number].callback([])
    assert ended == ["done"]
    assert late() is not None
    ask.calls[4].errback(ValueError())
    assert ended == ["done", "finished"]
    assert late() is None  # without the collector, which cycles in every write would keep busy
    holder = Late(poll)
    late = ref(holder)
    poll.when_late(holder.tell)
    del holder
    assert late() is None


def test_answers_at_once_end_it_too() -> None:
    ended: list[str] = []
    poll = Poll(
        lambda poll, contact: poll.answered(contact, []),
        MEMBERS,
        needed=3,
        first=5,
        finished=lambda: ended.append("finished"),
    )
    assert poll.decided
    assert ended == ["finished"]


class Late:
    """Holds a poll, and is held by it."""

    def __init__(self, poll: Poll) -> None:
        self.poll = poll

    def tell(self) -> None:
        """An answer came late."""
