"""A contact: a member's id, and where it is reached. Knows nothing of links or of liveness."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress

from attrs import frozen

from chordtx.errors import ProtocolError
from chordtx.ring.space import SIZE
from chordtx.wire.hosts import is_wildcard

ID_BYTES = 48
PORT_MAX = 65_535
# Names and addresses (v6 with its zone too), and nothing that an endpoint string or a log could trip over.
_HOST = re.compile(r"[0-9A-Za-z._:%-]{0,253}", re.ASCII)


class UnusableContact(ProtocolError):
    """A contact as it should be, but for one thing: nobody can connect to the address."""


@frozen(order=True)
class Contact:
    """One node, as the others know it. Ordered and hashed by all three.

    :ivar id: on the ring, 0 .. 2**384 - 1.
    :ivar host: name or address, without brackets.
    :ivar port: TCP port; 0 for a node that takes no connections.
    """

    id: int
    host: str
    port: int

    def to_wire(self) -> list[int | str | bytes]:
        """:returns: ``[id as 48 bytes big-endian, host, port]``."""
        return [self.id.to_bytes(ID_BYTES, "big"), self.host, self.port]

    @classmethod
    def from_wire(cls, obj: object) -> Contact:
        """The opposite of :meth:`to_wire`, for whatever a peer sent.

        :raises UnusableContact: when nobody can connect to its address.
        :raises ProtocolError: when it has any other shape.
        """
        if not isinstance(obj, list | tuple) or len(obj) != 3:
            raise ProtocolError("a contact is [id, host, port]")
        id_bytes, host, port = obj
        if not isinstance(id_bytes, bytes) or len(id_bytes) != ID_BYTES:
            raise ProtocolError(f"the id of a contact is {ID_BYTES} bytes")
        if not isinstance(host, str) or not _HOST.fullmatch(host):
            raise ProtocolError("the host of a contact is a name or an address")
        if type(port) is not int or not 0 <= port <= PORT_MAX:
            raise ProtocolError("the port of a contact is 0 .. 65535")
        if is_wildcard(host) or port == 0:
            raise UnusableContact("the address of a contact cannot be connected to")
        return cls(int.from_bytes(id_bytes, "big"), host, port)

    def __attrs_post_init__(self) -> None:
        assert 0 <= self.id < SIZE, "an id lies on the ring"


def usable_contacts(entries: Iterable[object]) -> list[Contact]:
    """Read contacts as a peer sent them, and leave out those that nobody can connect to.

    One node without an address must not make everything useless that others tell.

    :raises ProtocolError: when one has any other shape than a contact.
    """
    contacts = []
    for entry in entries:
        with suppress(UnusableContact):
            contacts.append(Contact.from_wire(entry))
    return contacts
