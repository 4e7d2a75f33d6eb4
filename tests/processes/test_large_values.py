"""Large values in a ring of processes: several clients store and read many at once, and no link is cut."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest_twisted
from twisted.internet.utils import getProcessOutputAndValue

from tests.chord.nodes import everything
from tests.processes.daemons import ROOT, Daemons

MIB = 1 << 20
LARGEST_BYTES = 8 * MIB - 5  # packed, the most that a value may take
IDLE_SECONDS = 2.0  # longer than a lease: leaders ask before they answer, and then answer all at once


async def dumped(reactor: Any, address: str, path: Path) -> int:
    """How many records ``chordtx dump`` has written."""
    arguments = ["-m", "chordtx.cli", "--peer", address, "--subnet", "processes", "dump", str(path)]
    environment = {"PYTHONPATH": str(ROOT)}
    out, err, status = await getProcessOutputAndValue(
        sys.executable, arguments, environment, str(ROOT), reactor
    )
    assert status == 0, (out, err)
    return len({json.loads(line)["key"] for line in path.read_text().splitlines()})


@pytest_twisted.ensureDeferred
async def test_many_large_values_are_stored_and_read_at_once(
    daemons: Daemons, running_reactor: Any, tmp_path: Path
) -> None:
    ring = await daemons.ring(5)
    clients = [await daemons.client(ring[number]) for number in range(3)]
    links = [link for client in clients for link in client.routing_table.values()]
    values: dict[str, bytes] = {}
    storing = []
    for place, client in enumerate(clients):
        for number in range(15):
            key = f"client {place} key {number}"
            values[key] = bytes([place]) * (LARGEST_BYTES if number < 3 else 2 * MIB)
            storing.append(client.set(key, values[key]))
    await everything(storing)
    await clients[0].sleep(IDLE_SECONDS)
    found = await everything([client.get(key) for client in clients for key in values])
    assert found == 3 * list(values.values())
    expected = {key.encode(): value for key, value in values.items()}
    assert await clients[0].get_many(values) == expected
    assert {key: value async for key, value in clients[1].items()} == expected
    assert await dumped(running_reactor, ring[2].address, tmp_path / "dump") == len(values)
    assert not [link for link in links if link.closed]
    for daemon in ring:
        assert b"is cut off" not in daemon.said, daemon.said[-3000:].decode()
        assert b"is refused" not in daemon.said
