"""How many links are let in, in all and from one address."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory

from chordtx.errors import ProtocolError
from chordtx.mesh.address import Address
from chordtx.mesh.connection import MeshConnection
from chordtx.mesh.owner import ConnectionOwner

#: How long a member has after its handshake to say that it is one.
_TRIAL_SECONDS = 1.0


class MeshFactory(Factory):
    """Makes the links of a service, on any endpoint: a server's, or with ``outgoing`` a client's.

    It accepts as many links as the settings allow in all and from one address. At a bound a link makes room
    for the newcomer: first one without a finished handshake, the oldest first; then one that stores nothing
    and is silent, the most silent first. When all are busy, the newcomer gets one of a few places that are
    kept for members of the ring; it is the next to make room if it is none.

    :param owner: the service, which must have been started before a link is made.
    :param outgoing: whether our side connects. :param dialled: where to, if that is known.
    """

    noisy = False

    def __init__(
        self, owner: ConnectionOwner[MeshConnection], outgoing: bool = False, dialled: Address | None = None
    ) -> None:
        self._owner = owner
        self._outgoing = outgoing
        self._dialled = dialled
        self._links: dict[MeshConnection, None] = {}  # the oldest first
        self._by_host: dict[str, int] = {}
        self._on_trial: dict[MeshConnection, float] = {}

    def buildProtocol(self, addr: IAddress | None) -> MeshConnection | None:
        """Twisted's: a connection came in; None turns it away."""
        host = str(getattr(addr, "host", ""))
        if self._outgoing:
            return MeshConnection(self._owner, True, host, self._dialled)
        has_place = self._has_place(host)
        self._on_trial = {link: since for link, since in self._on_trial.items() if link.leeching}
        if not has_place and len(self._on_trial) >= self._owner.settings.connections_max:
            text = "a connection from {host} is turned away: too many are open"
            self._owner._limited_log.warn(text, host=host)
            return None
        link = MeshConnection(self._owner, outgoing=False, remote_host=host)
        self._links[link] = None
        self._by_host[host] = self._by_host.get(host, 0) + 1
        if not has_place:
            self._on_trial[link] = self._owner.reactor.seconds()
        return link

    def connection_closed(self, connection: MeshConnection) -> None:
        """An accepted link is gone, or has to go."""
        if self._links.pop(connection, 0) == 0:
            return
        self._on_trial.pop(connection, None)
        host = connection.remote_host
        self._by_host[host] -= 1
        if not self._by_host[host]:
            del self._by_host[host]

    def _has_place(self, host: str) -> bool:
        """Whether there is a place for one more from ``host``, or somebody makes room."""
        settings, now = self._owner.settings, self._owner.reactor.seconds()
        if self._by_host.get(host, 0) >= settings.connections_per_address_max:
            return self._make_room([link for link in self._links if link.remote_host == host], now)
        return len(self._links) < settings.accepted_max or self._make_room(self._links, now)

    def _make_room(self, links: Iterable[MeshConnection], now: float) -> bool:
        """End a link that has less right to its place than a newcomer. :returns: whether there was any."""
        first = next((link for link in links if link.id is None), None)
        if first is None:
            silent = [link for link in links if link.leeching and self._is_idle(link, now)]
            first = min(silent, key=lambda link: link.heard_at, default=None)
        if first is None:
            return False
        self.connection_closed(first)
        first.cut(ProtocolError("it made room for a newcomer"))
        return True

    def _is_idle(self, link: MeshConnection, now: float) -> bool:
        """Whether a link that is no member's may go: silent, or without a place for long enough to say so."""
        on_trial_since = self._on_trial.get(link)
        if on_trial_since is not None and now - on_trial_since > _TRIAL_SECONDS:
            return True
        return now - link.heard_at > self._owner.settings.silence_timeout_seconds_min
