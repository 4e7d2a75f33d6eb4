"""What a node keeps in its data folder beside its groups: who it is, whom it knows, which ring it is in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack
from twisted.logger import Logger

from chordtx.chord.hosting import Hosting
from chordtx.chord.ring_identity import RingIdentity
from chordtx.errors import ChordError
from chordtx.mesh import Address
from chordtx.mesh.threads import Threads
from chordtx.store.group_folder import GroupFolder
from chordtx.store.group_store import GroupStore

_PEERS_KEPT_MAX = 64


class KeptFolder:
    """One node's data folder, or none.

    :param path: of the folder; None keeps nothing. :param subnet: the network's name.
    :param known: gives the addresses of peers that the node knows.
    """

    _log = Logger()

    def __init__(
        self, reactor: Any, path: str | None, subnet: str, known: Callable[[], list[Address]]
    ) -> None:
        self.path = path
        self._reactor = reactor
        self._subnet = subnet
        self._known = known
        self._folder: GroupFolder | None = None
        # The disk's own: nothing else that is slow in a thread is ever before it.
        self._thread = Threads(reactor, "chordtx disk", 1)
        self._noted_peers: list[str] = []

    def open(self) -> GroupFolder | None:
        """The folder, open. :raises StorageFailed: when it cannot be used."""
        if self.path is not None:
            self._folder = GroupFolder(self.path, self._subnet, self._thread.run, self._reactor.callLater)
        return self._folder

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
    def has_new_peers(self) -> bool:
        """Whether other peers are known than were noted last."""
        return self._noted_peers != self._peers()

    def note(self, hosting: Hosting, id: str, ring: RingIdentity | None) -> None:
        """Keep who the node is, and whom it knows."""
        if self._folder is not None:
            self._noted_peers = self._peers()
            packed = None if ring is None else msgpack.packb(ring.to_wire())
            hosting.note(self._folder.noted(id, self._noted_peers, packed))

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
