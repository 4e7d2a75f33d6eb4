"""The picture ``docs/ring.svg``: a ring, one partition's group, and the way of a set through it.

``python -m tests.drawn_ring`` prints it, ``--write`` puts it into the docs. Nothing in it is drawn by hand:
ids, owners, groups and leaders come from the functions that a node asks too, and the names in the boxes are
those of the functions themselves. So a function that gets another name breaks this module, or changes the
picture, and a test compares.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from html import escape
from math import cos, pi, sin
from pathlib import Path
from typing import Any, NamedTuple, cast

from twisted.internet.defer import Deferred

from chordtx import ChordSettings
from chordtx.chord.client import GroupClient, _Asking
from chordtx.chord.dictionary import RingDict
from chordtx.chord.hosting import Hosting
from chordtx.chord.leaders import Leaders
from chordtx.chord.ring_identity import RingIdentity
from chordtx.chord.routing import Routing
from chordtx.chord.rpc import Rpc
from chordtx.chord.serving import Serving
from chordtx.group.configuration import by_preference
from chordtx.group.groups import Groups
from chordtx.group.leader import Leader
from chordtx.group.messages import Accept, Accepted
from chordtx.group.replica import Replica
from chordtx.mesh.calls import Calls
from chordtx.mesh.connection import MeshConnection
from chordtx.mesh.light import LightSender
from chordtx.mesh.receive_buffer import ReceiveBuffer
from chordtx.ring import SIZE, Contact
from chordtx.ring.arcs import ArcTable
from chordtx.ring.partitions import lowest_position, owned_partitions, partition_of
from chordtx.wire.identity import decode_id, node_id, protocol_id

PICTURE = Path(__file__).parents[1] / "docs" / "ring.svg"

Function = Callable[..., Any]


class Part(NamedTuple):
    """What one node does, without a message in between; ``sends`` is the message at its end."""

    lane: int
    functions: tuple[Function, ...]
    sends: str


CALLER, LEADER, MEMBER = range(3)
WAY = (
    Part(
        CALLER,
        (
            RingDict.set,
            RingDict._ask,
            GroupClient.do,
            _Asking._send_to,
            Rpc.ask,
            Calls.ask,
            LightSender.send_calls,
        ),
        f"the call {Serving.do.__name__}(partition, operation)",
    ),
    Part(
        LEADER,
        (
            MeshConnection.dataReceived,
            ReceiveBuffer.work,
            Calls.serve_one,
            Serving.do,
            Hosting.do,
            Groups.do,
            Leader._change,
            Leader.flush,
            Hosting._end_turn,
        ),
        f"{Accept.__name__}, to each other member",
    ),
    Part(
        MEMBER,
        (Serving.groups_received, Replica.accept, Hosting._end_turn),
        f"{Accepted.__name__}, once it is on disk",
    ),
    Part(
        LEADER,
        (Leader.accepted, Leader._answer_committed, LightSender.send_replies),
        "the reply, once a majority has it",
    ),
    Part(CALLER, (Calls.replies_received, _Asking.answered), ""),
)

#: Fewer partitions than a ring has by default, so that each can be seen.
PARTITION_BITS = 4
NODES = 8
SUBNET = "demo"
KEY = b"greeting"
#: One that spreads the nodes so that none covers another in the picture.
SALT = b"salt 169"


class Ring(NamedTuple):
    """A ring, and where a key is kept in it.

    :ivar nodes: in the order of the walk, the owner first. :ivar row: who ought to be the partition's group.
    """

    nodes: tuple[Contact, ...]
    partition: int
    row: tuple[Contact, ...]
    leader: Contact

    def letter(self, node: Contact) -> str:
        """What a node is called in the picture."""
        return "ABCDEFGH"[self.nodes.index(node)]

    def owned(self, node: Contact) -> list[int]:
        """The partitions that a node owns."""
        before = self.nodes[self.nodes.index(node) - 1]
        return list(owned_partitions(node, before, PARTITION_BITS))


def ring() -> Ring:
    """The ring of the picture."""
    network = protocol_id(SUBNET, "Plaintext")
    hosts = [f"192.0.2.{number}" for number in range(1, NODES + 1)]
    ids = {host: decode_id(node_id(host, 44565, network, SALT), bits_max=384) for host in hosts}
    walk = sorted((Contact(id, host, 44565) for host, id in ids.items()), key=lambda node: -node.id)
    arcs = ArcTable(NODES)
    arcs.learn_chain([*walk, walk[0]])
    identity = RingIdentity(bytes(16), PARTITION_BITS, ChordSettings().replicas)
    leaders = Leaders(cast(Routing, Known(arcs)), lambda: identity, arcs.contact, NODES)
    partition = partition_of(KEY, PARTITION_BITS)
    row = result(Deferred.fromCoroutine(leaders.row(partition)))
    leader = result(Deferred.fromCoroutine(leaders.find(partition, ())))
    first = walk.index(row[0])
    return Ring((*walk[first:], *walk[:first]), partition, row, leader)


class Known(NamedTuple):
    """What :class:`Leaders` asks of a :class:`Routing` that knows the whole ring."""

    arcs: ArcTable


def result(fired: Deferred[Any]) -> Any:
    """What a Deferred has fired with: it waits for nothing here."""
    found: list[Any] = []
    fired.addCallback(found.append)
    return found[0]


# Drawing

WIDTH = 1000
_TOP = 40
_CENTER_X, _CENTER_Y, _RADIUS, _BAND = 235, 275, 150, 30
_NODE_RADIUS = 16
_LANES_Y = 560
_LANE_X = (170, 500, 830)
_BOX_WIDTH, _BOX_HEIGHT, _STEP, _ARROW_ROOM = 250, 24, 30, 34
_BACKGROUND, _INK, _FAINT, _LINE = "#ffffff", "#1f2933", "#52606d", "#9aa5b1"
_PLAIN, _MEMBER, _LEADER, _CALLER = "#e4e7eb", "#bcdcf7", "#2b6cb0", "#f6ad55"
_OWNED = ("#f1f5f9", "#dde5ee")
_FOLDERS = {"chord": "#fdebd0", "mesh": "#e3f4e1", "group": "#d9eaf9"}
_STYLE = """
text { font-family: Helvetica, Arial, 'DejaVu Sans', sans-serif; font-size: 14px; fill: #1f2933 }
.code { font-family: Menlo, Consolas, 'DejaVu Sans Mono', monospace; font-size: 13px }
.small { font-size: 12px; fill: #52606d }
.title { font-size: 17px; font-weight: bold }
.bold { font-weight: bold }
"""


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start", fill: str = "") -> str:
    """A line of text."""
    color = f' style="fill: {fill}"' if fill else ""
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{named} text-anchor="{anchor}"{color}>{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, width: float, color: str, more: str = "") -> str:
    """A straight line."""
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{color}" stroke-width="{width}"{more}/>'


def point(position: float, radius: float) -> tuple[float, float]:
    """Where a position of the ring is: 0 at the top, greater ones clockwise."""
    angle = 2 * pi * position / SIZE
    return _CENTER_X + radius * sin(angle), _CENTER_Y - radius * cos(angle)


def sector(first: int, end: int, color: str) -> str:
    """The part of the band between two positions."""
    inner = _RADIUS - _BAND
    (x1, y1), (x2, y2) = point(first, _RADIUS), point(end, _RADIUS)
    (x3, y3), (x4, y4) = point(end, inner), point(first, inner)
    outside = f"M{x1:.1f} {y1:.1f} A{_RADIUS} {_RADIUS} 0 0 1 {x2:.1f} {y2:.1f}"
    inside = f"L{x3:.1f} {y3:.1f} A{inner} {inner} 0 0 0 {x4:.1f} {y4:.1f} Z"
    return f'<path d="{outside} {inside}" fill="{color}" stroke="{_LINE}" stroke-width="1"/>'


def partitions_drawn(drawn: Ring) -> Iterator[str]:
    """The band of partitions, shaded by their owners."""
    for number, node in enumerate(drawn.nodes):
        for partition in drawn.owned(node):
            is_it = partition == drawn.partition
            first, end = (lowest_position(each, PARTITION_BITS) for each in (partition, partition + 1))
            yield sector(first, end, _LEADER if is_it else _OWNED[number % 2])
            x, y = point((first + end) // 2, _RADIUS - _BAND / 2)
            yield text(x, y + 4, str(partition), "small", "middle", _BACKGROUND if is_it else "")


def nodes_drawn(drawn: Ring, caller: Contact) -> Iterator[str]:
    """The nodes, and lines from the partition to its group."""
    middle = lowest_position(2 * drawn.partition + 1, PARTITION_BITS + 1)
    x, y = point(middle, _RADIUS - _BAND)
    for node in drawn.row:
        to_x, to_y = point(node.id, _RADIUS - _BAND)
        yield line(x, y, to_x, to_y, 3 if node == drawn.leader else 1.5, _LEADER)
    for node in drawn.nodes:
        color = _MEMBER if node in drawn.row else _PLAIN
        color = {drawn.leader: _LEADER, caller: _CALLER}.get(node, color)
        x, y = point(node.id, _RADIUS + _NODE_RADIUS)
        yield (
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{_NODE_RADIUS}" fill="{color}" stroke="{_INK}" '
            'stroke-width="1.5"/>'
        )
        ink = _BACKGROUND if node == drawn.leader else ""
        yield text(x, y + 5, drawn.letter(node), "bold", "middle", ink)


def walk_drawn() -> Iterator[str]:
    """Which way the ring is walked."""
    radius = _RADIUS + 2 * _NODE_RADIUS + 16
    (x1, y1), (x2, y2) = point(SIZE * 0.07, radius), point(-SIZE * 0.07, radius)
    yield (
        f'<path d="M{x1:.1f} {y1:.1f} A{radius} {radius} 0 0 0 {x2:.1f} {y2:.1f}" fill="none" '
        f'stroke="{_FAINT}" stroke-width="2" marker-end="url(#end)"/>'
    )
    yield text(_CENTER_X, _CENTER_Y - radius - 10, "the walk goes to smaller ids", "small", "middle")
    below = _CENTER_Y + radius + 14
    yield text(_CENTER_X, below, "Partitions side by side in one shade have one owner.", "small", "middle")


def legend(drawn: Ring, caller: Contact) -> Iterator[str]:
    """What is to be seen, in words."""
    letter = drawn.letter
    group = ", ".join(letter(node) for node in drawn.row[:-1]) + f" and {letter(drawn.row[-1])}"
    by_default = f"{2 ** ChordSettings().partition_bits:,}"
    said = (
        (f"A ring of {NODES} nodes and {1 << PARTITION_BITS} partitions", "title", ""),
        (f"partition_bits is {PARTITION_BITS} here; by default a ring has {by_default}.", "small", ""),
        (f"1. The key {KEY.decode()!r} is in partition {drawn.partition}.", "", partition_of.__qualname__),
        (
            f"2. {letter(drawn.row[0])} owns its lowest position.",
            "",
            f"{ArcTable.owner.__qualname__}, {owned_partitions.__qualname__}",
        ),
        (f"3. {group}, neighbours on the walk, are its group.", "", Leaders.row.__qualname__),
        (f"4. Of these, {letter(drawn.leader)} is preferred as the leader.", "", by_preference.__qualname__),
        (
            f"5. A program sets the key at {letter(caller)}, and {letter(caller)} asks the leader.",
            "",
            GroupClient.do.__qualname__,
        ),
    )
    y = float(_TOP + 40)
    for words, kind, function in said:
        yield text(500, y, words, kind)
        y += 26
        if function:
            yield text(518, y - 5, function, "code")
            y += 25
    y += 6
    shown = ((_LEADER, "leader"), (_MEMBER, "member"), (_CALLER, "caller"), (_PLAIN, "other node"))
    for number, (color, word) in enumerate(shown):
        x = 508 + 110 * number
        yield f'<circle cx="{x}" cy="{y}" r="8" fill="{color}" stroke="{_INK}" stroke-width="1.5"/>'
        yield text(x + 14, y + 5, word)


def lanes(drawn: Ring, caller: Contact) -> tuple[list[str], float]:
    """The way of the set. :returns: it, and where it ends."""
    others = ", ".join(drawn.letter(node) for node in drawn.row if node != drawn.leader)
    heads = (
        f"The caller's node: {drawn.letter(caller)}",
        f"The leader: {drawn.letter(drawn.leader)}",
        f"Each other member: {others}",
    )
    boxes: list[str] = []
    y = _LANES_Y + 34.0
    for part in WAY:
        x = _LANE_X[part.lane]
        for function in part.functions:
            boxes += box(x, y, function)
            y += _STEP
        if part.sends:
            y += _ARROW_ROOM / 2
            boxes += arrow(part, WAY[WAY.index(part) + 1].lane, y)
            y += _ARROW_ROOM / 2 + 4
    below = [text(x, _LANES_Y + 8, head, "bold", "middle") for x, head in zip(_LANE_X, heads, strict=True)]
    dashed = ' stroke-dasharray="3 5"'
    below += [line(x, _LANES_Y + 18, x, y, 1, _LINE, dashed) for x in _LANE_X]
    return below + boxes, y


def box(x: float, y: float, function: Function) -> list[str]:
    """A function, in the color of its folder."""
    folder = function.__module__.split(".")[1]
    shape = (
        f'<rect x="{x - _BOX_WIDTH / 2:.1f}" y="{y:.1f}" width="{_BOX_WIDTH}" height="{_BOX_HEIGHT}" rx="4" '
        f'fill="{_FOLDERS[folder]}" stroke="{_LINE}"/>'
    )
    return [shape, text(x, y + 16.5, function.__qualname__, "code", "middle")]


def arrow(part: Part, to: int, y: float) -> list[str]:
    """A message from one lane to another."""
    x1, x2 = _LANE_X[part.lane], _LANE_X[to]
    there = x2 - 6 if x2 > x1 else x2 + 6
    shaft = line(x1, y, there, y, 2, _INK, ' marker-end="url(#end)"')
    return [shaft, text((x1 + x2) / 2, y - 6, part.sends, "small", "middle")]


def folders(y: float) -> Iterator[str]:
    """Which color is which folder."""
    yield text(45, y + 13, "Folders:", "small")
    for number, (folder, color) in enumerate(_FOLDERS.items()):
        x = 110 + 150 * number
        yield f'<rect x="{x}" y="{y:.1f}" width="18" height="16" rx="3" fill="{color}" stroke="{_LINE}"/>'
        yield text(x + 26, y + 13, f"chordtx/{folder}/", "code")


def picture() -> str:
    """The whole of it."""
    drawn = ring()
    caller = drawn.nodes[-2]
    assert caller not in drawn.row, "the caller is no member, so that its set goes over a link"
    way, y = lanes(drawn, caller)
    y += 14
    height = round(y + 40)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img">',
        "<title>A ring, the group of one partition, and the way of a set</title>",
        f"<style>{_STYLE}</style>",
        '<defs><marker id="end" viewBox="0 0 10 10" refX="8" refY="5" markerWidth="8" markerHeight="8" '
        f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0 L10 5 L0 10 Z" fill="{_INK}"/></marker>'
        "</defs>",
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="10" fill="{_BACKGROUND}" '
        f'stroke="{_LINE}"/>',
        *walk_drawn(),
        *partitions_drawn(drawn),
        *nodes_drawn(drawn, caller),
        *legend(drawn, caller),
        text(45, _LANES_Y - 30, "The way of a set, from top to bottom", "title"),
        *way,
        *folders(y),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def main(arguments: list[str]) -> None:
    """Print the picture, or write it into the docs."""
    if "--write" in arguments:
        PICTURE.write_text(picture())
    else:
        sys.stdout.write(picture())


if __name__ == "__main__":
    main(sys.argv[1:])
