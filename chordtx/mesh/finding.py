"""Finding a node of which only the id is known: the mesh is asked who is connected to it.

``request [8, request id, node id]``, broadcast, is answered by everyone that knows the node with
``response [10, request id, [[host, port], node id]]``; the first answer is connected to.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from chordtx.errors import NotJoined, ProtocolError, Stopped
from chordtx.mesh.address import Address
from chordtx.mesh.address_trust import believed
from chordtx.mesh.connection import MeshConnection
from chordtx.mesh.deferreds import within
from chordtx.mesh.handshake import Dialect, as_text, number_of_id
from chordtx.mesh.peer_exchange import peer_from_wire
from chordtx.mesh.unreachable import Unreachable, as_chord_error
from chordtx.wire import Message, flags

_TIMEOUT_SECONDS = 10.0
_REQUEST_ID_BYTES_MAX = 256


class Finding:
    """One node's requests, and its answers to those of others.

    :param mesh: the service: ``routing_table``, ``_broadcast``, ``_link_to``, ``_background`` and so on.
    """

    def __init__(self, mesh: Any) -> None:
        self._mesh = mesh
        self._requests: dict[str, tuple[str, Deferred[MeshConnection]]] = {}

    def find(self, peer: str) -> Deferred[MeshConnection]:
        """A link to a node; fails with :class:`~chordtx.errors.NotJoined` when nobody knows where it is."""
        request = f"{self._mesh._rng.getrandbits(128):032x}"

        def forget(_: Any) -> None:
            self._requests.pop(request, None)

        found: Deferred[MeshConnection] = Deferred(forget)
        self._requests[request] = (peer, found)
        self._mesh._broadcast(flags.REQUEST, request, peer.encode("ascii"))
        unknown = f"nobody in the mesh knows the node {peer}"
        return within(_TIMEOUT_SECONDS, self._mesh.reactor, found, lambda: NotJoined(unknown))

    def stop(self) -> None:
        """Nobody is looked for any more."""
        requests, self._requests = self._requests, {}
        for _, found in requests.values():
            found.errback(Stopped("the service was stopped"))

    def request_received(self, link: MeshConnection, request: Any, peer: Any) -> None:
        """Somebody looks for a node: answer, when it is a neighbour or ourselves.

        :raises ProtocolError: when the request makes no sense.
        """
        if not isinstance(request, bytes | str) or len(request) > _REQUEST_ID_BYTES_MAX:
            raise ProtocolError("a request has a short id of its own")
        peer = as_text(peer)
        number_of_id(peer)
        address = self._address_of(peer, link)
        if address is None or not address.reachable:
            return
        response = (flags.RESPONSE, request, [address.to_wire(), link.encode_ids(peer)])
        if link.dialect is Dialect.BIN:
            self._mesh._broadcast(*response)
        else:
            link.send(*response, type=flags.BROADCAST)

    def _address_of(self, peer: str, asking: MeshConnection) -> Address | None:
        if peer == self._mesh.id:
            own: Address = self._mesh._own_address()
            return own
        known = self._mesh.routing_table.get(peer)
        if known is None or asking.dialect is Dialect.STR:  # for the latter see MeshService._may_relay
            return None
        address: Address | None = known.address
        return address

    def response_received(self, link: MeshConnection, message: Message) -> None:
        """Somebody knows a node that is looked for, perhaps by us.

        :raises ProtocolError: when the response makes no sense.
        """
        payload = message.payload
        if len(payload) != 3 or not isinstance(payload[1], bytes | str):
            raise ProtocolError("a response has the request's id and a peer")
        request = payload[1].decode("ascii", "replace") if isinstance(payload[1], bytes) else payload[1]
        wanted = self._requests.get(request)
        if wanted is None or not payload[2]:  # nobody's business here; py2p says so when it does not know
            return
        named, peer = peer_from_wire(payload[2])
        address = believed(named, link.remote_host)
        if peer == wanted[0] and address is not None:
            del self._requests[request]
            self._mesh._background(self._connect(wanted[1], address, peer))

    async def _connect(self, found: Deferred[MeshConnection], address: Address, peer: str) -> None:
        try:
            link = self._mesh.routing_table.get(peer) or await self._mesh._link_to(address, peer)
            if link.id != peer:
                raise NotJoined(f"another node answers at {address}")
        except Unreachable as error:
            if not found.called:
                found.errback(NotJoined(f"{address} cannot be reached: {error}"))
            return
        except Exception as error:
            if not found.called:
                found.errback(as_chord_error(error))
            return
        if not found.called:
            found.callback(link)
