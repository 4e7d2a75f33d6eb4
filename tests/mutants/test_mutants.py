"""Every planted fault is caught, by a schedule or by the first random walks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.__main__ import hunt, planted
from tests.mutants.groups import MUTANTS, Mutant

#: The walk that catches what takes longest is among these.
WALKS = 800


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_is_caught(mutant: Mutant) -> None:
    caught = hunt(mutant, WALKS)
    assert caught["found"], f"{mutant.name} is not caught: {mutant.what}"


def test_nothing_is_caught_where_nothing_is_wrong() -> None:
    """Or the others would say nothing."""
    harmless = Mutant(
        "harmless", "rank.py", "nothing", (("NODE_ID_BYTES_MAX = 48", "NODE_ID_BYTES_MAX = 49"),)
    )
    assert hunt(harmless, 50)["found"] == ""


def test_a_mutant_that_does_not_fit_is_told(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"rank\.py has 0 of"):
        planted(Mutant("old", "rank.py", "", (("never there", ""),)), tmp_path)


def test_names_are_used_once() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 38
