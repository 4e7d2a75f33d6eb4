"""The nodes of a ring as lines of text: for programs, and for people, whose terminals are so and so wide.

By a node's own word, which may be any: so each column is escaped, and bounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chordtx.escaping import escaped

COLUMNS = ("id", "address", "kind", "groups", "leads", "records", "bytes")
COLUMN_CHARACTERS_MAX = 300
_ID_CHARACTERS_MIN = 8
_CELL_CHARACTERS_MAX = 21  # as long as the longest IPv4 address with its port
_GAP = "  "
_CUT = "..."
_NUMBERS = frozenset({"groups", "leads", "records", "bytes"})

Node = Mapping[str, Any]


def line_of(node: Node) -> str:
    """A node in one line, ``-`` for what it did not say; with an error when it did not answer."""
    columns = [_said(node, name) for name in COLUMNS]
    if node.get("error"):
        columns.append(str(node["error"]))
    return _GAP.join(escaped(column, COLUMN_CHARACTERS_MAX) for column in columns)


def table(nodes: Sequence[Node], width: int) -> list[str]:
    """The same for people: with a head, aligned, no line longer than ``width`` characters if that can be.

    Ids are shortened to their beginnings, which are enough to name a node. An error stands in place of the
    numbers.
    """
    rows = [
        {name: escaped(_said(node, name), _CELL_CHARACTERS_MAX) for name in COLUMNS[1:]} for node in nodes
    ]
    widths = {name: max([len(name), *(len(row[name]) for row in rows)]) for name in COLUMNS[1:]}
    taken = sum(len(_GAP) + each for each in widths.values())
    widths = {"id": max(width - taken, _ID_CHARACTERS_MIN), **widths}
    ids = [escaped(_said(node, "id"), COLUMN_CHARACTERS_MAX) for node in nodes]
    widths["id"] = min(widths["id"], max([len("id"), *map(len, ids)]))
    lines = [_aligned({name: name for name in COLUMNS}, widths)]
    for node, id, row in zip(nodes, ids, rows, strict=True):
        if node.get("error"):
            names = ("id", "address", "kind")
            line = _aligned({"id": id, **row}, {name: widths[name] for name in names})
            line = f"{line}{_GAP}{escaped(str(node['error']), COLUMN_CHARACTERS_MAX)}"
            lines.append(line if len(line) <= width else line[: width - len(_CUT)] + _CUT)
        else:
            lines.append(_aligned({"id": id, **row}, widths))
    return lines


def _said(node: Node, name: str) -> str:
    return "-" if node.get(name) is None else str(node[name])


def _aligned(row: Mapping[str, str], widths: Mapping[str, int]) -> str:
    cells = (
        row[name].rjust(width) if name in _NUMBERS else row[name][:width].ljust(width)
        for name, width in widths.items()
    )
    return _GAP.join(cells).rstrip()
