"""Fixtures of the tests with real processes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest_twisted

from tests.processes.daemons import Daemons


@pytest_twisted.async_yield_fixture
async def daemons(running_reactor: Any, free_port: Any) -> AsyncIterator[Daemons]:
    """Makes ``twistd chord`` processes, and ends them when the test is over, however it ended."""
    made = Daemons(running_reactor, free_port)
    yield made
    await made.stop()
