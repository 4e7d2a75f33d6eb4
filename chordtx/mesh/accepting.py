"""Where peers connect to us: the port, and how many links it lets in."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from chordtx.errors import Stopped
from chordtx.mesh.address import Address
from chordtx.mesh.connection import MeshConnection
from chordtx.mesh.owner import ConnectionOwner
from chordtx.mesh.waiting import Gate


class MeshFactory(Factory):
    """Accepts links, as many as the settings allow in all and from one address."""

    noisy = False

    def __init__(self, owner: ConnectionOwner) -> None:
        self._owner = owner
        self._by_host: dict[str, int] = {}
        self._count = 0

    def buildProtocol(self, addr: IAddress | None) -> MeshConnection | None:
        """Twisted's: a connection came in; None turns it away."""
        host = str(getattr(addr, "host", ""))
        settings = self._owner.settings
        from_host = self._by_host.get(host, 0)
        if self._count >= settings.accepted_max or from_host >= settings.connections_per_address_max:
            text = "a connection from {host} is turned away: too many are open"
            self._owner.limited_log.warn(text, host=host)
            return None
        self._count += 1
        self._by_host[host] = from_host + 1
        return MeshConnection(self._owner, outgoing=False, remote_host=host)

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
        self._gate = Gate()
        self.address: Address | None = None

    def when_open(self) -> Deferred[None]:
        """Fires when peers can connect; fails with what the endpoint said when they cannot."""
        return self._gate.when_open()

    def reset(self) -> None:
        """What was is over: the service starts again."""
        self._gate.reset()

    def cannot(self, error: Exception) -> None:
        """The service cannot start, for this reason."""
        if not self._gate.failed(error):
            self._log.error("cannot start: {error}", error=str(error))

    async def open(self) -> bool:
        """Listen.

        :returns: whether that worked; if not, the log and :meth:`when_open` say why.
        """
        try:
            await self._listen()
        except Exception as error:
            if not self._gate.failed(error):
                self._log.error("cannot listen on {endpoint}: {error}", endpoint=self._endpoint, error=error)
            return False
        self._gate.opened()
        return True

    async def _listen(self) -> None:
        if self._endpoint is None:
            return
        port = await serverFromString(self._reactor, self._endpoint).listen(self._protocols())
        self._port = port
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
        self._gate.failed(Stopped("the service was stopped"))
        port, self._port = self._port, None
        if port is not None:
            await maybeDeferred(port.stopListening)
