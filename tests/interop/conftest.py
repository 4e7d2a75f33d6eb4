"""Fixtures of the tests with published legacy peers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest_twisted

from tests.interop.peers import LegacyPeers


@pytest_twisted.async_yield_fixture
async def legacy_peers(running_reactor: Any) -> AsyncIterator[LegacyPeers]:
    """Makes py2p and js2p nodes, and kills them when the test is over, however it ended."""
    peers = LegacyPeers(running_reactor)
    yield peers
    await peers.kill()
