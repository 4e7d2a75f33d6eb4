"""Names are looked up in threads of their own, few at a time: nothing else that takes a thread waits."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IHostResolution
from zope.interface.verify import verifyObject

from chordtx.chord import ChordService
from chordtx.mesh.names import Names, ReactorWithNames
from chordtx.mesh.threads import Threads, TooMuchWork
from tests.mesh.peers import HOST, LISTEN, Mesh, outcomes

NAMES = {f"node{number}.example": HOST for number in range(1, 5)}


class SlowNames:
    """A name server that does not answer until it is told to.

    :ivar asked: the names, in the order in which they were asked. :ivar threads: who asked.
    """

    def __init__(self) -> None:
        self._real = socket.getaddrinfo
        self.answers = threading.Event()
        self.asked: list[str] = []
        self.threads: set[str] = set()

    def look_up(self, host: Any, *arguments: Any, **options: Any) -> Any:
        name = str(host)
        if name.endswith(".slow"):
            self.asked.append(name)
            self.threads.add(threading.current_thread().name)
            self.answers.wait(60)
            raise socket.gaierror(-2, "no such name")
        return self._real(NAMES.get(name, host), *arguments, **options)


@pytest.fixture
def slow_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowNames]:
    names = SlowNames()
    monkeypatch.setattr(socket, "getaddrinfo", names.look_up)
    yield names
    names.answers.set()


@pytest_twisted.ensureDeferred
async def test_name_is_found_and_one_that_is_none_is_not(mesh: Mesh, slow_names: SlowNames) -> None:
    first, second = await mesh.node(), await mesh.node()
    link = await second.connect("node1.example", first.out_addr[1])
    assert link.id == first.id
    assert link.remote_host == HOST
    slow_names.answers.set()
    with pytest.raises(Exception, match=r"none\.slow"):
        await second.connect("none.slow", 4444)


@pytest_twisted.ensureDeferred
async def test_slow_names_stop_neither_the_disk_nor_other_links(
    mesh: Mesh, slow_names: SlowNames, tmp_path: Path
) -> None:
    node = ChordService(mesh.reactor, listen=LISTEN, data=str(tmp_path / "data"))
    mesh.nodes.append(node)
    node.startService()
    await node.when_joined()
    failures = [outcomes(node.connect(f"h{number}.slow", 9)) for number in range(100)]
    await mesh.until(lambda: len(slow_names.asked) == 4, "the first lookups")
    for number in range(20):
        await node.set(b"k%d" % number, number)
    other = await mesh.node(subnet="chord")
    assert (await node.connect(*other.out_addr)).id == other.id
    assert len(slow_names.asked) == 4
    assert len(slow_names.threads) == 1  # of one name: they are ours
    assert sum(map(bool, failures)) >= 100 - 4 - 64
    await node.stopService()  # though its lookups still wait


@pytest_twisted.ensureDeferred
async def test_ring_of_nodes_that_are_reached_by_name(
    mesh: Mesh, slow_names: SlowNames, free_port: Any
) -> None:
    members: list[ChordService] = []
    for number in range(1, 5):
        port = free_port()
        peers = [str(members[0]._own_address())] if members else []
        member = ChordService(
            mesh.reactor,
            listen=f"tcp:{port}:interface={HOST}",
            advertise=f"node{number}.example:{port}",
            peers=peers,
        )
        mesh.nodes.append(member)
        member.startService()
        await member.when_joined()
        members.append(member)
    await mesh.until(lambda: all(len(member._ring.successors) == 3 for member in members), "a ring of four")
    await members[0].set(b"key", "value")
    assert await members[3].get(b"key") == "value"
    await mesh.until(lambda: all(len(m.routing_table) == 3 for m in members), "a link for each pair")


# The threads themselves


@pytest_twisted.ensureDeferred
async def test_work_is_done_in_order_by_one_thread_and_its_outcome_told(mesh: Mesh) -> None:
    threads = Threads(mesh.reactor, "one", 1)
    done: list[int] = []
    works = [threads.run(lambda number=number: done.append(number)) for number in range(50)]
    works.append(threads.run(lambda: 1 // 0))  # type: ignore[arg-type]
    *told, (succeeded, failure) = await DeferredList(works, consumeErrors=True)
    assert all(each for each, _ in told)
    assert done == list(range(50))
    assert not succeeded
    failure.trap(ZeroDivisionError)
    threads.stop()
    await mesh.until(lambda: not [t for t in threading.enumerate() if t.name == "one"], "the end of it")
    assert await threads.run(lambda: 5) == 5  # it may be used again
    threads.stop()


@pytest_twisted.ensureDeferred
async def test_more_than_may_wait_is_refused(mesh: Mesh) -> None:
    threads = Threads(mesh.reactor, "two", 2, waiting_max=3)
    goes_on = threading.Event()
    works = [threads.run(goes_on.wait) for _ in range(5)]
    for _ in range(3):
        with pytest.raises(TooMuchWork):
            await threads.run(goes_on.wait)
    goes_on.set()
    assert [outcome for _, outcome in await DeferredList(works)] == [True] * 5
    assert await threads.run(lambda: 1) == 1
    threads.stop()


@pytest_twisted.ensureDeferred
async def test_work_that_nobody_waits_for_any_more_ends_quietly(mesh: Mesh) -> None:
    threads = Threads(mesh.reactor, "three", 1)
    goes_on = threading.Event()
    given_up: Deferred[Any] = threads.run(goes_on.wait)
    outcomes(given_up)
    given_up.cancel()
    goes_on.set()
    assert await threads.run(lambda: 1) == 1
    threads.stop()


@pytest_twisted.ensureDeferred
async def test_resolver_does_as_twisted_asks(mesh: Mesh, slow_names: SlowNames) -> None:
    names = Names(mesh.reactor)
    assert ReactorWithNames(mesh.reactor, names).nameResolver is names

    class Receiver:
        def __init__(self) -> None:
            self.events: list[Any] = []

        def resolutionBegan(self, resolution: Any) -> None:
            verifyObject(IHostResolution, resolution)
            resolution.cancel()
            self.events.append(resolution.name)

        def addressResolved(self, address: Any) -> None:
            self.events.append((address.host, address.port))

        def resolutionComplete(self) -> None:
            self.events.append("end")

    receiver: Any = Receiver()
    names.resolveHostName(receiver, "node1.example", 77)
    await mesh.until(lambda: receiver.events[-1] == "end", "the end")
    assert receiver.events == ["node1.example", (HOST, 77), "end"]
    names.stop()
