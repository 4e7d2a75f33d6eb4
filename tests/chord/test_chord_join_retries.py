"""A node that does not wait for a ring when nobody listens at any peer."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from twisted.logger import capturedLogs

from chordtx.chord import ChordService
from chordtx.config import ChordSettings
from chordtx.errors import NotJoined, WrongSubnet
from tests.chord.nodes import QUICK, Nodes, address

LATE_SECONDS = 5.0
AT_ONCE_SECONDS = 2.0
HASTY = evolve(QUICK, join_retries=False, join_timeout_seconds=LATE_SECONDS)


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of somebody who accepts connections and says nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


async def failed_after(
    nodes: Nodes, peers: list[str], kind: type[Exception], settings: ChordSettings = HASTY
) -> float:
    """Seconds until a client of these peers was told that there is no ring."""
    client = ChordService(nodes.reactor, None, peers=peers, settings=settings)
    started = nodes.reactor.seconds()
    client.startService()
    with pytest.raises(kind):
        await client.when_joined()
    seconds: float = nodes.reactor.seconds() - started
    await client.stopService()
    return seconds


@pytest_twisted.ensureDeferred
async def test_refused_by_all_it_fails_at_once(nodes: Nodes, free_port: Callable[[], int]) -> None:
    refused = [f"127.0.0.1:{free_port()}", f"localhost:{free_port()}"]
    assert await failed_after(nodes, refused, NotJoined) < AT_ONCE_SECONDS


@pytest_twisted.ensureDeferred
async def test_refused_by_some_and_of_another_network_for_the_others(
    nodes: Nodes, free_port: Callable[[], int]
) -> None:
    other = await nodes.join(subnet="another")
    peers = [f"127.0.0.1:{free_port()}", address(other)]
    assert await failed_after(nodes, peers, WrongSubnet) < AT_ONCE_SECONDS


@pytest_twisted.ensureDeferred
async def test_one_that_may_answer_yet_is_waited_for(
    nodes: Nodes, free_port: Callable[[], int], silent: str
) -> None:
    settings = evolve(HASTY, join_timeout_seconds=1.0)
    assert await failed_after(nodes, [f"127.0.0.1:{free_port()}", silent], NotJoined, settings) >= 1


@pytest_twisted.ensureDeferred
async def test_else_it_goes_on_trying(nodes: Nodes, free_port: Callable[[], int]) -> None:
    settings = evolve(HASTY, join_timeout_seconds=1.0, join_retries=True)
    assert await failed_after(nodes, [f"127.0.0.1:{free_port()}"], NotJoined, settings) >= 1


@pytest_twisted.ensureDeferred
async def test_one_of_several_that_is_there_is_enough(nodes: Nodes, free_port: Callable[[], int]) -> None:
    member: Any = await nodes.first()
    client = ChordService(
        nodes.reactor, None, peers=[f"127.0.0.1:{free_port()}", address(member)], settings=HASTY
    )
    client.startService()
    await client.when_joined()
    await client.set("key", "value")
    assert await member.get("key") == "value"
    await client.stopService()


@pytest_twisted.ensureDeferred
async def test_peers_that_wait_for_a_ring_as_well_are_named(
    nodes: Nodes, free_port: Callable[[], int]
) -> None:
    """Each was given the other's address only: nobody begins, and both say why."""
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    listens = [f"tcp:{one.split(':')[1]}:interface=127.0.0.1" for one in addresses]
    settings = evolve(QUICK, join_timeout_seconds=4.0)
    with capturedLogs() as logs:
        waiting = [
            ChordService(nodes.reactor, listen, peers=[other], settings=settings)
            for listen, other in zip(listens, reversed(addresses), strict=True)
        ]
        for node in waiting:
            node.startService()
        for node, other in zip(waiting, reversed(addresses), strict=True):
            with pytest.raises(
                NotJoined, match=f"these peers wait for one as well: {other}; give all nodes one"
            ):
                await node.when_joined()
    said = [log["peers"] for log in logs if "waits for a ring" in log["log_format"]]
    assert sorted(said) == sorted(addresses)  # once each
    for node in waiting:
        await node.stopService()
