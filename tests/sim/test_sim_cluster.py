"""Seeds of rings whose records are in groups: everything is linearizable, whatever fails."""

from __future__ import annotations

import pytest

from chordtx.sim.cluster import run_seed
from chordtx.sim.world import Options

SHORT = Options(seconds=90.0)


@pytest.mark.parametrize("seed", range(16))
def test_a_seed_breaks_nothing(seed: int) -> None:
    report = run_seed(seed, SHORT)
    assert report.violations == []
    answered = report.outcomes["get answered"] + report.outcomes["set answered"]
    assert answered > 100
    assert report.too_hard == 0


def test_the_same_seed_is_the_same_run() -> None:
    options = Options(seconds=20.0, nodes=5)
    assert run_seed(3, options).digest == run_seed(3, options).digest
