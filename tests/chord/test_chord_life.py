"""A node with a data folder: started again and again, and what it notes while it runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.error import CannotListenError, ConnectionDone, TimeoutError
from twisted.internet.protocol import Factory

from chordtx import ChordService
from chordtx.errors import StorageFailed
from tests.chord.nodes import LISTEN, Nodes
from tests.chord.test_chord_data import opened
from tests.failing import failing_once

ERRORS = (OSError("no space"), StorageFailed("no space"), ConnectionDone(), TimeoutError(), KeyError("a bug"))


@pytest_twisted.ensureDeferred
async def test_a_node_with_a_folder_starts_again(nodes: Nodes, tmp_path: Path) -> None:
    node = await nodes.join(data=str(tmp_path / "data"))
    await node.set("key", "value")
    before = node.id
    for _ in range(3):
        stopped = node.stopService()
        node.startService()
        await stopped
        await node.when_joined()
        assert node.id == before
        assert await node.get("key") == "value"
        await node.set("key", "value")


@pytest_twisted.ensureDeferred
async def test_a_start_that_failed_lets_go_of_the_folder(nodes: Nodes, tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    taken = nodes.reactor.listenTCP(0, Factory(), interface="127.0.0.1")
    port = taken.getHost().port
    node = nodes.start(data=data, listen=f"tcp:{port}:interface=127.0.0.1")
    with pytest.raises(CannotListenError):
        await node.when_joined()
    await nodes.until(lambda: node._life.phase.name == "DOWN", "nothing is left of it")
    other = ChordService(nodes.reactor, listen=LISTEN, data=data)
    other.startService()
    await other.when_joined()
    await other.set("key", "value")
    node.startService()
    with pytest.raises(StorageFailed, match="in use"):
        await node.when_joined()
    await other.stopService()
    await taken.stopListening()
    node.startService()
    await node.when_joined()
    assert await node.get("key") == "value"


@pytest_twisted.ensureDeferred
async def test_a_start_is_given_up_while_the_folder_is_open(nodes: Nodes, tmp_path: Path) -> None:
    node = ChordService(nodes.reactor, listen=LISTEN, data=str(tmp_path / "data"))
    for _ in range(3):
        node.startService()
        await node.stopService()
    await opened(tmp_path / "data", nodes.reactor).close()


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest_twisted.ensureDeferred
async def test_what_is_noted_in_the_folder_is_noted_after_an_error(
    nodes: Nodes, tmp_path: Path, error: Exception, flush_logged_errors: Callable[..., list[Any]]
) -> None:
    node = await nodes.join(data=str(tmp_path / "data"))
    loop = next(loop for loop in node._tasks.loops if loop.name == "noting in the data folder")
    failed = failing_once(loop, error)
    await nodes.until(lambda: failed, "a round that fails")
    rounds = loop.rounds
    await nodes.until(lambda: loop.rounds > rounds, "another round")
    flush_logged_errors(KeyError)
