"""What a node keeps in its data folder beside its groups: who it is, whom it knows, which ring it is in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgpack
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.logger import Logger

from chordtx.chord.hosting import Hosting
from chordtx.chord.ring_identity import RingIdentity
from chordtx.errors import ChordError
from chordtx.mesh import Address
from chordtx.mesh.threads import Threads
from chordtx.store.folder import DataFolder
from chordtx.store.group_store import GroupStore, RunInThread

_PEERS_KEPT_MAX = 64


class Folder(Protocol):
    """A data folder, as :class:`~chordtx.store.folder.DataFolder` is one."""

    path: Path
    node_id: str | None
    peers: list[str]
    ring: bytes | None
    starts: int
    met: bytes | None
    store: GroupStore

    def noted(self, node_id: str, peers: Sequence[str], ring: bytes | None, met: bytes) -> dict[str, bytes]:
        """What is to be stored beside the groups, by name."""

    def close(self) -> Awaitable[None]:
        """Commit what there is, and let others use the folder."""


OpenFolder = Callable[[RunInThread], Folder]


def opens(path: str | None, subnet: str, reactor: IReactorTime) -> OpenFolder | None:
    """What opens the folder at ``path``; None when there is none."""
    if path is None:
        return None
    return lambda run_in_thread: DataFolder(path, subnet, run_in_thread, reactor.callLater)


class NodeFolder:
    """One node's data folder, or none.

    :ivar met_starts: the greatest counts of starts that were met, by node.
    :param open: opens it; None keeps nothing. :param known: gives the addresses of peers that the node knows.
    """

    _log = Logger()

    def __init__(
        self, reactor: IReactorFromThreads, open: OpenFolder | None, known: Callable[[], list[Address]]
    ) -> None:
        self._open = open
        self._known = known
        self._folder: Folder | None = None
        # The disk's own: nothing else that is slow in a thread is ever before it.
        self._thread = Threads(reactor, "chordtx disk", 1)
        self._noted: tuple[list[str], dict[int, int]] = ([], {})
        self.met_starts: dict[int, int] = {}

    def open(self) -> Folder | None:
        """The folder, open. :raises StorageFailed: when it cannot be used."""
        if self._open is not None:
            folder = self._folder = self._open(self._thread.run)
            packed = {} if folder.met is None else msgpack.unpackb(folder.met)
            self.met_starts = {int.from_bytes(id, "big"): starts for id, starts in packed.items()}
        return self._folder

    @property
    def path(self) -> str:
        """Where it is."""
        return "" if self._folder is None else str(self._folder.path)

    @property
    def status(self) -> dict[str, object]:
        """What operators see of it, fit for JSON; nothing without one."""
        if self._folder is None:
            return {}
        return {"data": self.path, "partitions_damaged": len(self._folder.store.lost)}

    @property
    def store(self) -> GroupStore | None:
        """What groups keep."""
        return None if self._folder is None else self._folder.store

    @property
    def ring(self) -> RingIdentity | None:
        """Of the ring that the node was in when it ran last."""
        if self._folder is None or self._folder.ring is None:
            return None
        return RingIdentity.from_wire(msgpack.unpackb(self._folder.ring))

    @property
    def starts(self) -> int:
        """How often the folder was opened, this time too; 0 without one."""
        return 0 if self._folder is None else self._folder.starts

    @property
    def has_news(self) -> bool:
        """Whether other peers are known, or have started more often, than was noted last."""
        return self._noted != (self._peers(), self.met_starts)

    def note(self, hosting: Hosting, id: str, ring: RingIdentity | None) -> None:
        """Keep who the node is, and whom it knows."""
        if self._folder is not None:
            self._noted = (self._peers(), dict(self.met_starts))
            packed = None if ring is None else msgpack.packb(ring.to_wire())
            met = {id.to_bytes(48, "big"): starts for id, starts in self.met_starts.items()}
            hosting.note(self._folder.noted(id, self._noted[0], packed, msgpack.packb(met)))

    def _peers(self) -> list[str]:
        return sorted(str(address) for address in self._known()[-_PEERS_KEPT_MAX:])

    async def close(self) -> None:
        """Store what there is, and let go of the folder."""
        folder, self._folder = self._folder, None
        if folder is None:
            return
        try:
            await folder.close()
        except ChordError as error:
            self._log.error("not everything could be stored at the end: {error}", error=str(error))
        finally:
            self._thread.stop()
