"""Records on disk: a ring whose processes are all killed has lost nothing when they run again."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from chordtx import ChordError, ChordService
from chordtx.cli.local_ring import LocalRing
from chordtx.tap import READY
from tests.cli_ring import free_ports
from tests.processes.daemons import Daemon, Daemons

WRITERS = 20
NODES = 8


async def ended(daemon: Daemon) -> str:
    """What a process that ends by itself has said."""
    await daemon.ended()
    return daemon.said.decode(errors="replace")


def started(daemons: Daemons, folder: Path, ports: list[int], with_peers: bool) -> list[Daemon]:
    """A ring; with ``with_peers`` each is told of the first, but the first itself."""
    peers = ["--peer", f"127.0.0.1:{ports[0]}"] if with_peers else []
    return [
        daemons.start("--data", str(folder / str(port)), *(peers if index else []), port=port)
        for index, port in enumerate(ports)
    ]


async def write_until_killed(client: ChordService, nodes: list[Daemon], seconds: float) -> dict[bytes, int]:
    """:returns: what was acknowledged before all processes were killed."""
    acknowledged: dict[bytes, int] = {}
    is_over = False

    async def write(writer: int) -> None:
        number = 0
        while not is_over:
            key = b"key %d %d" % (writer, number % 40)
            try:
                await client.set(key, number)
            except ChordError:
                return
            acknowledged[key] = number
            number += 1

    for writer in range(WRITERS):
        client._background(write(writer))
    await client.sleep(seconds)
    for node in nodes:
        node.signal(signal.SIGKILL)
    is_over = True
    for node in nodes:
        await node.ended()
    return dict(acknowledged)


@pytest.mark.parametrize("with_peers", [True, False])
@pytest_twisted.ensureDeferred
async def test_what_was_acknowledged_survives_the_death_of_all(
    daemons: Daemons, free_port: Any, tmp_path: Path, with_peers: bool
) -> None:
    ports = [free_port() for _ in range(NODES)]
    nodes = [daemons.start("--data", str(tmp_path / str(ports[0])), port=ports[0])]
    client = await daemons.client(nodes[0])
    nodes += started(daemons, tmp_path, ports, with_peers=True)[1:]
    await daemons.whole(client, NODES)
    ids = {node["id"] for node in await client.ring()}
    acknowledged = await write_until_killed(client, nodes, 1.5)
    assert len(acknowledged) > 50
    nodes = started(daemons, tmp_path, ports, with_peers)
    client = await daemons.client(*nodes)
    await daemons.whole(client, NODES)
    await daemons.walked(client, ids)
    kept = await client.get_many(acknowledged)
    # What was under way when they died may have come to stand.
    assert {key for key, value in acknowledged.items() if kept.get(key, -1) < value} == set()


@pytest_twisted.ensureDeferred
async def test_a_node_comes_back_as_itself_without_a_peer(
    daemons: Daemons, free_port: Any, tmp_path: Path, running_reactor: Any
) -> None:
    ports = [free_port() for _ in range(3)]
    nodes = [daemons.start("--data", str(tmp_path / str(ports[0])), port=ports[0])]
    client = await daemons.client(nodes[0])
    nodes += started(daemons, tmp_path, ports, with_peers=True)[1:]
    await daemons.whole(client, 3)
    ids = {node["id"] for node in await client.ring()}
    await client.set("before", 1)
    nodes[0].signal(signal.SIGTERM)
    await nodes[0].ended()
    assert nodes[0].status == 0
    client = await daemons.client(nodes[1], nodes[2])
    await client.set("while away", 2)
    again = daemons.start("--data", str(tmp_path / str(ports[0])), port=ports[0])
    await daemons.whole(client, 3)
    await daemons.walked(client, ids)
    through = await daemons.client(again)
    assert await through.get_many(["before", "while away"]) == {b"before": 1, b"while away": 2}


@pytest_twisted.ensureDeferred
async def test_what_is_wrong_with_a_folder_is_told_at_the_start(daemons: Daemons, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    first = daemons.start("--data", str(folder))
    await daemons.client(first)
    said = await ended(second := daemons.start("--data", str(folder)))
    assert second.status == 1
    assert f"chord: cannot start: the data folder {folder} is in use by another node" in said
    await first.kill()
    (folder / "records.sqlite").write_bytes(b"")
    said = await ended(third := daemons.start("--data", str(folder)))
    assert third.status == 1
    (line,) = [line for line in said.splitlines() if line.startswith("chord: ")]
    assert f"{folder}/records.sqlite is damaged (it is empty)" in line
    assert READY not in said


@pytest_twisted.ensureDeferred
async def test_a_local_ring_starts_again(
    running_reactor: Any, daemons: Daemons, free_port: Any, tmp_path: Path
) -> None:
    port = free_ports(free_port, 2)
    for round in range(2):
        ring = LocalRing(running_reactor, 2, port, subnet="processes", data=str(tmp_path))
        try:
            await ring.start()
            client = ChordService(running_reactor, listen=None, peers=ring.addresses, subnet="processes")
            client.startService()
            await client.when_joined()
            if round:
                assert await client.get("key") == json.dumps("value")
            await client.set("key", json.dumps("value"))
            await client.stopService()
        finally:
            await ring.stop()
    assert {file.name for file in tmp_path.iterdir()} == {str(port), str(port + 1)}
