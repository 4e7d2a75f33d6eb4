"""Records that were away: kept when the whole ring was off, dropped when the ring went on without them.

On virtual time, with data folders.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, maybeDeferred

from chordtx.chord import ChordService
from chordtx.config import ChordSettings
from chordtx.mesh.threads import Threads
from tests.sim.cluster import Cluster
from tests.store.disks import opened

ABSENCE_SECONDS = 100.0
TOMBSTONE_SECONDS = 150.0
#: As the real ones, a thousand times shorter.
SETTINGS = ChordSettings(
    absence_seconds_max=ABSENCE_SECONDS,
    tombstone_seconds=TOMBSTONE_SECONDS,
    clock_drift_seconds_max=10.0,
    repair_interval_seconds=3.0,
    restart_grace_seconds=1.0,
)
LONG_SECONDS = 4 * TOMBSTONE_SECONDS
KEYS = [f"key {number}" for number in range(20)]


def address(host: str) -> str:
    """Where the node with a letter is."""
    return f"10.1.0.{ord(host)}"


class AtOnce(Threads):
    """Threads that do everything at once: virtual time waits for no real one."""

    def run(self, work: Callable[[], Any]) -> Deferred[Any]:
        """Do it now."""
        return maybeDeferred(work)


class Ring:
    """Nodes with data folders, on virtual time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.cluster = Cluster(self._made)
        self.hosts: list[str] = []

    def _made(self, reactor: Any, **options: Any) -> ChordService:
        return ChordService(reactor, settings=SETTINGS, **options)

    def start(self, host: str, *through: ChordService) -> ChordService:
        """A node that was there before, or a new one.

        :param host: a letter.
        """
        node = self.cluster.start(*through, host=address(host), data=str(self._folder / host))
        assert isinstance(node, ChordService)
        return node

    def joined(self, host: str, *through: ChordService) -> ChordService:
        """As :meth:`start`, once it is in the ring."""
        node = self.start(host, *through)
        self.result(node.when_joined())
        return node

    def stop(self, *nodes: ChordService) -> None:
        """Stop some, all at once."""
        for ending in [node.stopService() for node in nodes]:
            self.result(ending)
        for node in nodes:
            self.cluster.network.kill(node.reactor.host, is_silent=False)

    def kill(self, node: ChordService) -> None:
        """End one without a word; the system takes its lock from it."""
        self.cluster.kill(node)
        folder = node._keeping._folder
        assert folder is not None
        folder._unlock()

    def result(self, work: Any) -> Any:
        """What it comes to."""
        return self.cluster.result(work, patience_seconds=100.0)

    def has(self, node: ChordService) -> set[bytes]:
        """All that a node finds."""
        return set(self.result(node.copy()))


@pytest.fixture
def ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ring:
    """No node yet."""
    monkeypatch.setattr("chordtx.chord.keeping.Threads", AtOnce)
    return Ring(tmp_path)


def filled(ring: Ring, count: int) -> list[ChordService]:
    """A ring with records, of which ``key 0`` is deleted again."""
    nodes = [ring.joined("a")]
    nodes += [ring.joined(host, nodes[0]) for host in "bcdefgh"[: count - 1]]
    ring.cluster.run(5.0)
    for key in KEYS:
        ring.result(nodes[0].set(key, key))
    ring.result(nodes[1 % count].delete("key 0"))
    ring.cluster.run(5.0)
    return nodes


LEFT = {key.encode() for key in KEYS[1:]}


@pytest.mark.parametrize("count", [1, 3, 7])
def test_a_ring_that_was_off_has_all_of_its_records(ring: Ring, count: int) -> None:
    nodes = filled(ring, count)
    for _ in range(2):
        ring.stop(*nodes)
        ring.cluster.run(LONG_SECONDS)
        nodes = [ring.start(host) for host in "abcdefgh"[:count]]
        for node in nodes:
            ring.result(node.when_joined())
        ring.cluster.run(20.0)
        assert [ring.has(node) for node in nodes] == [LEFT] * count


def test_who_begins_long_before_the_others_keeps_theirs(ring: Ring) -> None:
    nodes = filled(ring, 3)
    ring.stop(*nodes)
    ring.cluster.run(LONG_SECONDS)
    first = ring.joined("a")  # alone, once the time is over
    ring.cluster.run(ABSENCE_SECONDS - 30)
    ring.result(first.set("alone", 1))
    others = [ring.joined(host, first) for host in "bc"]
    ring.cluster.run(20.0)
    assert [ring.has(node) for node in [first, *others]] == [LEFT | {b"alone"}] * 3


def test_a_new_node_that_begins_is_no_ring_that_went_on(ring: Ring) -> None:
    nodes = filled(ring, 3)
    ring.stop(*nodes)
    ring.cluster.run(LONG_SECONDS)
    new = ring.joined("n")
    ring.cluster.run(10.0)
    others = [ring.joined(host, new) for host in "abc"]
    ring.cluster.run(20.0)
    assert [ring.has(node) for node in [new, *others]] == [LEFT] * 4


def deleted_while_away(ring: Ring, nodes: list[ChordService], away: ChordService) -> None:
    """One is away for so long that what was deleted meanwhile is forgotten."""
    ring.stop(away)
    ring.cluster.run(10.0)
    here = next(node for node in nodes if node is not away)
    ring.result(here.delete("key 1"))
    ring.cluster.run(2 * TOMBSTONE_SECONDS)
    assert all(node._replica.store.get(b"key 1") is None for node in nodes if node is not away)


def test_who_comes_back_to_a_ring_that_went_on_is_empty(ring: Ring) -> None:
    nodes = filled(ring, 4)
    deleted_while_away(ring, nodes, nodes[3])
    back = ring.joined("d", nodes[0])
    ring.cluster.run(20.0)
    assert [ring.has(node) for node in [*nodes[:3], back]] == [LEFT - {b"key 1"}] * 4
    ring.stop(back)  # and it is in no doubt any more
    ring.cluster.run(ABSENCE_SECONDS / 2)
    ring.result(nodes[0].set("later", 1))
    back = ring.joined("d", nodes[0])
    assert back._age.keep().doubt_ms is None


def test_who_was_away_for_a_shorter_time_keeps_its_records(ring: Ring) -> None:
    nodes = filled(ring, 3)
    ring.stop(nodes[2])
    ring.cluster.run(ABSENCE_SECONDS * 0.7)
    ring.result(nodes[0].delete("key 1"))
    back = ring.start("c", nodes[0])
    ring.result(back.when_joined())
    ring.cluster.run(10.0)
    assert ring.has(back) == LEFT - {b"key 1"}
    assert len(back._replica.store) == len(KEYS)  # those that are deleted too


def test_it_comes_back_empty_when_that_ring_was_off_since(ring: Ring) -> None:
    nodes = filled(ring, 4)
    deleted_while_away(ring, nodes, nodes[3])
    ring.stop(*nodes[:3])
    ring.cluster.run(5.0)
    again = [ring.start(host) for host in "abc"]
    for node in again:
        ring.result(node.when_joined())
    back = ring.joined("d", again[0])
    ring.cluster.run(20.0)
    assert [ring.has(node) for node in [*again, back]] == [LEFT - {b"key 1"}] * 4


def test_it_drops_its_records_when_it_begins_and_the_others_come(ring: Ring) -> None:
    nodes = filled(ring, 4)
    deleted_while_away(ring, nodes, nodes[3])
    ring.stop(*nodes[:3])
    ring.cluster.run(5.0)
    back = ring.joined("d")
    ring.result(back.set("alone", 1))
    again = [ring.joined(host, back) for host in "abc"]
    ring.cluster.run(20.0)
    expected = LEFT - {b"key 1"} | {b"alone"}
    assert [ring.has(node) for node in [*again, back]] == [expected] * 4


@pytest.mark.parametrize("away", ["d", "de"])
def test_those_that_began_by_themselves_drop_their_records_when_they_meet_the_ring(
    ring: Ring, away: str
) -> None:
    nodes = filled(ring, 3 + len(away))
    ring.stop(*nodes[3:])
    ring.cluster.run(10.0)
    ring.result(nodes[0].delete("key 1"))
    ring.cluster.run(2 * TOMBSTONE_SECONDS)
    ring.cluster.split(nodes[:3], [Absent(address(host)) for host in away])
    back = [ring.start(host) for host in away]
    for node in back:
        ring.result(node.when_joined())
    assert b"key 1" in ring.has(back[0])
    ring.result(back[0].set("alone", 1))
    ring.cluster.heal()
    ring.cluster.run(60.0)
    everyone = [*nodes[:3], *back]
    assert {len(ring.result(node.ring())) for node in everyone} == {len(everyone)}
    assert [ring.has(node) for node in everyone] == [LEFT - {b"key 1"} | {b"alone"}] * len(everyone)


class Absent:
    """A node that is not started yet, for who splits a network."""

    def __init__(self, host: str) -> None:
        self.reactor = self
        self.host = host


def test_what_was_deleted_before_the_ring_was_off_stays_deleted(ring: Ring) -> None:
    nodes = filled(ring, 5)
    for node in nodes[3:]:
        ring.kill(node)
    ring.cluster.run(10.0)
    ring.result(nodes[0].delete("key 1"))
    ring.stop(*nodes[:3])
    ring.cluster.run(LONG_SECONDS)
    again = [ring.start(host) for host in "abc"]
    for node in again:
        ring.result(node.when_joined())
    ring.cluster.run(20.0)  # what is remembered for too long would be forgotten by now
    late = [ring.joined(host, again[0]) for host in "de"]
    ring.cluster.run(20.0)
    assert [ring.has(node) for node in [*again, *late]] == [LEFT - {b"key 1"}] * 5


def test_in_the_end_what_was_deleted_is_forgotten(ring: Ring) -> None:
    nodes = filled(ring, 3)
    ring.stop(*nodes)
    ring.cluster.run(LONG_SECONDS)
    nodes = [ring.start(host) for host in "abc"]
    for node in nodes:
        ring.result(node.when_joined())
    ring.cluster.run(20.0)
    assert {len(node._replica.store) for node in nodes} == {len(KEYS)}
    ring.cluster.run(2 * TOMBSTONE_SECONDS)
    assert {len(node._replica.store) for node in nodes} == {len(KEYS) - 1}


def test_who_left_and_joins_again_is_as_one_that_was_away(ring: Ring) -> None:
    nodes = filled(ring, 4)
    ring.result(nodes[3].unjoin())
    ring.result(nodes[0].delete("key 1"))
    ring.cluster.run(2 * TOMBSTONE_SECONDS)
    ring.result(nodes[3].join())
    ring.cluster.run(20.0)
    assert [ring.has(node) for node in nodes] == [LEFT - {b"key 1"}] * 4


def test_a_folder_of_an_earlier_version_counts_from_when_it_was_noted(ring: Ring, tmp_path: Path) -> None:
    nodes = filled(ring, 4)
    ring.stop(nodes[3])
    ring.cluster.run(2.0)
    folder = opened(tmp_path / "d", "chord")
    folder.store.keep("age_ms", b"")
    ring.result(Deferred.fromCoroutine(folder.close()))
    ring.result(nodes[0].delete("key 1"))
    ring.cluster.run(2 * TOMBSTONE_SECONDS)
    back = ring.joined("d", nodes[0])
    ring.cluster.run(20.0)
    assert [ring.has(node) for node in [*nodes[:3], back]] == [LEFT - {b"key 1"}] * 4


def test_an_earlier_version_in_the_ring_counts_as_one_that_went_on(ring: Ring) -> None:
    nodes = filled(ring, 4)
    deleted_while_away(ring, nodes, nodes[3])
    for node in nodes[:3]:
        del node._methods["ring_age"]
    back = ring.joined("d", nodes[0])
    ring.cluster.run(20.0)
    assert [ring.has(node) for node in [*nodes[:3], back]] == [LEFT - {b"key 1"}] * 4
