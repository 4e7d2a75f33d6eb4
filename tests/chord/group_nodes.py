"""Nodes whose records are in groups, and what a test wants to know of them all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import evolve
from twisted.internet.defer import DeferredList
from twisted.internet.task import deferLater

from chordtx.chord.service import ChordService
from chordtx.config import ChordSettings, GroupSettings, MeshSettings
from chordtx.errors import Stopped
from tests.chord.nodes import PATIENCE_SECONDS, POLL_SECONDS, Nodes

#: Few partitions, and nothing waits for long.
FEW = ChordSettings(
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


class GroupNodes(Nodes):
    """The nodes of one test."""

    kind = ChordService
    settings = FEW

    def start(self, *through: Any, settings: ChordSettings | None = None, **options: Any) -> Any:
        """See :class:`Nodes`; rings are of few partitions."""
        if settings is not None:
            settings = evolve(settings, partition_bits=FEW.partition_bits, groups=FEW.groups)
        return super().start(*through, settings=settings, **options)

    def crash(self, node: Any) -> None:
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

    async def stop(self) -> None:
        """Stop everything."""
        await DeferredList([node.stopService() for node in self.leeches])
        for node in self.members:
            node._ring.leave()  # what is stored is not needed any more: no handing over
        await DeferredList([*(node.stopService() for node in self.members), *self._stopping])

    async def settled(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until everybody's neighbours are the true ones, and every group is full and has a leader."""
        await super().settled(seconds)
        deadline = self.reactor.seconds() + seconds
        complaints = ["nobody was asked"]
        while complaints:
            assert self.reactor.seconds() < deadline, f"not within {seconds} s: {complaints}"
            await deferLater(self.reactor, POLL_SECONDS)
            try:
                complaints = (await self.members[0].health(len(self.members))).complaints  # type: ignore[attr-defined]
            except Exception as error:
                complaints = [repr(error)]

    async def repaired(self, keys: Iterable[bytes], seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until every group is full."""
        await self.settled(seconds)

    def lead(self, node: Any) -> list[int]:
        """The partitions that a node leads."""
        return node._hosting.leads  # type: ignore[no-any-return]
