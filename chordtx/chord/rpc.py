"""Calls to nodes of ours by their id: over the link that there is, or over a new one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from chordtx.errors import NotJoined, ProtocolError
from chordtx.mesh import Address, MeshConnection, PeerLost
from chordtx.mesh.address_trust import believed
from chordtx.mesh.calls import Asker, tell
from chordtx.mesh.deferreds import within
from chordtx.mesh.unreachable import Unreachable
from chordtx.ring import Contact
from chordtx.wire import encode_id

#: What an asker of another node, whose link was closed meanwhile, has done instead.
Again = Callable[
    [Failure, MeshConnection, Contact, str, tuple[object, ...], float], Failure | Deferred[list[object]]
]


class Node(Protocol):
    """What calls to other nodes need of the service."""

    @property
    def reactor(self) -> object:
        """For the time."""

    def _link_to(self, address: Address, peer: str | None = None) -> Deferred[MeshConnection]:
        """A link to whoever is reached there."""


class Rpc:
    """One node's links by node id, and calls to contacts.

    :param node: the service.
    :param call_timeout_seconds: for one call, before it is given up.
    """

    def __init__(self, node: Node, call_timeout_seconds: float) -> None:
        self._node = node
        self._call_timeout_seconds = call_timeout_seconds
        self._links: dict[int, MeshConnection] = {}

    def link_opened(self, link: MeshConnection) -> None:
        """A link is there."""
        self._links[link.id_10] = link

    def link_closed(self, link: MeshConnection) -> bool:
        """A link is gone. :returns: whether it was the one that was used; False when there is a newer one."""
        if self._links.get(link.id_10) is not link:
            return False
        del self._links[link.id_10]
        return True

    def members(self) -> list[MeshConnection]:
        """Links to nodes of ours that are in the ring."""
        return [
            link
            for link in self._links.values()
            if link.ours and not link.leeching and not link.closed and link.address and link.address.reachable
        ]

    def member(self, caller: MeshConnection) -> Contact:
        """The member of the ring that calls: what only members may say counts from nobody else.

        :raises NotJoined: when the caller stores nothing, or cannot be reached, or somebody else has the link
            to its id.
        """
        if caller.leeching:
            raise NotJoined("only a storing member of the ring may say this")
        return self.coming_member(caller)

    def coming_member(self, caller: MeshConnection) -> Contact:
        """As :meth:`member`; one that is about to join, and does not store yet, counts too."""
        if not caller.ours or not self.has_place(caller) or not caller.address:
            raise NotJoined("only a storing member of the ring may say this")
        if believed(caller.address, names=True) is None:
            raise NotJoined("only a member that can be reached may say this")
        return Contact(caller.id_10, caller.address.host, caller.address.port)

    def has_place(self, caller: MeshConnection) -> bool:
        """Whether this is the link to the caller's id."""
        return self._links.get(caller.id_10) is caller

    def is_linked(self, id: int) -> bool:
        """Whether there is a link to a node: one that is dead, or falls silent, has none for long."""
        link = self._links.get(id)
        return link is not None and not link.closed

    def link(self, id: int) -> MeshConnection | None:
        """The link to a node, if there is one."""
        return self._links.get(id)

    def call(
        self, contact: Contact, method: str, *arguments: object, timeout_seconds: float | None = None
    ) -> Deferred[list[object]]:
        """Ask a node of ours, connecting to it first where there is no link.

        A call whose link was closed because there is a better one is made again over that.

        :param timeout_seconds: the usual time for a call when None.
        :returns: fires with the results, or fails with a :class:`~chordtx.errors.ChordError`.
        """
        link = self._links.get(contact.id)
        seconds = timeout_seconds or self._call_timeout_seconds
        if link is None or link.closed:
            return Deferred.fromCoroutine(self._connect_and_call(contact, method, arguments, seconds))
        call = link.call(method, *arguments, timeout_seconds=seconds)
        call.addErrback(self._call_again, link, contact, method, arguments, seconds)
        return call

    def ask(
        self,
        asker: Asker,
        contact: Contact,
        method: str,
        arguments: tuple[object, ...],
        more_seconds: float = 0.0,
    ) -> None:
        """As :meth:`call`, without a Deferred where there is a link: ``asker`` is told what came of it.

        :param more_seconds: for how much longer than usual an answer may be kept back.
        """
        timeout_seconds = self._call_timeout_seconds + more_seconds
        link = self._links.get(contact.id)
        if link is None or link.closed:
            tell(asker, contact, self.call(contact, method, *arguments, timeout_seconds=timeout_seconds))
            return
        first = _First(self._call_again, link, asker, method, arguments, timeout_seconds)
        link.ask(first, contact, method, arguments, timeout_seconds=timeout_seconds)

    def _call_again(
        self,
        failure: Failure,
        lost: MeshConnection,
        contact: Contact,
        method: str,
        arguments: tuple[object, ...],
        timeout_seconds: float,
    ) -> Failure | Deferred[list[object]]:
        link = self._links.get(contact.id)
        if failure.check(PeerLost) and link is not None and link is not lost and not link.closed:
            return link.call(method, *arguments, timeout_seconds=timeout_seconds)
        return failure

    async def _connect_and_call(
        self, contact: Contact, method: str, arguments: tuple[object, ...], timeout_seconds: float
    ) -> list[object]:
        address = believed(Address(contact.host, contact.port), names=True)
        if address is None:
            raise NotJoined("a node that cannot be reached was named")
        try:
            # The kernel of a process that hangs still takes the connection; only the handshake does not come.
            link: MeshConnection = await within(
                self._call_timeout_seconds,
                self._node.reactor,
                self._node._link_to(address, encode_id(contact.id)),
                lambda: PeerLost(f"{address} does not answer"),
            )
        except (Unreachable, ProtocolError) as error:
            # We may even have reached ourselves: a process that has come back with another id.
            raise PeerLost(f"{address} cannot be reached: {error}") from error
        if link.id_10 != contact.id or not link.ours:
            raise NotJoined(f"another node answers at {address}")
        return await link.call(method, *arguments, timeout_seconds=timeout_seconds)


class _First:
    """Asks once more, over the link that there is then, when the first was closed for it."""

    __slots__ = ("_again", "_arguments", "_asker", "_link", "_method", "_timeout_seconds")

    def __init__(
        self,
        again: Again,
        link: MeshConnection,
        asker: Asker,
        method: str,
        arguments: tuple[object, ...],
        timeout_seconds: float,
    ) -> None:
        self._again = again
        self._link = link
        self._asker = asker
        self._method = method
        self._arguments = arguments
        self._timeout_seconds = timeout_seconds

    def answered(self, peer: Contact, results: list[object]) -> None:
        self._asker.answered(peer, results)

    def failed(self, peer: Contact, failure: Failure) -> None:
        again = self._again(failure, self._link, peer, self._method, self._arguments, self._timeout_seconds)
        if isinstance(again, Deferred):
            tell(self._asker, peer, again)
        else:
            self._asker.failed(peer, failure)
