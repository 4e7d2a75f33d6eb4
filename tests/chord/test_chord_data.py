"""A node with a data folder: the same again, back in its ring, honest about what its disk does not take."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet.defer import Deferred, maybeDeferred

from chordtx.chord import ChordService
from chordtx.config import ChordSettings
from chordtx.errors import NoMajority, NotJoined, StorageFailed
from chordtx.store.database import Database
from chordtx.store.folder import DataFolder
from tests.chord.nodes import LISTEN, QUICK, Nodes, address

HASTY = ChordSettings(join_timeout_seconds=1.0, partition_bits=QUICK.partition_bits)


def opened(path: Path, reactor: Any) -> DataFolder:
    """The folder, for looking into it."""
    return DataFolder(str(path), "chord", lambda work: maybeDeferred(work), reactor.callLater)


@pytest_twisted.ensureDeferred
async def test_a_node_is_the_same_again(nodes: Nodes, tmp_path: Path) -> None:
    node = await nodes.join(data=str(tmp_path / "data"))
    await node.set("key", {"a": 1})
    assert node.status["data"] == str(tmp_path / "data")
    id = node.id
    await nodes.leave(node)
    again = await nodes.join(data=str(tmp_path / "data"))
    assert again.id == id
    assert again._ring.me.id == again.id_10
    assert await again.get("key") == {"a": 1}


@pytest_twisted.ensureDeferred
async def test_a_service_may_be_stopped_and_started_again(nodes: Nodes, tmp_path: Path) -> None:
    node = await nodes.join(data=str(tmp_path / "data"))
    await node.set("key", 1)
    id = node.id
    await node.stopService()
    node.startService()
    await node.when_joined()
    assert (node.id, await node.get("key")) == (id, 1)


@pytest_twisted.ensureDeferred
async def test_who_remembers_nobody_that_answers_begins_alone(
    nodes: Nodes, tmp_path: Path, running_reactor: Any
) -> None:
    node = await nodes.join(data=str(tmp_path / "data"), remembered=["127.0.0.1:1"], settings=HASTY)
    began = running_reactor.seconds()
    await nodes.leave(node)
    again = await nodes.join(data=str(tmp_path / "data"), remembered=["127.0.0.1:1"], settings=HASTY)
    assert running_reactor.seconds() - began >= HASTY.join_timeout_seconds
    assert again.next is None


@pytest_twisted.ensureDeferred
async def test_who_remembers_a_ring_joins_it(nodes: Nodes, tmp_path: Path) -> None:
    first, second = await nodes.ring(2)
    node = await nodes.join(first, data=str(tmp_path / "data"))
    await nodes.settled()
    await nodes.leave(node)
    folder = opened(tmp_path / "data", nodes.reactor)
    assert {*folder.peers} >= {address(first), address(second)}
    assert folder.node_id == node.id
    assert folder.starts == 2
    await Deferred.fromCoroutine(folder.close())
    again = await nodes.join(data=str(tmp_path / "data"))
    assert again.id == node.id
    await nodes.settled()
    assert len(await first.ring()) == 3


@pytest_twisted.ensureDeferred
async def test_of_those_that_wait_one_begins(nodes: Nodes, free_port: Any) -> None:
    ports = [free_port() for _ in range(4)]
    started = [
        nodes.start(
            listen=f"tcp:{port}:interface=127.0.0.1",
            remembered=[f"127.0.0.1:{other}" for other in ports if other != port],
        )
        for port in ports
    ]
    for node in started:
        await node.when_joined()
    await nodes.settled()
    assert len(await started[0].ring()) == 4


@pytest.mark.parametrize("keeps", [True, False])
@pytest_twisted.ensureDeferred
async def test_who_was_in_no_ring_begins_none_when_it_is_started_again(
    nodes: Nodes, tmp_path: Path, free_port: Any, keeps: bool
) -> None:
    ports = [free_port() for _ in range(3)]
    first, one, other = (
        ChordService(
            nodes.reactor,
            listen=f"tcp:{port}:interface=127.0.0.1",
            peers=[f"127.0.0.1:{peer}" for peer in ports[:number]],
            data=str(tmp_path / str(port)) if keeps else None,
            settings=HASTY,
        )
        for number, port in enumerate(ports)
    )
    nodes.members += [one, other]
    one.startService()
    other.startService()
    for _ in range(2):
        for node in (one, other):
            with pytest.raises(NotJoined, match="no ring was reached"):
                await node.when_joined()
        assert len(one.routing_table) == 1
        await one.stopService()
        await other.stopService()
        one.startService()
        other.startService()
    first.startService()  # their ring was only away
    nodes.members.append(first)
    await nodes.settled()
    assert {node.status["ring"] for node in (one, other)} == {first.status["ring"]}


@pytest_twisted.ensureDeferred
async def test_who_leaves_waits_for_a_silent_member_that_has_the_records_on_disk(
    nodes: Nodes, tmp_path: Path, running_reactor: Any
) -> None:
    """As far as the ring knows, the other one is dead. Without the first it could not go on by itself."""
    settings = evolve(QUICK, leave_timeout_seconds=1.5)
    one = await nodes.join(data=str(tmp_path / "one"), settings=settings)
    other = await nodes.join(one, data=str(tmp_path / "other"), settings=settings)
    await nodes.settled()
    nodes.hang(other)
    await nodes.until(lambda: one.next is None, "the ring has lost the other one")
    began = running_reactor.seconds()
    await one.unjoin()
    assert running_reactor.seconds() - began >= settings.leave_timeout_seconds


@pytest_twisted.ensureDeferred
async def test_a_folder_that_cannot_be_used_is_told(nodes: Nodes, tmp_path: Path) -> None:
    first = await nodes.join(data=str(tmp_path / "data"))
    second = ChordService(nodes.reactor, listen=LISTEN, data=str(tmp_path / "data"))
    second.startService()
    for told in (second.when_listening(), second.when_joined()):
        with pytest.raises(StorageFailed, match="in use by another node"):
            await told
    await second.stopService()
    assert await first.get("key") is None


@pytest_twisted.ensureDeferred
async def test_a_write_that_the_disk_does_not_take_is_no_write(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await nodes.join(
        data=str(tmp_path / "data"), settings=ChordSettings(operation_timeout_seconds=1.0)
    )
    await node.set("before", 1)

    def fail(*_: Any) -> None:
        raise StorageFailed("no space left")

    monkeypatch.setattr(Database, "commit", fail)
    with pytest.raises(NoMajority):
        await node.set("key", 1)
    assert await node.get("before") == 1
    monkeypatch.undo()
    while True:  # it is tried again a second later, and the node leads again
        try:
            await node.set("key", 2)
            break
        except NoMajority:
            pass
    assert await node.get("key") == 2


@pytest_twisted.ensureDeferred
async def test_what_is_damaged_comes_back_from_the_others(nodes: Nodes, tmp_path: Path) -> None:
    first = await nodes.first()
    node = await nodes.join(first, data=str(tmp_path / "data"))
    await nodes.join(first)
    await nodes.settled()
    await first.set("key", "value")
    await nodes.copied([b"key"])
    await nodes.leave(node)
    with closing(sqlite3.connect(tmp_path / "data" / "records.sqlite")) as connection:
        assert connection.execute("UPDATE records SET record = x'00000000'").rowcount == 1
        connection.commit()
    again = await nodes.join(data=str(tmp_path / "data"))
    assert again.id == node.id
    await nodes.settled()
    await nodes.copied([b"key"])
    assert len(nodes.copies(b"key")) == 3
    assert await again.get("key") == "value"
