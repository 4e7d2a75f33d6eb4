"""Each method counts from whom it concerns only, as docs/security.md says, and takes whatever it is given."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest

from chordtx.chord import ChordService
from chordtx.chord.ring_identity import Standing
from chordtx.config import ChordSettings
from chordtx.group.operations import SET
from chordtx.group.rank import NO_RANK
from chordtx.wire import flags
from tests.mesh.fuzz import ODD, Stranger, mutated, odd_value
from tests.sim.cluster import Cluster

SECURITY = Path(__file__).parents[2] / "docs" / "security.md"
NOT_JOINED, FAILED = 2, 6
SETTINGS = ChordSettings(partition_bits=3)
PLACE = bytes(48)
KEY_PLACE = [0, bytes(64)]
OPERATION = [b"c" * 16, 1, 0, NO_RANK, SET, b"key", [b"\x01", None]]
#: Arguments of calls, said right; a method that is not named here gets anything.
GOOD: dict[str, list[Any]] = {
    "find": [PLACE, 1, 1.0],
    "do": [0, *OPERATION],
    "pass_on": [PLACE, 0, *OPERATION],
    "place": [[[[PLACE, "10.7.7.7", 4000], False]], [0]],
    "leads": [[0]],
    "legacy_store": [KEY_PLACE, False, b"\x01", PLACE],
    "legacy_retrieve": [KEY_PLACE, PLACE],
    "legacy_hint": [b"key"],
    "legacy_refresh": [b"key"],
    "legacy_keys": [PLACE, [b"key"], [0]],
    "legacy_changed": [PLACE, [[b"key", False]]],
    "legacy_opinion": [b"key", KEY_PLACE],
    "legacy_settled": [b"key", KEY_PLACE, 1, True, None],
    "broadcasts": [b""],
    "rival": ["10.7.7.7:4000"],
}


def table() -> dict[str, list[str]]:
    """Who -> the methods, from the page."""
    text = SECURITY.read_text().partition("## Who may call what")[2]
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ") and "`" in line]
    return {who.strip(): methods.replace("`", "").replace(" ", "").split(",") for who, methods in rows}


FOR_MEMBERS = table()["a member"]
FOR_OPERATORS = table()["any node of ours on this machine: an operator"]
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
        if node._identity is not None:
            self.say(flags.STANDING, Standing(node._identity, False, False, False, 0).to_wire())
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
    members = nodes.several(3, subnet="chord", settings=SETTINGS)
    nodes.run(10)
    assert all(len(node._ring.successors) == 2 for node in members)
    return nodes, members


def looks(node: ChordService) -> Any:
    """What strangers must not change."""
    ring, hosting = node._ring, node._hosting
    assert hosting is not None
    groups = {number: group.configuration for number, group in hosting.groups.groups.items()}
    return ring.successors, ring.predecessor, groups, sorted(hosting.leads), hosting.groups.bytes_used


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
    for name in FOR_MEMBERS:
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
    for name in (*FOR_THE_ONE_CONCERNED, *FOR_MEMBERS):
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


def test_who_uses_the_dict_is_served() -> None:
    nodes, members = ring()
    caller = Caller(members[0], Random(3), ("10.7.7.7", 0), False)
    for name in ("do", "pass_on", "legacy_hint", "legacy_retrieve"):
        reply = caller.call(nodes, name, *GOOD[name])
        assert reply is not None
        assert reply[0] in (0, NOT_JOINED), (name, reply)  # another node hosts it, or is not there


def test_orders_come_from_this_machine_only() -> None:
    nodes, members = ring()
    caller = Caller(members[0], Random(3), ("10.7.7.7", 4000), True)
    nodes.run(1)
    before = looks(members[0])
    for name in FOR_OPERATORS:
        reply = caller.call(nodes, name)
        assert reply is not None
        assert reply[0] != 0
        assert looks(members[0]) == before


def test_no_argument_of_any_method_is_a_failure_of_ours() -> None:
    """A failure would be logged with its traceback, which fails the test, and be answered with status 6."""
    nodes = Cluster(ChordService)
    node = nodes.start(subnet="chord")
    nodes.run(3)
    rng = Random(4)
    caller = Caller(node, rng, ("10.7.7.7", 4000), True)
    number = 0
    for name in sorted(set(node._methods) - {"left", "farewell", "nudge", *FOR_OPERATORS}):
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
