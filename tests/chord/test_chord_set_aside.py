"""What members had in a history that has not gone on: it is set aside, told of, and read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from twisted.logger import capturedLogs

from chordtx.chord.set_aside import Kept, histories_from_wire, page_from_wire
from chordtx.errors import ChordError, NoMajority, ProtocolError
from chordtx.group import operations
from tests.chord.nodes import QUICK, Nodes, address, everything

LOST = [b"lost %d" % number for number in range(20)]
ALONE = evolve(QUICK, join_timeout_seconds=1.0)


async def set_aside(nodes: Nodes, folders: list[str]) -> list[Any]:
    """A ring of three. Two of them have records that the third lacked when it went on alone, by an order."""
    first: Any = nodes.start(data=folders[0])
    await first.when_joined()
    for folder in folders[1:]:
        await nodes.join(first, data=folder)
    await nodes.settled()
    await first.set("known", 1)
    await nodes.leave(nodes.members[2])
    await everything([first.set(key, {"is": key}) for key in LOST])
    await first.set("known", 2)
    for node in list(nodes.members):
        await nodes.leave(node)
    alone: Any = nodes.start(data=folders[2], settings=ALONE)
    await alone.when_joined()
    with pytest.raises(NoMajority):
        await alone.get("known")
    await (await nodes.leech(alone)).order(address(alone), "recover")
    await alone.set("known", 3)
    returned = [await nodes.join(alone, data=folder) for folder in folders[:2]]
    await nodes.settled()
    return [alone, *returned]


async def read(leech: Any, of: Any) -> list[Kept]:
    return [kept async for kept in leech.set_aside(address(of))]


@pytest_twisted.ensureDeferred
async def test_it_is_told_of_and_read(nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "LIST_BYTES_MAX", 64)  # several pages
    with capturedLogs() as logs:
        alone, one, other = await set_aside(nodes, [str(tmp_path / str(number)) for number in range(3)])
        await nodes.until(lambda: any("set aside" in str(log.get("log_format")) for log in logs), "a word")
    assert "set aside on 3: recover --export" in (await one.health()).text
    leech: Any = await nodes.leech(alone)
    assert await read(leech, alone) == [Kept(b"known", 1, None)]  # as it was before it went on
    found = [*await read(leech, one), *await read(leech, other)]
    expected: dict[bytes, Any] = {key: {"is": key} for key in LOST}
    assert {kept.key: kept.value for kept in found} == {**expected, b"known": 2}
    assert all(kept.expires is None for kept in found)
    assert await alone.get_many(LOST) == {}
    with pytest.raises(ChordError, match="nothing is set aside there"):
        await leech.order(address(one), "read_set_aside", 0, 12345, None)


@pytest.mark.parametrize("told", [[], [1], [[1]], [[[1, 2]]], [[[1, 2, b""]]], [[], []], [[[True, 2, 3]]]])
def test_histories_that_are_none(told: list[object]) -> None:
    with pytest.raises(ProtocolError):
        histories_from_wire(told)


@pytest.mark.parametrize(
    "told", [[], [[]], [[], 1], [[], True], [[[b"", b""]], False], [[[b"", "", 0]], False], [[1], False]]
)
def test_pages_that_are_none(told: list[object]) -> None:
    with pytest.raises(ProtocolError):
        page_from_wire(told)
