"""Where peers connect to us: the port, and how many links it lets in."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from chordtx.mesh.address import Address
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


class Listening:
    """The port of one node.

    :param endpoint: Twisted server endpoint; None when nobody can connect.
    :ivar address: what the port is bound to, None before it is open.
    """

    _log = Logger()

    def __init__(self, reactor: Any, endpoint: str | None, factory: MeshFactory, is_encrypted: bool) -> None:
        self._reactor = reactor
        self._endpoint = endpoint
        self._factory = factory
        self._is_encrypted = is_encrypted
        self._port: IListeningPort | None = None
        self.address: Address | None = None

    async def open(self) -> None:
        """Listen, if there is an endpoint. Fails with what the endpoint said when that cannot be."""
        if self._endpoint is None:
            return
        opening = serverFromString(self._reactor, self._endpoint).listen(self._protocols())
        port = self._port = await _or_close(opening)
        host = port.getHost()
        self.address = Address(getattr(host, "host", ""), getattr(host, "port", 0))
        self._log.info("listening on {address}", address=str(self.address))

    def _protocols(self) -> Any:
        if not self._is_encrypted:
            return self._factory
        # Imported where it is needed: OpenSSL takes long to load, and most nodes do without.
        from chordtx.mesh.tls import accepting

        return accepting(self._factory, self._reactor)

    async def close(self) -> None:
        """Listen no more."""
        port, self._port = self._port, None
        if port is not None:
            await maybeDeferred(port.stopListening)


def _or_close(opening: Deferred[IListeningPort]) -> Deferred[IListeningPort]:
    """The port. Where it is not wanted any more once it is open, since this was cancelled, it is closed."""

    def opened(port: IListeningPort) -> None:
        if wanted.called:
            maybeDeferred(port.stopListening)
        else:
            wanted.callback(port)

    wanted: Deferred[IListeningPort] = Deferred()
    opening.addCallbacks(opened, lambda failure: None if wanted.called else wanted.errback(failure))
    return wanted
