"""Many nodes in one process, on real sockets of 127.0.0.1, and what a test wants to know of them all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater

from chordtx.chord import ChordService
from chordtx.config import ChordSettings, GroupSettings, MeshSettings
from chordtx.errors import ChordError, Stopped
from chordtx.group.record import Record
from chordtx.ring import Contact, distance
from chordtx.ring.partitions import lowest_position, partition_of

LISTEN = "tcp:0:interface=127.0.0.1"
POLL_SECONDS = 0.02
#: Longer than anything takes on a busy machine: only what hangs gets there.
PATIENCE_SECONDS = 30.0
#: Few partitions. Crashes are noticed soon, and nothing waits for long.
QUICK = ChordSettings(
    partition_bits=3,
    placement_settle_seconds=0.2,
    restart_grace_seconds=2.0,
    stabilize_interval_seconds=0.3,
    call_timeout_seconds=0.8,
    groups=GroupSettings(lease_seconds=0.3, majority_timeout_seconds=1.0, recover_after_seconds=1.0),
    mesh=MeshSettings(
        ping_interval_seconds=0.3, silence_timeout_seconds_min=0.8, silence_timeout_seconds_max=1.0
    ),
)


class Nodes:
    """The nodes of one test.

    :param reactor: the real one. :param seed: of the ids, and so of the order on the ring.
    :ivar members: those that store, while they run. :ivar leeches: those that do not.
    """

    def __init__(self, reactor: Any, seed: int = 0) -> None:
        self.reactor = reactor
        self.rng = Random(seed)
        self.members: list[ChordService] = []
        self.leeches: list[ChordService] = []
        self._stopping: list[Deferred[Any]] = []
        self._hanging: list[ChordService] = []

    # Starting and ending

    def start(
        self, *through: ChordService, settings: ChordSettings | None = None, **options: Any
    ) -> ChordService:
        """A node that begins to join through others; with none, it begins a ring, of few partitions."""
        if settings is not None:
            settings = evolve(settings, partition_bits=QUICK.partition_bits, groups=QUICK.groups)
        node = ChordService(
            self.reactor,
            listen=options.pop("listen", LISTEN),
            peers=[address(peer) for peer in through],
            settings=settings or QUICK,
            rng=Random(self.rng.getrandbits(64)),
            **options,
        )
        (self.leeches if node.leeching else self.members).append(node)
        node.startService()
        return node

    async def first(self, settings: ChordSettings | None = None) -> ChordService:
        """The first node of a ring, joined."""
        node = self.start(settings=settings)
        await node.when_joined()
        return node

    async def join(self, *through: ChordService, **options: Any) -> ChordService:
        """A node that has joined."""
        node = self.start(*through, **options)
        await node.when_joined()
        return node

    async def leech(self, through: ChordService, **options: Any) -> ChordService:
        """A node that uses the ring and stores nothing."""
        return await self.join(through, listen=None, **options)

    async def ring(self, count: int, settings: ChordSettings | None = None) -> list[ChordService]:
        """A settled ring of ``count`` nodes."""
        first = await self.first(settings)
        joining = [self.start(first, settings=settings) for _ in range(count - 1)]
        for node in joining:
            await node.when_joined()
        await self.settled()
        return self.members

    async def leave(self, node: ChordService) -> None:
        """Stop a node politely."""
        (self.leeches if node in self.leeches else self.members).remove(node)
        await node.stopService()

    def crash(self, node: ChordService) -> None:
        """End a node as ``kill -9`` does: nobody is told, the kernel closes its sockets."""
        self.members.remove(node)
        node._closing = True
        node._membership.stop()
        hosting, node._hosting = node._hosting, None
        if hosting is not None:
            hosting.stop()
        node._tasks.cancel()
        for link in [*node.routing_table.values(), *node.awaiting_ids]:
            link.abort(Stopped("crashed"))
        node._ring.leave()  # silent: so that nothing of it goes on in this process
        self._stopping.append(node.stopService())

    def hang(self, node: ChordService) -> None:
        """Make a node fall silent, as one that swaps: its sockets stay, and nothing comes of them."""
        self.members.remove(node)
        self._hanging.append(node)
        node._membership.stop()
        assert node._hosting is not None
        node._hosting.stop()
        node._tasks.cancel()
        node._factory.buildProtocol = lambda _: Protocol()  # type: ignore[assignment, return-value]
        for link in node.routing_table.values():
            link.dataReceived = lambda *_: None  # type: ignore[method-assign]
            link.watch = lambda *_: None  # type: ignore[method-assign]

    async def stop(self) -> None:
        """Stop everything."""
        for node in self._hanging:
            self.members.append(node)
            self.crash(node)
        leaving = [node.stopService() for node in self.leeches]
        await DeferredList(leaving)
        for node in self.members:
            node._ring.leave()  # what is stored is not needed any more: no handing over
        await DeferredList([*(node.stopService() for node in self.members), *self._stopping])

    # Waiting

    async def until(self, is_so: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until ``is_so()`` holds.

        :raises AssertionError: when it does not within ``seconds``.
        """
        deadline = self.reactor.seconds() + seconds
        while not is_so():
            assert self.reactor.seconds() < deadline, f"not within {seconds} s: {what}"
            await deferLater(self.reactor, POLL_SECONDS)

    async def settled(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until everybody's neighbours are the true ones, and every group is full and has a leader."""
        await self.until(lambda: not self.wrong(), "the true ring", seconds)
        deadline = self.reactor.seconds() + seconds
        while complaints := await self._complaints():
            assert self.reactor.seconds() < deadline, f"not within {seconds} s: {complaints}"
            await deferLater(self.reactor, POLL_SECONDS)

    async def _complaints(self) -> list[str]:
        try:
            return (await self.members[0].health(len(self.members))).complaints
        except ChordError as error:
            return [repr(error)]

    async def copied(self, keys: Iterable[bytes], seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until all of ``keys`` are with exactly the nodes that should have them, all the same."""
        keys = list(keys)
        await self.until(lambda: not self.misplaced(keys), "every record with its copies", seconds)

    # What is true

    def walk(self) -> list[Contact]:
        """The members in the order of the walk."""
        return sorted((node._ring.me for node in self.members), key=lambda contact: -contact.id)

    def owner(self, position: int) -> Contact:
        """Who owns ``position``, by the definition: the nearest at or below it."""
        return min(self.walk(), key=lambda contact: distance(position, contact.id))

    def row(self, key: bytes) -> list[Contact]:
        """Who is to keep ``key``: who owns the lowest position of its partition, and the next ones."""
        walk = self.walk()
        partition = partition_of(key, QUICK.partition_bits)
        place = walk.index(self.owner(lowest_position(partition, QUICK.partition_bits)))
        return [*walk[place:], *walk[:place]][: QUICK.replicas]

    def wrong(self) -> list[str]:
        """Who has wrong neighbours."""
        walk, found = self.walk(), []
        for node in self.members:
            place, ring = walk.index(node._ring.me), node._ring
            after = [*walk[place + 1 :], *walk[:place]]
            if list(ring.successors) != after[: ring.list_length]:
                found.append(f"successors of {address(node)}")
            if ring.predecessor != (after[-1] if after else None):
                found.append(f"predecessor of {address(node)}")
            found.extend(f"{address(node)}: {broken}" for broken in ring.check())
        return found

    def copies(self, key: bytes) -> dict[int, Record | None]:
        """What each member of the key's group has of it, by the id of the node."""
        partition = partition_of(key, QUICK.partition_bits)
        found = {}
        for node in self.members:
            group = None if node._hosting is None else node._hosting.group(partition)
            if group is not None and group.replica.state is not None:
                found[node.id_10] = group.replica.state.records.get(key)
        return found

    def misplaced(self, keys: Iterable[bytes]) -> list[bytes]:
        """Those of ``keys`` of which a copy is lacking, too many or outdated."""
        found = []
        for key in keys:
            copies = self.copies(key)
            is_right = set(copies) == {contact.id for contact in self.row(key)}
            if not is_right or any(copy != next(iter(copies.values())) for copy in copies.values()):
                found.append(key)
        return found

    def leads(self, node: ChordService) -> list[int]:
        """The partitions that a node leads."""
        return [] if node._hosting is None else node._hosting.leads


def address(node: ChordService) -> str:
    """Where a node is reached."""
    host, port = node.out_addr
    return f"{host}:{port}"


async def everything(deferreds: Sequence[Deferred[Any]]) -> list[Any]:
    """Wait for all, and fail with the first failure."""
    outcomes = await DeferredList(deferreds, consumeErrors=True)
    for succeeded, result in outcomes:
        if not succeeded:
            result.raiseException()
    return [result for _, result in outcomes]
