"""A leeching node for the length of a command."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from attrs import field, frozen

from chordtx.chord import ChordService
from chordtx.cli import running
from chordtx.cli.addresses import PEER_DEFAULT
from chordtx.config import ChordSettings

NodeWork = Callable[[Any, ChordService], Coroutine[Any, Any, None]]


@frozen(kw_only=True)
class Client:
    """How to reach the ring.

    :ivar peers: addresses to join through.
    """

    peers: tuple[str, ...]
    subnet: str = "chord"
    encryption: str = "Plaintext"
    settings: ChordSettings = field(factory=ChordSettings)

    @property
    def asked(self) -> str:
        """The one node that a command is about: the first that was named."""
        return self.peers[0] if self.peers else PEER_DEFAULT

    def run(self, work: NodeWork) -> None:
        """Run ``work(reactor, node)`` with a node that has joined, and exit with its status.

        :raises SystemExit: always.
        """
        running.run(lambda reactor: self.session(reactor, work))

    async def session(self, reactor: Any, work: NodeWork) -> None:
        """Join, do ``work(reactor, node)``, leave."""
        node = self.start(reactor)
        try:
            await node.when_joined()
            await work(reactor, node)
        finally:
            await node.stopService()

    def start(self, reactor: Any) -> ChordService:
        """A started node, on its way into the ring; it accepts no peers and stores nothing."""
        node = ChordService(
            reactor,
            listen=None,
            peers=list(self.peers),
            subnet=self.subnet,
            encryption=self.encryption,
            leech=True,
            settings=self.settings,
        )
        node.startService()
        return node
