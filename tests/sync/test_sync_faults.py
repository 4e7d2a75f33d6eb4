"""Nodes come, go and die, links break, the network is split, clocks are wrong: all end with one dict."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from chordtx import SyncService
from tests.sim.cluster import Cluster

KEYS = [b"key %d" % number for number in range(12)]
STEPS = 150
SETTLE_SECONDS = 200.0


class Watched:
    """A node, and what its listeners make of what they are told."""

    def __init__(self, node: SyncService) -> None:
        self.node = node
        self.told: dict[bytes, Any] = {}
        node.on("update", lambda _, key, value, meta: self.told.update({key: value}))
        node.on("delete", lambda _, key: self.told.pop(key))  # fails when it was told already


class Run:
    """One run. :ivar refused: how many writes were, for somebody else had the key leased."""

    def __init__(self, seed: int, leasing: bool) -> None:
        self.rng = Random(f"{seed} {leasing}")
        self.world = Cluster(SyncService, seed)
        self.leasing = leasing
        self.nodes: list[Watched] = []
        self.refused = 0
        self.is_split = False
        for _ in range(6):
            self.join()
            self.world.run(1)

    def join(self) -> None:
        through = self.rng.sample(self.nodes, min(2, len(self.nodes)))
        offset_seconds = self.rng.uniform(-3, 3)
        node = self.world.start(
            *(each.node for each in through), leasing=self.leasing, offset_seconds=offset_seconds
        )
        self.nodes.append(Watched(node))

    def write(self) -> None:
        node, key = self.rng.choice(self.nodes).node, self.rng.choice(KEYS)
        number = self.rng.randrange(1 << 30)
        draw = self.rng.random()
        try:
            if draw < 0.2:
                self.world.result(node.set(key, None))
            elif draw < 0.5:
                self.world.result(node.apply_delta(key, {number % 4: number}))
            elif draw < 0.6:
                self.world.result(node.set(key, {"for": number}, ttl=self.rng.uniform(1, 20)))
            else:
                self.world.result(node.set(key, {"whole": number}))
        except KeyError:
            assert self.leasing
            self.refused += 1

    def disturb(self) -> None:
        draw = self.rng.random()
        if draw < 0.3:
            self.world.network.break_connection()
        elif draw < 0.5 and len(self.nodes) < 12:
            self.join()
        elif draw < 0.65 and len(self.nodes) > 4:
            self.world.kill(self._gone().node)
        elif draw < 0.75 and len(self.nodes) > 4:
            self.world.result(self._gone().node.stopService())
        elif self.is_split:
            self.world.heal()
            self.is_split = False
        else:
            nodes = [each.node for each in self.nodes]
            self.rng.shuffle(nodes)
            half = self.rng.randint(1, len(nodes) - 1)
            self.world.split(nodes[:half], nodes[half:])
            self.is_split = True

    def _gone(self) -> Watched:
        return self.nodes.pop(self.rng.randrange(len(self.nodes)))

    def go(self) -> None:
        for _ in range(STEPS):
            self.world.run(self.rng.random())
            self.write()
            if self.rng.random() < 0.15:
                self.disturb()
        self.world.heal()
        self.world.run(SETTLE_SECONDS)


@pytest.mark.parametrize("leasing", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_all_come_to_one_dict(seed: int, leasing: bool, logged_errors: Any) -> None:
    run = Run(seed, leasing)
    run.go()
    first, *others = run.nodes
    assert others
    for other in others:
        assert dict(other.node.data) == dict(first.node.data)
        assert dict(other.node.metadata) == dict(first.node.metadata)
    for each in run.nodes:
        assert each.told == dict(each.node.data)
    assert first.node.data
    assert bool(run.refused) == leasing
