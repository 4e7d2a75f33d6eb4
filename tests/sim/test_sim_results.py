"""A long search may be interrupted, and goes on where it was."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from chordtx.sim import __main__ as command
from chordtx.sim import results


def test_a_search_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "found.jsonl"
    arguments = ["--minutes", "0.1", "--nodes", "8", "--jobs", "2", "--results", str(path)]
    first = run(["--seeds", "0:2", *arguments])
    assert first.count("seed ") == 2
    with path.open("a") as file:
        file.write('\n{"seed": 2, "cut o')  # as when it was killed
    second = run(["--seeds", "0:3", *arguments])
    assert second.count("seed ") == 1
    assert "3 seeds, 0.0 virtual hours" in second
    assert "failed: none" in second
    found = results.read(path)
    assert [report.seed for report in found] == [0, 1, 2]
    assert all(report.nodes >= 8 and report.events > 0 for report in found)
    assert results.read(tmp_path / "nothing") == []


def run(arguments: list[str]) -> str:
    result = CliRunner().invoke(command.main, arguments)
    assert result.exit_code == 0, result.output
    return result.output
