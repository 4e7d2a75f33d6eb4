"""Two links that claim the same id: which of them stays.

An id proves nothing: anybody may say any in a handshake. What a network without keys can tell is which link
lives, and who answers at the address that a node says it has. So:

1. The link that is filed is asked for a sign of life. If it gives none in its measured time, the newcomer
   takes its place: a peer that was started again gets in as soon as its old link is known to be dead.
2. If it lives, it stays, and the newcomer is closed.
3. But a link that we opened, to the address that the filed link claims, outranks a filed link that came in:
   who answers there is the node that the id belongs to, as far as can be known.
4. If both came in, that address is dialled, and after it the newcomer's: then 3 decides.

Where two nodes connect to each other at once both links live. There the one with the greater id closes one of
them, and the other waits long enough to see that before it decides anything itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from chordtx.errors import ProtocolError
from chordtx.mesh.address import Address
from chordtx.mesh.address_trust import DialLimits, believed
from chordtx.mesh.connection import MeshConnection
from chordtx.mesh.limited_log import LimitedLog
from chordtx.mesh.link_table import LinkTable

_LOOK_SECONDS = 0.1
_VERIFIED_FOR_SECONDS = 10.0
_VERIFIED_MAX = 1000
_LOOKS_BETWEEN_SIGNS = 10
_WAITS_FOR_THE_GREATER = 2  # times as long as that may take to see whether the other link lives


class _Mesh(Protocol):
    reactor: Any
    _limited_log: LimitedLog

    def sleep(self, seconds: float) -> Deferred[None]:
        """Fires after a while."""

    def _file(self, connection: MeshConnection) -> None:
        """Have a link take its place."""

    def _turned_away(self, connection: MeshConnection, other: MeshConnection) -> None:
        """A link is about to be closed for another one."""


class _Dials(Protocol):
    def dial(self, address: Address) -> Deferred[MeshConnection]:
        """Open a new link."""


class Rivals:
    """One node's decisions.

    :param mesh: the service. :param links: its links. :param limits: knows which addresses people gave.
    """

    def __init__(self, mesh: _Mesh, links: LinkTable, dialing: _Dials, limits: DialLimits) -> None:
        self._mesh = mesh
        self._link_table = links
        self._dialing = dialing
        self._limits = limits
        self._verified_at: dict[int, float] = {}

    def takes_over_at_once(self, newcomer: MeshConnection, filed: MeshConnection) -> bool:
        """Whether there is nothing to wait for: it outranks the other, and we are to say so."""
        return self._outranks(newcomer, filed) and self._link_table.decides(newcomer)

    def _outranks(self, newcomer: MeshConnection, filed: MeshConnection) -> bool:
        """Rule 3. (What people gave counts as much: they know who is there.)"""
        dialled = newcomer.dialled
        if not newcomer.outgoing or filed.outgoing or dialled is None:
            return False
        claimed = None if filed.address is None else believed(filed.address, names=True)
        return claimed is None or dialled == claimed or self._limits.is_trusted(dialled)

    async def decide(self, newcomer: MeshConnection, filed: MeshConnection) -> None:
        """See to it that only one of them stays; the newcomer is waiting, and so it is held."""
        asked_at = self._mesh.reactor.seconds()
        filed.ask_for_life()
        looks = max(1, round(filed.roundtrip.timeout_seconds / _LOOK_SECONDS))
        lives = await self._look(newcomer, filed, looks, lambda: filed.heard_at > asked_at)
        if _is_decided(newcomer, filed):
            return  # the one that is left has the place, or gets it
        if not lives:
            text = "{old} is silent: {new} takes its place"
            self._mesh._limited_log.info(text, old=filed, new=newcomer)
            filed.abort(TimeoutError("the peer is silent, and has connected anew"))
            return
        if newcomer.outgoing != filed.outgoing and not self._link_table.decides(newcomer):
            await self._look(newcomer, filed, _WAITS_FOR_THE_GREATER * looks, lambda: False)
        if _is_decided(newcomer, filed):
            return
        if self._outranks(newcomer, filed):
            self._mesh._file(newcomer)
        else:
            await self._turn_away(newcomer, filed)

    async def _look(
        self, newcomer: MeshConnection, filed: MeshConnection, looks: int, seen: Callable[[], bool]
    ) -> bool:
        # Counted, not timed: when this process stood still, what came meanwhile is read before the next look.
        for number in range(looks):
            if _is_decided(newcomer, filed) or seen():
                return True
            if number % _LOOKS_BETWEEN_SIGNS == 0:
                newcomer.ask_for_life()  # or it would take us for dead, whom it hears nothing of
            await self._mesh.sleep(_LOOK_SECONDS)
        return seen()

    async def _turn_away(self, newcomer: MeshConnection, filed: MeshConnection) -> None:
        text = "{new} claims the id of {old}, which lives: it is closed"
        self._mesh._limited_log.info(text, new=newcomer, old=filed)
        self._mesh._turned_away(newcomer, filed)
        newcomer.close(ProtocolError("there is a link to this peer, which lives"))
        if not newcomer.outgoing and not filed.outgoing and self._is_to_be_verified(newcomer.id_10):
            await self._verify(newcomer, filed)

    def _is_to_be_verified(self, id: int) -> bool:
        """Whether that was not done just now: whoever claims an id again and again is not to make us dial."""
        now = self._mesh.reactor.seconds()
        before = self._verified_at.get(id)
        if before is not None and 0 <= now - before < _VERIFIED_FOR_SECONDS:
            return False
        self._verified_at.pop(id, None)
        self._verified_at[id] = now
        if len(self._verified_at) > _VERIFIED_MAX:
            del self._verified_at[next(iter(self._verified_at))]
        return True

    async def _verify(self, newcomer: MeshConnection, filed: MeshConnection) -> None:
        """Rule 4: connect to where they say they are. What comes of it takes the place by rule 3."""
        claims = (believed(link.address, link.remote_host) for link in (filed, newcomer) if link.address)
        for address in dict.fromkeys(claims):
            try:
                if address is not None and (await self._dialing.dial(address)).id == filed.id:
                    return
            except Exception as error:  # as the transport puts it; nothing is lost by it
                text = "nobody at {address}: {error}"
                self._mesh._limited_log.debug(text, address=str(address), error=str(error))


def _is_decided(newcomer: MeshConnection, filed: MeshConnection) -> bool:
    return newcomer.closed or filed.closed
