"""Nodes and peers that end with their test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.mesh.peers import Mesh


@pytest.fixture
def mesh(running_reactor: Any) -> Iterator[Mesh]:
    """Gives nodes and peers."""
    started = Mesh(running_reactor)
    yield started
    pytest_twisted.blockon(Deferred.fromCoroutine(started.stop()))
