"""What a group costs by itself: a leader, four more members, no network, all in one process.

One set goes through the leader, its four replicas, and back; one get is answered by the leader under its
lease. Values have 20 bytes, node ids 48, and the partition 1,000 records. ``python bench/group.py`` prints
microseconds of processor time for each operation, the best of several runs; ``--profile set`` or ``get`` says
where it goes.

The disk is a real database for each node, but nothing waits for it: fsync is left out.
"""

from __future__ import annotations

import argparse
import cProfile
import random
import sqlite3
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from chordtx.config import GroupSettings, Limits
from chordtx.group import operations
from chordtx.group.configuration import Member
from chordtx.group.frames import from_wire, to_wire
from chordtx.group.groups import Groups
from chordtx.group.messages import Message, Operation
from chordtx.group.rank import NO_RANK, Rank
from chordtx.store.database import Database

MEMBERS = 5
RECORDS = 1_000
OPERATIONS = 6_400
RUNS = 5
VALUE = b"\xc4\x14" + b"v" * 20
CLIENT = b"c" * 16


class Node:
    """A node's groups, and its database when it has one."""

    def __init__(self, id: bytes, folder: Path | None) -> None:
        self.groups = Groups(Member(id, folder is not None), GroupSettings(), random.Random(1))
        self.database = None if folder is None else Database(folder / f"{id[0]}.sqlite")
        if self.database is not None:
            connection: sqlite3.Connection = self.database._writer
            connection.execute("PRAGMA synchronous = OFF")


class Ring:
    """Five nodes, one partition, and the first of them leads.

    :param folder: for databases; None for none. :param has_frames: whether messages are packed and unpacked.
    """

    def __init__(self, folder: Path | None, *, has_frames: bool) -> None:
        ids = [bytes([number]) * 48 for number in range(1, MEMBERS + 1)]
        self.nodes = {id: Node(id, folder) for id in ids}
        self.first = ids[0]
        self.has_frames = has_frames
        self.time = 100.0
        self.stamp: Rank = NO_RANK
        self.number = 0
        self.answers = 0
        self._under_way: deque[tuple[bytes, bytes, list[tuple[int, Message]]]] = deque()
        self.on(self.first, lambda groups: groups.create([0]))
        members = [node.groups.me for node in self.nodes.values()]
        self.on(self.first, lambda groups: groups.groups[0].change_members(members))
        self.sets(2 * RECORDS, 1)

    def on(self, id: bytes, what: Callable[[Groups], None]) -> None:
        """One turn of a node, and all turns that follow from it."""
        nodes, under_way, now = self.nodes, self._under_way, self.time
        wall_ms = int(now * 1000) + 10**12
        node = nodes[id]
        node.groups.begin(now, wall_ms)
        what(node.groups)
        self._end(id, node)
        while under_way:
            by, to, entries = under_way.popleft()
            if self.has_frames and by != to:
                entries = from_wire(to_wire(entries), _LIMITS, 1 << 20)
            node = nodes[to]
            node.groups.begin(now, wall_ms)
            node.groups.received(by, entries)
            self._end(to, node)

    def _end(self, id: bytes, node: Node) -> None:
        saves, at_once, lazily, when_synced, answers, _ = node.groups.end()
        if saves and node.database is not None:
            node.database.commit(saves, {})
        for to, entries in at_once.items():
            self._under_way.append((id, to, entries))
        for to, entries in lazily.items():
            self._under_way.append((id, to, entries))
        for to, entries in when_synced.items():
            self._under_way.append((id, to, entries))
        if answers:
            self.answers += len(answers)
            self.stamp = answers[-1][2].stamp

    def sets(self, count: int, batch: int) -> None:
        """So many sets, so many in one turn."""
        for _ in range(count // batch):
            self.on(self.first, lambda groups: self._do(groups, batch, operations.SET, (VALUE, None)))
            self.time += 0.0001

    def gets(self, count: int, batch: int) -> None:
        """So many gets."""
        for _ in range(count // batch):
            self.on(self.first, lambda groups: self._do(groups, batch, operations.GET, ()))

    def _do(self, groups: Groups, count: int, kind: int, arguments: tuple[object, ...]) -> None:
        for _ in range(count):
            self.number += 1
            key = b"key %d" % (self.number % RECORDS)
            operation = Operation(CLIENT, self.number, self.number - 1, self.stamp, kind, key, arguments)
            groups.do(None, 0, operation)


_LIMITS = Limits()


def microseconds(what: Callable[[int, int], None], batch: int) -> float:
    """For each operation, the best of some runs."""
    best = float("inf")
    for _ in range(RUNS):
        began = time.process_time()
        what(OPERATIONS, batch)
        best = min(best, time.process_time() - began)
    return best / OPERATIONS * 1e6


def main() -> None:
    """Print a table, or a profile."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", choices=["set", "get"])
    options = parser.parse_args()
    ring = Ring(None, has_frames=False)
    if options.profile:
        cProfile.runctx(f"ring.{options.profile}s(20_000, 1)", {"ring": ring}, {}, sort="tottime")
        return
    with tempfile.TemporaryDirectory() as name:
        framed, stored = Ring(None, has_frames=True), Ring(Path(name), has_frames=False)
        print("us of processor time for each operation    one at a time    32 in a turn")
        for what, one in (
            ("get", ring.gets),
            ("set", ring.sets),
            ("set, messages packed and unpacked", framed.sets),
            ("set, on disk", stored.sets),
        ):
            print(f"{what:40}{microseconds(one, 1):16.1f}{microseconds(one, 32):16.1f}")


if __name__ == "__main__":
    main()
