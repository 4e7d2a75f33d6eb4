"""What would be too large to be sent is refused before it is stored; what was acknowledged can be read.

On virtual time.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from twisted.internet.defer import DeferredList

from chordtx.chord import ChordService
from chordtx.config import ChordSettings
from chordtx.errors import ValueTooLarge
from chordtx.ring.partitions import partition_of
from tests.sim.cluster import Cluster

SETTINGS = ChordSettings(partition_bits=3, restart_grace_seconds=1.0)


class Ring(Cluster):
    """A ring on virtual time."""

    def __init__(self, count: int) -> None:
        super().__init__(lambda reactor, **options: ChordService(reactor, settings=SETTINGS, **options))
        self.members: list[ChordService] = []
        for _ in range(count):
            self.join()
        self.run(5.0)
        self.links = self.all_links()

    def join(self) -> ChordService:
        node = self.start(*self.members[:1])
        assert isinstance(node, ChordService)
        self.members.append(node)
        self.result(node.when_joined())
        return node

    def all_links(self) -> set[Any]:
        return {link for node in self.members for link in node.routing_table.values()}

    def copies(self, key: bytes) -> int:
        """How many nodes have the same record of it."""
        partition, found = partition_of(key, SETTINGS.partition_bits), Counter[Any]()
        for node in self.members:
            group = None if node._hosting is None else node._hosting.group(partition)
            if group is not None and group.replica.state is not None:
                found[group.replica.state.records.get(key)] += 1
        return max(found.values())

    def get(self, key: str) -> list[Any]:
        """What each finds."""
        return [self.result(node.get(key)) for node in self.members]

    def works(self) -> bool:
        """Whether no link was cut, and other keys can be used."""
        self.run(5.0)
        assert self.all_links() >= self.links
        for number, node in enumerate(self.members):
            self.result(node.set(f"other {number}", number))
        return self.get("other 0") == [0] * len(self.members)


def scalars(step: int) -> dict[str, Any]:
    return {f"{step} {number}": number for number in range(80_000)}


def lists(step: int) -> dict[str, Any]:
    return {f"{step} {number}": [number] for number in range(5_000)}


def few_with_many_lists(step: int) -> dict[str, Any]:
    return {f"{step} {number}": [[number]] * 1_000 for number in range(4)}


def many_elements(step: int) -> dict[str, Any]:
    return {f"{step}": list(range(300_000))}


def bytes_of(step: int) -> dict[str, Any]:
    return {f"{step}": b"x" * 1_500_000}


@pytest.mark.parametrize("delta", [scalars, lists, few_with_many_lists, many_elements, bytes_of])
def test_a_map_grows_until_it_is_refused(delta: Any) -> None:
    ring = Ring(3)
    expected: dict[str, Any] = {}
    for step in range(10):
        try:
            grown = ring.result(ring.members[step % 3].apply_delta("map", delta(step)))
        except ValueTooLarge:
            break
        expected |= delta(step)
        assert len(grown) == len(expected)
    assert 1 < step < 9
    assert ring.get("map") == [expected] * 3
    ring.join()  # and is given to a newcomer
    ring.run(10.0)
    assert ring.copies(b"map") == 4
    assert ring.works()
    ring.result(ring.members[0].set("map", {}))
    assert ring.result(ring.members[1].apply_delta("map", {"a": 1})) == {"a": 1}


def test_two_that_write_fields_at_once_both_do() -> None:
    ring = Ring(5)
    ring.result(ring.members[0].apply_delta("map", lists(0)))
    deltas = [{f"{writer} {number}": [number] for number in range(5_000)} for writer in "ab"]
    at_once = [node.apply_delta("map", delta) for node, delta in zip(ring.members, deltas, strict=False)]
    for succeeded, _ in ring.result(DeferredList(at_once, consumeErrors=True)):
        assert succeeded
    expected = lists(0) | deltas[0] | deltas[1]
    assert ring.get("map") == [expected] * 5
    assert ring.works()


def test_of_many_that_write_at_once_what_is_acknowledged_can_be_read() -> None:
    ring = Ring(3)
    deltas = [{f"{writer} {number}": number for number in range(9_000)} for writer in "abcd"]
    at_once = [ring.members[number % 3].apply_delta("map", delta) for number, delta in enumerate(deltas)]
    outcomes = ring.result(DeferredList(at_once, consumeErrors=True))
    for succeeded, outcome in outcomes:
        assert succeeded or outcome.check(ValueTooLarge), outcome
    for found in ring.get("map"):
        for delta, (succeeded, _) in zip(deltas, outcomes, strict=True):
            assert not succeeded or delta.items() <= found.items()
    ring.run(10.0)
    assert ring.works()
    ring.result(ring.members[0].set("map", {}))
    assert ring.get("map") == [{}] * 3


def test_a_field_that_would_be_nested_too_deep_is_refused() -> None:
    ring = Ring(3)
    value: Any = 1
    for _ in range(SETTINGS.mesh.limits.depth_max):
        value = [value]
    ring.result(ring.members[0].set("alone", value))
    with pytest.raises(TypeError, match="nested too deep"):
        ring.result(ring.members[0].apply_delta("map", {"a": value}))
    assert ring.get("map") == [None] * 3


def test_many_at_once_do_not_make_a_frame_that_nobody_takes() -> None:
    """Each is far from the limits; all together are not."""
    ring = Ring(5)
    delta = {f"{number}": [number] for number in range(900)}
    writes = [ring.members[number % 5].apply_delta(f"map {number}", delta) for number in range(60)]
    ring.result(DeferredList(writes, fireOnOneErrback=True, consumeErrors=True))
    found = ring.result(ring.members[0].get_many([f"map {number}" for number in range(60)]))
    assert list(found.values()) == [delta] * 60
    ring.join()
    ring.run(20.0)
    assert {ring.copies(b"map %d" % number) for number in range(60)} == {5}
    assert ring.members[-1].status["records"] > 0
    assert ring.works()


def test_long_keys_are_listed_compared_and_handed_over() -> None:
    ring = Ring(2)
    keys = {b"%04d" % number + b"k" * 60_000 for number in range(400)}
    for key in keys:
        ring.result(ring.members[0].set(key, 1))

    async def listed(node: ChordService) -> set[bytes]:
        return {key async for key in node.keys()}

    assert ring.result(listed(ring.members[1])) == keys
    ring.join()
    ring.run(30.0)
    assert {ring.copies(key) for key in keys} == {3}
    for node in ring.members[:2]:
        ring.result(node.stopService())
    ring.members = ring.members[2:]
    ring.run(10.0)
    assert ring.result(listed(ring.members[0])) == keys
