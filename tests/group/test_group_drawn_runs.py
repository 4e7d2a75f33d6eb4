"""The runs that ``docs/groups.md`` draws are those that are played."""

from __future__ import annotations

import pytest

from tests.group.drawn_runs import PAGE, RUNS, in_page


@pytest.mark.parametrize("title", RUNS)
def test_a_drawn_run_is_a_run(title: str) -> None:
    """``python -m tests.group.drawn_runs --write`` puts them into the page."""
    assert in_page(title, PAGE.read_text()) == RUNS[title]()


def test_every_drawing_in_the_page_is_played() -> None:
    assert PAGE.read_text().count("```text run") == len(RUNS)
