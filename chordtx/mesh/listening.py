"""The port of one node: opened, perhaps early, and closed again."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from chordtx.mesh.address import Address
from chordtx.mesh.deferreds import Shared
from chordtx.mesh.endpoints import NOWHERE, Listen, Outward, everywhere, nowhere


class Listening:
    """The port of one node.

    A port below 1024 can be opened only while the process may do everything: :meth:`open_early` does that
    before the service starts, and :meth:`open` then has nothing left to do but to wait for it.

    :param listen: what to listen on. :param factory: accepts the links.
    :ivar address: the outward address of the port: as the endpoint has it before it is open.
    """

    _log = Logger()

    def __init__(self, reactor: Any, listen: Listen, factory: Factory, is_encrypted: bool) -> None:
        self._reactor = reactor
        self._listen = listen
        self._factory = factory
        self._is_encrypted = is_encrypted
        self._opening: Shared[None] | None = None
        self._port: IListeningPort | None = None
        self.address = listen.address

    @property
    def accepts(self) -> bool:
        """Whether anybody is ever accepted."""
        return self._listen.endpoint is not None

    def open_early(self) -> None:
        """Begin to listen before the service starts. What comes of it, :meth:`open` says."""
        if self._opening is None:
            self._opening = Shared(Deferred.fromCoroutine(self._open()))

    async def open(self) -> None:
        """Listen, if there is an endpoint.

        :raises ValueError: when peers could not find the open port. Also fails with what the endpoint said
            when it cannot be opened.
        """
        self.open_early()
        opening = self._opening
        assert opening is not None
        try:
            await opening.wait()
        except CancelledError:
            raise  # the service is stopping, and closes it
        except Exception:
            self._opening = None
            raise

    async def _open(self) -> None:
        if self._listen.endpoint is None:
            return
        port = self._port = await _or_close(self._listen.endpoint.listen(self._protocols()))
        host = port.getHost()
        bound = Address(str(getattr(host, "host", "")), int(getattr(host, "port", 0)))
        if self._listen.outward.lacks(bound):
            await self._close_port()
            raise ValueError(everywhere(self._listen.text) if bound.port else nowhere(self._listen.text))
        self.address = NOWHERE if Outward.NEEDED.lacks(bound) else bound
        self._log.info("listening on {address}", address=str(bound) if bound.port else self._listen.text)

    def _protocols(self) -> Any:
        if not self._is_encrypted:
            return self._factory
        # Imported where it is needed: OpenSSL takes long to load, and most nodes do without.
        from chordtx.mesh.tls import accepting

        return accepting(self._factory, self._reactor)

    async def close(self) -> None:
        """Listen no more."""
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.cancel()
        await self._close_port()

    async def _close_port(self) -> None:
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
