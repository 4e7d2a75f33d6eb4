"""``SyncSocket``: a dict that everybody has a copy of, as the old library had it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chordtx.blocking import bridge
from chordtx.blocking.dictionary import DictSocket
from chordtx.blocking.mesh import Protocol
from chordtx.mesh.service import MeshService
from chordtx.sync import Meta, SyncService


class SyncSocket(DictSocket):
    """A node of a network in which everybody has a copy of the whole dict; see :class:`chordtx.SyncService`.

    :param leasing: whether a key that one node has set can be changed by no other for an hour: that raises
        :class:`KeyError` then. The other parameters are those of :class:`~chordtx.blocking.MeshSocket`.
    """

    _default = Protocol("sync")

    def __init__(
        self,
        addr: str,
        port: int,
        prot: Protocol | None = None,
        out_addr: tuple[str, int] | None = None,
        debug_level: int = 0,
        leasing: bool = True,
    ) -> None:
        self._leasing = leasing
        super().__init__(addr, port, prot, out_addr, debug_level)

    def _make(self, reactor: Any, **arguments: Any) -> MeshService:
        return SyncService(reactor, leasing=self._leasing, **arguments)

    @property
    def data(self) -> Mapping[bytes, Any]:
        """Everything as of now, as a plain dict."""
        everything: dict[bytes, Any] = bridge.call(lambda: dict(self._service.data))
        return everything

    @property
    def metadata(self) -> Mapping[bytes, Meta]:
        """Who changed each key last, and when."""
        everything: dict[bytes, Meta] = bridge.call(lambda: dict(self._service.metadata))
        return everything
