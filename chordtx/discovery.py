"""Services that are found by name: a server says in the ring where it is, a client's endpoint looks there.

``clientFromString(reactor, "chord:NAME")`` connects to some server of that name. In the ring each server has
a key of its own, ``service/NAME/HOST:PORT#...``, so that servers come and go independently of each other. The
key stays for a *lease*, which the server renews: one that has died is forgotten. A client lists the keys of
the name once, and watches what becomes of them.
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
from chordtx.chord.namespace import Namespace
from chordtx.chord.watching import RESET
from chordtx.errors import ChordError
from chordtx.mesh import Address
from chordtx.mesh.loop import Loop

PEER = "127.0.0.1:44565"
TTL_SECONDS = 30.0
_SAID_IN_TTL = 3
_ID_BYTES = 6


def namespace_of(node: ChordService, name: str) -> Namespace:
    """Where the ring has the servers of a name: the address of each, under a key of its own.

    :raises ValueError: for a name that is empty, or has a slash.
    """
    return node.namespace("service").namespace(name)


class Advertisement(Service):
    """Says in the ring where a server is, for as long as it runs.

    Several may have one name, and even one address: each has a key of its own, and takes back only that.

    :param node: a node of the ring, which runs at least as long. :param name: of what is served.
    :param address: ``HOST:PORT`` where it is reached. :param ttl_seconds: of its lease: how long it is
        believed after the server has fallen silent.
    :raises ValueError: for a name or an address that makes no sense.
    """

    _log = Logger()

    def __init__(self, node: ChordService, name: str, address: str, ttl_seconds: float = TTL_SECONDS) -> None:
        self._node = node
        self._name = name
        self._address = str(Address.parse(address))
        self._ttl_seconds = ttl_seconds
        self._names = namespace_of(node, name)
        self._key = f"{self._address}#{node._rng.randbytes(_ID_BYTES).hex()}"
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
        """Say it now, or renew the lease. :raises ChordError: when the ring does not take it."""
        try:
            await self._names.touch(self._key, self._ttl_seconds)
        except KeyError:  # it was not said yet, or the lease has ended
            await self._names.set(self._key, self._address, self._ttl_seconds)

    async def _take_back(self) -> None:
        try:
            await self._names.set(self._key, None)
        except ChordError as error:
            self._log.info("{name} is not taken back: {error}", name=self._name, error=str(error))


class Servers:
    """The servers of a name, as the ring has them: listed, and watched from then on.

    The watch goes on until :meth:`stop`, or until the node stops. So have one for each name, not one for
    each question.

    :param node: a node of the ring. :param name: of what is served.
    :raises ValueError: as :func:`namespace_of`.
    """

    _log = Logger()

    def __init__(self, node: ChordService, name: str) -> None:
        self._node = node
        self._name = name
        self._names = namespace_of(node, name)
        self._known: dict[bytes, Any] = {}
        self._is_complete = self._is_following = False
        self._following: Deferred[Any] | None = None

    @property
    def is_watched(self) -> bool:
        """Whether the addresses are known without asking."""
        return self._is_complete

    async def addresses(self) -> list[Address]:
        """The addresses of all servers, in random order.

        Once the watch runs they are told from memory: as they were a moment ago, or, when the ring cannot be
        reached, as they were before. That there are none is told only after the ring was asked.

        :raises ChordError: when the ring is to be asked, and does not answer.
        """
        await self._node.when_joined()
        known = self._known if self._is_complete and self._known else await self._names.copy()
        if not self._is_following:  # only now: to begin a watch is more work than the listing
            self._is_following = True
            self._following = self._node._background(self._follow())
        said = {_address_in(value) for value in known.values()}
        found = sorted((address for address in said if address is not None), key=str)
        self._node._rng.shuffle(found)
        return found

    def stop(self) -> None:
        """End the watch. Another question begins it again."""
        if self._following is not None:
            self._following.cancel()

    async def _follow(self) -> None:
        watch = self._names.watch()
        try:
            await watch.when_ready()
            self._known = await self._names.copy()  # no change after this is missed
            self._is_complete = True
            async for event in watch:
                if event.kind == RESET:
                    self._known = await self._names.copy()
                elif event.key is not None and event.value is None:
                    self._known.pop(event.key, None)
                elif event.key is not None:
                    self._known[event.key] = event.value
        except ChordError as error:
            self._log.info("{name} is not watched: {error}", name=self._name, error=str(error))
        finally:
            self._is_complete = self._is_following = False
            await watch.aclose()


def _address_in(value: object) -> Address | None:
    """What a server has said, None when it makes no sense."""
    if not isinstance(value, str):
        return None
    try:
        return Address.parse(value)
    except ValueError:
        return None


@implementer(IStreamClientEndpoint)
class ServiceEndpoint:
    """Connects to some server of a name. The addresses are watched from the first connection on.

    :param reactor: Twisted's. :param node: a node of the ring. :param name: of what is served.
    :ivar servers: where they are. :raises ValueError: as :func:`namespace_of`.
    """

    def __init__(self, reactor: Any, node: ChordService, name: str) -> None:
        self._reactor = reactor
        self._name = name
        self.servers = Servers(node, name)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """Twisted's; fails with :class:`~twisted.internet.error.ConnectError` when no server can be reached,
        with :class:`~chordtx.errors.ChordError` when there is no ring."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def addresses(self) -> list[Address]:
        """The addresses of servers, in random order: see :meth:`Servers.addresses`."""
        return await self.servers.addresses()

    async def _connect(self, factory: IProtocolFactory) -> Any:
        failed: Exception = ConnectError(string=f"nobody serves {self._name!r}")
        for address in await self.addresses():
            try:
                return await HostnameEndpoint(self._reactor, address.host, address.port).connect(factory)
            except (ConnectError, OSError) as error:  # a name that is not known is the latter
                failed = error
        raise failed


@frozen
class _Ring:
    peers: tuple[str, ...]
    subnet: str
    encryption: str


@implementer(IPlugin, IStreamClientEndpointStringParserWithReactor)
class Parser:
    r"""Reads ``chord:NAME``, with ``peer=HOST\:PORT`` (several with commas between), ``subnet=`` and
    ``encryption=`` where they are not the usual ones.

    One leeching node serves all endpoints of one ring, from the first connection until the reactor ends. Each
    name has one endpoint, which is given again.
    """

    prefix = "chord"

    def __init__(self) -> None:
        self._nodes: dict[tuple[int, _Ring], ChordService] = {}
        self._endpoints: dict[tuple[ChordService, str], ServiceEndpoint] = {}

    def parseStreamClient(  # type: ignore[override]  # the arguments are what the string may name
        self,
        reactor: Any,
        name: str,
        peer: str = PEER,
        subnet: str = "chord",
        encryption: str = "Plaintext",
    ) -> ServiceEndpoint:
        """Twisted's. :raises ValueError: for a name, an address or an encryption that makes no sense."""
        node = self._node(reactor, _Ring(tuple(peer.split(",")), subnet, encryption))
        endpoint = self._endpoints.get((node, name))
        if endpoint is None:
            endpoint = self._endpoints[node, name] = ServiceEndpoint(reactor, node, name)
        return endpoint

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
