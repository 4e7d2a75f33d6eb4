"""The hosts of a simulated run: how they come, go, crash and come back, and what the world sees of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred

from chordtx.config import ChordSettings
from chordtx.sim.faults import Faults
from chordtx.sim.hosts import Host
from chordtx.sim.plan import Episode, Fault
from chordtx.sim.virtual import EPOCH_SECONDS
from chordtx.sim.world import Options, World

SETTINGS = ChordSettings(partition_bits=2, replicas=3, restart_grace_seconds=20.0).validate()
#: Seeds of a world whose hosts have disks, and of one whose hosts have none.
WITH_DISKS, WITHOUT_DISKS = 1, 5

Make = Callable[..., World]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """``make(seed, hosts)`` gives a world whose ring stands, and in which nothing wrong was seen."""

    def made(seed: int, hosts: int = 5, settings: ChordSettings = SETTINGS) -> World:
        world = World(seed, Options(settings=settings), tmp_path)
        world.complained = pytest.fail
        for _ in range(hosts):
            world.add_host()
        assert world.run_until(lambda: is_well(world), 60.0)
        return world

    return made


def is_well(world: World) -> bool:
    return not world.differences() and not world.misplaced()


def service_of(host: Host) -> Any:
    assert host.service is not None
    return host.service


def result(world: World, work: Deferred[Any]) -> Any:
    found: list[Any] = []
    work.addBoth(found.append)
    assert world.run_until(lambda: bool(found), 30.0)
    return found[0]


def write(world: World, count: int = 12) -> None:
    for number in range(count):
        assert result(world, service_of(world.hosts[0]).set(b"key %d" % number, number)) is None


def read(world: World, host: Host, count: int = 12) -> list[Any]:
    return [result(world, service_of(host).get(b"key %d" % number)) for number in range(count)]


def members_of_groups(world: World) -> set[bytes]:
    """Who is in any group, as their leaders say."""
    groups = [group for host in world.members() for group in service_of(host)._hosting.groups.groups.values()]
    return {id for group in groups if group.is_leading for id in group.configuration.ids}


@pytest.mark.parametrize("seed", [WITH_DISKS, WITHOUT_DISKS])
def test_the_seeds_are_what_they_are_said_to_be(make: Make, seed: int) -> None:
    assert [host.disk is not None for host in make(seed, 2).hosts] == [seed == WITH_DISKS] * 2


@pytest.mark.parametrize("seed", [WITH_DISKS, WITHOUT_DISKS])
def test_who_leaves_is_in_no_group_any_more(make: Make, seed: int) -> None:
    """Though one with a disk that only stops is waited for."""
    world = make(seed)
    write(world)
    host = world.hosts[2]
    id = service_of(host)._hosting.me.id
    assert id in members_of_groups(world)
    world.leave(host)
    assert not host.is_member
    assert world.run_until(lambda: host.service is None, SETTINGS.restart_grace_seconds / 2)
    assert id not in members_of_groups(world)
    assert world.run_until(lambda: is_well(world), 60.0)
    assert read(world, world.hosts[4]) == list(range(12))


@pytest.mark.parametrize("seed", [WITH_DISKS, WITHOUT_DISKS])
@pytest.mark.parametrize("is_silent", [False, True])
def test_who_crashes_comes_back_with_what_its_disk_has(make: Make, seed: int, is_silent: bool) -> None:
    world = make(seed)
    write(world)
    host, ended = world.hosts[1], []
    before = service_of(host)
    kept = set(before._hosting.kept)
    host.when_ended.append(lambda: ended.append(world.time.now))
    world.crash(host, is_silent)
    assert (host.service, host.is_down, ended) == (None, True, [world.time.now])
    world.run_for(3.0)
    world.boot(host)
    after = service_of(host)
    world.run_for(0.0)
    if seed == WITH_DISKS:
        assert after.id == before.id
        assert set(after._hosting.kept) == kept
        assert kept
    else:
        assert after.id != before.id
        assert after._hosting is None or not set(after._hosting.kept)
    assert world.run_until(lambda: is_well(world), 60.0)
    assert read(world, host) == list(range(12))


def test_what_a_paused_process_is_asked_waits(make: Make) -> None:
    world = make(WITHOUT_DISKS)
    reactor = service_of(world.hosts[3]).reactor
    reactor.is_paused = True
    found: list[Any] = []
    service_of(world.hosts[3]).set(b"key", 1).addBoth(found.append)
    world.run_for(2.0)
    assert found == []
    reactor.resume()
    assert world.run_until(lambda: found == [None], 30.0)


def test_a_ring_that_is_not_whole_is_seen(make: Make) -> None:
    world = make(WITHOUT_DISKS)
    for host in world.hosts[1:3]:
        world.crash(host, is_silent=True)
    world.run_for(0.1)
    assert any(each.startswith("successors of ") for each in world.differences())
    assert any(each.startswith("predecessor of ") for each in world.differences())
    world.crash(world.hosts[0], is_silent=True)
    assert any(each.endswith(" has 0 leaders") for each in world.misplaced())
    fresh = world.add_host()
    assert f"{fresh.address} is in no ring" in world.differences()


def test_groups_that_change_and_have_a_member_too_few_are_seen(make: Make) -> None:
    world = make(WITHOUT_DISKS, 3)
    hosting = service_of(world.hosts[0])._hosting
    group = next(group for group in hosting.groups.groups.values() if group.is_leading)
    hosting.place(group.partition, group.configuration.members[:2])
    seen: set[str] = set()
    for _ in range(2000):
        world.run_for(0.001)
        seen.update(world.misplaced())
    about = f"partition {group.partition} "
    assert {about + "changes its members", about + "has 2 members"} <= seen
    assert world.run_until(lambda: is_well(world), 60.0)


def test_a_node_is_never_given_only_peers_that_have_left(make: Make) -> None:
    world = make(WITHOUT_DISKS, 8)
    for host in world.hosts[2:7]:
        world.leave(host)
    assert world.run_until(lambda: len(world.members()) == 3 and is_well(world), 60.0)
    present = {host.address for host in world.members()[:2]}
    drawn = [world._draw_peers(world.hosts[7]) for _ in range(200)]
    assert all(present.intersection(peers) for peers in drawn)
    assert any(set(peers) - present for peers in drawn)


def test_wall_clocks_differ_by_seconds_and_those_of_new_hosts_go_with_the_others(make: Make) -> None:
    world = make(WITHOUT_DISKS, 4)

    def offsets() -> list[float]:
        return [host.wall_clock() - EPOCH_SECONDS - world.time.now for host in world.hosts]

    before = offsets()
    assert 0 < max(before) - min(before) < 4.0
    Faults(world).set_all_clocks(3600.0)
    assert offsets() == pytest.approx([each + 3600.0 for each in before])
    world.add_host()
    assert offsets()[-1] == pytest.approx(3600.0, abs=2.0)


def test_lines_make_the_digest(tmp_path: Path) -> None:
    lines: list[str] = []
    world, other = World(1, Options(), tmp_path, lines.append), World(1, Options(), tmp_path)
    assert world.digest == other.digest
    world.log("something")
    assert lines == ["    0.000000 something"]
    assert world.digest != other.digest
    other.log("something")
    assert world.digest == other.digest


def test_where_the_disks_are_is_not_in_the_log(tmp_path: Path) -> None:
    lines: list[str] = []
    worlds = [World(1, Options(), tmp_path / name, lines.append) for name in ("one", "other")]
    for world, name in zip(worlds, ("one", "other"), strict=True):
        world.log(f"storing in {tmp_path / name / '10.0.0.1'} works again")
    assert lines == ["    0.000000 storing in disks/10.0.0.1 works again"] * 2
    assert worlds[0].digest == worlds[1].digest


def test_a_ring_that_was_off_for_days_has_all_of_its_records(make: Make) -> None:
    world = make(WITH_DISKS)
    write(world)
    before = {service_of(host).id for host in world.hosts}
    world.switch_off(days=3.0)
    assert world.time.now > 3 * 86_400
    assert world.run_until(lambda: is_well(world), 60.0)
    assert {service_of(host).id for host in world.hosts} == before
    assert read(world, world.hosts[2]) == list(range(12))
    assert world.faults[Fault.OFF] == 1


def test_who_is_left_of_a_ring_lets_the_others_in_again(make: Make) -> None:
    """It lost all at once, more than it lists; they wait for a ring, and it is the one that they knew."""
    world = make(WITH_DISKS, 8, settings=evolve(SETTINGS, successors_max=3))
    write(world)
    others = world.hosts[1:]
    for host in others:
        world.crash(host, is_silent=True)
    survivor = service_of(world.hosts[0])
    assert world.run_until(lambda: survivor._ring.is_cut_off, 30.0)
    assert world.run_until(lambda: survivor._ring.complete, 30.0)
    for host in others:
        world.boot(host)
    assert world.run_until(lambda: is_well(world), 60.0)
    assert read(world, world.hosts[0]) == list(range(12))


def test_who_stores_nothing_any_more_joins_again(make: Make) -> None:
    world = make(WITHOUT_DISKS)
    write(world)
    episode = Episode(Fault.UNJOIN, 0.0, 20.0, 1, 0)
    Faults(world).begin(episode)
    (host,) = [host for host in world.hosts if host.is_leaving]
    assert world.run_until(lambda: not service_of(host)._ring.is_member, 15.0)
    world.run_for(20.0)
    assert host.is_member
    assert world.run_until(lambda: is_well(world), 60.0)
    assert read(world, host) == list(range(12))


def test_a_full_disk_stores_nothing_and_then_again(make: Make) -> None:
    world = make(WITH_DISKS, 3)
    write(world)
    for host in world.hosts[:2]:
        host.disk.full_for = 1  # type: ignore[union-attr]
    found: list[Any] = []
    service_of(world.hosts[2]).set(b"key 0", "new").addBoth(found.append)
    world.run_for(3.0)
    assert found == []
    for host in world.hosts[:2]:
        host.disk.full_for = 0  # type: ignore[union-attr]
    assert world.run_until(lambda: found == [None], 30.0)


def test_connections_that_are_refused_are_made_in_the_end(make: Make) -> None:
    world = make(WITHOUT_DISKS)
    host = world.hosts[1]
    world.network.refuse(host.name)
    before = set(world.network.transports)
    for _ in range(200):
        world.network.break_connection()
    world.run_for(5.0)
    world.network.accept(host.name)
    assert world.run_until(lambda: is_well(world), 60.0)
    assert not before & set(world.network.transports)


def test_guests_use_the_ring_and_keep_nothing(make: Make) -> None:
    world = make(WITHOUT_DISKS)
    write(world)
    world.add_guest()
    (guest,) = world.guests
    assert world.run_until(lambda: guest in world.callers(), 30.0)
    assert read(world, guest) == list(range(12))
    assert guest not in world.members()
    assert service_of(guest)._hosting is None


def test_clocks_that_run_forward_differ_in_rate_by_less_than_is_assumed(make: Make) -> None:
    world = make(WITHOUT_DISKS, 8)
    rates = [host.rate for host in world.hosts]
    assert 1.0 < max(rates) / min(rates) < 1.05
    host = world.hosts[0]
    assert service_of(host).reactor.seconds() == pytest.approx(world.time.now * host.rate)


def test_a_lease_that_is_counted_too_long_is_seen(make: Make) -> None:
    world = make(WITHOUT_DISKS, 3)
    seen: list[str] = []
    world.complained = seen.append
    partition, group = next(
        (partition, group)
        for host in world.hosts
        for partition, group in service_of(host)._hosting.groups.groups.items()
        if group.is_leading
    )
    group.leader._held_lease.granted(group.leader.others[0], world.time.now + 9.0)
    group.leader._held_lease.granted(group.leader.others[1], world.time.now + 9.0)
    for number in range(40):
        result(world, service_of(world.hosts[0]).set(b"other %d" % number, 1))
    assert any(each.startswith(f"partition {partition}: S4 the lease of") for each in seen)
    assert len(seen) == 1  # what follows from it says nothing
