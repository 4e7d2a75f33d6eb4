"""When a node without a ring counts as joined: with its first link, or at once when it needs none.

Before that, the neighbour has told what calls need (``_catch_up`` of the service).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.logger import Logger

from chordtx.errors import ChordError, NotJoined
from chordtx.mesh.address import Address
from chordtx.mesh.connection import MeshConnection
from chordtx.mesh.deferreds import Gate

_LOOK_SECONDS = 0.1


class FirstLink:
    """See the module. One for each node.

    :param mesh: the service: ``routing_table``, ``_refused``, ``_own_address``, ``_background`` and so on.
    :param peers: what people gave. :param joined: opened once there is a link. It fails when there is none in
        time, and is opened all the same when one comes later, for a node goes on trying.
    :param timeout_seconds: how long those who wait are kept waiting.
    """

    _log = Logger()

    def __init__(self, mesh: Any, peers: Sequence[Address], joined: Gate, timeout_seconds: float) -> None:
        self._mesh = mesh
        self._peers = peers
        self._joined = joined
        self._timeout_seconds = timeout_seconds
        self._catching_up = 0

    def started(self) -> None:
        """The node listens; its peers are being connected to."""
        others = [peer for peer in self._peers if peer != self._mesh._own_address()]
        if others:
            self._mesh._background(self._wait(others))
        else:
            self._joined.opened()

    def linked(self, link: MeshConnection) -> None:
        """There is a link."""
        if not self._joined.is_open:
            self._mesh._background(self._catch_up(link))

    async def _catch_up(self, link: MeshConnection) -> None:
        self._catching_up += 1
        try:
            await self._mesh._catch_up(link)
        except ChordError as error:
            self._log.debug("not caught up by {link}: {error}", link=link, error=str(error))
            return
        finally:
            self._catching_up -= 1
        if self._mesh.running:
            self._joined.opened()

    async def _wait(self, others: Sequence[Address]) -> None:
        clock = self._mesh.reactor
        until = clock.seconds() + self._timeout_seconds
        while not self._joined.is_open:
            is_late = clock.seconds() >= until and not self._catching_up
            if is_late or all_refused(self._mesh, others):
                self._joined.failed(why_not_joined(self._mesh, others, "no node"))
                return
            await self._mesh.sleep(_LOOK_SECONDS)


def all_refused(mesh: Any, peers: Sequence[Address]) -> bool:
    """Whether every peer that was given turned out to be of another network."""
    return len(mesh._refused) >= len(peers) > 0 and not mesh.routing_table and not mesh.awaiting_ids


def why_not_joined(mesh: Any, peers: Sequence[Address], sought: str) -> Exception:
    """What kept a node out: the latest refusal, or what came of each attempt.

    :param sought: what it looked for: "no ring", "no node".
    """
    if mesh._refused and not mesh.routing_table:
        error: Exception = mesh._refused[-1]
        return error
    said = [f"{peer}: {mesh._why_not_reached(peer) or f'{sought} there'}" for peer in peers]
    return NotJoined(f"{sought} was reached ({'; '.join(said) or 'no peers'}): is a node listening there?")
