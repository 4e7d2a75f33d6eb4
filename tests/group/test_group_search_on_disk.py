"""Random walks break nothing with the real store either, whose disk tears what is under way in a crash; and a
store that makes a mistake is found by them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from attrs import evolve

from chordtx.group.rank import NO_BALLOT, NO_EPOCH
from chordtx.group.replica import Save
from chordtx.sim import group_disk
from chordtx.sim.group_disk import StoredOnDisk, disks_in
from chordtx.sim.group_search import Walk
from chordtx.sim.group_watch import Violation
from chordtx.sim.group_world import GroupWorld, Images
from chordtx.store.database import Database
from chordtx.store.reading import Loaded
from tests.group import schedules
from tests.group.schedules import SCHEDULES
from tests.store.disks import IN_MEMORY


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory(dir=IN_MEMORY) as name:
        yield Path(name)


class Compared(StoredOnDisk):
    """One that is to have what a disk of dictionaries has; and what was under way in a crash, or nothing of
    it."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._images = Images()
        self._under_way: Mapping[int, Save] = {}

    def save(self, saves: Mapping[int, Save]) -> None:
        super().save(saves)
        self._images.save(saves)

    def crash(self, under_way: Mapping[int, Save]) -> None:
        super().crash(under_way)
        self._under_way = under_way

    def damage(self, partition: int) -> None:
        super().damage(partition)
        self._images.damage(partition)

    def load(self) -> Iterator[Loaded]:
        loaded = by_partition(super().load())
        if loaded != by_partition(self._images.load()):
            self._images.save(self._under_way)
        wanted = by_partition(self._images.load())
        if loaded != wanted:
            raise Violation(f"the disk has {loaded}, and was given {wanted}")
        return iter(loaded.values())


def by_partition(loaded: Iterator[Loaded]) -> dict[int, Loaded]:
    return {each[0]: each for each in loaded}


def walked(seed: int, make: type[StoredOnDisk] = StoredOnDisk) -> None:
    """A walk with more crashes than others, every second one with turns that are not synced at once."""
    with TemporaryDirectory(dir=IN_MEMORY) as name:
        walk = Walk(seed, disk=disks_in(Path(name), seed, make))
        walk.weights.update(crash=6, restart=6)
        if seed % 2:
            walk.syncs = walk.world.syncs = False
            walk.weights["sync"] = 20
        if seed % 3 == 0:
            walk.weights.update(force=2, seal=4)
        try:
            walk.run()
        finally:
            walk.world.close()


def all_walked(count: int, make: type[StoredOnDisk] = StoredOnDisk, first: int = 0) -> None:
    for seed in range(first, first + count):
        walked(seed, make)


@pytest.mark.parametrize("first", range(0, 600, 60))
def test_walks_break_nothing(first: int) -> None:
    all_walked(60, Compared, first)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule.__name__)
def test_schedule_breaks_nothing(
    schedule: Callable[[], None], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worlds: list[GroupWorld] = []

    def world(*args: Any, **settings: Any) -> GroupWorld:
        own = folder / str(len(worlds))
        own.mkdir()
        worlds.append(GroupWorld(*args, **settings, disk=disks_in(own, 1, Compared)))
        return worlds[-1]

    monkeypatch.setattr(schedules, "GroupWorld", world)
    schedule()
    assert worlds
    for each in worlds:
        each.close()


# That the walks are worth something


def test_walks_meet_what_they_are_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commits that are torn to nothing, and some that are whole; and what was set aside is found again."""
    met: Counter[str] = Counter()
    torn = group_disk.torn

    class Counting(Database):
        def load(self) -> Iterator[Loaded]:
            loaded = list(super().load())
            met["asides"] += any(asides for _, _, _, asides in loaded)
            return iter(loaded)

    def counted(before: Any, after: Any, rng: Any) -> Any:
        left = torn(before, after, rng)
        met["whole" if left.log == after.log else "nothing" if left == before else "torn"] += 1
        return left

    monkeypatch.setattr(group_disk, "Database", Counting)
    monkeypatch.setattr(group_disk, "torn", counted)
    all_walked(60)
    assert met.keys() == {"asides", "whole", "nothing", "torn"}


def without(saves: Mapping[int, Save], stored: Callable[[Save], dict[str, Any]], **parts: Any) -> Any:
    return {
        partition: save._replace(stored=evolve(save.stored, **stored(save)), **parts)
        for partition, save in saves.items()
    }


def nothing(_: Save) -> dict[str, Any]:
    return {}


#: What each commits, one after another, in place of what it is given.
MISTAKES: dict[str, Callable[[Mapping[int, Save]], list[Mapping[int, Save]]]] = {
    "forgets what it promised": lambda saves: [without(saves, lambda _: {"promised": NO_BALLOT})],
    "commits a state in two transactions": lambda saves: [
        without(saves, nothing, records={}, clients={}),
        saves,
    ],
    "forgets operations": lambda saves: [without(saves, nothing, clients={})],
    "forgets what it was in other histories": lambda saves: [without(saves, nothing, asides={})],
    "forgets how it came to its history": lambda saves: [without(saves, lambda save: {"entered": NO_EPOCH})],
}


def plant(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Mistaken(Database):
        def commit(self, saves: Mapping[int, Save], values: Mapping[str, bytes]) -> None:
            for some in MISTAKES[mistake](saves):
                super().commit(some, values)

    monkeypatch.setattr(group_disk, "Database", Mistaken)


@pytest.mark.parametrize("mistake", list(MISTAKES)[:3])
def test_what_a_mistake_of_the_store_leads_to_is_found(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what groups do then."""
    plant(mistake, monkeypatch)
    with pytest.raises(Violation, match=r"^(S\d|LIN) "):
        all_walked(1000)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_of_the_store_is_found(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what a node finds on its disk."""
    plant(mistake, monkeypatch)
    with pytest.raises(Violation, match="the disk has"):
        all_walked(100, Compared)
