"""Large values on a link: bounded by bytes under way, and nothing is late because it waits behind them."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import Logger

from chordtx.config import MeshSettings
from chordtx.mesh.calls import LARGE_BYTES, OK, Calls, CallTimeout
from chordtx.mesh.link_load import LinkLoad
from chordtx.mesh.pool import Pool
from tests.mesh.peers import Mesh, outcomes

MIB = 1 << 20


class Buffer:
    """A send buffer, as far as it is asked."""

    def __init__(self) -> None:
        self.waiting_bytes = 0
        self.moved_at = -100.0

    def has_moved(self, since: float) -> bool:
        return self.waiting_bytes > 0 and self.moved_at >= since


class Link:
    def __init__(self, is_member: bool) -> None:
        self.is_member = is_member
        self.told = 0

    def room_made(self) -> None:
        self.told += 1


class Other:
    """Another link that holds something."""

    precedence = (True, 0.0)

    def give_way(self) -> None:
        raise AssertionError("nobody is cut")


class Loaded:
    def __init__(self, is_member: bool = False) -> None:
        self.clock = Clock()
        self.clock.advance(100)
        self.buffer, self.pool, self.link = Buffer(), Pool(24 * MIB), Link(is_member)
        self.load = LinkLoad(self.buffer, self.pool, self.clock.seconds, self.link)  # type: ignore[arg-type]


@pytest.mark.parametrize("is_member", [True, False])
def test_a_large_call_waits_while_much_is_unsent(is_member: bool) -> None:
    loaded, other = Loaded(is_member), Other()
    assert loaded.load.may_serve(8 * MIB)  # nothing is unsent
    loaded.pool.hold(other, 7 * MIB)
    assert loaded.load.may_serve(LARGE_BYTES)
    assert loaded.load.may_serve(MIB)
    assert not loaded.load.may_serve(2 * MIB)
    assert loaded.load.is_waiting
    loaded.pool.hold(other, MIB)
    assert loaded.link.told == 1
    assert loaded.load.may_serve(2 * MIB)
    assert not loaded.load.is_waiting


def test_a_large_answer_waits_too_but_for_a_member() -> None:
    for is_member in (True, False):
        loaded = Loaded(is_member)
        assert loaded.load.may_answer(8 * MIB)
        loaded.pool.hold(Other(), 7 * MIB)
        assert loaded.load.may_answer(LARGE_BYTES)
        assert loaded.load.may_answer(2 * MIB) == is_member


def test_who_waits_for_room_is_served_in_the_end() -> None:
    loaded = Loaded()
    loaded.pool.hold(Other(), 8 * MIB)
    assert not loaded.load.may_answer(MIB)
    loaded.clock.advance(0.9)
    assert not loaded.load.may_answer(MIB)
    loaded.clock.advance(0.2)  # the other one has read nothing since
    assert loaded.load.may_answer(MIB)


def test_a_peer_that_does_not_read_gets_nothing_more() -> None:
    loaded = Loaded(is_member=True)
    loaded.buffer.waiting_bytes = MIB
    assert not loaded.load.may_serve(0)
    assert not loaded.load.may_answer(0)
    assert not loaded.load.is_read


def test_calls_are_not_late_while_something_large_moves() -> None:
    loaded = Loaded()
    load, buffer, clock = loaded.load, loaded.buffer, loaded.clock
    assert not load.is_carrying(clock.seconds(), comes_in=False)
    load.received(LARGE_BYTES, clock.seconds())
    assert not load.is_carrying(clock.seconds(), comes_in=False)
    load.received(LARGE_BYTES + 1, clock.seconds())
    assert load.is_carrying(clock.seconds() + 0.9, comes_in=False)
    assert not load.is_carrying(clock.seconds() + 1.1, comes_in=False)
    clock.advance(10)
    buffer.waiting_bytes, buffer.moved_at = MIB, clock.seconds()
    assert load.is_carrying(clock.seconds() + 0.5, comes_in=False)
    assert not load.is_carrying(clock.seconds() + 2, comes_in=False)
    assert load.is_carrying(clock.seconds() + 2, comes_in=True)


def test_a_large_call_has_more_time() -> None:
    sent: list[list[Any]] = []
    calls = Calls(sent.append, sent.append, lambda: None, 100, Logger(), lambda _: True)
    small = outcomes(calls.call(0.0, 2.0, "set", bytes(1000)))
    large = outcomes(calls.call(0.0, 2.0, "set", bytes(4 * MIB)))
    calls.expire(1.9)
    assert (small, large) == ([], [])
    calls.expire(2.1)
    assert isinstance(small[0], CallTimeout)
    calls.expire(5.9)
    assert large == []
    calls.expire(6.1)
    assert isinstance(large[0], CallTimeout)


@pytest.mark.parametrize("is_late", [True, False])
def test_large_answers_wait_for_room(is_late: bool) -> None:
    sent: list[list[Any]] = []
    room = [0]
    calls = Calls(sent.append, sent.append, lambda: None, 100, Logger(), lambda count: count <= room[0])
    late: list[Deferred[list[Any]]] = [Deferred() for _ in range(4)]
    large = bytes(LARGE_BYTES + 1)
    values = [large, large, b"small", large]
    calls.calls_received([[number, "ask", number] for number in range(4)], 100)
    while calls.unserved:
        calls.serve_one({"ask": lambda _, number: late[number] if is_late else [values[number]]}, None)
    for each, value in zip(late, values, strict=True):
        each.callback([value])
    calls.flush()
    assert sent == [[[2, OK, b"small"]]]
    assert not calls.send_held()
    assert len(calls.held) == 3
    room[0] = 2 * LARGE_BYTES
    assert calls.send_held()
    calls.flush()
    assert [reply for replies in sent[1:] for reply in replies] == [[each, OK, large] for each in (0, 1, 3)]


def test_answers_that_wait_count_among_the_calls_of_a_peer() -> None:
    sent: list[list[Any]] = []
    calls = Calls(sent.append, sent.append, lambda: None, 2, Logger(), lambda _: False)
    calls.calls_received([[1, "ask"]], 100)
    calls.serve_one({"ask": lambda _: [bytes(LARGE_BYTES + 1)]}, None)
    calls.calls_received([[2, "x"], [3, "x"]], 100)
    assert len(calls.unserved) == 1
    calls.lost(ValueError("gone"))
    assert not calls.held


def test_members_may_hold_more_while_nobody_else_holds_anything() -> None:
    class Holder:
        def __init__(self, is_member: bool, moved_at: float) -> None:
            self.precedence = (is_member, moved_at)
            self.given_way = False

        def give_way(self) -> None:
            self.given_way = True

    members = [Holder(True, number) for number in range(4)]
    stranger = Holder(False, 9)
    pool = Pool(24 * MIB, 32 * MIB)
    pool.hold(stranger, MIB)
    for member in members:
        pool.hold(member, 8 * MIB)
    assert stranger.given_way
    assert not any(member.given_way for member in members)
    pool.hold(members[3], 8 * MIB + 1)
    assert [member.given_way for member in members] == [True, False, False, False]


@pytest_twisted.ensureDeferred
async def test_late_answers_larger_than_the_send_buffer_all_come_over_one_link(mesh: Mesh) -> None:
    settings = MeshSettings(send_buffer_bytes_max=2 * MIB, unsent_bytes_max=4 * MIB)
    one, other = await mesh.node(settings=settings), await mesh.node()
    link = await other.connect("127.0.0.1", one.out_addr[1])
    late: list[Deferred[list[Any]]] = []

    def waits(_: Any, number: int) -> Deferred[list[Any]]:
        late.append(Deferred())
        return late[-1]

    one._methods["waits"] = waits
    asked = [link.call("waits", number, timeout_seconds=20) for number in range(40)]
    await mesh.until(lambda: len(late) == 40, "all calls")
    for number, each in enumerate(late):
        each.callback([number, bytes(MIB // 2)])
    for number, each in enumerate(asked):
        assert (await each)[0] == number
    assert not link.closed
