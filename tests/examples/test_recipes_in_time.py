"""What recipes do in the course of time: on virtual time, where nodes are killed and cut off too."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, gatherResults

from chordtx import ChordService, ChordSettings
from chordtx.config import GroupSettings
from chordtx.group import recent_keys
from examples.rate_limiter import RateLimiter
from examples.session_store import SessionStore
from examples.watched_config import WatchedConfig
from tests.sim.cluster import Cluster

SETTINGS = ChordSettings(partition_bits=3, replicas=3, groups=GroupSettings(lease_seconds=0.5))
LIFETIME_SECONDS = 60.0


def ring(count: int) -> tuple[Cluster, list[Any]]:
    world = Cluster(lambda reactor, **options: ChordService(reactor, settings=SETTINGS, **options), seed=5)
    return world, world.ring(count, 10)


def all_of(works: list[Any]) -> Deferred[list[Any]]:
    return gatherResults([Deferred.fromCoroutine(work) for work in works])


def test_session_lives_as_long_as_it_is_used() -> None:
    world, nodes = ring(6)
    stores: list[Any] = [SessionStore(node, LIFETIME_SECONDS) for node in nodes]
    used, unused = (world.result(stores[0].begin({"user": name})) for name in ("ann", "bob"))
    for store in (stores[1], stores[2], stores[3]):
        world.run(LIFETIME_SECONDS * 0.6)
        assert world.result(store.use(used)) == {"user": "ann"}
        world.kill(nodes.pop())
    for gone in (unused, "of nobody"):
        with pytest.raises(KeyError):
            world.result(stores[0].use(gone))
        with pytest.raises(KeyError):
            world.result(stores[0].change(gone, {"user": "eve"}))
    world.result(stores[0].end(used))
    with pytest.raises(KeyError):
        world.result(stores[1].use(used))


def test_use_of_a_session_takes_back_no_change_of_others() -> None:
    world, nodes = ring(5)
    stores: list[Any] = [SessionStore(node, LIFETIME_SECONDS) for node in nodes]
    token = world.result(stores[0].begin({"user": "ann"}))
    changes = [store.change(token, {f"field {number}": number}) for number, store in enumerate(stores[:4])]
    work = all_of([*changes, *(store.use(token) for store in stores[:4])])
    world.kill(nodes.pop())
    world.result(work)
    expected = {"user": "ann", **{f"field {number}": number for number in range(4)}}
    assert world.result(stores[0].use(token)) == expected


def test_each_window_has_calls_of_its_own_and_its_counter_goes() -> None:
    world, nodes = ring(4)
    now = 1000.0
    limiters = [RateLimiter(node, 3, 10.0, lambda: now) for node in nodes]
    allowed = [sum(world.result(all_of([each.allows("ann") for each in limiters]))) for _ in range(3)]
    assert allowed == [3, 0, 0]
    assert world.result(limiters[0].allows("bob")) is True
    world.kill(nodes.pop())
    now = 1010.0
    assert [world.result(limiters[0].allows("ann")) for _ in range(4)] == [True, True, True, False]
    assert world.result(nodes[0].count("rate:")) == 3
    world.run(30)
    assert world.result(nodes[0].count("rate:")) == 0


class Config(WatchedConfig):
    """It counts its listings."""

    listings = 0

    async def _list(self) -> None:
        self.listings += 1
        await super()._list()


def test_configuration_follows_changes_and_begins_anew_after_a_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent_keys, "_KEPT_MAX", 2)
    world, nodes = ring(6)
    writer, *readers = (Config(node, "shop") for node in nodes[:3])
    world.result(writer.set("colour", "green"))
    seen: list[list[dict[str, Any]]] = [[] for _ in readers]
    following = [
        Deferred.fromCoroutine(reader.follow(lambda values, told=told: told.append(dict(values))))
        for reader, told in zip(readers, seen, strict=True)
    ]
    for work in following:
        work.addErrback(lambda failure: None)  # cancelled at the end
    world.run(2)
    assert [told[-1] for told in seen] == [{"colour": "green"}] * 2
    world.kill(nodes.pop())
    world.result(writer.set("colour", "red"))
    world.result(writer.set("size", 3))
    world.result(writer.set("colour", None))
    world.run(3)
    assert [told[-1] for told in seen] == [{"size": 3}] * 2
    assert {"colour": "red", "size": 3} in seen[0]

    world.run(60)  # others have the dead one's place in its groups
    late, late_node = readers[1], nodes[2]
    listings = late.listings
    world.split([late_node], [node for node in nodes if node is not late_node])
    for number in range(40):
        world.result(writer.set(f"setting {number}", number))
    assert late.values == {"size": 3}  # what was known serves on
    world.heal()
    world.run(30)
    expected = {"size": 3, **{f"setting {number}": number for number in range(40)}}
    assert [reader.values for reader in readers] == [expected] * 2
    assert late.listings > listings
    for work in following:
        work.cancel()
