"""The simulated network: bytes in order, cuts that hold them back, and the ways in which connections end."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, serverFromString
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError, TimeoutError
from twisted.internet.protocol import Factory, Protocol

from chordtx.sim.network import Network
from chordtx.sim.virtual import VirtualTime, WallClock

HERE, THERE = "10.0.0.1", "10.0.0.2"


class Noting(Protocol):
    """Notes what comes, and how it ends."""

    def __init__(self) -> None:
        self.data = b""
        self.end: Exception | None = None

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Any = None) -> None:
        self.end = reason.value


class Pair:
    """Two hosts, one of which listens."""

    def __init__(self, torn: float = 0.5) -> None:
        self.time = VirtualTime(Random(1))
        self.network = Network(self.time, Random(2), lambda *_: 0.01, torn)
        self.here, self.there = self.network.process(HERE), self.network.process(THERE)
        self.accepted: list[Noting] = []
        factory = Factory.forProtocol(Noting)
        build = factory.buildProtocol
        factory.buildProtocol = lambda addr: self.accepted.append(build(addr)) or self.accepted[-1]  # type: ignore
        serverFromString(self.there, f"tcp:4000:interface={THERE}").listen(factory)

    def connect(self, port: int = 4000, timeout: float = 5) -> Deferred[Any]:
        return TCP4ClientEndpoint(self.here, THERE, port, timeout).connect(Factory.forProtocol(Noting))

    def run(self, seconds: float) -> None:
        self.time.run(self.time.now + seconds)

    def connected(self) -> tuple[Noting, Noting]:
        found: list[Noting] = []
        self.connect().addCallback(found.append)
        self.run(1)
        return found[0], self.accepted[0]


def outcome_of(work: Deferred[Any]) -> list[Any]:
    outcomes: list[Any] = []
    work.addBoth(outcomes.append)
    return outcomes


def test_bytes_arrive_whole_and_in_order() -> None:
    pair = Pair()
    client, server = pair.connected()
    sent = [bytes([number]) * (number + 1) for number in range(200)]
    for data in sent:
        client.transport.write(data)
        server.transport.write(data)
    assert server.data == b""
    pair.run(1)
    assert server.data == client.data == b"".join(sent)


def test_what_was_written_arrives_before_the_end() -> None:
    pair = Pair()
    client, server = pair.connected()
    client.transport.write(b"last words")
    client.transport.loseConnection()
    pair.run(1)
    assert server.data == b"last words"
    assert isinstance(server.end, ConnectionDone)
    assert isinstance(client.end, ConnectionDone)


def test_a_cut_holds_back_one_way_only() -> None:
    pair = Pair()
    client, server = pair.connected()
    pair.network.cut(HERE, THERE)
    client.transport.write(b"held")
    server.transport.write(b"through")
    pair.run(100)
    assert (server.data, client.data) == (b"", b"through")
    pair.network.mend(HERE, THERE)
    pair.run(1)
    assert server.data == b"held"


def test_nobody_answers_across_a_cut() -> None:
    pair = Pair()
    pair.network.cut(THERE, HERE)
    outcome = outcome_of(pair.connect(timeout=5))
    pair.run(4.9)
    assert outcome == []
    pair.run(0.2)
    assert outcome[0].check(TimeoutError)


def test_a_closed_port_refuses_at_once() -> None:
    pair = Pair()
    outcome = outcome_of(pair.connect(port=4001))
    pair.run(0.1)
    assert outcome[0].check(ConnectionRefusedError)


@pytest.mark.parametrize("is_silent", [False, True])
def test_a_killed_process_resets_and_a_dead_host_does_not(is_silent: bool) -> None:
    pair = Pair()
    client, _ = pair.connected()
    pair.network.kill(THERE, is_silent)
    pair.run(10)
    assert isinstance(client.end, ConnectionLost) is not is_silent
    outcome = outcome_of(pair.connect())
    pair.run(10)
    assert outcome[0].check(TimeoutError if is_silent else ConnectionRefusedError)


def test_a_paused_process_does_everything_later() -> None:
    pair = Pair()
    client, server = pair.connected()
    pair.there.is_paused = True
    ticks: list[float] = []
    pair.there.callLater(1, lambda: ticks.append(pair.time.now))
    client.transport.write(b"wait")
    pair.run(10)
    assert (server.data, ticks) == (b"", [])
    pair.there.resume()
    assert (server.data, ticks) == (b"wait", [pair.time.now])


def test_a_dead_process_does_nothing_any_more() -> None:
    pair = Pair()
    ticks: list[int] = []
    pair.there.callLater(1, ticks.append, 1)
    pair.network.kill(THERE, is_silent=False)
    pair.run(10)
    assert ticks == []


def test_wall_clocks_differ_and_timers_do_not() -> None:
    pair = Pair()
    right, wrong = WallClock(pair.time), WallClock(pair.time)
    wrong.offset_seconds = 3600.0
    assert wrong() - right() == pytest.approx(3600)
    assert pair.there.seconds() == pair.here.seconds()
    ticks: list[float] = []
    call = pair.there.callLater(2, lambda: ticks.append(pair.time.now))
    assert call.getTime() == pytest.approx(pair.there.seconds() + 2)
    pair.run(3)
    assert ticks == [2]
