"""Each method counts from whom it concerns only, as docs/security.md says, and takes whatever it is given."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest

from chordtx.chord import ChordService
from chordtx.wire import flags
from tests.mesh.fuzz import ODD, Stranger, mutated, odd_value
from tests.sim.cluster import Cluster

SECURITY = Path(__file__).parents[2] / "docs" / "security.md"
NOT_JOINED, FAILED = 2, 6
PLACE = bytes(48)
RECORD = [1 << 40, bytes(16), b"\x05", None, [[b"\xa1a", 1 << 41, bytes(16), b"\x06"]]]
#: Arguments of calls, said right; a method that is not named here gets anything.
GOOD: dict[str, list[Any]] = {
    "read": [b"key", b""],
    "version": [b"key", b""],
    "write": [b"key", RECORD, b""],
    "find": [PLACE, 1],
    "keys": [b"\xff" * 48, PLACE, 10],
    "fetch": [[b"key"]],
    "offer": [[[b"key", 5, bytes(16)]]],
    "take": [[[b"key", RECORD]]],
    "tree": [[PLACE], False, bytes(8)],
    "leaves": [[1, 2]],
    "old_store": [[0, bytes(64)], False, b"\x01", PLACE],
    "old_retrieve": [[0, bytes(64)], PLACE],
    "old_hint": [b"key"],
    "old_refresh": [b"key"],
    "old_opinion": [b"key", [0, bytes(64)]],
    "old_settled": [b"key", [0, bytes(64)], [1, b"w"]],
    "broadcasts": [b""],
    "ring_age": [1 << 52, 1 << 52],
}


def table() -> dict[str, list[str]]:
    """Who -> the methods, from the page."""
    text = SECURITY.read_text().partition("## Who may call what")[2]
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ") and "`" in line]
    return {who.strip(): methods.replace("`", "").replace(" ", "").split(",") for who, methods in rows}


FOR_MEMBERS = table()["a member"]
FOR_COMING_MEMBERS = table()[
    "a member, or who is about to become one: over the one link to its id, at an address"
]
FOR_THE_ONE_CONCERNED = table()["whom it concerns: over the one link to the id"]


class Caller(Stranger):
    """A stranger who says that it is a node of ours at some address.

    :param stores: whether it says that it stores.
    """

    address: list[Any]

    def __init__(self, node: ChordService, rng: Random, address: tuple[str, int], stores: bool) -> None:
        super().__init__(node, "ours", rng)
        text = self.dialect.text
        self.say(flags.HELLO, 1)
        self.say(flags.HANDSHAKE, text(self.id), text(node._protocol_id), list(address), [])
        self.say(flags.HANDSHAKE, "0" if stores else "1")
        self._number = 0

    def call(self, nodes: Cluster, name: str, *arguments: Any) -> list[Any] | None:
        """What it is answered, once it is."""
        self._number += 1
        self.say(flags.CALL, [[self._number, name, *arguments]])
        for _ in range(40):
            for message in self.heard():
                if message.payload[0] == flags.REPLY:
                    for reply in message.payload[2]:
                        if reply[0] == self._number:
                            return list(reply[1:])
            nodes.run(0.1)
        return None


def ring() -> tuple[Cluster, list[ChordService]]:
    """Three nodes that have found each other."""
    nodes = Cluster(ChordService)
    members = nodes.several(3, subnet="chord")
    nodes.run(5)
    assert all(len(node._ring.successors) == 2 for node in members)
    return nodes, members


def looks(node: ChordService) -> Any:
    """What strangers must not change."""
    ring, age = node._ring, node._age.keep()
    counts = age.doubt_ms, (age.age_ms or 0) > 1 << 50
    return ring.successors, ring.predecessor, node._repair.is_settled, len(node._replica.store), counts


def test_every_method_stands_in_the_table() -> None:
    _, members = ring()
    told = [name for methods in table().values() for name in methods if not name.startswith("sync_")]
    assert sorted(told) == sorted(members[0]._methods)


@pytest.mark.parametrize(
    ("address", "stores"),
    [
        (("10.7.7.7", 4000), False),
        (("10.7.7.7", 0), True),
        (("0.0.0.0", 4000), True),
        (("224.0.0.1", 4000), True),
    ],
)
def test_what_only_members_may_say_counts_from_nobody_else(address: tuple[str, int], stores: bool) -> None:
    nodes, members = ring()
    caller = Caller(members[0], Random(1), address, stores)
    nodes.run(1)
    before = looks(members[0])
    can_join = address[0].startswith("10.") and address[1]
    for name in (*FOR_MEMBERS, *([] if can_join else FOR_COMING_MEMBERS)):
        reply = caller.call(nodes, name, *GOOD.get(name, []))
        assert reply is not None, name
        assert reply[0] == NOT_JOINED, name
        assert looks(members[0]) == before, name


def test_nobody_says_anything_over_a_link_that_only_claims_an_id() -> None:
    nodes, members = ring()
    node, other = members[:2]
    thief = Caller.__new__(Caller)
    rng = Random(2)
    Stranger.__init__(thief, node, "ours", rng)
    thief._number = 0
    text = thief.dialect.text
    thief.say(flags.HELLO, 1)
    thief.say(flags.HANDSHAKE, text(other.id), text(node._protocol_id), ["10.0.0.2", 4000], [])
    before = looks(node)
    for name in (*FOR_THE_ONE_CONCERNED, *FOR_MEMBERS, *FOR_COMING_MEMBERS):
        if not thief.gone:
            assert thief.call(nodes, name, *GOOD.get(name, [])) is None
        assert looks(node) == before
    for number in range(20):
        nodes.result(members[number % 3].set(b"key", number))
        assert nodes.result(members[(number + 1) % 3].get(b"key")) == number
    assert not [message for message in thief.heard() if b"key" in message.body]
    nodes.run(10)
    assert thief.gone
    before = looks(node)
    nodes.run(10)
    assert looks(node) == before
    assert nodes.result(other.routing_table[node.id].call("ping", timeout_seconds=5.0)) == []


def test_member_is_heard() -> None:
    nodes, members = ring()
    caller = Caller(members[0], Random(3), ("10.7.7.7", 4000), True)
    for name in FOR_MEMBERS:
        reply = caller.call(nodes, name, *GOOD.get(name, []))
        assert reply is not None
        assert reply[:2] != [NOT_JOINED, "only a storing member of the ring may say this"]
    assert caller.call(nodes, "left") == [0]
    joining = Caller(members[0], Random(3), ("10.7.7.8", 4000), False)
    for name in FOR_COMING_MEMBERS:
        reply = joining.call(nodes, name, *GOOD.get(name, []))
        assert reply is not None
        assert reply[0] == 0


def test_no_argument_of_any_method_is_a_failure_of_ours() -> None:
    """A failure would be logged with its traceback, which fails the test, and be answered with status 6."""
    nodes = Cluster(ChordService)
    node = nodes.start(subnet="chord")
    nodes.run(3)
    rng = Random(4)
    caller = Caller(node, rng, ("10.7.7.7", 4000), True)
    number = 0
    for name in sorted(set(node._methods) - {"left", "farewell", "nudge"}):
        good = GOOD.get(name, [])
        tries = [[], *([odd] for odd in ODD)]
        for place in range(len(good)):
            tries += [[*good[:place], odd, *good[place + 1 :]] for odd in ODD]
        tries += [list(mutated((name, *good), rng)[1:]) for _ in range(50)]
        tries += [[rng.choice((each, rng.choice(ODD))) for each in good] for _ in range(100)]
        tries += [[odd_value(rng) for _ in range(rng.randrange(6))] for _ in range(50)]
        for arguments in tries:
            if caller.gone:
                caller = Caller(node, rng, ("10.7.7.7", 4000), True)
            number += 1
            caller.say(flags.CALL, [[number + 1_000_000, name, *arguments]])
        for _ in range(20):
            nodes.run(0.2)
            for message in caller.heard():
                if message.payload[0] == flags.REPLY:
                    bad = [reply for reply in message.payload[2] if reply[1] == FAILED]
                    assert not [reply for reply in bad if "the call failed" in str(reply[2])], (name, bad)
    assert number > 3000
