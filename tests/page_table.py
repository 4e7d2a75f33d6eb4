"""Writes what a search has found into its table in ``docs/reliability.md``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

_PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"


def write_rows(head: str, rows: Iterable[str]) -> None:
    """Put ``rows`` in the place of those under ``head``: the table's first two lines."""
    before, _, after = _PAGE.read_text().partition(head)
    _PAGE.write_text(before + head + "\n".join(rows) + after[after.index("\n\n") :])
