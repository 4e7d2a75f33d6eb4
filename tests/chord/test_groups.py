"""Rings whose records are in groups: who keeps what, what survives, who is refused."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, capturedLogs

from chordtx import ChordService
from chordtx.chord.hosting import LateAnswer
from chordtx.chord.leaders import node_id_of
from chordtx.config import ChordSettings
from chordtx.errors import ChordError, NoMajority, NotJoined, WrongRing
from chordtx.group.messages import Answer
from chordtx.group.operations import DONE
from chordtx.group.rank import NO_RANK
from tests.chord.nodes import QUICK, Nodes, address, everything

KEYS = [b"key %d" % number for number in range(40)]


async def filled(nodes: Nodes, count: int) -> list[Any]:
    """A ring in which all keys are."""
    members: list[Any] = await nodes.ring(count)
    await everything([members[0].set(key, key) for key in KEYS])
    return members


async def all_there(node: Any) -> bool:
    """Whether every key has its value, as a node reads it."""
    return bool(await node.get_many(KEYS) == {key: key for key in KEYS} and await node.count() == len(KEYS))


def copies(members: list[Any]) -> int:
    """How many records all nodes have together."""
    return sum(node.status["records"] for node in members)


# Who keeps and leads what


@pytest_twisted.ensureDeferred
async def test_each_partition_is_led_by_one_and_kept_by_five(nodes: Nodes) -> None:
    members = await filled(nodes, 7)
    led = [partition for node in members for partition in nodes.leads(node)]
    assert sorted(led) == list(range(8))
    kept = [partition for node in members for partition in node._hosting.kept]
    assert sorted(kept) == sorted(list(range(8)) * 5)
    await nodes.until(lambda: copies(members) == 5 * len(KEYS), "five copies of each")
    for node in members:
        assert await all_there(node)


@pytest_twisted.ensureDeferred
async def test_those_who_ought_to_lead_do(nodes: Nodes) -> None:
    from chordtx.group.configuration import by_preference

    members = await nodes.ring(4)

    def is_so() -> bool:
        for node in members:
            for partition in nodes.leads(node):
                ids = node._hosting.group(partition).configuration.ids
                if by_preference(partition, ids)[0] != node._hosting.me.id:
                    return False
        return sum(len(nodes.leads(node)) for node in members) == 8

    await nodes.until(is_so, "the preferred leaders")


@pytest_twisted.ensureDeferred
async def test_everything_moves_on_when_nodes_come_and_go(nodes: Nodes) -> None:
    await filled(nodes, 2)
    for _ in range(5):
        await nodes.join(nodes.members[0])
    await nodes.settled()
    for node in list(nodes.members[:4]):
        await nodes.leave(node)
        assert await all_there(nodes.members[0])
    await nodes.settled()
    assert await all_there(nodes.members[-1])


# What survives


@pytest_twisted.ensureDeferred
async def test_a_crash_loses_nothing(nodes: Nodes) -> None:
    await filled(nodes, 5)
    for _ in range(3):
        nodes.crash(nodes.members[1])
        assert await all_there(nodes.members[0])
        await nodes.settled()


@pytest_twisted.ensureDeferred
async def test_survivors_of_lost_processes_go_on_by_themselves(nodes: Nodes) -> None:
    """Without disks, and with processes that are known to have ended, nobody can come back."""
    members = await filled(nodes, 3)
    await nodes.until(lambda: copies(members) == 3 * len(KEYS), "three copies of each")
    nodes.crash(nodes.members[1])
    nodes.crash(nodes.members[1])
    await nodes.settled()
    assert await all_there(nodes.members[0])


@pytest_twisted.ensureDeferred
async def test_without_a_majority_of_disks_nobody_goes_on_but_by_an_order(
    nodes: Nodes, tmp_path: Path
) -> None:
    settings = ChordSettings(operation_timeout_seconds=1.5)
    first: Any = nodes.start(settings=settings, data=str(tmp_path / "0"))
    await first.when_joined()
    for number in (1, 2):
        await nodes.join(first, data=str(tmp_path / str(number)))
    await nodes.settled()
    await everything([first.set(key, key) for key in KEYS])
    await nodes.until(lambda: copies(list(nodes.members)) == 3 * len(KEYS), "three copies of each")
    nodes.crash(nodes.members[1])
    nodes.crash(nodes.members[1])
    with pytest.raises(NoMajority):
        await first.set("another", 1)
    leech: Any = await nodes.leech(first)
    (count,) = await leech.order(address(first), "recover")
    assert count == 8
    await nodes.settled()
    assert await first.get_many(KEYS) == {key: key for key in KEYS}


@pytest_twisted.ensureDeferred
async def test_a_whole_ring_is_started_again(nodes: Nodes, tmp_path: Path) -> None:
    folders = [str(tmp_path / str(number)) for number in range(3)]
    first: Any = nodes.start(data=folders[0])
    await first.when_joined()
    for folder in folders[1:]:
        await nodes.join(first, data=folder)
    await nodes.settled()
    await everything([first.set(key, key) for key in KEYS])
    ids = {node.id for node in nodes.members}
    for node in list(nodes.members):
        await nodes.leave(node)
    peers = [address(first)]
    again = [nodes.start(data=folders[0], listen=f"tcp:{peers[0].split(':')[1]}:interface=127.0.0.1")]
    again += [nodes.start(data=folder) for folder in folders[1:]]
    for node in again:
        await node.when_joined()
    await nodes.settled()
    assert {node.id for node in again} == ids
    assert await all_there(again[1])


@pytest_twisted.ensureDeferred
async def test_a_node_with_a_folder_that_is_away_is_waited_for(nodes: Nodes, tmp_path: Path) -> None:
    members = await filled(nodes, 3)
    kept: Any = await nodes.join(members[0], data=str(tmp_path / "kept"))
    await nodes.settled()
    id = kept._hosting.me.id
    await nodes.leave(kept)
    assert all(id in members[0]._hosting.group(each).configuration.ids for each in range(8))
    assert await all_there(members[0])
    await nodes.until(
        lambda: not any(id in members[0]._hosting.group(each).configuration.ids for each in range(8)),
        "the time of grace is over",
    )


# Leaving for good


@pytest_twisted.ensureDeferred
async def test_an_operator_makes_a_node_leave(nodes: Nodes) -> None:
    members = await filled(nodes, 3)
    leech: Any = await nodes.leech(members[0])
    gone: Any = members[2]
    left = gone.when_left()
    await leech.order(address(gone), "leave")
    nodes.members.remove(gone)
    await left
    await nodes.settled()
    assert await all_there(leech)


@pytest_twisted.ensureDeferred
async def test_orders_are_taken_from_this_machine_only(nodes: Nodes) -> None:
    members = await nodes.ring(2)
    leech: Any = await nodes.leech(members[0])
    link = members[0].routing_table[leech.id]
    link.remote_host = "192.0.2.1"
    for what in ("leave", "recover"):
        with pytest.raises(ChordError, match="this machine"):
            await leech.order(address(members[0]), what)


@pytest_twisted.ensureDeferred
async def test_health_says_what_is_missing(nodes: Nodes) -> None:
    members: list[Any] = await nodes.ring(3)
    assert (await members[0].health()).text == "healthy: 3 nodes, 8 partitions of 3 members each"
    assert (await members[0].health(4)).complaints == ["3 nodes of 4 are there"]
    assert not (await members[0].health(3, members[1].id)).complaints
    nodes.crash(members[2])
    assert (await members[0].health()).complaints
    await nodes.settled()
    assert "neither can be lost" in (await members[0].health()).text
    lost = await members[0].health(0, members[1].id)
    assert lost.complaints == ["8 partitions (0, 1, 2, 3, 4, ...) without a majority then"]


# Rings larger than links


@pytest_twisted.ensureDeferred
async def test_who_has_no_link_to_a_leader_asks_by_another(nodes: Nodes) -> None:
    await filled(nodes, 4)
    narrow = evolve(QUICK, mesh=evolve(QUICK.mesh, connections_max=1))
    leech: Any = await nodes.leech(nodes.members[0], settings=narrow)
    assert await all_there(leech)
    await leech.set("another", 1)
    assert len(leech.routing_table) <= 2  # a lookup may have needed one


# Whose ring it is


@pytest.mark.parametrize("leech", [True, False])
@pytest_twisted.ensureDeferred
async def test_who_is_given_peers_of_two_rings_takes_neither(nodes: Nodes, leech: bool) -> None:
    one: Any = await nodes.first()
    other: Any = await nodes.first()
    for node in (one, other):
        await node.set("key", address(node))
    for through in ((one, other), (other, one)):
        mixed: Any = nodes.start(*through, **({"listen": None} if leech else {}))
        with capturedLogs() as events:
            with pytest.raises(WrongRing, match="of different rings") as failed:
                await mixed.when_joined()
            await deferLater(nodes.reactor, 0.5)
        said = [event for event in events if "not joined yet" in (event.get("log_format") or "")]
        assert len(said) == 1, "it goes on trying, and says it once"
        for node in through:
            assert f"{address(node)} is of ring {node.status['ring']}" in str(failed.value)
        await nodes.leave(mixed)


@pytest_twisted.ensureDeferred
async def test_a_given_peer_that_hangs_keeps_nobody_out(nodes: Nodes) -> None:
    one: Any = await nodes.first()
    other: Any = await nodes.first()
    await one.set("key", "value")
    other._factory.buildProtocol = lambda _: Protocol()
    leech: Any = nodes.start(one, other, listen=None)
    await leech.when_joined()
    assert await leech.get("key") == "value"


@pytest_twisted.ensureDeferred
async def test_two_rings_never_become_one(nodes: Nodes) -> None:
    one: Any = await nodes.first()
    other: Any = await nodes.first()
    await one.set("a", 1)
    await other.set("b", 2)
    await one.connect(*other.out_addr)
    await nodes.until(lambda: not one.routing_table and not other.routing_table, "they part")
    assert one.status["ring"] != other.status["ring"]
    assert (await one.get("a"), await one.get("b"), await other.get("b")) == (1, None, 2)


@pytest_twisted.ensureDeferred
async def test_a_ring_of_one_that_holds_nothing_gives_itself_up(nodes: Nodes) -> None:
    one: Any = await nodes.first()
    await one.set("a", 1)
    other: Any = await nodes.first()
    await other.connect(*one.out_addr)
    await nodes.settled()
    assert await other.get("a") == 1


@pytest_twisted.ensureDeferred
async def test_one_list_for_all(nodes: Nodes, running_reactor: Any) -> None:
    free = await _free_ports(nodes, 3)
    peers = [f"127.0.0.1:{port}" for port in free]
    started = []
    for port in reversed(free):  # the first of the list comes last
        node = ChordService(
            running_reactor, listen=f"tcp:{port}:interface=127.0.0.1", peers=peers, settings=QUICK
        )
        nodes.members.append(node)
        node.startService()
        started.append(node)
        await deferLater(running_reactor, 0.1)
    for node in started:
        await node.when_joined()
    await nodes.settled()
    assert len({node.status["ring"] for node in started}) == 1


async def _free_ports(nodes: Nodes, count: int) -> list[int]:
    taken = [await nodes.first() for _ in range(count)]
    ports = [node.out_addr[1] for node in taken]
    for node in taken:
        await nodes.leave(node)
    return ports


# One id, one process


@pytest_twisted.ensureDeferred
async def test_a_copy_of_a_folder_is_refused(nodes: Nodes, tmp_path: Path) -> None:
    members = await filled(nodes, 3)
    kept: Any = await nodes.join(members[0], data=str(tmp_path / "kept"))
    await nodes.settled()
    await nodes.leave(kept)
    shutil.copytree(tmp_path / "kept", tmp_path / "copy")
    again: Any = await nodes.join(members[0], data=str(tmp_path / "kept"))
    await nodes.settled()
    copy: Any = nodes.start(members[0], data=str(tmp_path / "copy"))
    with capturedLogs() as events:
        with pytest.raises(NotJoined, match="another process with this node's id"):
            await copy.when_joined()
        await nodes.until(lambda: _told_of_rivals(events), "the one that stays is told, too")
    assert {event["address"] for event in _told_of_rivals(events)} == {address(copy)}
    nodes.members.remove(copy)
    await nodes.leave(again)
    old: Any = nodes.start(members[0], data=str(tmp_path / "copy"))  # has started once: the other one twice
    nodes.members.remove(old)
    await old.when_joined()
    await old.stopService()


def _told_of_rivals(events: Sequence[LogEvent]) -> list[LogEvent]:
    return [event for event in events if "that it has this node's id" in (event.get("log_format") or "")]


@pytest.mark.parametrize("is_fellow", [True, False])
@pytest_twisted.ensureDeferred
async def test_a_folder_that_was_put_back_is_refused(nodes: Nodes, tmp_path: Path, is_fellow: bool) -> None:
    members = await filled(nodes, 3)
    kept: Any = await nodes.join(members[0], data=str(tmp_path / "kept"))
    await nodes.settled()
    await nodes.leave(kept)
    shutil.copytree(tmp_path / "kept", tmp_path / "copy")
    for _ in range(2):
        kept = await nodes.join(members[0], data=str(tmp_path / "kept"))
        await nodes.settled()
        await nodes.leave(kept)
    if not is_fellow:
        await nodes.until(lambda: not any(_has_as_fellow(node, kept) for node in members), "it is replaced")
    old: Any = nodes.start(members[0], data=str(tmp_path / "copy"))
    nodes.members.remove(old)
    with pytest.raises(NotJoined, match="newer than this one"):
        await old.when_joined()
    assert await all_there(members[0])


@pytest_twisted.ensureDeferred
async def test_starts_are_counted_once_a_node_is_in_a_group(nodes: Nodes, tmp_path: Path) -> None:
    """When it tells of them it is in none yet."""
    members: list[Any] = list(await filled(nodes, 3))
    kept = await nodes.join(members[0], data=str(tmp_path / "kept"))
    await nodes.until(
        lambda: all(node._kept.met_starts.get(kept.id_10) == 1 for node in members), "all have counted"
    )


def _has_as_fellow(node: Any, other: Any) -> bool:
    return bool(node._hosting.is_fellow(node_id_of(other.id_10)))


@pytest.mark.parametrize("is_early", [True, False])
def test_an_answer_comes_to_who_waits_for_it_be_it_early_or_late(is_early: bool) -> None:
    late = LateAnswer()
    found: list[Answer] = []
    answer = Answer(b"client", 1, DONE, None, NO_RANK, NO_RANK)
    if is_early:
        late(answer)
    late.waiting().addCallback(found.append)
    if not is_early:
        late(answer)
    late(answer)  # once more says nothing
    assert found == [answer]
