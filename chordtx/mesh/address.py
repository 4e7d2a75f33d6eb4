"""Where a node can be reached, validated field by field: never parsed as an endpoint string.

An address comes from strangers (a handshake, a ``peers`` list) and from people (``--peer``).
"""

from __future__ import annotations

from typing import Any

from attrs import frozen
from twisted.internet.abstract import isIPv6Address

from chordtx.errors import ProtocolError
from chordtx.wire.hosts import is_wildcard

_HOST_CHARACTERS_MAX = 253
_HOST_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:%")


@frozen
class Address:
    """A host (name, IPv4 or IPv6 literal without brackets) and a TCP port.

    Port 0 stands for a node that accepts no connections (a leeching client), and so does a host that stands
    for every address of a machine: see :attr:`reachable`.
    """

    host: str
    port: int

    @property
    def reachable(self) -> bool:
        """Whether anybody could connect to it."""
        return self.port > 0 and not is_wildcard(self.host)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def to_wire(self) -> list[Any]:
        """The protocol's ``[host, port]``."""
        return [self.host, self.port]

    @classmethod
    def from_wire(cls, value: Any) -> Address:
        """Read ``[host, port]`` as a peer sent it.

        :raises ProtocolError: when it is no address.
        """
        if not isinstance(value, list) or len(value) != 2:
            raise ProtocolError("an address is [host, port]")
        host, port = value
        if isinstance(host, bytes):
            host = host.decode("ascii", "replace")
        if not isinstance(host, str) or not valid_host(host):
            raise ProtocolError("an address has an invalid host")
        if type(port) is not int or not 0 <= port <= 65535:
            raise ProtocolError("an address has an invalid port")
        return cls(host, port)

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``HOST:PORT`` or ``[v6]:PORT`` as a person wrote it.

        :raises ValueError: saying what is wrong with it.
        """
        host, colon, port_text = text.rpartition(":")
        if not colon or not host:
            raise ValueError(f"{text!r} is not HOST:PORT")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ValueError(f"{text!r}: write an IPv6 address as [address]:PORT")
        if not valid_host(host) or not host:
            raise ValueError(f"{text!r} has an invalid host")
        if not port_text.isascii() or not port_text.isdigit() or not 0 < int(port_text) <= 65535:
            raise ValueError(f"{text!r} has an invalid port: it is a number from 1 to 65535")
        return cls(host, int(port_text))


def valid_host(host: str) -> bool:
    """Whether this may be a host name or an IP literal ('' is one that cannot be reached)."""
    if len(host) > _HOST_CHARACTERS_MAX or not _HOST_CHARACTERS.issuperset(host):
        return False
    return ":" not in host or isIPv6Address(host)
