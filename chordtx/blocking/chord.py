"""``ChordSocket``: a node of a Chord ring that is used like a dict, as the old library had it."""

from __future__ import annotations

from typing import Any

from chordtx.blocking import bridge
from chordtx.blocking.dictionary import DictSocket
from chordtx.blocking.mesh import Protocol
from chordtx.chord import ChordService
from chordtx.mesh.service import MeshService
from chordtx.ring import Contact


class ChordSocket(DictSocket):
    """A node of a ring, with the ring's records as a dict.

    It stores nothing for others before :meth:`join`; until then it uses the ring that it is connected to.
    When a write returns, a majority of the key's replicas has acknowledged it; a call raises
    :class:`chordtx.NoMajority` when a majority cannot be had in time.
    """

    _default = Protocol("chord")

    def _make(self, reactor: Any, **arguments: Any) -> MeshService:
        return ChordService(reactor, leech=True, **arguments)

    # The ring

    @property
    def leeching(self) -> bool:
        """Whether it stores nothing for others."""
        return bool(self._service.leeching)

    @property
    def next(self) -> Contact | None:
        """The next node along the ring."""
        contact: Contact | None = bridge.call(lambda: self._service.next)
        return contact

    @property
    def prev(self) -> Contact | None:
        """The node before on the ring."""
        contact: Contact | None = bridge.call(lambda: self._service.prev)
        return contact

    def join(self) -> None:
        """Begin to store: in the ring of those it is connected to, or in one of its own.

        :raises chordtx.NotJoined: when no ring is reached in time.
        """
        bridge.call(self._service.join)

    def unjoin(self) -> None:
        """Hand over everything, and only use the ring from then on."""
        bridge.call(self._service.unjoin)
