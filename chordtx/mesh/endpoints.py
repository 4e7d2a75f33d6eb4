r"""What a node may listen on, and the outward address that comes of it.

Peers are told one address, and every node that hears of it connects there. So a node that is to be found must
listen on one address of its machine, or be told by people (``advertise``) which address leads to it. What is
refused here is refused before anything is opened. Which address a port has once it is open, and whether that
will do, is the business of :mod:`~chordtx.mesh.listening`.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Any

from attrs import frozen
from twisted.internet.endpoints import SSL4ServerEndpoint, serverFromString
from twisted.internet.interfaces import IStreamServerEndpoint

from chordtx.mesh.address import Address
from chordtx.wire.hosts import is_wildcard

NOWHERE = Address("", 0)
_BRINGS_TLS = frozenset({"ssl", "tls"})
# The place of the interface among the arguments that have no name, as Twisted's parsers have it.
_INTERFACE_AT = {"tcp": 2, "tcp6": 3}
_PIECE = re.compile(r"((?:\\.|[^\\:])*)(?::|$)", re.DOTALL)
_NAMED = re.compile(r"((?:\\.|[^\\=])*)=(.*)", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_PORT_MAX = 65_535


class Outward(Enum):
    """What others need the outward address of a node for."""

    NEEDED = "they must be able to connect to it: it stores what is theirs"
    TOLD = "they connect to it when they hear of it"
    UNUSED = "nothing: nobody has to find it"

    def lacks(self, address: Address) -> bool:
        """Whether a node must not be known by this address."""
        if self is Outward.TOLD and not address.host:
            return False  # no port of the network: there is nothing to tell
        return self is not Outward.UNUSED and is_wildcard(address.host)


@frozen
class Listen:
    """What a node listens on.

    :ivar endpoint: None when it accepts nobody. :ivar text: its name in messages.
    :ivar address: the outward address that it stands for as far as that is known before the port is open;
        port 0 for a free one.
    :ivar outward: what the address of the open port is needed for; ``UNUSED`` when another is advertised.
    """

    endpoint: Any
    text: str
    address: Address
    outward: Outward


def listen_on(reactor: Any, listen: object, outward: Outward) -> Listen:
    """Check what a node is to listen on.

    :param listen: a Twisted server endpoint, or the text of one; None for a node that accepts nobody.
    :param outward: what its own address is needed for; ``UNUSED`` when another is advertised.
    :raises ValueError: when it is no endpoint, or none that the node can be found by.
    :raises TypeError: when it is neither a text nor an endpoint.
    """
    if listen is None:
        return Listen(None, "nothing", NOWHERE, outward)
    if isinstance(listen, str):
        return _described(reactor, listen, outward)
    if not IStreamServerEndpoint.providedBy(listen):
        raise TypeError(f"{listen!r} is no server endpoint{_hint(str(listen))}")
    if isinstance(listen, SSL4ServerEndpoint):
        raise ValueError(_own_tls(type(listen).__name__))
    return Listen(listen, type(listen).__name__, NOWHERE, outward)


def _described(reactor: Any, text: str, outward: Outward) -> Listen:
    pieces, named = _pieces(text)
    kind = pieces[0].lower()
    inner = pieces[1].lower() if kind == "haproxy" and len(pieces) > 1 else kind
    if inner in _BRINGS_TLS:
        raise ValueError(_own_tls(repr(text)))
    if inner == "stdio":
        raise ValueError(f"{text!r} is no port: more than one peer is to connect")
    try:
        endpoint = serverFromString(reactor, text)
    except Exception as error:  # endpoint parsers are plugins: they raise what they like
        said = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{text!r} is no server endpoint{_hint(text)}: {said}") from error
    if kind in _INTERFACE_AT:
        address = _tcp_address(text, kind, pieces, named)
        if outward.lacks(address):
            raise ValueError(everywhere(repr(text)))
        return Listen(endpoint, repr(text), NOWHERE if is_wildcard(address.host) else address, outward)
    # A proxy before the port, a socket of the system's service manager, or what a plugin makes of it: what
    # peers are to connect to does not stand in the text.
    if outward is Outward.NEEDED or (outward is Outward.TOLD and kind != "unix"):
        raise ValueError(nowhere(repr(text)))
    return Listen(endpoint, repr(text), NOWHERE, outward)


def _tcp_address(text: str, kind: str, pieces: list[str], named: dict[str, str]) -> Address:
    port = int(named.get("port") or pieces[1])
    if not 0 <= port <= _PORT_MAX:
        raise ValueError(f"{text!r}: a port is a number from 0 to {_PORT_MAX}")
    at = _INTERFACE_AT[kind]
    host = named.get("interface") or (pieces[at] if len(pieces) > at else "")
    return Address(host or "0.0.0.0", port)


def _pieces(text: str) -> tuple[list[str], dict[str, str]]:
    """What stands between the colons of an endpoint's text: without a name, and by name."""
    pieces, named = [], {}
    for match in _PIECE.finditer(text):
        name_and_value = _NAMED.fullmatch(match[1])
        if name_and_value is None:
            pieces.append(_plain(match[1]))
        else:
            named[_plain(name_and_value[1])] = _plain(name_and_value[2])
        if match.end() == len(text):
            break
    return pieces or [""], named


def _plain(escaped: str) -> str:
    return _ESCAPED.sub(r"\1", escaped)


def _hint(text: str) -> str:
    """What to write instead, for who gave a port, or a host and a port."""
    if text.isascii() and text.isdigit():
        return f" (write 'tcp:{text}:interface=127.0.0.1')"
    try:
        address = Address.parse(text)
    except ValueError:
        return ""
    if ":" in address.host:
        return f" (write 'tcp6:{address.port}:interface={address.host.replace(':', chr(92) + ':')}')"
    if "." not in address.host and address.host != "localhost":
        return ""
    return f" (write 'tcp:{address.port}:interface={address.host}')"


def everywhere(text: str) -> str:
    """What to say of an endpoint on every address of the machine."""
    told = "say with advertise HOST:PORT which one peers are told"
    return f"{text} is on every address of this machine: {told}"


def nowhere(text: str) -> str:
    """What to say of an endpoint that names no address."""
    return f"{text} names no address that peers could connect to: say one with advertise HOST:PORT"


def _own_tls(text: str) -> str:
    return f"{text} brings a TLS that peers do not speak: give a tcp: endpoint, and SSL as the encryption"
