"""Nodes that end with their test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted

from tests.chord.nodes import Nodes


@pytest.fixture
def nodes(running_reactor: Any, request: pytest.FixtureRequest) -> Iterator[Nodes]:
    """The nodes of one test; parametrize it indirectly with a seed for another order on the ring."""
    started = Nodes(running_reactor, seed=getattr(request, "param", 0))
    yield started
    pytest_twisted.blockon(_stopped(started))


def _stopped(started: Nodes) -> Any:
    from twisted.internet.defer import Deferred

    return Deferred.fromCoroutine(started.stop())
