"""How long a lookup takes where some of those that it goes by say nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from chordtx import ChordSettings
from chordtx.chord.routing import Found, Routing
from chordtx.errors import NotJoined
from chordtx.mesh import CallTimeout
from chordtx.ring import SIZE, Contact, RingNode

POSITION = SIZE // 2
OWNER = Contact(POSITION, "10.0.0.9", 9)


class Ring:
    """A node that is in no ring, and has links to members. :ivar asked: seconds that each was given."""

    def __init__(self, members: int, silent: int) -> None:
        self.clock = Clock()
        self.asked: list[float] = []
        self._silent = silent
        links = [
            SimpleNamespace(id_10=POSITION + number, address=SimpleNamespace(host="10.0.0.1", port=number))
            for number in range(1, members + 1)
        ]
        self.routing = Routing(
            RingNode(Contact(1, "10.0.0.1", 1)),
            ChordSettings(call_timeout_seconds=2.0),
            lambda: links,  # type: ignore[arg-type, return-value]
            self._call,
            self.clock.seconds,
        )

    def _call(
        self, hop: Contact, method: str, place: bytes, hops: int, seconds: float, *, timeout_seconds: float
    ) -> Deferred[list[Any]]:
        assert (method, int.from_bytes(place, "big"), seconds) == ("find", POSITION, timeout_seconds)
        self.asked.append(seconds)
        answered: Deferred[list[Any]] = Deferred()
        if len(self.asked) <= self._silent:
            self.clock.callLater(seconds, answered.errback, CallTimeout("it says nothing"))
        else:
            self.clock.callLater(0.001, answered.callback, Found(None, (OWNER,), 1).to_wire())
        return answered

    def lookup(self, **how: Any) -> tuple[list[Any], float]:
        """What comes of it, and after how long."""
        outcome: list[Any] = []
        Deferred.fromCoroutine(self.routing.lookup(POSITION, **how)).addBoth(outcome.append)
        while not outcome:
            self.clock.advance(0.001)
        return outcome, self.clock.seconds()


@pytest.mark.parametrize("silent", range(4))
def test_whoever_says_nothing_leaves_time_for_another(silent: int) -> None:
    ring = Ring(members=6, silent=silent)
    (found,), seconds = ring.lookup()
    assert found.chain == (OWNER,)
    assert len(ring.asked) == silent + 1
    assert seconds < 4.0


def test_a_lookup_ends_before_its_caller_waits_no_more() -> None:
    ring = Ring(members=6, silent=6)
    (failure,), seconds = ring.lookup(within_seconds=1.0)
    assert failure.check(NotJoined)
    assert seconds <= 1.001
    assert ring.asked == sorted(ring.asked, reverse=True)
    assert len(ring.asked) == 4


def test_a_hop_gets_less_time_than_there_is() -> None:
    ring = Ring(members=2, silent=0)
    ring.lookup(within_seconds=1.0)
    assert ring.asked == [pytest.approx(0.6)]
