"""What users are promised when processes die, are held up, or leave."""

from __future__ import annotations

import signal
from typing import Any

import pytest
import pytest_twisted

from chordtx import ChordService, MeshSettings
from chordtx.mesh import Address
from chordtx.mesh.keepalive import INTERVAL_SECONDS
from chordtx.ring import Contact
from chordtx.wire import decode_id
from tests.processes.daemons import Daemons

# The promise, which the settings keep (see below) and an idle machine shows. One that is busy with other
# things has its pauses on top.
PROMISED_SECONDS = 5.0
NOTICED_SECONDS = PROMISED_SECONDS + 10.0
RECORDS = {f"key {number}".encode(): {"number": number} for number in range(500)}


def test_the_settings_keep_the_promise() -> None:
    # A link is asked after it was silent for the interval, given up after its time-out, and looked at now and
    # then.
    settings = MeshSettings()
    noticed = settings.ping_interval_seconds + settings.silence_timeout_seconds_max + 2 * INTERVAL_SECONDS
    assert noticed <= PROMISED_SECONDS


async def ring_has(client: Any, reactor: Any, count: int, seconds: float) -> None:
    """Wait until a walk round the ring meets this many nodes, all of which answer."""
    deadline = reactor.seconds() + seconds
    while True:
        nodes = await client.ring()
        if len(nodes) == count and all("error" not in node for node in nodes):
            return
        assert reactor.seconds() < deadline, f"{len(nodes)} nodes after {seconds} s: {nodes}"
        await client.sleep(0.1)


async def contacts(client: ChordService) -> list[Contact]:
    """The members of the ring, fit to be asked."""
    found = []
    for node in await client.ring():
        address = Address.parse(node["address"])
        found.append(Contact(decode_id(node["id"], bits_max=384), address.host, address.port))
    return found


async def without(
    client: ChordService, reactor: Any, survivors: list[Contact], address: str, deadline: float
) -> None:
    """Wait until no survivor names the one at ``address`` any more."""
    while True:
        answers = [(await client._rpc.call(contact, "status"))[0] for contact in survivors]
        named = [
            answer["address"] for answer in answers if address in [*answer["successors"], answer["prev"]]
        ]
        if not named:
            return
        assert reactor.seconds() < deadline, f"{named} still name {address}"
        await client.sleep(0.05)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
@pytest_twisted.ensureDeferred
async def test_one_of_five_goes_down_without_a_word(
    daemons: Daemons, running_reactor: Any, how: signal.Signals
) -> None:
    nodes = await daemons.ring(5)
    client = await daemons.client(nodes[0], nodes[1])
    await client.update(RECORDS)
    survivors = [contact for contact in await contacts(client) if contact.port != nodes[3].port]
    nodes[3].signal(how)
    at = running_reactor.seconds()
    await client.set("after", "the crash")
    for key in list(RECORDS)[:100]:
        assert await client.get(key) == RECORDS[key]
    await without(client, running_reactor, survivors, nodes[3].address, at + NOTICED_SECONDS)
    await ring_has(client, running_reactor, 4, 10)
    assert await client.get_many(RECORDS) == RECORDS
    assert await client.count() == len(RECORDS) + 1
    if how is signal.SIGSTOP:
        nodes[3].signal(signal.SIGCONT)
        await ring_has(client, running_reactor, 5, 30)
        assert await client.get("after") == "the crash"


@pytest_twisted.ensureDeferred
async def test_leaving_one_after_another_loses_nothing(daemons: Daemons, running_reactor: Any) -> None:
    nodes = await daemons.ring(5)
    client = await daemons.client(*nodes)
    await client.update(RECORDS)
    for node, left in zip(nodes[:4], (4, 3, 2, 1), strict=True):
        node.signal(signal.SIGTERM)
        await node.ended()
        assert node.status == 0
        await ring_has(client, running_reactor, left, 10)
        assert await client.get_many(RECORDS) == RECORDS


@pytest_twisted.ensureDeferred
async def test_five_die_one_after_another_and_come_back_empty(daemons: Daemons, running_reactor: Any) -> None:
    nodes = await daemons.ring(5)
    client = await daemons.client(*nodes)
    await client.update(RECORDS)
    for index, node in enumerate(nodes):
        await node.kill()
        await ring_has(client, running_reactor, 4, 20)
        alive = nodes[(index + 1) % 5]
        nodes[index] = daemons.start("--peer", alive.address, port=node.port)
        await daemons.whole(client, 5)
    assert await client.get_many(RECORDS) == RECORDS
