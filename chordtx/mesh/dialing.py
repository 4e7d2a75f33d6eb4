"""Connecting to peers: one attempt at a time for each address, however many ask for it.

Addresses that people gave are dialled whenever somebody asks; what others tell, only as often as
:mod:`~chordtx.mesh.address_trust` allows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.error import (
    ConnectionRefusedError,
    DNSLookupError,
    NoRouteError,
    TimeoutError,
    UnknownHostError,
)
from twisted.python.failure import Failure

from chordtx.errors import ChordError, NotJoined, Stopped, WrongSubnet, without_traceback
from chordtx.mesh.accepting import MeshFactory
from chordtx.mesh.address import Address
from chordtx.mesh.address_trust import DialLimits
from chordtx.mesh.connection import MeshConnection
from chordtx.mesh.deferreds import Shared, within
from chordtx.mesh.names import Names, ReactorWithNames
from chordtx.mesh.unreachable import as_chord_error

_FAILURES_MAX = 100
#: How many connect_timeout_seconds an attempt may take: a name is looked up, and its addresses are tried.
_CONNECT_TIMEOUTS_MAX = 3


#: What says for certain that no node of this network is at an address now. Whoever is slow may be one.
_CERTAIN = (ConnectionRefusedError, NoRouteError, UnknownHostError, DNSLookupError, WrongSubnet)


class _Failed(NamedTuple):
    """How the last attempt at an address ended."""

    text: str
    is_certain: bool


class DialledTooOften(ChordError):
    """Others have named this address, or others on its host, too often: it is not dialled for now."""


class Dialing:
    """The attempts of one node.

    :param mesh: the service: ``reactor``, ``settings``, ``routing_table``, and what a link needs of it.
    :param is_encrypted: whether to speak TLS. :param limits: how often addresses are dialled.
    """

    def __init__(self, mesh: Any, is_encrypted: bool, limits: DialLimits) -> None:
        self._mesh = mesh
        self._is_encrypted = is_encrypted
        self._limits = limits
        self._names = Names(mesh.reactor)
        self._naming_reactor = ReactorWithNames(mesh.reactor, self._names)
        self._tls: Any = None
        self._attempts: dict[Address, Shared[MeshConnection]] = {}
        self._is_stopped = True
        self._failures: dict[Address, _Failed] = {}

    @property
    def count(self) -> int:
        """Attempts under way."""
        return len(self._attempts)

    def link_to(self, address: Address, peer: str | None = None) -> Deferred[MeshConnection]:
        """See :meth:`chordtx.MeshService._link_to`."""
        for link in self._mesh.routing_table.values():
            if link.address == address and not link.closed and peer in (None, link.id):
                return succeed(link)
        return self.dial(address)

    def dial(self, address: Address, is_for_ring: bool = True) -> Deferred[MeshConnection]:
        """A new link to whoever is reached at ``address``, whatever others claim of it.

        :param is_for_ring: False when any stranger may have named it: these count together.
        """
        if self._is_stopped:
            return fail(Stopped("the service is stopped"))
        if not address.reachable:
            return fail(NotJoined("a node that accepts no connections cannot be connected to"))
        attempt = self._attempts.get(address)
        if attempt is None:
            if not self._limits.may_dial(address, self._mesh.reactor.seconds(), is_for_ring):
                return fail(DialledTooOften(f"{address} was tried just now, in vain"))
            work = Deferred.fromCoroutine(self._open_link(address)).addBoth(self._ended, address)
            attempt = Shared(work)
            if not attempt.is_done:
                self._attempts[address] = attempt
        return attempt.wait()

    def link_quietly(self, address: Address) -> None:
        """The same for nobody who waits; a failure is only logged."""
        if not any(link.address == address and not link.closed for link in self._mesh.routing_table.values()):
            self.dial(address, is_for_ring=False).addErrback(self._not_linked, address)

    def _not_linked(self, failure: Any, address: Address) -> None:
        error = failure.getErrorMessage()
        text = "cannot connect to {address}: {error}"
        self._mesh._limited_log.debug(text, address=str(address), error=error)

    def start(self) -> None:
        """Links may be opened from now on."""
        self._is_stopped = False

    def stop(self) -> None:
        """Give up every attempt, and begin no other."""
        self._is_stopped = True
        for attempt in list(self._attempts.values()):
            attempt.cancel()
        self._names.stop()

    def explained(self, link: MeshConnection, reason: Exception) -> Exception:
        """Why ``link`` is gone: one that failed at TLS leads to a peer with another encryption than ours."""
        if not self._is_encrypted or not link.outgoing or link.id is not None:
            return reason
        from chordtx.mesh.tls import TLSError

        if not isinstance(reason, TLSError):
            return reason
        text = f"the peer does not speak TLS as we do ({reason}): encryption must be the same"
        self._mesh._limited_log.warn("{link} is refused: {error}", link=link, error=text)
        return WrongSubnet(text, ours=self._mesh._protocol_id)

    def _ended(self, result: Any, address: Address) -> Any:
        self._attempts.pop(address, None)
        self._failures.pop(address, None)
        if isinstance(result, Failure) and result.value is not None:
            result.cleanFailure()
            without_traceback(result.value)
            why = getattr(result.value, "reason", result.value)
            is_certain = isinstance(why, _CERTAIN)
            self._failures[address] = _Failed(result.getErrorMessage().rstrip("."), is_certain)
            if len(self._failures) > _FAILURES_MAX:
                del self._failures[next(iter(self._failures))]
        return result

    def why_not(self, address: Address) -> str | None:
        """Why the last attempt there failed; None when it did not."""
        failed = self._failures.get(address)
        return None if failed is None else failed.text

    def nobody_is_there(self, address: Address) -> bool:
        """Whether the last attempt showed that no node of this network listens there."""
        failed = self._failures.get(address)
        return failed is not None and failed.is_certain

    async def _open_link(self, address: Address) -> MeshConnection:
        factory = MeshFactory(self._mesh, outgoing=True, dialled=address)
        try:
            # The connection's own time-out goes by the clock of Twisted's reactor, which may be set back.
            seconds = _CONNECT_TIMEOUTS_MAX * self._mesh.settings.connect_timeout_seconds
            connecting = self.endpoint(address).connect(factory)
            link: MeshConnection = await within(seconds, self._mesh.reactor, connecting, TimeoutError)
            opened = await link.when_open()
        except Exception as error:
            raise as_chord_error(error) from None
        self._limits.answered(address)
        return opened

    def endpoint(self, address: Address) -> Any:
        """How ``address`` is connected to: a name is looked up, an IPv4 or IPv6 literal taken as it is."""
        reactor: Any = self._mesh.reactor
        kind: Any = TCP4ClientEndpoint
        if isIPv6Address(address.host):
            kind = TCP6ClientEndpoint
        elif not isIPAddress(address.host):
            kind, reactor = HostnameEndpoint, self._naming_reactor
        seconds = self._mesh.settings.connect_timeout_seconds
        endpoint = kind(reactor, address.host, address.port, timeout=seconds)
        return wrapClientTLS(self._client_tls(), endpoint) if self._is_encrypted else endpoint

    def _client_tls(self) -> Any:
        if self._tls is None:
            # Imported where it is needed: OpenSSL takes long to load, and most nodes do without.
            from chordtx.mesh.tls import UnverifyingClient

            self._tls = UnverifyingClient()
        return self._tls
