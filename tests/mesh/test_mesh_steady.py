"""Timers on a reactor whose clock is set: they keep their time, and are as Twisted's in all else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from math import inf
from typing import Any, cast

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.base import ReactorBase
from twisted.internet.endpoints import HostnameEndpoint, serverFromString
from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IReactorFromThreads, IReactorTCP, IReactorTime
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from zope.interface.verify import verifyObject

from chordtx.mesh import MeshService
from chordtx.mesh.steady import ClockWatch, SteadyReactor, steady

HOUR = 3600.0
#: Of monotonic time, for each turn of the reactor: exact as a float.
TURN = 0.125
#: How late a timer may be when the clock was set back: until the watch has looked, and a turn.
LATE = 1.0 + 2 * TURN
STEPS = [HOUR, -HOUR, 48 * HOUR, -48 * HOUR]


class SetReactor(ReactorBase):
    """Twisted's timers, on a wall clock that can be set; without the network.

    :ivar passed: monotonic time, in seconds.
    """

    def __init__(self) -> None:
        super().__init__()
        self.passed = 7.0
        self._wall_seconds = 1_700_000_000.0
        self._asleep_until = 0.0

    def installWaker(self) -> None:
        """Twisted's."""

    def wakeUp(self) -> None:
        """Twisted's."""
        self._asleep_until = self.passed

    def seconds(self) -> float:  # type: ignore[override]
        """Twisted's."""
        return self._wall_seconds

    def set_clock(self, by_seconds: float) -> None:
        """As a person does, or NTP: nothing happens at once, for the reactor sleeps."""
        self._wall_seconds += by_seconds

    def turn(self) -> None:
        """Let a moment pass, and do what is to be done when the reactor does not sleep through it."""
        self.passed += TURN
        self._wall_seconds += TURN
        if self.passed >= self._asleep_until:
            self.runUntilCurrent()
            self.sleep()

    def sleep(self) -> None:
        """As ``epoll_wait``: for a time that is worked out now."""
        timeout_seconds = self.timeout()
        self._asleep_until = inf if timeout_seconds is None else self.passed + timeout_seconds


@define(eq=False)
class OwnWatch:
    """A :class:`ClockWatch` without a thread."""

    watched: set[SteadyReactor] = field(factory=set)

    def add(self, reactor: SteadyReactor) -> None:
        self.watched.add(reactor)

    def discard(self, reactor: SteadyReactor) -> None:
        self.watched.discard(reactor)


class Bench:
    """A steady reactor on one whose clock is set."""

    def __init__(self) -> None:
        self.below = SetReactor()
        self.watch = OwnWatch()
        watch = cast("ClockWatch", self.watch)
        self.reactor = SteadyReactor(self.below, lambda: self.below.passed, watch)
        self.ticks: list[tuple[str, float]] = []

    @property
    def passed(self) -> float:
        return self.below.passed - 7.0

    def tick(self, name: str = "") -> None:
        self.ticks.append((name, self.passed))

    def run(self, seconds: float) -> None:
        """Let time pass; the test has just done something, so the reactor goes to sleep first."""
        self.below.sleep()
        for _ in range(int(seconds / TURN)):
            if self.passed % 1.0 == 0:
                for reactor in tuple(self.watch.watched):
                    reactor.look_at_clock()
            self.below.turn()


@pytest.mark.parametrize("by", STEPS)
def test_a_timer_keeps_its_time_when_the_clock_is_set(by: float) -> None:
    bench = Bench()
    for seconds in (0, 2, 10, 100):
        bench.reactor.callLater(seconds, bench.tick, str(seconds))
    bench.run(1)
    bench.below.set_clock(by)
    bench.run(120)
    assert [name for name, _ in bench.ticks] == ["0", "2", "10", "100"]
    for name, at in bench.ticks:
        assert float(name) <= at <= float(name) + LATE
    assert not bench.below.getDelayedCalls()


def test_a_clock_that_is_set_again_and_again_moves_nothing() -> None:
    bench = Bench()

    def again() -> None:
        bench.tick()
        bench.reactor.callLater(1, again)

    again()
    for number in range(40):
        bench.below.set_clock(STEPS[number % len(STEPS)] + number)
        bench.run(1.5)
    times = [at for _, at in bench.ticks]
    assert all(1 <= later - at <= 1 + LATE for at, later in pairwise(times))


def test_a_clock_that_is_right_costs_one_timer_of_the_reactor() -> None:
    bench = Bench()
    calls = [bench.reactor.callLater(seconds, bench.tick) for seconds in (5, 3, 4)]
    assert len(bench.below.getDelayedCalls()) == 1
    assert set(bench.reactor.getDelayedCalls()) == set(calls)
    assert bench.watch.watched == {bench.reactor}
    bench.run(6)
    assert [at for _, at in bench.ticks] == [3, 4, 5]
    assert (bench.below.getDelayedCalls(), bench.reactor.getDelayedCalls(), bench.watch.watched) == (
        [],
        [],
        set(),
    )


def test_nothing_is_left_when_all_is_cancelled() -> None:
    bench = Bench()
    calls = [bench.reactor.callLater(seconds, bench.tick) for seconds in range(200)]
    for call in calls:
        call.cancel()
    assert (bench.below.getDelayedCalls(), bench.reactor.getDelayedCalls(), bench.watch.watched) == (
        [],
        [],
        set(),
    )
    bench.run(300)
    assert not bench.ticks


def test_cancelled_calls_take_no_memory() -> None:
    bench = Bench()
    bench.reactor.callLater(1000, bench.tick)
    for _ in range(10_000):
        bench.reactor.callLater(500, bench.tick).cancel()
    assert len(bench.reactor._calls) < 200


def test_a_call_is_as_twisteds() -> None:
    bench = Bench()
    call = bench.reactor.callLater(5, bench.tick)
    assert call.active()
    assert call.getTime() == bench.reactor.seconds() + 5
    bench.below.set_clock(-HOUR)
    call.delay(2)
    assert call.getTime() == bench.reactor.seconds() + 7
    call.reset(1)
    assert call.getTime() == bench.reactor.seconds() + 1
    bench.run(3)
    assert len(bench.ticks) == 1
    assert not call.active()
    with pytest.raises(AlreadyCalled):
        call.cancel()
    other = bench.reactor.callLater(1, bench.tick)
    other.cancel()
    for use in (other.cancel, lambda: other.reset(1), lambda: other.delay(1)):
        with pytest.raises(AlreadyCancelled):
            use()
    with pytest.raises(AssertionError):
        bench.reactor.callLater(-1, bench.tick)


def test_a_call_that_fails_keeps_no_other_from_its_time(
    flush_logged_errors: Callable[..., list[Any]],
) -> None:
    bench = Bench()
    bench.reactor.callLater(1, lambda: 1 / 0)
    bench.reactor.callLater(1, bench.tick)
    bench.reactor.callLater(2, bench.tick)
    bench.run(3)
    assert [at for _, at in bench.ticks] == [1 + TURN, 2]
    assert len(flush_logged_errors(ZeroDivisionError)) == 1


def test_what_is_called_at_once_is_called_in_the_next_turn() -> None:
    """So work that goes on by ``callLater(0)`` leaves room for what comes from the network."""
    bench = Bench()

    def again() -> None:
        bench.tick()
        bench.reactor.callLater(0, again)

    again()
    bench.run(10 * TURN)
    assert len(bench.ticks) == 1 + 10


@pytest.mark.parametrize("has_timers", [False, True])
@pytest.mark.parametrize("by", STEPS)
def test_the_next_turn_comes_when_the_clock_is_set_before_it(by: float, has_timers: bool) -> None:
    bench = Bench()
    if has_timers:
        bench.reactor.callLater(50, bench.tick, "50")
    bench.reactor.callLater(0, bench.tick, "0")
    bench.below.set_clock(by)
    bench.run(4)
    assert [(name, at <= LATE) for name, at in bench.ticks] == [("0", True)]
    assert bench.watch.watched == ({bench.reactor} if has_timers else set())


def test_calls_for_the_next_turn_cost_one_timer_and_are_made_in_order(
    flush_logged_errors: Callable[..., list[Any]],
) -> None:
    bench = Bench()
    for name in "ab":
        bench.reactor.callLater(0, bench.tick, name)
    put_off = bench.reactor.callLater(0, bench.tick, "later")
    bench.reactor.callLater(0, lambda: 1 / 0)
    cancelled = bench.reactor.callLater(0, bench.tick, "cancelled")
    for name in "cd":
        bench.reactor.callLater(0, bench.tick, name)
    bench.reactor.callLater(0, cancelled.cancel)
    put_off.delay(1)
    cancelled.cancel()
    assert len(bench.below.getDelayedCalls()) == 1
    assert len(bench.reactor.getDelayedCalls()) == 7
    bench.run(2)
    assert [name for name, _ in bench.ticks] == ["a", "b", "c", "d", "later"]
    assert len(flush_logged_errors(ZeroDivisionError)) == len(flush_logged_errors(AlreadyCancelled)) == 1
    assert not bench.below.getDelayedCalls()


def test_a_call_that_is_put_off_is_as_any_other() -> None:
    bench = Bench()
    calls = [bench.reactor.callLater(0, bench.tick, name) for name in ("earlier", "never")]
    for call in calls:
        call.delay(50)
    bench.run(1)
    earlier, never = calls
    earlier.reset(1)
    never.cancel()
    bench.run(3)
    assert bench.ticks == [("earlier", 2)]
    assert not bench.below.getDelayedCalls()


def test_a_call_of_the_turn_can_cancel_the_next_one() -> None:
    bench = Bench()
    bench.reactor.callLater(0, lambda: later.cancel())
    later = bench.reactor.callLater(0, bench.tick)
    bench.run(1)
    assert not bench.ticks
    assert not bench.watch.watched


#: An operation on timers: which (of those there are), what, eighths of a second, and the clock's step.
OPERATIONS = st.tuples(
    st.integers(0, 9),
    st.sampled_from(["later", "cancel", "reset", "delay", "run", "set"]),
    st.integers(0, 80),
    st.sampled_from(STEPS),
)


class Timers:
    """Timers on some reactor, used by one operation after the other."""

    def __init__(self, reactor: Any, passed: Callable[[], float]) -> None:
        self._reactor = reactor
        self._passed = passed
        self.calls: list[Any] = []
        self.fired: dict[int, float] = {}

    def use(self, which: int, what: str, seconds: float) -> Any:
        """:returns: the error that it raised, if any."""
        if what == "later":
            number = len(self.calls)
            fire = lambda: self.fired.update({number: self._passed()})  # noqa: E731
            self.calls.append(self._reactor.callLater(seconds, fire))
        elif which < len(self.calls):
            try:
                getattr(self.calls[which], what)(*(() if what == "cancel" else (seconds,)))
            except (AlreadyCalled, AlreadyCancelled) as error:
                return type(error)
        return None


@given(st.lists(OPERATIONS, max_size=40))
def test_any_use_of_timers_goes_as_on_a_reactor_whose_clock_is_right(
    operations: list[tuple[int, str, int, float]],
) -> None:
    plain, bench = SetReactor(), Bench()
    theirs = Timers(plain, lambda: plain.passed - 7.0)
    ours = Timers(bench.reactor, lambda: bench.passed)
    for which, what, eighths, _ in [*operations, (0, "run", 800, 0.0)]:
        seconds = eighths * TURN
        if what == "run":
            bench.run(seconds)
            plain.sleep()
            for _ in range(eighths):
                plain.turn()
        elif what != "set":
            assert ours.use(which, what, seconds) == theirs.use(which, what, seconds)
        assert ours.fired == theirs.fired
        assert [call.active() for call in ours.calls] == [call.active() for call in theirs.calls]
    assert not bench.below.getDelayedCalls()


@given(st.lists(OPERATIONS, max_size=40))
def test_no_timer_is_early_and_none_late_however_the_clock_is_set(
    operations: list[tuple[int, str, int, float]],
) -> None:
    bench = Bench()
    timers = Timers(bench.reactor, lambda: bench.passed)
    due: dict[int, float] = {}
    for which, what, eighths, step in [*operations, (0, "run", 800, 0.0)]:
        if what == "run":
            bench.run(eighths * TURN)
        elif what == "set":
            bench.below.set_clock(step)
        else:
            timers.use(which, what, eighths * TURN)
        due.update({n: call.getTime() - 7.0 for n, call in enumerate(timers.calls) if call.active()})
        for number, at in timers.fired.items():
            assert due.get(number, 0.0) <= at <= due.get(number, inf) + LATE
    assert not bench.below.getDelayedCalls()


# Which reactors are wrapped, and how


def test_what_is_steady_already_is_used_as_it_is(running_reactor: Any) -> None:
    for reactor in (Clock(), MemoryReactorClock(), steady(running_reactor)):
        assert steady(reactor) is reactor
        assert MeshService(reactor).reactor is reactor


def test_a_wrapped_reactor_is_taken_for_the_real_one(running_reactor: Any) -> None:
    reactor = steady(running_reactor)
    assert isinstance(reactor, SteadyReactor)
    for interface in (IReactorTime, IReactorTCP, IReactorFromThreads):
        verifyObject(interface, reactor)
    assert reactor.getThreadPool() is running_reactor.getThreadPool()
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = reactor.no_such_thing


async def test_endpoints_take_a_wrapped_reactor(running_reactor: Any) -> None:
    reactor = steady(running_reactor)
    port = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(Factory.forProtocol(Protocol))
    endpoint = HostnameEndpoint(reactor, "localhost", port.getHost().port)
    client = await endpoint.connect(Factory.forProtocol(Protocol))
    client.transport.abortConnection()
    await port.stopListening()
    assert reactor.getDelayedCalls() == []


# The thread


@pytest.fixture
def watch() -> Iterator[ClockWatch]:
    watch = ClockWatch()
    yield watch
    assert not watch._watched


def test_the_thread_wakes_a_reactor_that_sleeps_and_ends_when_there_is_none(watch: ClockWatch) -> None:
    below, is_woken = SetReactor(), threading.Event()
    below.callFromThread = lambda *_: is_woken.set()  # type: ignore[method-assign]
    reactor = SteadyReactor(below, lambda: 0.0, watch)
    call = reactor.callLater(5, lambda: None)
    thread = watch._thread
    assert thread is not None
    assert thread.daemon
    below.set_clock(-HOUR)
    assert is_woken.wait(60)
    call.cancel()
    thread.join(60)
    assert not thread.is_alive()
    call = reactor.callLater(5, lambda: None)
    assert watch._thread not in (None, thread)
    call.cancel()


def test_a_clock_that_cannot_be_read_does_not_end_the_thread(
    watch: ClockWatch, flush_logged_errors: Callable[..., list[Any]]
) -> None:
    broken, below, is_woken = SetReactor(), SetReactor(), threading.Event()
    below.callFromThread = lambda *_: is_woken.set()  # type: ignore[method-assign]
    calls = [SteadyReactor(each, lambda: 0.0, watch).callLater(5, lambda: None) for each in (broken, below)]
    broken.seconds = lambda: 1 / 0  # type: ignore[method-assign]
    below.set_clock(-HOUR)
    assert is_woken.wait(60)
    for call in calls:
        call.cancel()
    thread = watch._thread
    if thread is not None:
        thread.join(60)
    flush_logged_errors(ZeroDivisionError)
