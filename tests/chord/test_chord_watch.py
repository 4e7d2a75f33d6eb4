"""Watches: on a simulated network, while nodes come, go, are killed and are cut off."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from chordtx import ChordService, ChordSettings, Event, Stopped, Watch
from chordtx.chord import watching
from chordtx.config import GroupSettings
from tests.sim.cluster import Cluster

SETTINGS = ChordSettings(partition_bits=3, replicas=3, groups=GroupSettings(lease_seconds=0.5))


class Listener:
    """Reads a watch for as long as it lasts.

    :ivar listings: what there was each time when it was told to begin anew, by the number of the event.
    """

    def __init__(self, watch: Watch, node: Any = None) -> None:
        self.watch = watch
        self.events: list[Event] = []
        self.listings: dict[int, dict[bytes, Any]] = {}
        self._node = node
        self.failure: Exception | None = None
        self.is_over = False
        Deferred.fromCoroutine(self._read()).addErrback(self._failed)

    async def _read(self) -> None:
        async for event in self.watch:
            self.events.append(event)
            if event.kind == "reset" and self._node is not None:
                self.listings[len(self.events)] = await self._node.copy()
        self.is_over = True

    def _failed(self, failure: Any) -> None:
        self.failure = failure.value

    @property
    def told(self) -> list[tuple[str, Any, Any]]:
        return [(event.kind, event.key, event.value) for event in self.events]


def ring(count: int) -> tuple[Cluster, list[Any]]:
    world = Cluster(lambda reactor, **options: ChordService(reactor, settings=SETTINGS, **options), seed=5)
    return world, world.ring(count, 10)


def listening(world: Cluster, node: Any, *about: Any, **options: Any) -> Listener:
    listener = Listener(node.watch(*about, **options), node)
    world.result(listener.watch.when_ready())
    return listener


def test_what_becomes_of_a_key() -> None:
    world, (one, other, _) = ring(3)
    one_key, other_key = listening(world, one, "key"), listening(world, other, b"other")
    world.result(other.set("key", {"a": 1}))
    world.run(1)
    world.result(one.set("key", 2))
    world.run(1)
    version = world.result(one.entry("key")).version
    world.result(other.delete("key"))
    world.run(1)
    world.result(one.set("key", 3, ttl=1.5))
    world.run(5)
    assert one_key.told == [
        ("add", b"key", {"a": 1}),
        ("update", b"key", 2),
        ("delete", b"key", None),
        ("add", b"key", 3),
        ("expire", b"key", None),
    ]
    assert one_key.events[1].version == version
    assert len({event.version for event in one_key.events}) == 5
    assert other_key.told == []


@pytest.mark.parametrize("prefix", ["user:", ""])
def test_what_becomes_of_many_keys(prefix: str) -> None:
    world, (one, other, _) = ring(3)
    listener = listening(world, one, prefix=prefix)
    names = [f"user:{number}" for number in range(40)]
    for number, name in enumerate(names):
        world.result(other.set(name, number))
    world.result(other.set("other", 0))
    world.run(2)
    expected = {("add", name.encode(), number) for number, name in enumerate(names)}
    assert {*listener.told} == expected | ({("add", b"other", 0)} if not prefix else set())
    assert len(listener.told) == len({*listener.told})


def test_what_another_change_has_overtaken_is_left_out() -> None:
    world, (one, other, _) = ring(3)
    watch = one.watch(prefix="k")
    world.result(watch.when_ready())
    for number in range(5):
        world.result(other.set("key", number))
        world.run(0.5)
    world.result(other.set("key 2", 1))
    world.result(other.delete("key 2"))
    world.run(1)
    listener = Listener(watch)
    assert listener.told[0] == ("add", b"key", 4)
    assert [told for told in listener.told if told[0] == "delete"] == [("delete", b"key 2", None)]
    assert len(listener.told) == 2


def test_from_a_version_on() -> None:
    world, (one, other, _) = ring(3)
    world.result(one.set("key", 1))
    version = world.result(other.entry("key")).version
    world.result(one.delete("key"))
    world.result(one.set("key", 2))
    listener = listening(world, other, "key", since=version)
    assert listener.told == [("add", b"key", 2)]
    world.result(one.set("key", 3))
    world.run(1)
    assert listener.told[1:] == [("update", b"key", 3)]
    with pytest.raises(ValueError, match="version"):
        one.watch(prefix="key", since=version)
    with pytest.raises(ValueError, match="version"):
        one.watch("key", since="nonsense")
    with pytest.raises(ValueError, match="prefix"):
        one.watch("key", prefix="k")


@pytest.mark.parametrize("how", ["killed", "stopped", "cut off"])
def test_it_goes_on_when_leaders_are_gone(how: str) -> None:
    world, nodes = ring(6)
    watcher, writer = nodes[0], nodes[1]
    listener = listening(world, watcher, prefix="")
    written = {}
    for number in range(3):
        for key in range(20):
            written[b"key %d" % key] = number
            world.result(writer.set(b"key %d" % key, number))
        victim = nodes.pop()
        if how == "killed":
            world.kill(victim)
        elif how == "stopped":
            world.result(victim.stopService())
        else:
            world.split([victim], nodes)
        world.run(1)
    for key in written:
        written[key] = 9
        world.result(writer.set(key, 9))
    world.result(writer.delete(b"key 0"))
    del written[b"key 0"]
    world.run(10)
    seen: dict[bytes | None, Any] = {}
    for number, event in enumerate(listener.events, 1):
        if event.kind == "reset":  # one that had just come to a group leads it
            seen = dict(listener.listings[number])
        elif event.value is None:
            seen.pop(event.key, None)
        else:
            assert seen.get(event.key, -1) <= event.value
            seen[event.key] = event.value
    assert seen == written


def test_who_is_told_that_a_watch_is_ready_may_end_it() -> None:
    world, (one, other, _) = ring(3)
    ended: list[Watch] = []

    async def end(watch: Watch) -> None:
        await watch.when_ready()
        await watch.aclose()
        ended.append(watch)

    watches = [one.watch(prefix="k") for _ in range(3)]
    for watch in watches[:2]:
        Deferred.fromCoroutine(end(watch))
    world.result(watches[2].when_ready())
    assert ended == watches[:2]
    world.result(other.set("key", 1))
    assert world.result(anext(watches[2])).key == b"key"
    world.result(watches[2].aclose())
    world.result(one.set("key", 2))
    assert not one._client._watching


def test_watches_of_one_node_share_what_they_ask() -> None:
    world, (one, other, _) = ring(3)
    listeners = [listening(world, one, "key") for _ in range(20)]
    assert len(one._client._watching) == 1
    world.result(other.set("key", 1))
    world.run(1)
    assert all(listener.told == [("add", b"key", 1)] for listener in listeners)
    for listener in listeners:
        world.result(listener.watch.aclose())
    world.run(1)
    assert all(listener.is_over for listener in listeners)
    assert not one._client._watching


def test_who_does_not_read_is_told_to_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_KEYS_MAX", 10)
    world, (one, other, _) = ring(3)
    watch = one.watch()
    world.result(watch.when_ready())
    for key in range(30):
        world.result(other.set(b"key %d" % key, key))
    world.run(1)
    listener = Listener(watch)
    assert listener.events[0] == Event("reset")
    assert len(listener.events) <= 11
    world.result(other.set("key", 1))
    world.run(1)
    assert listener.told[-1] == ("add", b"key", 1)


def test_it_ends_with_the_service_and_fails_before() -> None:
    world, (one, *_) = ring(3)
    listener = listening(world, one, "key")
    world.result(one.stopService())
    assert isinstance(listener.failure, Stopped)
    late = Listener(one.watch("key"))
    world.run(1)
    assert isinstance(late.failure, Stopped)


def test_who_waits_for_a_watch_that_is_closed_is_told_so() -> None:
    world, nodes = ring(3)
    watch = nodes[0].watch()
    waiting = watch.when_ready()
    world.result(watch.aclose())
    for ready in (waiting, watch.when_ready()):
        with pytest.raises(Stopped):
            world.result(ready)
    with pytest.raises(StopAsyncIteration):
        world.result(Deferred.fromCoroutine(anext(watch)))
