"""How many links are let in, in all and from one address."""

from __future__ import annotations

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from chordtx.mesh.connection import MeshConnection
from chordtx.mesh.owner import ConnectionOwner

_COMPLAINT_SECONDS = 1.0


class MeshFactory(Factory):
    """Accepts links, as many as the settings allow in all and from one address."""

    noisy = False
    _log = Logger()

    def __init__(self, owner: ConnectionOwner) -> None:
        self._owner = owner
        self._by_host: dict[str, int] = {}
        self._count = 0
        self._turned_away = 0
        self._complained_at = -_COMPLAINT_SECONDS

    def buildProtocol(self, addr: IAddress | None) -> MeshConnection | None:
        """Twisted's: a connection came in; None turns it away."""
        host = str(getattr(addr, "host", ""))
        settings = self._owner.settings
        from_host = self._by_host.get(host, 0)
        if self._count >= settings.accepted_max or from_host >= settings.connections_per_address_max:
            self._complain(host)
            return None
        self._count += 1
        self._by_host[host] = from_host + 1
        return MeshConnection(self._owner, outgoing=False, remote_host=host)

    def _complain(self, host: str) -> None:
        # Whoever connects in a flood is not to flood the log as well.
        self._turned_away += 1
        now = self._owner.reactor.seconds()
        if now - self._complained_at >= _COMPLAINT_SECONDS:
            self._log.warn(
                "{count} connections are turned away, the last from {host}: too many are open",
                count=self._turned_away,
                host=host,
            )
            self._turned_away, self._complained_at = 0, now

    def connection_closed(self, connection: MeshConnection) -> None:
        """An accepted link is gone."""
        host = connection.remote_host
        self._count -= 1
        self._by_host[host] -= 1
        if not self._by_host[host]:
            del self._by_host[host]
