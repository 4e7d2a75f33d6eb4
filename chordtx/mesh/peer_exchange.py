"""Peer exchange: which peers others are told of, which they tell of, and finding the network again."""

from __future__ import annotations

from typing import Any

from attrs import define
from twisted.internet.defer import DeferredList

from chordtx.errors import ProtocolError
from chordtx.mesh.address import Address
from chordtx.mesh.address_trust import PEERS_READ_MAX, DialLimits, believed
from chordtx.mesh.connection import MeshConnection
from chordtx.mesh.handshake import as_text, number_of_id
from chordtx.mesh.known import KnownPeers
from chordtx.mesh.tasks import Tasks
from chordtx.wire import Message, flags

_PEERS_TOLD_TO_OLD = 4
_TRIED_AT_ONCE = 16
_RETRY_SECONDS_MIN = 0.2
_RETRY_SECONDS_MAX = 30.0
_CHECK_SECONDS = 1.0
_SOUGHT_MAX = 64
_SOUGHT_SECONDS_MAX = 86_400.0  # from when the link was lost
_SOUGHT_AGAIN_SECONDS_MAX = 60.0


@define
class _Sought:
    """A peer to which the link broke. :ivar pause_seconds: until it is tried once more."""

    lost_at: float
    due_at: float
    pause_seconds: float


class PeerExchange:
    """One node's part in it.

    :param mesh: the service: ``routing_table``, ``_link_to``, ``_peer_met``, ``_seeks_lost`` and so on.
    :param bootstrap: addresses that people gave. :param limits: how much of what is told counts.
    """

    def __init__(self, mesh: Any, bootstrap: list[Address], limits: DialLimits) -> None:
        self._mesh = mesh
        self._limits = limits
        self._bootstrap = bootstrap
        self._known = KnownPeers(mesh.settings.known_peers_max)
        self._sought: dict[Address, _Sought] = {}
        self._retry_seconds = _RETRY_SECONDS_MIN

    # Telling

    def tell(self, link: MeshConnection) -> None:
        """Tell a new neighbour who else there is.

        Our own nodes hear of everyone; where there are many, of some. A legacy peer hears of nobody until it
        asks: each node of ours connects to it by itself, and legacy peers handle links badly that both sides
        open at once.
        """
        link.send(flags.PEERS, self._many(link) if link.ours else [])

    def asked(self, link: MeshConnection) -> None:
        """A neighbour asks who else there is."""
        link.send(flags.PEERS, self._many(link) if link.ours else self._few(link))

    def _many(self, asking: MeshConnection) -> list[list[Any]]:
        links = [link for link in self._reachable() if link is not asking]
        count_max = self._mesh._peers_told_max()
        if len(links) > count_max:
            links = self._mesh._rng.sample(links, count_max)
        return [_entry(link, link) for link in links]

    def _few(self, asking: MeshConnection) -> list[list[Any]]:
        # A legacy peer with more than four links of its own making drops links, also those that it needs. So
        # it hears of few, and of nodes of ours only, since py2p and js2p cannot speak to each other.
        ours = sorted((link for link in self._reachable() if link.ours), key=lambda link: link.id_10)
        return [_entry(link, asking) for link in ours[:_PEERS_TOLD_TO_OLD]]

    def _reachable(self) -> list[MeshConnection]:
        links: list[MeshConnection] = list(self._mesh.routing_table.values())
        return [link for link in links if self.believed_of(link) is not None]

    # Being told

    def greeted(self, link: MeshConnection) -> None:
        """There is a link to a peer, which says where it is reached: anybody can say anything of that."""
        if link.dialled is not None:
            self.met(link.dialled)
        address = self.believed_of(link)
        if address is not None:
            self.met(address)

    def believed_of(self, link: MeshConnection) -> Address | None:
        """Where a peer is reached by its own word, as far as that is believed."""
        assert link.address is not None
        return believed(link.address, link.remote_host, names=link.is_member)

    def met(self, address: Address) -> None:
        """There is a link to whoever is reached there."""
        self._known.met(address)
        self._sought.pop(address, None)

    def parted_from(self, link: MeshConnection) -> None:
        """The link to a peer broke."""
        address = self.believed_of(link) or link.dialled
        if address is not None:
            self.lost(address)

    def lost(self, address: Address) -> None:
        """The link to whoever was reached there broke: look for it again, and not only once all are lost.

        Else the two halves of a network that was split would never meet.
        """
        if self._mesh._seeks_lost and address.reachable:
            now = self._mesh.reactor.seconds()
            self._sought[address] = _Sought(now, now + _CHECK_SECONDS, _CHECK_SECONDS)
            if len(self._sought) > _SOUGHT_MAX:
                del self._sought[next(iter(self._sought))]

    def those_met(self) -> list[Address]:
        """Where there was a link to, the latest last."""
        return self._known.those_met()

    def peers_received(self, link: MeshConnection, message: Message) -> None:
        """``peers [7, [[[host, port], id], ...]]``: those that the sender is connected to.

        An entry that makes no sense is left out, for the sender may have it from somebody else.

        :raises ProtocolError: when there is no list.
        """
        if len(message.payload) != 2 or not isinstance(message.payload[1], list):
            raise ProtocolError("peers come as a list")
        for entry in message.payload[1][:PEERS_READ_MAX]:
            try:
                self._peer_named(link, entry)
            except ProtocolError as error:
                text = "{link} names a peer that is none: {error}"
                self._mesh._limited_log.debug(text, link=link, error=str(error))

    def _peer_named(self, link: MeshConnection, entry: Any) -> None:
        named, peer = peer_from_wire(entry)
        address = believed(named, link.remote_host, names=link.is_member)
        if address is None or peer == self._mesh.id or address == self._mesh._own_address():
            return
        if peer not in self._mesh.routing_table and self._limits.may_tell(
            f"{link.remote_host} {link.is_member}", self._mesh.reactor.seconds()
        ):
            self._known.named(address)
            self._mesh._peer_met(peer, address)

    # Finding the network again

    def keep_connected(self, tasks: Tasks) -> None:
        """Connect to the peers given and met, again and again while there is no link, ever less often.

        And look for those that were lost.
        """
        self._retry_seconds = _RETRY_SECONDS_MIN
        tasks.keep("keeping connected", self._connect_where_needed, self._pause_seconds)

    async def _connect_where_needed(self) -> None:
        if not self._mesh.routing_table:
            await self._try_peers()
        self._seek()

    def _pause_seconds(self) -> float:
        seconds = _CHECK_SECONDS
        if self._mesh.routing_table:
            self._retry_seconds = _RETRY_SECONDS_MIN
        else:
            seconds = self._retry_seconds
            self._retry_seconds = min(_RETRY_SECONDS_MAX, seconds * 1.6)
        drawn: float = self._mesh._rng.random()
        return seconds * (0.5 + drawn)

    def _seek(self) -> None:
        now = self._mesh.reactor.seconds()
        for address, sought in tuple(self._sought.items()):
            if now - sought.lost_at > _SOUGHT_SECONDS_MAX:
                del self._sought[address]
            elif now >= sought.due_at:
                sought.pause_seconds = min(_SOUGHT_AGAIN_SECONDS_MAX, sought.pause_seconds * 1.6)
                sought.due_at = now + sought.pause_seconds * (0.5 + self._mesh._rng.random())
                self._mesh._connect_quietly(address)

    def unlinked(self) -> list[Address]:
        """Where somebody was once reached, or is by what people gave, and to whom there is no link now."""
        linked = {link.address for link in self._mesh.routing_table.values()}
        known = dict.fromkeys([*self._bootstrap, *self._known.those_met()])
        return [
            address for address in known if address not in linked and address != self._mesh._own_address()
        ]

    async def _try_peers(self) -> None:
        known = self._known.choose(_TRIED_AT_ONCE, self._mesh._rng)
        own = self._mesh._own_address()
        addresses = [address for address in dict.fromkeys([*self._bootstrap, *known]) if address != own]
        attempts = [
            self._mesh._link_to(address).addErrback(self._not_reached, address) for address in addresses
        ]
        await DeferredList(attempts)

    def _not_reached(self, failure: Any, address: Address) -> None:
        error = failure.getErrorMessage()
        self._mesh._limited_log.info("cannot reach {address}: {error}", address=str(address), error=error)
        if address in self._bootstrap and address not in self._sought:
            self.lost(address)  # others may connect to us, and know nothing of it


def peer_from_wire(value: Any) -> tuple[Address, str]:
    """``[[host, port], id]`` as a peer sent it.

    :raises ProtocolError: when it is anything else.
    """
    if not isinstance(value, list) or len(value) != 2:
        raise ProtocolError("a peer is [[host, port], id]")
    peer = as_text(value[1])
    number_of_id(peer)
    return Address.from_wire(value[0]), peer


def _entry(link: MeshConnection, asking: MeshConnection) -> list[Any]:
    assert link.address is not None
    assert link.id is not None
    return [link.address.to_wire(), asking.encode_ids(link.id)]
