"""What goes wrong in a run: drawn from its seed, one after another, and in time."""

from __future__ import annotations

from itertools import pairwise
from random import Random

from chordtx.sim.plan import FALSE_ALARMS, Episode, Fault, draw_episodes

SECONDS, SETTLE_SECONDS = 180.0, 12.0


def episodes(seed: int, *without: Fault) -> list[Episode]:
    return draw_episodes(Random(seed), SECONDS, SETTLE_SECONDS, frozenset(without))


def test_one_after_another_with_time_between_and_at_the_end() -> None:
    for seed in range(50):
        drawn = episodes(seed)
        assert len(drawn) > 5
        assert all(
            before.at + before.seconds + SETTLE_SECONDS <= after.at for before, after in pairwise(drawn)
        )
        assert drawn[-1].at + drawn[-1].seconds + SETTLE_SECONDS <= SECONDS
        assert all(episode.count >= 1 for episode in drawn)


def test_the_seed_decides() -> None:
    assert episodes(1) == episodes(1)
    assert episodes(1) != episodes(2)


def test_every_fault_comes_but_those_that_are_left_out() -> None:
    assert {episode.fault for seed in range(20) for episode in episodes(seed)} == set(Fault)
    left = {episode.fault for seed in range(20) for episode in episodes(seed, *FALSE_ALARMS)}
    assert left == set(Fault) - FALSE_ALARMS
    assert episodes(1, *Fault) == []


def test_a_run_that_is_too_short_has_none() -> None:
    assert draw_episodes(Random(1), SETTLE_SECONDS, SETTLE_SECONDS, frozenset()) == []
