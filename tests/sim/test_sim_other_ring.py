"""Two rings with records that come across each other: neither takes anybody in, nor dials again and again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chordtx import ChordService, ChordSettings
from chordtx.sim.network import Network
from tests.sim.cluster import PORT, Cluster

SETTINGS = ChordSettings(partition_bits=2)


def test_who_is_refused_is_not_dialled_at_once_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Cluster(lambda reactor, **options: ChordService(reactor, settings=SETTINGS, **options))
    rings: list[list[Any]] = []
    for number in range(2):
        nodes = [world.start()]
        nodes += [world.start(nodes[0]) for _ in range(2)]
        for node in nodes:
            world.result(node.when_joined())
        world.result(nodes[0].set("key", number))
        rings.append(nodes)
    dialled: list[str] = []
    connect = Network.connect

    def counted(self: Network, reactor: Any, host: str, *arguments: Any) -> Any:
        dialled.append(host)
        return connect(self, reactor, host, *arguments)

    monkeypatch.setattr(Network, "connect", counted)
    rings[1][1].connect(rings[0][1].reactor.host, PORT).addErrback(lambda _: None)
    world.run(20)
    assert 0 < len(dialled) < 100
    assert len({node.status["ring"] for nodes in rings for node in nodes}) == 2
    read: Callable[[Any], Any] = lambda node: world.result(node.get("key"))  # noqa: E731
    assert [[read(node) for node in nodes] for nodes in rings] == [[0] * 3, [1] * 3]
