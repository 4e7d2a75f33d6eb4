"""Copies of a node's folder, and nodes of another ring: the simulated ring takes none of them in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chordtx.config import ChordSettings
from chordtx.sim.faults import Faults
from chordtx.sim.plan import Episode, Fault
from chordtx.sim.world import Options, World

SETTINGS = ChordSettings(partition_bits=2, replicas=3, restart_grace_seconds=20.0).validate()


def world_of(tmp_path: Path, hosts: int) -> World:
    world = World(1, Options(settings=SETTINGS, disks=True), tmp_path)
    world.complained = pytest.fail
    for _ in range(hosts):
        world.add_host()
    assert world.run_until(lambda: is_well(world), 60.0)
    return world


def is_well(world: World) -> bool:
    return not world.differences() and not world.misplaced()


def ids(world: World) -> list[str]:
    services: list[Any] = [host.service for host in world.hosts]
    return [service.id for service in services]


@pytest.mark.parametrize("fault", [Fault.TWICE, Fault.PUT_BACK])
def test_a_copy_of_a_folder_is_refused_and_the_node_goes_on(tmp_path: Path, fault: Fault) -> None:
    world = world_of(tmp_path, 5)
    before = ids(world)
    lines: list[str] = []
    world._print_line = lines.append
    Faults(world).begin(Episode(fault, 0.0, 25.0, 1, 7))
    world.run_for(30.0)
    assert world.run_until(lambda: is_well(world), 60.0)
    assert ids(world) == before
    assert any(" 10.8.0.1 starts as " in line for line in lines)


@pytest.mark.parametrize("fault", [Fault.TWICE, Fault.PUT_BACK])
def test_where_nobody_would_notice_no_folder_is_copied(tmp_path: Path, fault: Fault) -> None:
    world = world_of(tmp_path, 2)
    lines: list[str] = []
    world._print_line = lines.append
    Faults(world).begin(Episode(fault, 0.0, 25.0, 1, 7))
    world.run_for(26.0)
    assert not any(" 10.8.0.1 starts as " in line for line in lines)


def test_what_is_not_refused_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world, seen = world_of(tmp_path, 5), []
    world.complained = seen.append
    monkeypatch.setattr("chordtx.chord.node_parts.NodeParts.refused", lambda self, reason: None)
    Faults(world).begin(Episode(Fault.TWICE, 0.0, 10.0, 1, 7))
    world.run_for(11.0)
    assert seen == ["10.8.0.1: a copy of a folder that is in use is not refused"]


def test_another_ring_comes_and_goes(tmp_path: Path) -> None:
    world = world_of(tmp_path, 4)
    lines: list[str] = []
    world._print_line = lines.append
    Faults(world).begin(Episode(Fault.OTHER_RING, 0.0, 15.0, 3, 7))
    world.run_for(16.0)
    assert sum(" of another ring connects to " in line for line in lines) == 3
    assert (
        sum("two rings never become one" in line for line in lines) == 0
    )  # which the run logs, not the world
    assert is_well(world)


def test_one_part_does_not_hear_the_other(tmp_path: Path) -> None:
    world = world_of(tmp_path, 5)
    world._begin(
        Episode(Fault.DEAF, 0.0, 5.0, 1, 7), Faults(world).begin
    )  # nodes may be taken for dead from now on
    names = [host.name for host in world.hosts]
    cut = {(a, b) for a in names for b in names if a != b and world.network.is_cut(a, b)}
    deaf = {target for _, target in cut}
    others = {source for source, _ in cut}
    assert deaf | others == set(names)
    assert not deaf & others
    assert len(cut) == len(deaf) * len(others)
    world.run_for(6.0)
    assert not any(world.network.is_cut(*way) for way in cut)
    assert world.run_until(lambda: is_well(world), 60.0)


def test_many_join_and_leave_at_once(tmp_path: Path) -> None:
    world = world_of(tmp_path, 9)
    Faults(world).begin(Episode(Fault.CROWD, 0.0, 0.0, 8, 7))
    assert len(world.hosts) == 17
    assert sum(host.is_leaving for host in world.hosts) == 8
    assert world.run_until(lambda: len(world.members()) == 9 and is_well(world), 90.0)
