"""What goes wrong in a run: drawn from its seed, one after another, and in time."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from chordtx.sim.plan import FALSE_ALARMS, FOR_GOOD, FOR_LONG, GOING, ON_DISKS, Episode, Fault, draw_episodes

SECONDS, SETTLE_SECONDS = 180.0, 12.0


def episodes(seed: int, *without: Fault, has_disks: bool = True) -> list[Episode]:
    return draw_episodes(Random(seed), SECONDS, SETTLE_SECONDS, frozenset(without), has_disks=has_disks)


def apart(drawn: list[Episode]) -> list[list[Episode]]:
    """Those that have time between them; what comes beside another one is together with it."""
    clusters: list[list[Episode]] = []
    for episode in drawn:
        ends = [each.at + each.seconds for each in clusters[-1]] if clusters else []
        if ends and episode.at < max(ends) + SETTLE_SECONDS / 2:
            clusters[-1].append(episode)
        else:
            clusters.append([episode])
    return clusters


@pytest.mark.parametrize("has_disks", [True, False])
def test_one_or_two_at_once_and_time_between_and_at_the_end(has_disks: bool) -> None:
    counts: Counter[int] = Counter()
    for seed in range(50):
        drawn = episodes(seed, has_disks=has_disks)
        clusters = apart(drawn)
        counts.update(map(len, clusters))
        ends = [max(each.at + each.seconds for each in some) for some in clusters]
        assert len(drawn) > 4
        assert all(
            end + SETTLE_SECONDS - 1 <= some[0].at for end, some in zip(ends, clusters[1:], strict=False)
        )
        assert ends[-1] + SETTLE_SECONDS <= SECONDS
        assert all(episode.count >= 1 for episode in drawn)
        if not has_disks:
            assert all(sum(each.fault in GOING for each in some) <= 1 for some in clusters)
            assert not ON_DISKS.intersection(each.fault for each in drawn)
        for some in clusters:
            faults = {each.fault for each in some}
            assert not (FOR_GOOD & faults and FOR_LONG & faults)
    assert set(counts) == {1, 2}
    assert counts[2] > 30


def test_the_seed_decides() -> None:
    assert episodes(1) == episodes(1)
    assert episodes(1) != episodes(2)


def test_every_fault_comes_but_those_that_are_left_out() -> None:
    drawn = set(Fault) - {Fault.OFF}  # which comes after all others
    assert {episode.fault for seed in range(40) for episode in episodes(seed)} == drawn
    left = {episode.fault for seed in range(40) for episode in episodes(seed, *FALSE_ALARMS)}
    assert left == drawn - FALSE_ALARMS
    assert episodes(1, *Fault) == []


def test_a_run_that_is_too_short_has_none() -> None:
    assert draw_episodes(Random(1), SETTLE_SECONDS, SETTLE_SECONDS, frozenset()) == []
