"""A leeching node for the length of a command."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chordtx.cli import running
from chordtx.cli.parameters import PEER_DEFAULT

if TYPE_CHECKING:
    from chordtx.chord import ChordService
    from chordtx.config import ChordSettings

    NodeWork = Callable[[Any, ChordService], Coroutine[Any, Any, None]]

# A ring answers within milliseconds: somebody at a prompt should not wait as long as a server that starts.
JOIN_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Client:
    """How to reach the ring.

    :ivar peers: addresses to join through.
    :ivar timeout_seconds: how long to look for the ring, and for each answer; None for the defaults.
    """

    peers: tuple[str, ...]
    subnet: str = "chord"
    encryption: str = "Plaintext"
    timeout_seconds: float | None = None

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
        # Imported late: it takes half a second, and usage errors need none of it.
        from chordtx import chord

        node = chord.ChordService(
            reactor,
            listen=None,
            peers=list(self.peers),
            subnet=self.subnet,
            encryption=self.encryption,
            leech=True,
            settings=self._settings(),
        )
        node.startService()
        return node

    def _settings(self) -> ChordSettings:
        from chordtx.config import ChordSettings

        seconds = self.timeout_seconds
        if seconds is None:
            return ChordSettings(join_timeout_seconds=JOIN_TIMEOUT_SECONDS, join_retries=False)
        return ChordSettings(
            join_timeout_seconds=seconds, operation_timeout_seconds=seconds, join_retries=False
        )
