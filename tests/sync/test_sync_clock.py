"""Versions only grow, whatever the wall clock does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chordtx.errors import ProtocolError
from chordtx.sync.clock import HybridClock
from chordtx.sync.version import Version

WALL_MS = st.integers(0, 1 << 41)


def test_a_version_is_near_the_wall_clock() -> None:
    version = HybridClock(b"me", 1_000).tick(1_700_000_000_123)
    assert version == Version(1_700_000_000_123 << 16, b"me")
    assert version.time_ms == 1_700_000_000_123


@given(st.lists(WALL_MS, min_size=2))
def test_each_is_above_the_one_before_even_when_the_wall_clock_goes_back(walls_ms: list[int]) -> None:
    clock = HybridClock(b"me", 1_000)
    versions = [clock.tick(wall_ms) for wall_ms in walls_ms]
    assert versions == sorted(set(versions))


def test_the_counter_carries_over_into_the_milliseconds() -> None:
    clock = HybridClock(b"me", 1_000)
    versions = [clock.tick(5) for _ in range((1 << 16) + 1)]
    assert versions == sorted(set(versions))
    assert versions[-1].time_ms == 6


@given(WALL_MS, st.integers(-(1 << 41), 1_000), st.binary(max_size=3), st.integers(0, (1 << 16) - 1))
def test_what_was_seen_is_below_all_that_is_given_out(
    wall_ms: int, ahead_ms: int, writer: bytes, counter: int
) -> None:
    seen = Version(max(wall_ms + ahead_ms, 0) << 16 | counter, writer)
    clock = HybridClock(b"me", 1_000)
    clock.observe(seen, wall_ms)
    assert clock.tick(wall_ms) > seen


def test_a_clock_too_far_ahead_is_refused_and_drags_nobody_along() -> None:
    clock = HybridClock(b"me", 1_000)
    clock.observe(Version(2_000 << 16, b"other"), 1_000)
    before = clock.tick(1_000)
    with pytest.raises(ProtocolError):
        clock.observe(Version(2_001 << 16, b"other"), 1_000)
    assert clock.tick(1_000).clock == before.clock + 1


def test_of_one_instant_the_greater_writer_is_newer() -> None:
    assert Version(5, b"a") < Version(5, b"b") < Version(6, b"a")
