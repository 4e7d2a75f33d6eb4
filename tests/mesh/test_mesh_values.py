"""The mesh's parts without I/O: addresses, what was seen, round trips, liveness, rates, known peers."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from attrs import define
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from chordtx.errors import ProtocolError
from chordtx.mesh import MeshService
from chordtx.mesh.address import Address
from chordtx.mesh.common_clock import CommonClock
from chordtx.mesh.deduplication import SeenBroadcasts
from chordtx.mesh.handshake import Dialect
from chordtx.mesh.known import KnownPeers
from chordtx.mesh.liveness import Liveness, Verdict
from chordtx.mesh.pool import Pool
from chordtx.mesh.quota import Quota
from chordtx.mesh.round_trip import RoundTrip
from chordtx.mesh.translation import broadcast_id, in_dialect
from chordtx.wire import Message

# Addresses


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:4444", Address("127.0.0.1", 4444)),
        ("localhost:1", Address("localhost", 1)),
        ("[::1]:65535", Address("::1", 65535)),
        ("[fe80::1%eth0]:7", Address("fe80::1%eth0", 7)),
    ],
)
def test_address_is_read_and_written_alike(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert str(address) == text
    assert Address.from_wire(address.to_wire()) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        ":1",
        "host:",
        "host:0",
        "host:65536",
        "host:-1",
        "host:x",
        "::1:80",
        "[::1]",
        "a b:1",
        "[]:1",
    ]
    + ["host:٣", "[::1%a\n]:1", "h\0st:1", "x" * 254 + ":1"],
)
def test_person_is_told_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError):
        Address.parse(text)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        ["h"],
        ["h", 1, 2],
        ["h", "1"],
        ["h", True],
        ["h", 1.0],
        ["h", -1],
        ["h", 65536],
        [1, 1],
        [None, 1],
    ]
    + [
        ["a b", 1],
        ["::1%" + "x" * 1000, 1],
        ["::1%\n", 1],
        ["::x", 1],
        ["é", 1],
        [b"\xff", 1],
        {"h": 1},
        "h:1",
    ],
)
def test_peer_cannot_name_what_is_no_address(value: Any) -> None:
    with pytest.raises(ProtocolError):
        Address.from_wire(value)


def test_host_may_come_as_bytes() -> None:
    assert Address.from_wire([b"127.0.0.1", 5]) == Address("127.0.0.1", 5)


@pytest.mark.parametrize("address", [Address("", 5), Address("host", 0)])
def test_address_without_host_or_port_cannot_be_reached(address: Address) -> None:
    assert not address.reachable
    assert Address.from_wire(address.to_wire()) == address


# Broadcasts met before


#: Monotonic time of a machine that was started lately, and what its wall clock shows then.
UP, WALL = 7.0, 1_700_000_000


def test_broadcast_is_new_once() -> None:
    seen = SeenBroadcasts(10, 60)
    assert seen.first_time(b"a", WALL, UP, WALL)
    assert not seen.first_time(b"a", WALL, UP + 1, WALL + 1)
    assert seen.first_time(b"b", WALL, UP + 1, WALL + 1)


def test_broadcast_older_than_sixty_seconds_is_dropped() -> None:
    seen = SeenBroadcasts(10, 60)
    assert not seen.first_time(b"a", WALL - 61, UP, WALL)
    assert seen.first_time(b"b", WALL - 60, UP, WALL)


def test_broadcasts_are_forgotten_by_age_and_number() -> None:
    seen = SeenBroadcasts(3, 60)
    for number in range(5):
        assert seen.first_time(bytes([number]), WALL, UP, WALL)
    assert len(seen) == 3
    assert seen.first_time(b"late", WALL + 1000, UP + 1000, WALL + 1000)
    assert len(seen) == 1


@pytest.mark.parametrize("time", [2**64 - 1, -(2**63), 0])
def test_broadcast_of_any_time_costs_no_more(time: int) -> None:
    seen = SeenBroadcasts(3, 60)
    seen.first_time(b"a", time, UP, 100.0)
    assert not seen.first_time(b"a", time, UP, 100.0)
    seen.first_time(b"b", 500, UP + 400, 500.0)
    assert len(seen) == 1


@pytest.mark.parametrize("set_by", [7200, -7200])
def test_a_wall_clock_that_is_set_makes_nothing_forgotten_or_kept_for_longer(set_by: int) -> None:
    seen = SeenBroadcasts(10, 60)
    assert seen.first_time(b"a", WALL, UP, WALL)
    assert not seen.first_time(b"a", WALL, UP + 1, WALL + set_by)
    assert seen.first_time(b"b", WALL + set_by, UP + 1, WALL + set_by)
    assert len(seen) == 2
    assert seen.first_time(b"c", WALL + set_by, UP + 130, WALL + set_by)
    assert len(seen) == 1


# The time of a neighbourhood


@define
class NeighbourClock:
    """A link, by what it knows of the peer's clock."""

    clock_ahead_seconds: float | None


def common_clock(own_offset: float, *offsets: float | None) -> CommonClock:
    links = [NeighbourClock(None if offset is None else WALL - UP + offset) for offset in offsets]
    return CommonClock(lambda: UP, lambda: WALL + own_offset, lambda: links)


@pytest.mark.parametrize(
    ("own_offset", "offsets", "expected"),
    [
        (5, (), 5),
        (7200, (None,), 7200),
        (7200, (0, 1), 1),
        (-7200, (0, 1), 0),
        (0, (7200, 1), 1),
        (0, (7200,), 3600),
        (3600, (-3600,), 0),
        (0, (0, 7200, -7200, 1, 2), 0.5),
        (0, (2.0**64, 2.0**64, -(2.0**63)), 0),  # what no clock shows
    ],
)
def test_time_is_the_median_of_a_neighbourhoods_clocks(
    own_offset: float, offsets: tuple[float | None, ...], expected: float
) -> None:
    assert common_clock(own_offset, *offsets).seconds() == pytest.approx(WALL + expected, abs=0.001)


def test_common_time_goes_on_between_looks_at_the_clocks() -> None:
    now, wall = [UP], [float(WALL)]
    clock = CommonClock(lambda: now[0], lambda: wall[0], list)
    assert clock.seconds() == WALL
    now[0], wall[0] = UP + 0.5, WALL + 7200.5
    assert clock.seconds() == WALL + 0.5
    now[0], wall[0] = UP + 1.5, WALL + 7201.5
    assert clock.seconds() == WALL + 7201.5


# Round trips


def test_time_out_follows_the_round_trips_within_bounds() -> None:
    trip = RoundTrip(0.1, 4.0)
    assert trip.timeout_seconds == trip.mean_seconds == 4.0
    trip.measured(0.2)
    assert trip.mean_seconds == 0.2
    assert trip.timeout_seconds == pytest.approx(0.2 + 4 * 0.1)
    for _ in range(200):
        trip.measured(0.001)
    assert trip.timeout_seconds == 0.1
    trip.measured(1000.0)
    assert trip.timeout_seconds == 4.0


# Liveness


def test_silent_peer_is_asked_and_then_given_up() -> None:
    life = Liveness()
    life.heard(10.0)
    assert life.judge(10.9, 1.0, 3.0) is Verdict.FINE
    assert life.judge(11.0, 1.0, 3.0) is Verdict.ASK
    assert life.judge(14.0, 1.0, 3.0) is Verdict.FINE
    assert life.judge(14.1, 1.0, 3.0) is Verdict.DEAD


def test_anything_that_comes_is_a_sign_of_life() -> None:
    life = Liveness()
    life.heard(10.0)
    assert life.judge(11.0, 1.0, 3.0) is Verdict.ASK
    life.heard(13.9)
    assert life.judge(14.1, 1.0, 3.0) is Verdict.FINE
    assert life.judge(14.9, 1.0, 3.0) is Verdict.ASK


def test_call_without_answer_is_a_reason_to_ask_and_no_sign_of_death() -> None:
    life = Liveness()
    life.heard(10.0)
    assert life.judge(10.2, 1.0, 3.0, call_waits_since=10.1) is Verdict.ASK
    life.heard(10.3)  # it answers: alive, and busy with the call for long
    for tenths in range(104, 190):
        assert life.judge(tenths / 10, 1.0, 3.0, call_waits_since=10.1) is not Verdict.DEAD
        life.heard(tenths / 10)


def test_question_that_is_still_on_its_way_out_does_not_count() -> None:
    life = Liveness()
    life.heard(10.0)
    assert life.judge(11.0, 1.0, 3.0) is Verdict.ASK
    life.sent_on(13.5)
    assert life.judge(15.0, 1.0, 3.0) is Verdict.FINE
    assert life.judge(16.6, 1.0, 3.0) is Verdict.DEAD


# Quotas and pools


def test_quota_asks_for_the_time_that_fills_it_again() -> None:
    quota = Quota(100, 200)
    assert [quota.spend(150, 5.0), quota.spend(50, 5.0)] == [0.0, 0.0]
    assert quota.spend(50, 5.0) == pytest.approx(0.5)
    assert quota.spend(10, 6.0) == 0.0  # 100 came in, of which 50 were owed
    assert quota.spend(190, 60.0) == 0.0  # never more than it holds
    assert quota.spend(1000, 60.0) == pytest.approx(9.9)


class Holder:
    """A link that notes when it has to give way."""

    def __init__(self, is_member: bool, since: float) -> None:
        self.precedence = (is_member, since)
        self.gave_way = 0

    def give_way(self) -> None:
        self.gave_way += 1


def test_pool_is_kept_by_who_is_no_member_and_stuck_for_longest() -> None:
    pool = Pool(100)
    member, late, early = Holder(True, 1.0), Holder(False, 3.0), Holder(False, 2.0)
    for holder, count in ((member, 50), (late, 20), (early, 30)):
        pool.hold(holder, count)
    assert pool.held_bytes == 100
    pool.hold(member, 51)
    assert [member.gave_way, late.gave_way, early.gave_way] == [0, 0, 1]
    pool.hold(member, 81)
    assert [member.gave_way, late.gave_way, early.gave_way] == [0, 1, 1]
    pool.hold(member, 101)
    assert (member.gave_way, pool.held_bytes) == (1, 0)
    pool.hold(late, 50)
    pool.hold(late, 0)
    pool.release(member)
    assert pool.held_bytes == 0


def test_those_who_are_no_members_hold_half_of_a_pool_together() -> None:
    pool = Pool(100)
    member, late, early = Holder(True, 1.0), Holder(False, 3.0), Holder(False, 2.0)
    pool.hold(early, 30)
    pool.hold(late, 20)
    pool.hold(member, 40)
    assert pool.held_bytes == 90
    pool.hold(late, 21)
    assert [member.gave_way, late.gave_way, early.gave_way] == [0, 0, 1]
    pool.hold(late, 51)
    assert [member.gave_way, late.gave_way, early.gave_way] == [0, 1, 1]
    assert pool.held_bytes == 40


# Known peers


def test_addresses_that_are_told_do_not_push_out_those_met() -> None:
    known = KnownPeers(4)
    met = [Address("met", port) for port in range(1, 5)]
    for address in met:
        known.met(address)
    for port in range(1, 1000):
        known.named(Address("named", port))
    assert set(known.choose(4, Random(1))) == set(met)
    assert len(known.choose(100, Random(1))) == 8
    assert known.choose(100, Random(1))[-4:] != known.choose(100, Random(5))[-4:]


def test_what_cannot_be_reached_is_not_remembered() -> None:
    known = KnownPeers(4)
    known.met(Address("", 4))
    known.named(Address("host", 0))
    assert known.choose(4, Random(1)) == []


# One broadcast in both dialects


def test_broadcast_is_known_by_one_id_in_both_dialects() -> None:
    message = Message.build(0, b"abc", 5, (0, "text"))
    other = in_dialect(message, Dialect.STR)
    assert other.sender == "abc"
    assert in_dialect(message, Dialect.BIN) is message
    assert broadcast_id(other) == broadcast_id(message) == message.id
    assert in_dialect(other, Dialect.BIN) == message


@pytest.mark.parametrize("sender", ["é", "\ud7ff", b"\xff\xfe", ""])
def test_sender_that_is_no_id_is_left_as_it_is(sender: Any) -> None:
    message = Message.build(0, sender, 5, (0,))
    for dialect in Dialect:
        assert in_dialect(message, dialect).payload == (0,)
    broadcast_id(message)


# When what is stored expires


@given(st.floats(0, 4e9), st.floats(1e-3, 1e6))
def test_nothing_expires_sooner_than_asked_nor_a_millisecond_later(now: float, ttl_seconds: float) -> None:
    expiry_ms = MeshService(Clock(), wall_clock=lambda: now)._expiry_ms(ttl_seconds)
    assert -1e-3 < expiry_ms - (now + ttl_seconds) * 1000 < 1


def test_what_is_asked_in_whole_milliseconds_expires_then() -> None:
    node = MeshService(Clock(), wall_clock=lambda: 1_700_000_000.123)
    assert node._expiry_ms(5) == 1_700_000_005_123
    assert node._expiry_ms(0.3) == 1_700_000_000_423
