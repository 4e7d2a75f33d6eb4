"""One question to the members of a replica set, until enough of them have answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from chordtx.errors import ProtocolError
from chordtx.ring import Contact

Ask = Callable[["Poll", Contact], None]


class Poll:
    """Asks some members first, and another whenever one fails or has no vote; all of them when it takes long.

    :param ask: asks one member, and tells the poll what came of it (:class:`~chordtx.mesh.calls.Asker`),
        perhaps at once.
    :param members: in the order to ask them.
    :param needed: how many answers are enough. :param first: how many to ask at first.
    :param is_vote: whether an answer counts toward ``needed``; raises ProtocolError for a malformed one.
    :param wants_all: whether an answer says that everyone else's is to be waited for too.
    :param finished: called once, when nobody's answer is awaited any more.
    :ivar answers: what came, by member. :ivar failures: who failed, and how.
    :ivar done: fires when enough have answered, or nobody is left who could.
    """

    __slots__ = (
        "_answered_late",
        "_ask",
        "_finished",
        "_hedge",
        "_is_vote",
        "_needed",
        "_pending",
        "_queue",
        "_votes",
        "_waits_for_all",
        "_wants_all",
        "answers",
        "done",
        "failures",
    )

    def __init__(
        self,
        ask: Ask,
        members: Sequence[Contact],
        needed: int,
        first: int,
        is_vote: Callable[[list[Any]], bool] | None = None,
        wants_all: Callable[[list[Any]], bool] | None = None,
        finished: Callable[[], None] | None = None,
    ) -> None:
        self._ask = ask
        self._needed = needed
        self._is_vote = is_vote
        self._wants_all = wants_all
        self._finished = finished
        self._waits_for_all = False
        self._answered_late: Callable[[], None] | None = None
        self._votes = 0
        self._queue = list(members)
        self._pending = 1  # until all of the first are asked: some may answer at once
        self._hedge: Any = None
        self.answers: dict[Contact, list[Any]] = {}
        self.failures: dict[Contact, Failure] = {}
        self.done: Deferred[None] = Deferred(self._cancelled)
        for _ in range(first):
            self._ask_next()
        self._has_ended()

    @property
    def decided(self) -> bool:
        """Whether enough have answered."""
        return self._votes >= self._needed

    @property
    def votes(self) -> int:
        """How many answers counted."""
        return self._votes

    def when_late(self, tell: Callable[[], None] | None) -> None:
        """Have ``tell`` called for each answer that comes after the end; None for no more."""
        self._answered_late = tell if self._pending else None

    def hedge(self, reactor: Any, seconds: float) -> None:
        """Ask everyone who was not asked yet, if this has not ended by then."""
        if not self.done.called and self._queue:
            self._hedge = reactor.callLater(seconds, self._ask_all)

    def _ask_all(self) -> None:
        self._hedge = None
        while self._queue:
            self._ask_next()
        self._check()

    def _ask_next(self) -> None:
        if self._queue:
            self._pending += 1
            self._ask(self, self._queue.pop(0))

    def answered(self, peer: Contact, results: list[Any]) -> None:
        """A member has answered."""
        self._count(peer, results)
        if self.done.called and self._answered_late is not None:
            self._answered_late()
        self._has_ended()

    def failed(self, peer: Contact, failure: Failure) -> None:
        """A member will not answer."""
        self.failures[peer] = failure
        if not self.done.called:
            self._ask_next()
        self._has_ended()

    def _has_ended(self) -> None:
        """One question less is under way."""
        self._pending -= 1
        self._check()
        if not self._pending:
            self._answered_late = None  # it may hold the poll, which Python would have to find out
            if self._finished is not None:
                self._finished()

    def _count(self, member: Contact, answer: list[Any]) -> None:
        try:
            is_vote = self._is_vote is None or self._is_vote(answer)
        except ProtocolError:
            self.failures[member] = Failure()  # one replica's nonsense is as good as no answer
            is_vote = False
        else:
            self.answers[member] = answer
            if self._wants_all is not None and self._wants_all(answer):
                self._waits_for_all = True
        if is_vote:
            self._votes += 1
        elif not self.done.called:
            self._ask_next()

    def _check(self) -> None:
        if self.done.called:
            return
        is_decided = self._votes >= self._needed and not self._waits_for_all
        if is_decided or not (self._pending or self._queue):
            if self._hedge is not None and self._hedge.active():
                self._hedge.cancel()
            self.done.callback(None)

    def _cancelled(self, done: Deferred[None]) -> None:
        if self._hedge is not None and self._hedge.active():
            self._hedge.cancel()
        self._queue.clear()
        done.errback(CancelledError())  # what was asked is answered to nobody
