"""The judge of what clients of counters were told (`make counters` runs those)."""

from __future__ import annotations

import pytest

from tests.processes.counters import Call, judged

TOLD: list[Call] = [("hits", 1), ("hits", 3), ("hits", 2), ("visits", 1)]


def test_what_is_exact_is_right() -> None:
    assert judged(TOLD, {"hits": 3, "visits": 1}) == []


def test_what_is_unknown_may_count_or_not() -> None:
    calls: list[Call] = [*TOLD, ("hits", None)]
    assert judged(calls, {"hits": 3, "visits": 1}) == []
    assert judged(calls, {"hits": 4, "visits": 1}) == []
    assert len(judged(calls, {"hits": 5, "visits": 1})) == 1


@pytest.mark.parametrize(
    ("calls", "hits", "wrong"),
    [
        (TOLD, 4, "3 answered, 0 unknown, stands at 4"),
        (TOLD, 2, "was told 3"),
        ([*TOLD, ("hits", 3)], 4, "the same number"),
        ([("hits", 1), ("hits", None)], 0, "stands at 0"),
    ],
)
def test_what_is_lost_or_counts_twice_is_seen(calls: list[Call], hits: int, wrong: str) -> None:
    assert any(wrong in each for each in judged(calls, {"hits": hits, "visits": 1}))
