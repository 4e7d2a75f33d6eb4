"""Fixtures of the tests with published old peers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest_twisted

from tests.interop.peers import OldPeers


@pytest_twisted.async_yield_fixture
async def old_peers(running_reactor: Any) -> AsyncIterator[OldPeers]:
    """Makes py2p and js2p nodes, and kills them when the test is over, however it ended."""
    peers = OldPeers(running_reactor)
    yield peers
    await peers.kill()
