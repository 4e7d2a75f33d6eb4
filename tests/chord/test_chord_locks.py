"""Locks: one holder at a time, first come first served, given up when the holder dies."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from chordtx import ChordError, Lock, LockLost
from chordtx.ring.partitions import partition_of
from tests.chord.nodes import QUICK, Nodes, everything


async def queue_of(nodes: Nodes, count: int) -> None:
    """Wait until so many wait for the lock."""
    while len((await nodes.members[0].get("lock:name"))["waiting"]) != count:
        await deferLater(nodes.reactor, 0.01)


async def held(lock: Lock) -> Lock:
    assert await lock.acquire()
    return lock


@pytest_twisted.ensureDeferred
async def test_one_holds_it_at_a_time_and_tokens_grow(nodes: Nodes) -> None:
    members = await nodes.ring(3)
    leech = await nodes.leech(members[0])
    inside, tokens, most = 0, [], 0

    async def work(node: Any) -> None:
        nonlocal inside, most
        for _ in range(5):
            async with node.lock("name") as lock:
                assert lock.is_held
                inside += 1
                most = max(most, inside)
                tokens.append(lock.token)
                await deferLater(nodes.reactor, 0.002)
                inside -= 1
            assert not lock.is_held

    await everything([Deferred.fromCoroutine(work(node)) for node in (*members, leech) for _ in range(2)])
    assert most == 1
    assert len(tokens) == 40
    assert tokens == sorted(set(tokens))


@pytest_twisted.ensureDeferred
async def test_who_came_first_has_the_first_turn(nodes: Nodes) -> None:
    members = await nodes.ring(3)
    first = await held(members[0].lock("name"))
    order: list[int] = []
    waiting = []
    for number in range(6):
        lock = members[number % 3].lock("name")

        async def turn(lock: Lock = lock, number: int = number) -> None:
            async with lock:
                order.append(number)

        waiting.append(Deferred.fromCoroutine(turn()))
        await queue_of(nodes, number + 1)
    assert order == []
    await first.release()
    await everything(waiting)
    assert order == list(range(6))


@pytest_twisted.ensureDeferred
async def test_a_lock_of_a_holder_that_died_is_free_after_its_lease(nodes: Nodes) -> None:
    members = await nodes.ring(4)
    dying: Any = members[3]
    lock = await held(dying.lock("name", ttl=1))
    nodes.crash(dying)
    other = members[0].lock("name", ttl=1)
    assert not await other.acquire(wait=False)
    assert await other.acquire()
    assert other.token > lock.token
    await other.release()


@pytest_twisted.ensureDeferred
async def test_it_is_held_for_longer_than_its_lease_while_the_holder_lives(nodes: Nodes) -> None:
    members = await nodes.ring(3)
    async with members[0].lock("name", ttl=0.6) as lock:
        await deferLater(nodes.reactor, 2)
        assert lock.is_held
        assert not await members[1].lock("name").acquire(wait=False)


@pytest_twisted.ensureDeferred
async def test_a_holder_that_stood_still_for_too_long_is_told_so(nodes: Nodes) -> None:
    """Its process is stopped, or its machine sleeps: the clock of its leases goes on, and it does nothing."""
    members = await nodes.ring(3)
    asleep = 0.0
    slow: Any = await nodes.leech(members[0], lease_clock=lambda: nodes.reactor.seconds() + asleep)
    lock: Lock = slow.lock("name", ttl=5)
    assert await lock.acquire()
    lost = lock.when_lost()
    asleep = 10.0
    assert not lock.is_held
    await lost
    other = members[0].lock("name")
    assert await other.acquire()
    assert other.token > lock.token
    with pytest.raises(LockLost) as caught:
        await lock.release()
    assert caught.value.token == lock.token
    assert other.is_held
    await other.release()


@pytest_twisted.ensureDeferred
async def test_who_is_told_too_late_that_it_had_the_lock_asks_again(nodes: Nodes) -> None:
    """The answer is under way for longer than the lease that it tells of."""
    members = await nodes.ring(3)
    late = 0.0
    slow: Any = await nodes.leech(members[0], lease_clock=lambda: nodes.reactor.seconds() + late)
    tried: Lock = slow.lock("name", ttl=5)
    trying, late = tried.acquire(wait=False), 10.0
    assert not await trying
    lock: Lock = slow.lock("name", ttl=5)
    acquiring, late = lock.acquire(), 20.0
    assert await acquiring
    assert lock.is_held
    assert not await members[1].lock("name").acquire(wait=False)
    await lock.release()


@pytest_twisted.ensureDeferred
async def test_at_the_end_of_the_block_a_lost_lock_is_an_error(nodes: Nodes) -> None:
    node: Any = await nodes.first()
    with pytest.raises(LockLost):
        async with node.lock("name"):
            await node.delete("lock:name")


@pytest_twisted.ensureDeferred
async def test_what_is_raised_in_the_block_counts_more_than_a_lost_lock(nodes: Nodes) -> None:
    node: Any = await nodes.first()

    async def fails() -> None:
        async with node.lock("name"):
            await node.delete("lock:name")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fails()


@pytest_twisted.ensureDeferred
async def test_who_does_not_wait_any_more_is_no_more_in_the_queue(nodes: Nodes) -> None:
    node: Any = await nodes.first()
    lock = await held(node.lock("name"))
    waiting = node.lock("name").acquire()
    await queue_of(nodes, 1)
    waiting.cancel()
    with pytest.raises(CancelledError):
        await waiting
    await queue_of(nodes, 0)
    await lock.release()
    assert (await node.get("lock:name"))["holder"] is None
    assert (await node.entry("lock:name")).expires is not None


@pytest_twisted.ensureDeferred
async def test_a_lock_is_used_by_one_holder(nodes: Nodes) -> None:
    node: Any = await nodes.first()
    lock = node.lock("name")
    with pytest.raises(RuntimeError, match="not held"):
        lock.release()
    assert await lock.acquire()
    with pytest.raises(RuntimeError, match="held or waited for already"):
        lock.acquire()
    await lock.release()
    assert await lock.acquire()
    await lock.release()


@pytest_twisted.ensureDeferred
async def test_what_is_no_lock_is_left_alone(nodes: Nodes) -> None:
    node: Any = await nodes.first()
    for value in ("text", {"holder": None}, {"holder": 5, "token": 1, "until": 0, "waiting": []}):
        await node.set("lock:name", value)
        with pytest.raises(TypeError, match="no lock"):
            await node.lock("name").acquire()
        assert await node.get("lock:name") == value
    for ttl in (0, -1, float("inf"), 400 * 24 * 3600):
        with pytest.raises(ValueError):
            node.lock("name", ttl=ttl)
    with pytest.raises(TypeError):
        node.lock("name", ttl=None)


@pytest_twisted.ensureDeferred
async def test_a_lock_survives_the_leader_of_its_group(nodes: Nodes) -> None:
    members = await nodes.ring(5)
    leech: Any = await nodes.join(*members, listen=None)
    lock: Lock = await held(leech.lock("name", ttl=10))
    waiting = leech.lock("name", ttl=10).acquire()
    await queue_of(nodes, 1)
    partition = partition_of(b"lock:name", QUICK.partition_bits)
    (leader,) = [node for node in members[1:] if partition in nodes.leads(node)] or members[:1]
    nodes.crash(leader)
    assert await leech.get("lock:name")
    assert lock.is_held
    await lock.release()
    assert await waiting


@pytest_twisted.ensureDeferred
async def test_when_the_node_stops_its_locks_are_free_after_their_leases(nodes: Nodes) -> None:
    members = await nodes.ring(3)
    leech: Any = await nodes.leech(members[0])
    lock = await held(leech.lock("name", ttl=0.5))
    await nodes.leave(leech)
    assert await members[0].lock("name").acquire()
    with pytest.raises(ChordError):
        await lock.release()
