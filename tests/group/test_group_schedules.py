"""Each schedule ends quietly: the protocol is kept."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.group.schedules import SCHEDULES


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule.__name__)
def test_schedule_breaks_nothing(schedule: Callable[[], None]) -> None:
    schedule()
