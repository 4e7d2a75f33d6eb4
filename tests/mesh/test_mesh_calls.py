"""Calls between our own nodes, from one :class:`Calls` to another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from chordtx.config import Limits
from chordtx.errors import ChordError, NoMajority, NotJoined, ProtocolError, Stopped, ValueTooLarge
from chordtx.mesh.calls import OK, Calls, CallTimeout, Method, PeerLost
from tests.mesh.peers import outcomes


class Pair:
    """Two ends; what one sends, :meth:`run` brings to the other."""

    def __init__(self, methods: dict[str, Method], pending_max: int = 100) -> None:
        self.methods = methods
        self.calls_sent: list[list[Any]] = []
        self.replies_sent: list[list[Any]] = []
        self.flushes = 0
        self.here = Calls(
            self._send_calls, self.replies_sent.append, self._wants_flush, 100, Logger(), lambda _: True
        )
        self.there = Calls(
            self.calls_sent.append, self._send_replies, lambda: None, pending_max, Logger(), lambda _: True
        )

    def _send_calls(self, calls: list[Any]) -> None:
        if any(call[-1:] == ["too large"] for call in calls):
            raise ValueTooLarge("too large for a frame")
        self.calls_sent.append(calls)

    def _send_replies(self, replies: list[Any]) -> None:
        if any(reply[-1:] == ["too large"] for reply in replies):
            raise ValueTooLarge("too large for a frame")
        if any(isinstance(value, object) and type(value) is object for reply in replies for value in reply):
            raise TypeError("msgpack cannot carry it")
        self.replies_sent.append(replies)

    def _wants_flush(self) -> None:
        self.flushes += 1

    def call(self, method: Any, *arguments: Any, now: float = 0.0) -> list[Any]:
        return outcomes(self.here.call(now, 5.0, method, *arguments))

    def serve(self, calls: Any) -> None:
        self.there.calls_received(calls, 100)
        while self.there.unserved:
            self.there.serve_one(self.methods, "caller")

    def run(self, now: float = 0.0) -> float | None:
        self.here.flush()
        sent, self.calls_sent = self.calls_sent, []
        for calls in sent:
            self.serve([list(call) for call in calls])
        self.there.flush()
        answered, self.replies_sent = self.replies_sent, []
        trip = None
        for replies in answered:
            trip = self.here.replies_received([list(reply) for reply in replies], now)
        return trip


def test_calls_of_one_turn_leave_in_one_frame_and_are_answered() -> None:
    pair = Pair({"add": lambda caller, *numbers: [caller, sum(numbers)]})
    found = [pair.call("add", 1, 2), pair.call("add", 3)]
    assert pair.flushes == 1
    pair.here.flush()
    assert len(pair.calls_sent) == 1
    pair.run()
    assert found == [[["caller", 3]], [["caller", 3]]]


def test_answers_that_are_gathered_wait_for_a_flush_that_need_not_be_asked_for() -> None:
    flushes: list[None] = []
    sent: list[list[Any]] = []
    calls = Calls(sent.append, sent.append, lambda: flushes.append(None), 100, Logger(), lambda _: True)
    calls.gather_answers()
    for number in (1, 2):
        calls.calls_received([[number, "nothing"]], 10)
        calls.serve_one({"nothing": lambda caller: []}, "caller")
    assert (flushes, sent, calls.are_gathering) == ([], [], True)
    calls.flush()
    assert (sent, calls.are_gathering) == ([[[1, OK], [2, OK]]], False)
    calls.calls_received([[3, "nothing"]], 10)
    calls.serve_one({"nothing": lambda caller: []}, "caller")
    assert len(flushes) == 1


def test_an_answer_that_is_there_does_not_wait_for_all_that_came_with_its_call() -> None:
    waiting: list[Deferred[list[Any]]] = []

    def wait(_: Any) -> Deferred[list[Any]]:
        waiting.append(Deferred())
        return waiting[-1]

    pair = Pair({"wait": wait, "ping": lambda caller: []})
    names = ["wait", "ping", *["wait"] * 38]
    pair.there.gather_answers()
    pair.serve([[number, name] for number, name in enumerate(names)])
    assert pair.replies_sent == [[[1, OK]]]
    assert pair.there.are_gathering
    for each in waiting:
        each.callback([])
    pair.there.flush()
    assert [len(replies) for replies in pair.replies_sent] == [1, 39]


def test_answers_that_are_all_there_leave_together() -> None:
    pair = Pair({"ping": lambda caller: []})
    pair.serve([[number, "ping"] for number in range(40)])
    assert pair.replies_sent == []
    pair.there.flush()
    assert [len(replies) for replies in pair.replies_sent] == [40]


def test_what_is_asked_because_of_answers_is_sent_before_the_last_of_many_is_handed_out() -> None:
    pair = Pair({"ping": lambda caller: []})
    for _ in range(40):
        answer = pair.here.call(0.0, 5.0, "ping")
        answer.addCallback(lambda _: pair.here.call(0.0, 5.0, "ping"))
    pair.here.flush()
    (calls,) = pair.calls_sent
    pair.calls_sent.clear()
    pair.here.replies_received([[number, OK] for number, _ in calls], 0.0, pair.here.flush)
    assert [len(calls) for calls in pair.calls_sent] == [16, 16]
    pair.here.flush()
    assert len(pair.calls_sent[-1]) == 8


def test_round_trip_is_that_of_the_youngest_call() -> None:
    pair = Pair({"ping": lambda caller: []})
    pair.call("ping", now=1.0)
    pair.call("ping", now=3.0)
    assert pair.here.oldest_waiting_at == 1.0
    assert pair.run(now=3.5) == 0.5
    assert pair.here.oldest_waiting_at is None


def test_answers_may_come_later_and_in_any_order() -> None:
    waiting: dict[str, Deferred[list[Any]]] = {"a": Deferred(), "b": Deferred()}
    pair = Pair({"wait": lambda caller, name: waiting[name]})
    first, second = pair.call("wait", "a"), pair.call("wait", "b")
    pair.run()
    waiting["b"].callback(["b"])
    pair.run()
    assert (first, second) == ([], [["b"]])
    waiting["a"].callback(["a"])
    pair.run()
    assert first == [["a"]]


@pytest.mark.parametrize("kind", [NotJoined, NoMajority, ValueTooLarge, ProtocolError, Stopped, ChordError])
def test_our_errors_reach_the_caller(kind: type[Exception]) -> None:
    def fails(caller: Any) -> Any:
        raise kind("why")

    pair = Pair({"fail": fails})
    found = pair.call("fail")
    pair.run()
    assert type(found[0]) is kind
    assert str(found[0]) == "why"


def test_bug_is_logged_here_and_told_there_without_details(
    flush_logged_errors: Callable[..., list[Any]],
) -> None:
    pair = Pair({"fail": lambda caller: {}["secret"]})
    found = pair.call("fail")
    pair.run()
    assert type(found[0]) is ChordError
    assert "secret" not in str(found[0])
    assert len(flush_logged_errors(KeyError)) == 1


def test_wrong_method_or_arguments_are_the_callers_doing() -> None:
    pair = Pair({"ping": lambda caller: []})
    found = [pair.call("nothing"), pair.call("ping", 1), pair.call([["x"] * 3]), pair.call(None)]
    pair.run()
    assert all(type(outcome[0]) is ProtocolError for outcome in found)


def test_call_that_is_late_or_lost_fails() -> None:
    pair = Pair({})
    late, lost = pair.call("x", now=0.0), pair.call("x", now=3.0)
    pair.here.expire(5.0)
    assert isinstance(late[0], CallTimeout)
    assert lost == []
    pair.here.lost(ProtocolError("cut"))
    assert isinstance(lost[0], PeerLost)
    assert isinstance(pair.call("x")[0], PeerLost)
    pair.here.lost(ProtocolError("cut"))


def test_lost_link_cancels_what_is_served() -> None:
    work: Deferred[list[Any]] = Deferred()
    found: list[Any] = []
    work.addErrback(lambda failure: (found.append(failure.value), failure)[1])
    pair = Pair({"wait": lambda caller: work})
    pair.call("wait")
    pair.run()
    pair.there.lost(ProtocolError("cut"))
    assert isinstance(found[0], CancelledError)


def test_cancelled_call_is_forgotten_and_its_answer_ignored() -> None:
    pair = Pair({"ping": lambda caller: []})
    call = pair.here.call(0.0, 5.0, "ping")
    found = outcomes(call)
    call.cancel()
    assert pair.here.oldest_waiting_at is None
    assert pair.run() is None
    assert isinstance(found[0], CancelledError)


def test_what_fits_into_no_frame_fails_alone() -> None:
    pair = Pair({"echo": lambda caller, text: [text]})
    found = [pair.call("echo", "a"), pair.call("echo", "too large"), pair.call("echo", "b")]
    pair.run()
    assert found[0] == [["a"]]
    assert isinstance(found[1][0], ValueTooLarge)
    assert found[2] == [["b"]]


def test_answer_that_fits_into_no_frame_or_cannot_be_packed_fails_alone(
    flush_logged_errors: Callable[..., list[Any]],
) -> None:
    pair = Pair({"echo": lambda caller, text: [{"large": "too large", "odd": object()}.get(text, text)]})
    found = [pair.call("echo", "a"), pair.call("echo", "large"), pair.call("echo", "odd")]
    pair.run()
    assert found[0] == [["a"]]
    assert isinstance(found[1][0], ValueTooLarge)
    assert type(found[2][0]) is ChordError
    assert len(flush_logged_errors(TypeError)) == 1


def test_calls_under_way_are_bounded() -> None:
    pair = Pair({"wait": lambda caller: Deferred()}, pending_max=3)
    found = [pair.call("wait") for _ in range(5)]
    pair.run()
    assert [len(outcome) for outcome in found] == [0, 0, 0, 1, 1]
    pair.there.lost(ProtocolError("cut"))


def test_many_calls_leave_in_several_frames() -> None:
    pair = Pair({"ping": lambda caller: []}, pending_max=1000)
    found = [pair.call("ping") for _ in range(2500)]
    pair.here.flush()
    assert [len(calls) for calls in pair.calls_sent] == [1000, 1000, 500]
    pair.run()
    assert found == [[[]]] * 2500


def test_long_answers_leave_in_several_frames() -> None:
    pair = Pair({"blob": lambda caller: [{"deep": [b"x" * 300_000]}]})
    for _ in range(8):
        pair.call("blob")
    pair.here.flush()
    pair.serve(pair.calls_sent.pop())
    pair.there.flush()
    assert [len(replies) for replies in pair.replies_sent] == [3, 3, 2]


def containers(value: Any) -> int:
    """Arrays and maps in it."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    return 1 + sum(map(containers, value)) if isinstance(value, list) else 0


def test_no_frame_has_more_arrays_than_a_peer_takes() -> None:
    sent: list[list[Any]] = []
    calls = Calls(sent.append, sent.append, lambda: None, 100, Logger(), lambda _: True)
    for count in (9_000, 500, 20_000, 100, 9_500, 9_500, *[100] * 50, 25_000):
        calls.call(0.0, 5.0, "many", {"a": [[1]] * count})
    calls.flush()
    assert sum(map(len, sent)) == 57
    assert max(map(containers, sent)) < Limits().containers_max
    assert sum(len(frame) == 1 for frame in sent) >= 2
    assert len(sent) < 10


@pytest.mark.parametrize("calls", [None, {}, "x", [None], [[]], [[1]], [["1", "ping"]], [[None, "ping"]]])
def test_malformed_calls_are_protocol_errors(calls: Any) -> None:
    with pytest.raises(ProtocolError):
        Pair({"ping": lambda caller: []}).serve(calls)


def test_number_of_a_call_under_way_cannot_be_used_again() -> None:
    pair = Pair({"wait": lambda caller: Deferred()})
    pair.serve([[1, "wait"]])
    with pytest.raises(ProtocolError):
        pair.serve([[1, "wait"]])
    pair.there.lost(ProtocolError("cut"))


@pytest.mark.parametrize("replies", [None, {}, "x", [None], [[]], [[1]], [["1", 0]], [[None, 0]]])
def test_malformed_replies_are_protocol_errors(replies: Any) -> None:
    with pytest.raises(ProtocolError):
        Pair({}).here.replies_received(replies, 0.0)


@pytest.mark.parametrize(
    "rest", [[[]], [{}], [None, None], [99], [5, 5], [1, "x" * 10_000], [-1, b"x"], ["1"]]
)
def test_any_other_status_is_a_plain_failure(rest: list[Any]) -> None:
    pair = Pair({})
    found = pair.call("x")
    pair.here.replies_received([[1, *rest]], 0.0)
    assert isinstance(found[0], ChordError)
    assert len(str(found[0])) <= 500


def test_peer_cannot_pretend_that_a_key_is_missing() -> None:
    pair = Pair({})
    for status in range(1, 100):
        found = pair.call("x")
        pair.here.replies_received([[status, status, "x"]], 0.0)
        assert isinstance(found[0], ChordError)


def test_answer_to_nothing_is_ignored() -> None:
    assert Pair({}).here.replies_received([[5, OK, 1]], 0.0) is None


def test_who_is_told_that_the_link_is_gone_may_cancel_other_calls() -> None:
    pair = Pair({})
    calls = [pair.here.call(0.0, 5.0, "method", number) for number in range(3)]
    calls[0].addErrback(lambda failure: calls[1].cancel())
    found = [outcomes(call) for call in calls]
    pair.here.lost(ProtocolError("cut"))
    assert found[0] == [None]
    assert isinstance(found[1][0], CancelledError)
    assert isinstance(found[2][0], PeerLost)
