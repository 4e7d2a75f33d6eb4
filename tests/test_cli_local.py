"""A ring of processes on this machine: how they are started, watched and stopped."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from chordtx.cli import local
from chordtx.cli.local_ring import STOP_TIMEOUT_SECONDS, LocalRing, NodeProcess
from chordtx.cli.running import EXIT_NO_RING, Failed, PortTaken
from chordtx.tap import READY


class Spawned:
    """A process that was asked for; ends only when told to."""

    def __init__(self, protocol: NodeProcess, arguments: list[str]) -> None:
        self.protocol = protocol
        self.arguments = arguments
        self.signals: list[str] = []
        self.gone = False
        protocol.makeConnection(self)

    def signalProcess(self, name: str) -> None:
        if self.gone:
            raise ProcessExitedAlready
        self.signals.append(name)

    def ready(self) -> None:
        self.protocol.childDataReceived(1, f"12:00 [x] {READY} of subnet chord\n".encode())

    def end(self, status: int = 0) -> None:
        self.gone = True
        self.protocol.processEnded(Failure(ProcessTerminated(status) if status else ProcessDone(0)))


class SpawningReactor(Clock):
    """Virtual time and processes that are not there."""

    def __init__(self) -> None:
        super().__init__()
        self.spawned: list[Spawned] = []

    def spawnProcess(self, protocol: NodeProcess, program: str, arguments: list[str], env: Any) -> None:
        self.spawned.append(Spawned(protocol, arguments))


@pytest.fixture
def reactor() -> SpawningReactor:
    return SpawningReactor()


@pytest.fixture
def lines() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def ends() -> list[Failed]:
    return []


@pytest.fixture
def ring(reactor: SpawningReactor, lines: list[tuple[str, str]], ends: list[Failed]) -> LocalRing:
    return LocalRing(
        reactor,
        4,
        5000,
        subnet="demo",
        on_line=lambda address, line: lines.append((address, line)),
        on_end=ends.append,
    )


@pytest.fixture
def started(ring: LocalRing, reactor: SpawningReactor) -> LocalRing:
    starting = Deferred.fromCoroutine(ring.start())
    for index in range(4):
        reactor.spawned[index].ready()
    assert starting.called
    return ring


def outcome_of(deferred: Deferred[Any]) -> list[Any]:
    """Fills with the result or the exception."""
    outcome: list[Any] = []
    deferred.addErrback(lambda failure: failure.value).addCallback(outcome.append)
    return outcome


def values_of(arguments: list[str], option: str) -> list[str]:
    return [value for name, value in itertools.pairwise(arguments) if name == option]


def test_the_others_wait_for_the_first(ring: LocalRing, reactor: SpawningReactor) -> None:
    starting = outcome_of(Deferred.fromCoroutine(ring.start()))
    assert len(reactor.spawned) == 1
    reactor.spawned[0].ready()
    assert len(reactor.spawned) == 4
    for index in (3, 1):
        reactor.spawned[index].ready()
    assert starting == []
    reactor.spawned[2].ready()
    assert starting == [None]


@pytest.mark.parametrize("index", [0, 2])
def test_a_port_that_is_taken_is_an_error_of_its_own(
    ring: LocalRing, reactor: SpawningReactor, index: int
) -> None:
    starting = outcome_of(Deferred.fromCoroutine(ring.start()))
    if index:
        reactor.spawned[0].ready()
    complaint = (
        f"chord: cannot start: Couldn't listen on any:5000: [Errno 98] {os.strerror(errno.EADDRINUSE)}."
    )
    reactor.spawned[index].protocol.childDataReceived(2, f"{complaint}\n".encode())
    reactor.spawned[index].end(1)
    (error,) = starting
    assert isinstance(error, PortTaken)
    assert str(error) == f"another program uses 127.0.0.1:{5000 + index}"
    assert error.status == EXIT_NO_RING


def test_how_nodes_are_started(started: LocalRing, reactor: SpawningReactor) -> None:
    commands = [spawned.arguments for spawned in reactor.spawned]
    assert [values_of(command, "--listen") for command in commands] == [
        [f"tcp:{port}:interface=127.0.0.1"] for port in (5000, 5001, 5002, 5003)
    ]
    assert [values_of(command, "--peer") for command in commands] == [
        [],
        ["127.0.0.1:5000"],
        ["127.0.0.1:5000", "127.0.0.1:5001"],
        ["127.0.0.1:5000", "127.0.0.1:5002"],
    ]
    assert all(values_of(command, "--subnet") == ["demo"] for command in commands)


def ring_with_data(reactor: SpawningReactor, path: Path) -> LocalRing:
    return LocalRing(reactor, 2, 5000, data=str(path))


def test_each_node_has_a_data_folder_of_its_own(reactor: SpawningReactor, tmp_path: Path) -> None:
    Deferred.fromCoroutine(ring_with_data(reactor, tmp_path).start())
    reactor.spawned[0].ready()
    commands = [spawned.arguments for spawned in reactor.spawned]
    assert [values_of(command, "--data") for command in commands] == [
        [str(tmp_path / "5000")],
        [str(tmp_path / "5001")],
    ]
    for spawned in reactor.spawned[1:]:
        spawned.ready()


def test_nodes_that_ran_before_start_at_once(reactor: SpawningReactor, tmp_path: Path) -> None:
    """They wait for each other, so the first would not be ready alone."""
    (tmp_path / "5001").mkdir()
    starting = outcome_of(Deferred.fromCoroutine(ring_with_data(reactor, tmp_path).start()))
    assert len(reactor.spawned) == 2
    for spawned in reversed(reactor.spawned):
        spawned.ready()
    assert starting == [None]


def test_a_node_that_cannot_start_says_why(
    ring: LocalRing, reactor: SpawningReactor, ends: list[Failed]
) -> None:
    starting = outcome_of(Deferred.fromCoroutine(ring.start()))
    reactor.spawned[0].ready()
    reactor.spawned[2].protocol.childDataReceived(2, b"chord: cannot start: por")
    reactor.spawned[2].protocol.childDataReceived(2, b"t taken\n")
    reactor.spawned[2].end(1)
    assert str(starting[0]) == "node 127.0.0.1:5002 ended with status 1: chord: cannot start: port taken"
    assert starting[0].status == EXIT_NO_RING
    assert ends == []


def test_a_node_that_says_nothing_shows_its_last_line(ring: LocalRing, reactor: SpawningReactor) -> None:
    starting = outcome_of(Deferred.fromCoroutine(ring.start()))
    reactor.spawned[0].protocol.childDataReceived(1, b"one\ntwo\n")
    reactor.spawned[0].end(3)
    assert str(starting[0]).endswith("status 3: its last line: two")


def test_the_ring_goes_on_until_its_last_node_ends(
    started: LocalRing, reactor: SpawningReactor, ends: list[Failed]
) -> None:
    gone = outcome_of(started.when_gone())
    for index, spawned in enumerate(reactor.spawned):
        assert gone == []
        spawned.end(1)
        assert f"127.0.0.1:500{index}" in str(ends[-1])
    assert isinstance(gone[0], Failed)
    assert len(ends) == 4


def test_lines_are_passed_on(
    started: LocalRing, reactor: SpawningReactor, lines: list[tuple[str, str]]
) -> None:
    lines.clear()
    reactor.spawned[1].protocol.childDataReceived(1, b"a\nb")
    reactor.spawned[1].protocol.childDataReceived(2, b"\xff\n")
    reactor.spawned[1].protocol.childDataReceived(1, b"c\n")
    assert lines == [("127.0.0.1:5001", line) for line in ("a", "\ufffd", "bc")]


def test_stopping_asks_all_and_waits(
    started: LocalRing, reactor: SpawningReactor, ends: list[Failed]
) -> None:
    gone = outcome_of(started.when_gone())
    reactor.spawned[3].gone = True
    stopping = outcome_of(Deferred.fromCoroutine(started.stop()))
    assert [spawned.signals for spawned in reactor.spawned] == [["TERM"], ["TERM"], ["TERM"], []]
    for spawned in reactor.spawned:
        assert stopping == []
        spawned.end()
    assert stopping == [None]
    assert gone == []
    assert ends == []
    assert reactor.getDelayedCalls() == []


def test_who_does_not_stop_is_killed(started: LocalRing, reactor: SpawningReactor) -> None:
    stopping = outcome_of(Deferred.fromCoroutine(started.stop()))
    reactor.spawned[0].end()
    reactor.advance(STOP_TIMEOUT_SECONDS)
    assert [spawned.signals[1:] for spawned in reactor.spawned] == [[], ["KILL"], ["KILL"], ["KILL"]]
    for spawned in reactor.spawned[1:]:
        spawned.end(9)
    assert stopping == [None]


def test_stopping_while_starting(ring: LocalRing, reactor: SpawningReactor) -> None:
    starting = outcome_of(Deferred.fromCoroutine(ring.start()))
    stopping = outcome_of(Deferred.fromCoroutine(ring.stop()))
    reactor.spawned[0].end()
    assert stopping == [None]
    assert "was stopped" in str(starting[0])


def test_directions_leave_the_defaults_out() -> None:
    ask: Callable[..., str] = local.asking_command
    assert ask("127.0.0.1:44565", "my net; x", "Plaintext") == "chordtx --subnet 'my net; x'"
    assert ask("127.0.0.1:44565", "chord", "Plaintext") == "chordtx"
    assert ask("a:1", "demo", "SSL") == "chordtx --peer a:1 --subnet demo --encryption SSL"
    assert local.directions(["a:1", "a:2"], "chord", "Plaintext")[1] == "node 2 of 2 at a:2"
