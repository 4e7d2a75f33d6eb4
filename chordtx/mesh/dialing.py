"""Connecting to peers: one attempt at a time for each address, however many ask for it."""

from __future__ import annotations

from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.error import TimeoutError
from twisted.logger import Logger
from twisted.python.failure import Failure

from chordtx.errors import NotJoined, Stopped, WrongSubnet
from chordtx.mesh.address import Address
from chordtx.mesh.connection import MeshConnection
from chordtx.mesh.waiting import Shared, within

_FAILURES_MAX = 100
#: An attempt may take so many connect_timeout_seconds: a name is looked up, and its addresses are tried.
_CONNECT_TIMEOUTS_MAX = 3


class Dialing:
    """The attempts of one node.

    :param mesh: the service: ``reactor``, ``settings``, ``routing_table``, ``awaiting_ids``.
    :param is_encrypted: whether to speak TLS.
    """

    _log = Logger()

    def __init__(self, mesh: Any, is_encrypted: bool) -> None:
        self._mesh = mesh
        self._is_encrypted = is_encrypted
        self._tls: Any = None
        self._attempts: dict[Address, Shared[MeshConnection]] = {}
        self._is_stopped = True
        self._failures: dict[Address, str] = {}

    @property
    def count(self) -> int:
        """Attempts under way."""
        return len(self._attempts)

    def link_to(self, address: Address) -> Deferred[MeshConnection]:
        """See :meth:`chordtx.MeshService.link_to`."""
        for link in self._mesh.routing_table.values():
            if link.address == address and not link.closed:
                return succeed(link)
        if self._is_stopped:
            return fail(Stopped("the service is stopped"))
        if not address.reachable:
            return fail(NotJoined("a node that accepts no connections cannot be connected to"))
        attempt = self._attempts.get(address)
        if attempt is None:
            work = Deferred.fromCoroutine(self._open_link(address)).addBoth(self._ended, address)
            attempt = Shared(work)
            if not attempt.is_done:
                self._attempts[address] = attempt
        return attempt.wait()

    def link_quietly(self, address: Address) -> None:
        """The same for nobody who waits; a failure is only logged."""
        self.link_to(address).addErrback(self._not_linked, address)

    def _not_linked(self, failure: Any, address: Address) -> None:
        error = failure.getErrorMessage()
        self._log.debug("cannot connect to {address}: {error}", address=str(address), error=error)

    def start(self) -> None:
        """Links may be opened from now on."""
        self._is_stopped = False

    def stop(self) -> None:
        """Give up every attempt, and begin no other."""
        self._is_stopped = True
        for attempt in list(self._attempts.values()):
            attempt.cancel()

    def settle(self, asked: MeshConnection, given: MeshConnection) -> None:
        """The handshake of ``asked`` is through: whoever wanted it gets ``given``."""
        wanted, asked.wanted = asked.wanted, None
        if wanted is not None and not wanted.called:
            wanted.callback(given)

    def explained(self, link: MeshConnection, reason: Exception) -> Exception:
        """Why ``link`` is gone: one that failed at TLS leads to a peer with another encryption than ours."""
        if not self._is_encrypted or not link.outgoing or link.id is not None:
            return reason
        from chordtx.mesh.tls import TLSError

        if not isinstance(reason, TLSError):
            return reason
        text = f"the peer does not speak TLS as we do ({reason}): encryption must be the same"
        self._log.warn("{link} is refused: {error}", link=link, error=text)
        return WrongSubnet(text, ours=self._mesh.protocol_id)

    def fail(self, asked: MeshConnection, reason: Exception) -> None:
        """A link is gone: whoever still waits for it waits in vain."""
        wanted, asked.wanted = asked.wanted, None
        if wanted is not None and not wanted.called:
            wanted.errback(reason)

    def _ended(self, result: Any, address: Address) -> Any:
        self._attempts.pop(address, None)
        self._failures.pop(address, None)
        if isinstance(result, Failure):
            self._failures[address] = result.getErrorMessage().rstrip(".")
            if len(self._failures) > _FAILURES_MAX:
                del self._failures[next(iter(self._failures))]
        return result

    def why_not(self, address: Address) -> str | None:
        """Why the last attempt there failed; None when it did not."""
        return self._failures.get(address)

    async def _open_link(self, address: Address) -> MeshConnection:
        link = MeshConnection(self._mesh, outgoing=True, remote_host=address.host)
        cancelled = Stopped("the attempt was cancelled")
        opened: Deferred[MeshConnection] = Deferred(lambda _: link.abort(cancelled))
        link.wanted = opened
        self._mesh.awaiting_ids.append(link)
        try:
            # The connection's own time-out goes by the clock of Twisted's reactor, which may be set back.
            seconds = _CONNECT_TIMEOUTS_MAX * self._mesh.settings.connect_timeout_seconds
            connecting = self.endpoint(address).connect(_OneLink(link))
            await within(seconds, self._mesh.reactor, connecting, TimeoutError)
        except Exception:
            if link in self._mesh.awaiting_ids:
                self._mesh.awaiting_ids.remove(link)
            raise
        return await opened

    def endpoint(self, address: Address) -> Any:
        """How ``address`` is connected to: a name is looked up, an IPv4 or IPv6 literal taken as it is."""
        mesh = self._mesh
        kind: Any = HostnameEndpoint
        if isIPAddress(address.host):
            kind = TCP4ClientEndpoint
        elif isIPv6Address(address.host):
            kind = TCP6ClientEndpoint
        seconds = mesh.settings.connect_timeout_seconds
        endpoint = kind(mesh.reactor, address.host, address.port, timeout=seconds)
        return wrapClientTLS(self._client_tls(), endpoint) if self._is_encrypted else endpoint

    def _client_tls(self) -> Any:
        if self._tls is None:
            # Imported where it is needed: OpenSSL takes long to load, and most nodes do without.
            from chordtx.mesh.tls import UnverifyingClient

            self._tls = UnverifyingClient()
        return self._tls


class _OneLink:
    """A factory for exactly one link that exists already."""

    noisy = False

    def __init__(self, link: MeshConnection) -> None:
        self._link = link

    def doStart(self) -> None:
        """Twisted's."""

    def doStop(self) -> None:
        """Twisted's."""

    def buildProtocol(self, addr: Any) -> MeshConnection:
        """Twisted's."""
        return self._link
