"""What a node keeps in its data folder from one run to the next: who it is, whom it knows, that it runs.

The records there are the store's business.
"""

from __future__ import annotations

from math import inf
from typing import Any

from twisted.logger import Logger

from chordtx.chord.ring_age import Kept, RingAge
from chordtx.errors import ChordError
from chordtx.mesh.threads import Threads
from chordtx.store import DataFolder

_LOOK_SECONDS = 1.0  # how often it is seen whether there is something new to note
_NOTE_SECONDS = 20.0  # how often it is noted, at least, that the node runs
_PEERS_KEPT_MAX = 64


class Keeping:
    """One node's data folder, or none.

    :param node: the service: ``reactor``, ``id``, ``subnet``, ``_wall_ms``, ``_known_addresses``, ``_keep``.
    :param path: of the folder; None keeps nothing. :param age: the ring's.
    """

    _log = Logger()

    def __init__(self, node: Any, path: str | None, age: RingAge) -> None:
        self._node = node
        self._path = path
        self._age = age
        self._folder: DataFolder | None = None
        # The disk's own: nothing else that is slow in a thread is ever before it.
        self._thread = Threads(node.reactor, "chordtx disk", 1)
        self._noted_peers: list[str] = []
        self._noted_at = -inf

    @property
    def status(self) -> dict[str, Any]:
        """What operators see."""
        if self._folder is None:
            return {}
        return {"data": str(self._folder.path), "records_damaged": self._folder.store.damaged}

    def open(self) -> DataFolder | None:
        """The folder, open. :raises StorageFailed: when it cannot be used."""
        if self._path is not None:
            node = self._node
            self._folder = DataFolder(self._path, node.subnet, self._thread.run, node.reactor.callLater)
            store = self._folder.store
            self._log.info(
                "{count} records in {path}, {damaged} of them damaged and left out",
                count=len(store),
                path=self._path,
                damaged=store.damaged,
            )
            self._age.remember(Kept(self._folder.seen_ms, self._folder.age_ms, self._folder.doubt_ms))
        return self._folder

    def go_on(self) -> None:
        """Note now and then whom the node knows, and that it runs."""
        if self._folder is not None:
            self._node._keep("noting in the data folder", self._note_what_is_new, lambda: _LOOK_SECONDS)

    def _note_what_is_new(self) -> None:
        is_due = self._node.reactor.seconds() - self._noted_at >= _NOTE_SECONDS
        if self._folder is not None and (is_due or self._peers() != self._noted_peers):
            self._note(self._folder)

    def _peers(self) -> list[str]:
        return sorted(str(address) for address in self._node._known_addresses()[-_PEERS_KEPT_MAX:])

    def _note(self, folder: DataFolder) -> None:
        self._noted_peers, self._noted_at = self._peers(), self._node.reactor.seconds()
        kept = self._age.keep()
        folder.note(self._node.id, self._noted_peers, kept.seen_ms, kept.age_ms, kept.doubt_ms)

    async def close(self) -> None:
        """Store what there is, and let go of the folder."""
        folder, self._folder = self._folder, None
        if folder is None:
            return
        try:
            self._note(folder)
            await folder.close()
        except ChordError as error:
            self._log.error("not everything could be stored at the end: {error}", error=str(error))
        finally:
            self._thread.stop()
