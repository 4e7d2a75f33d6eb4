"""What ``chordtx ring`` and ``health --without`` make of the nodes of a ring."""

from __future__ import annotations

from typing import Any

import pytest

from chordtx.cli.operate import named
from chordtx.cli.ring_table import COLUMNS, line_of, table
from chordtx.cli.running import EXIT_USAGE, Failed

NODES: list[dict[str, Any]] = [
    {
        "id": letter * 66,
        "address": "192.168.100.100:44565",
        "kind": "chordtx",
        "groups": 1024,
        "leads": 205,
        "records": 33_960,
        "bytes": 18_123_456,
    }
    for letter in "abc"
]
GONE = {"id": "d" * 66, "address": "[2001:db8:0:0:0:0:0:1]:44565", "error": "did not answer " * 20}


def test_a_table_fits_a_terminal() -> None:
    head, *rows = table([*NODES, GONE], 80)
    assert head.split() == list(COLUMNS)
    assert [len(line) <= 80 for line in [head, *rows]] == [True] * 5
    assert rows[0].split()[1:] == ["192.168.100.100:44565", "chordtx", "1024", "205", "33960", "18123456"]
    assert [row[:8] for row in rows] == [letter * 8 for letter in "abcd"]
    assert "did not answer" in rows[3]
    assert rows[3].endswith("...")
    for name in COLUMNS[3:]:  # numbers stand below the end of their name
        end = head.index(f" {name}") + 1 + len(name)
        assert {row[end - 1].isdigit() for row in rows[:3]} == {True}


def test_a_wide_terminal_shows_whole_ids() -> None:
    _, row = table(NODES[:1], 200)
    assert row.split()[0] == NODES[0]["id"]


def test_a_narrow_terminal_still_names_nodes() -> None:
    assert table(NODES[:1], 20)[1].startswith("a" * 8 + " ")


def test_what_nodes_say_of_themselves_commands_no_terminal() -> None:
    wild = {"id": "\x1b[2Jx", "address": "\r\n", "kind": "\u202e", "error": "\x07"}
    for line in [*table([wild], 80), line_of(wild)]:
        assert line.isprintable()


def test_a_line_for_programs_is_whole() -> None:
    assert line_of(NODES[0]).split("  ")[0] == NODES[0]["id"]
    assert line_of({"id": "x", "error": "gone"}) == "x  -  -  -  -  -  -  gone"


def test_a_node_is_named_by_the_beginning_of_its_id_or_by_its_address() -> None:
    nodes = [
        {"id": "abc1", "address": "a:1"},
        {"id": "abd2", "address": "b:1"},
        {"id": "xyz", "address": None},
    ]
    for name, id in {"abc": "abc1", "abd2": "abd2", "b:1": "abd2", "x": "xyz"}.items():
        assert named(nodes, name) == id
    for wrong, text in {"ab": "2 nodes", "q": "no node", "abc12": "no node", "": "3 nodes"}.items():
        with pytest.raises(Failed, match=text) as caught:
            named(nodes, wrong)
        assert caught.value.status == EXIT_USAGE
