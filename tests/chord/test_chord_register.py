"""Each key is a register: what its readers see could have happened one after another, in real time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
import pytest_twisted
from attrs import frozen

from chordtx.chord import ChordService
from tests.chord.nodes import QUICK, Nodes, everything

KEYS = (b"one", b"two", b"three")


@frozen
class Call:
    """A read or a write of one key, from its start to its end; the times are turns of one counter."""

    key: bytes
    value: int
    started: int
    ended: int
    is_write: bool


class History:
    """What several clients do with a few keys, and whether a register could have answered so."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._turns = count()
        self._values = count(1)

    async def write(self, node: ChordService, key: bytes) -> None:
        """Write a value that was never written before."""
        value, started = next(self._values), next(self._turns)
        await node.set(key, value)
        self.calls.append(Call(key, value, started, next(self._turns), True))

    async def read(self, node: ChordService, key: bytes) -> None:
        """Read; 0 stands for no value."""
        started = next(self._turns)
        value = await node.get(key, 0)
        self.calls.append(Call(key, value, started, next(self._turns), False))

    def faults(self) -> Iterator[str]:
        """What no register would do.

        Every value is written once, so the calls about one value form a cluster: its write, and its reads. A
        history is linearizable exactly when no cluster must come both before and after another, and no
        read ends before its write began (Gibbons and Korach, "Testing shared memories", SIAM Journal on
        Computing 1997).
        """
        for key in {call.key for call in self.calls}:
            clusters: dict[int, list[Call]] = {0: [Call(key, 0, -1, -1, True)]}
            for call in self.calls:
                if call.key == key:
                    clusters.setdefault(call.value, []).append(call)
            yield from _faults_of({value: _Zone.of(calls) for value, calls in clusters.items()})


@frozen
class _Zone:
    """From the first end to the last start of the calls about one value.

    Where it is forward (first end before last start), the register held the value all this time.
    """

    value: int
    first_end: int
    last_start: int
    is_written_first: bool

    @classmethod
    def of(cls, calls: list[Call]) -> _Zone:
        writes = [call for call in calls if call.is_write]
        first_end = min(call.ended for call in calls)
        is_written_first = len(writes) == 1 and all(
            call.ended > writes[0].started for call in calls if call != writes[0]
        )
        return cls(calls[0].value, first_end, max(call.started for call in calls), is_written_first)

    @property
    def is_forward(self) -> bool:
        return self.first_end < self.last_start


def _faults_of(zones: dict[int, _Zone]) -> Iterator[str]:
    for zone in zones.values():
        if not zone.is_written_first:
            yield f"{zone.value} was read before it was written"
        if zone.is_forward:
            for other in zones.values():
                if (
                    other is not zone
                    and zone.first_end < other.last_start
                    and other.first_end < zone.last_start
                ):
                    yield f"{other.value} was there while {zone.value} was"


def call(value: int, started: int, ended: int, is_write: bool = False) -> Call:
    return Call(b"key", value, started, ended, is_write)


@pytest.mark.parametrize(
    ("calls", "is_right"),
    [
        ([call(1, 0, 1, True), call(1, 2, 3)], True),
        ([call(0, 0, 1), call(1, 2, 3, True), call(1, 4, 5)], True),
        ([call(1, 0, 5, True), call(1, 1, 2), call(0, 3, 4)], False),  # back again
        ([call(1, 0, 1, True), call(0, 2, 3)], False),  # acknowledged and not seen
        ([call(1, 0, 5, True), call(0, 1, 2), call(1, 3, 4)], True),
        ([call(1, 0, 1, True), call(2, 2, 3, True), call(1, 4, 5)], False),
        ([call(1, 0, 4, True), call(2, 1, 5, True), call(2, 6, 7), call(1, 8, 9)], False),
        ([call(1, 0, 4, True), call(2, 1, 5, True), call(1, 6, 7)], True),
        ([call(7, 0, 1)], False),
        ([call(7, 0, 1), call(7, 2, 3, True)], False),
    ],
)
def test_the_check_finds_faults(calls: list[Call], is_right: bool) -> None:
    history = History()
    history.calls = calls
    assert (not list(history.faults())) == is_right


async def play(nodes: Nodes, history: History, clients: list[ChordService], rounds: int) -> None:
    """Every client reads and writes, one call after another, all clients at once."""

    async def play_one(node: ChordService) -> None:
        for _ in range(rounds):
            act = history.write if nodes.rng.random() < 0.4 else history.read
            await act(node, nodes.rng.choice(KEYS))

    await everything([client._run(play_one(client)) for client in clients])


@pytest.mark.parametrize("nodes", [1, 2, 3], indirect=True)
@pytest_twisted.ensureDeferred
async def test_reads_and_writes_are_linearizable(nodes: Nodes) -> None:
    members = await nodes.ring(7, QUICK)
    leeches = [await nodes.leech(nodes.rng.choice(members), settings=QUICK) for _ in range(3)]
    history = History()
    await play(nodes, history, [*members, *leeches] * 2, 20)
    assert list(history.faults()) == []


@pytest.mark.parametrize("nodes", [1, 2, 3], indirect=True)
@pytest_twisted.ensureDeferred
async def test_reads_and_writes_are_linearizable_while_nodes_come_and_go(nodes: Nodes) -> None:
    members = await nodes.ring(6, QUICK)
    clients = [await nodes.leech(members[0], settings=QUICK) for _ in range(4)]
    history = History()
    playing = clients[0]._run(play(nodes, history, clients * 3, 100))

    async def change() -> None:
        await nodes.join(members[0], settings=QUICK)
        nodes.crash(members[1])
        await nodes.join(members[0], settings=QUICK)
        await nodes.settled()
        await nodes.leave(members[1])
        await nodes.join(members[0], settings=QUICK)

    await change()
    await playing
    assert list(history.faults()) == []


@pytest_twisted.ensureDeferred
async def test_deltas_of_different_fields_all_win(nodes: Nodes) -> None:
    members = await nodes.ring(5, QUICK)
    await members[0].set("map", {"there": "before"})
    await everything([members[number % 5].apply_delta("map", {number: number}) for number in range(40)])
    expected: dict[Any, Any] = {"there": "before", **{number: number for number in range(40)}}
    for node in members:
        assert await node["map"] == expected


@pytest_twisted.ensureDeferred
async def test_writers_at_once_leave_one_value_for_all(nodes: Nodes) -> None:
    members = await nodes.ring(5, QUICK)
    await everything([members[number % 5].set("key", number) for number in range(40)])
    assert len({await node["key"] for node in members}) == 1
    await nodes.until(lambda: len(set(map(repr, nodes.copies(b"key").values()))) == 1, "all copies the same")
