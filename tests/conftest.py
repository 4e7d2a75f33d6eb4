"""What every test gets: nothing may be left behind, neither an error in the log nor a call nor a socket.

pytest-twisted lets unhandled errors of Deferreds and leftover delayed calls pass; here they fail the test
that left them. The tests of the pure layers know no reactor and pay nothing for this.
"""

from __future__ import annotations

import gc
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from hypothesis import settings
from twisted.internet.base import DelayedCall
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, globalLogBeginner, globalLogPublisher
from twisted.python.failure import Failure

TESTS = Path(__file__).parent
#: Folders of the layers that import no Twisted.
PURE = frozenset({"wire", "ring", "group", "records"})
#: Turns of the reactor that what was stopped may take to be gone: a closed socket needs one or two.
SETTLE_TURNS = 50
SETTLE_SECONDS = 0.01


def pytest_configure() -> None:
    """Take Twisted's log away from standard error: the tests look at it themselves. And judge no example by
    how long it took, for that tells of the machine."""
    settings.register_profile("untimed", deadline=None)
    settings.load_profile("untimed")
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Ctrl-C ends the tests, in the middle of a turn of the reactor too.

    There Twisted takes KeyboardInterrupt for one more error to log, or to hand to a Deferred. Then the
    session stops after this test.
    """

    def interrupted(number: int, frame: object) -> None:
        session.shouldstop = "interrupted"
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, interrupted)


def pytest_collection_finish() -> None:
    """Set aside what importing left, so that collecting garbage after each test costs next to nothing."""
    gc.collect()
    gc.freeze()


class LoggedErrors:
    """The failures that the log saw during one test, until they are flushed."""

    def __init__(self) -> None:
        self.events: list[LogEvent] = []

    def observe(self, event: LogEvent) -> None:
        """Remember ``event`` when it carries a failure."""
        if isinstance(event.get("log_failure"), Failure):
            self.events.append(event)

    def flush(self, *types: type[BaseException]) -> list[Failure]:
        """Take out the failures of ``types`` (of any type, when none is named), oldest first."""
        gc.collect()  # an error in a Deferred is logged when nobody holds the Deferred any more
        wanted = types or (BaseException,)
        flushed = [event for event in self.events if event["log_failure"].check(*wanted)]
        self.events = [event for event in self.events if event not in flushed]
        return [event["log_failure"] for event in flushed]

    def describe(self) -> str:
        """Say what is left, with its tracebacks."""
        return "\n".join(
            f"{event.get('log_format')}\n{event['log_failure'].getTraceback()}" for event in self.events
        )


class LeftOver:
    """What a test left on the real reactor: calls under way and open sockets."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.before = self._now()

    def _now(self) -> set[Any]:
        reactor = self.reactor
        return {*reactor.getDelayedCalls(), *reactor.getReaders(), *reactor.getWriters()}

    def found(self) -> list[Any]:
        """Whatever is there and was not there before, once the reactor had its chance to settle."""
        for _ in range(SETTLE_TURNS):
            if not self._now() - self.before:
                break
            pytest_twisted.blockon(deferLater(self.reactor, SETTLE_SECONDS))
        return sorted(self._now() - self.before, key=str)

    def clear(self, found: list[Any]) -> None:
        """Take ``found`` off the reactor, so that the tests to come do not suffer from it."""
        for what in found:
            if isinstance(what, DelayedCall):
                what.cancel()
            else:
                self.reactor.removeReader(what)
                self.reactor.removeWriter(what)


@pytest.fixture(scope="session")
def running_reactor() -> Any:
    """The real reactor after its first turn, in which it opens sockets of its own."""
    from twisted.internet import reactor

    pytest_twisted.blockon(deferLater(reactor, 0))
    return reactor


@pytest.fixture
def logged_errors() -> Iterator[LoggedErrors]:
    """Collects the errors that are logged during the test."""
    errors = LoggedErrors()
    globalLogPublisher.addObserver(errors.observe)
    yield errors
    globalLogPublisher.removeObserver(errors.observe)


@pytest.fixture
def flush_logged_errors(logged_errors: LoggedErrors) -> Callable[..., list[Failure]]:
    """``flush_logged_errors(*types)`` gives the errors that the test expected, and forgives them."""
    return logged_errors.flush


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves an error in the log, a delayed call or an open socket.

    Tests marked ``shared_nodes`` may leave calls and sockets: a fixture of their module keeps nodes running.
    """
    if is_pure(request.path):
        yield
        return
    errors: LoggedErrors = request.getfixturevalue("logged_errors")
    left_over = LeftOver(request.getfixturevalue("running_reactor"))
    yield
    found = [] if request.node.get_closest_marker("shared_nodes") else left_over.found()
    left_over.clear(found)
    gc.collect()
    assert not errors.events, f"errors were logged:\n{errors.describe()}"
    assert not found, f"left on the reactor: {found}"


def is_pure(path: Path) -> bool:
    """Whether the test module at ``path`` belongs to a layer without Twisted."""
    parts = path.relative_to(TESTS).parts
    return len(parts) > 1 and parts[0] in PURE


def _free_port(host: str = "127.0.0.1") -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def free_port() -> Callable[..., int]:
    """``free_port(host="127.0.0.1")`` names a port that nobody listens on (where port 0 cannot be used)."""
    return _free_port
