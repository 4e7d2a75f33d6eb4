"""Services that are found by name: a server says in the ring where it is, a client's endpoint looks there.

``clientFromString(reactor, "chord:NAME")`` connects to some server of that name. In the ring a name is a map
from ``HOST:PORT`` to the time until which that holds, so that servers come and go independently of each
other, and one that has died is forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import frozen
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import (
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
)
from twisted.logger import Logger
from twisted.plugin import IPlugin
from zope.interface import implementer

from chordtx.chord import ChordService
from chordtx.errors import ChordError
from chordtx.mesh import Address
from chordtx.mesh.loop import Loop

PEER = "127.0.0.1:44565"
TTL_SECONDS = 30.0
_SAID_IN_TTL = 3
_OUT_OF_DATE_MAX = 16


def key_of(name: str) -> bytes:
    """The key under which the ring has a service's servers."""
    return b"service:" + name.encode("utf-8")


class Advertisement(Service):
    """Says in the ring where a server is, for as long as it runs.

    :param node: a node of the ring, which runs at least as long. :param name: of what is served.
    :param address: ``HOST:PORT`` where it is reached. :param ttl_seconds: how long that is believed after the
        server has fallen silent.
    :raises ValueError: for an address that makes no sense.
    """

    _log = Logger()

    def __init__(self, node: ChordService, name: str, address: str, ttl_seconds: float = TTL_SECONDS) -> None:
        self._node = node
        self._name = name
        self._address = str(Address.parse(address))
        self._ttl_seconds = ttl_seconds
        self._saying: Loop | None = None

    def startService(self) -> None:
        """Twisted's."""
        Service.startService(self)
        seconds = self._ttl_seconds / _SAID_IN_TTL
        self._saying = self._node._keep(f"advertising {self._name}", self._say_it, lambda: seconds)

    def stopService(self) -> Deferred[None]:
        """Twisted's: take it back. :returns: fires when that is done."""
        Service.stopService(self)
        if self._saying is not None:
            self._saying.cancel()
        return Deferred.fromCoroutine(self._take_back())

    async def _say_it(self) -> None:
        try:
            await self.say()
        except ChordError as error:
            self._log.warn("cannot say where {name} is: {error}", name=self._name, error=str(error))

    async def say(self) -> None:
        """Say it now. :raises ChordError: when the ring does not take it."""
        now_ms = self._node._wall_ms()
        until = {self._address: now_ms + int(self._ttl_seconds * 1000)}
        servers = await self._node.apply_delta(key_of(self._name), until)
        good = {address: until_ms for address, until_ms in servers.items() if _is_good(until_ms, now_ms)}
        if len(servers) - len(good) > _OUT_OF_DATE_MAX:
            # Whoever says something at this very moment is left out until it says it again.
            await self._node.set(key_of(self._name), good)

    async def _take_back(self) -> None:
        try:
            await self._node.apply_delta(key_of(self._name), {self._address: None})
        except ChordError as error:
            self._log.info("{name} is not taken back: {error}", name=self._name, error=str(error))


@implementer(IStreamClientEndpoint)
class ServiceEndpoint:
    """Connects to some server of a name.

    :param reactor: Twisted's. :param node: a node of the ring. :param name: of what is served.
    """

    def __init__(self, reactor: Any, node: ChordService, name: str) -> None:
        self._reactor = reactor
        self._node = node
        self._name = name

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """Twisted's; fails with :class:`~twisted.internet.error.ConnectError` when no server can be reached,
        with :class:`~chordtx.errors.ChordError` when there is no ring."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def addresses(self) -> list[Address]:
        """The addresses of servers that the ring knows, in random order."""
        await self._node.when_joined()
        servers: Any = await self._node.get(key_of(self._name), {})
        now_ms = self._node._wall_ms()
        good = [
            Address.parse(address)
            for address, until_ms in (servers.items() if isinstance(servers, dict) else ())
            if isinstance(address, str) and _is_good(until_ms, now_ms)
        ]
        self._node._rng.shuffle(good)
        return good

    async def _connect(self, factory: IProtocolFactory) -> Any:
        failed: Exception = ConnectError(string=f"nobody serves {self._name!r}")
        for address in await self.addresses():
            try:
                return await HostnameEndpoint(self._reactor, address.host, address.port).connect(factory)
            except (ConnectError, OSError) as error:  # a name that is not known is the latter
                failed = error
        raise failed


def _is_good(until_ms: object, now_ms: int) -> bool:
    return isinstance(until_ms, int) and until_ms > now_ms


@frozen
class _Ring:
    peers: tuple[str, ...]
    subnet: str
    encryption: str


@implementer(IPlugin, IStreamClientEndpointStringParserWithReactor)
class Parser:
    r"""Reads ``chord:NAME``, with ``peer=HOST\:PORT`` (several with commas between), ``subnet=`` and
    ``encryption=`` where they are not the usual ones.

    One leeching node serves all endpoints of one ring, from the first connection until the reactor ends.
    """

    prefix = "chord"

    def __init__(self) -> None:
        self._nodes: dict[tuple[int, _Ring], ChordService] = {}

    def parseStreamClient(  # type: ignore[override]  # the arguments are what the string may name
        self,
        reactor: Any,
        name: str,
        peer: str = PEER,
        subnet: str = "chord",
        encryption: str = "Plaintext",
    ) -> ServiceEndpoint:
        """Twisted's. :raises ValueError: for an address or an encryption that makes no sense."""
        ring = _Ring(tuple(peer.split(",")), subnet, encryption)
        return ServiceEndpoint(reactor, self._node(reactor, ring), name)

    def _node(self, reactor: Any, ring: _Ring) -> ChordService:
        place = (id(reactor), ring)
        node = self._nodes.get(place)
        if node is None:
            peers: Iterable[str] = ring.peers
            node = ChordService(reactor, None, None, peers, ring.subnet, ring.encryption, leech=True)
            node.startService()
            reactor.addSystemEventTrigger("before", "shutdown", node.stopService)
            self._nodes[place] = node
        return node
