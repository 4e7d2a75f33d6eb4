"""Host names are looked up in threads of our own, few at a time: nobody else waits for a slow name server."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IReactorPluggableNameResolver,
    IResolutionReceiver,
)
from twisted.logger import Logger
from zope.interface import implementer

from chordtx.mesh.threads import Threads

_AT_ONCE = 4
_WAITING_MAX = 64
_TIMEOUT_SECONDS = 10.0
_KINDS: dict[int, type[IPv4Address] | type[IPv6Address]] = {
    socket.AF_INET: IPv4Address,
    socket.AF_INET6: IPv6Address,
}


@implementer(IHostResolution)
class _Resolution:
    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """Twisted's: a lookup cannot be stopped, only no longer be waited for."""


@implementer(IHostnameResolver)
class Names:
    """Looks names up for one node, as :class:`~twisted.internet.endpoints.HostnameEndpoint` asks for it."""

    _log = Logger()

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._threads = Threads(reactor, "chordtx names", _AT_ONCE, _WAITING_MAX)
        self._waiting: dict[Deferred[Any], None] = {}

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """Twisted's: tell ``resolutionReceiver`` the addresses; none, when there are none in time."""
        resolution = _Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)

        def tell(found: list[IPv4Address | IPv6Address]) -> None:
            for address in found:
                resolutionReceiver.addressResolved(address)

        looked_up = self._look_up(hostName, portNumber).addCallback(tell)
        looked_up.addErrback(self._not_found, hostName)
        looked_up.addBoth(lambda _: resolutionReceiver.resolutionComplete())
        return resolution

    def _look_up(self, name: str, port: int) -> Deferred[list[IPv4Address | IPv6Address]]:
        found = self._threads.run(lambda: _addresses(name, port))
        self._waiting[found] = None

        def ended(outcome: Any) -> Any:
            self._waiting.pop(found, None)
            return outcome

        return found.addTimeout(_TIMEOUT_SECONDS, self._reactor).addBoth(ended)

    def _not_found(self, failure: Any, name: str) -> None:
        self._log.debug("{name} is not found: {error}", name=name, error=failure.getErrorMessage())

    def stop(self) -> None:
        """Look nothing more up, and have nobody wait."""
        for waiting in list(self._waiting):
            waiting.cancel()
        self._threads.stop()


def _addresses(name: str, port: int) -> list[IPv4Address | IPv6Address]:
    found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return [_KINDS[family]("TCP", *place[:2]) for family, _, _, _, place in found if family in _KINDS]


@implementer(IReactorPluggableNameResolver)
class ReactorWithNames:
    """A reactor that resolves names in another way; everything else is the reactor's."""

    def __init__(self, reactor: Any, names: Names) -> None:
        self._reactor = reactor
        self.nameResolver = names

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        """Twisted's; the resolver stays."""
        return self.nameResolver

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)
