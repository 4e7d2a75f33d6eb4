"""What a service is given when it is made, checked: each error says what to write instead.

Each message begins with the name of the argument, which is that of the option of ``twistd chord`` too.
"""

from __future__ import annotations

from collections.abc import Iterable
from inspect import isclass, ismodule
from random import Random, SystemRandom
from typing import Any, TypeVar

from attrs import fields, has

from chordtx.mesh.address import Address
from chordtx.mesh.endpoints import Listen, Outward, listen_on
from chordtx.wire.hosts import is_wildcard

ENCRYPTIONS = ("Plaintext", "SSL")
S = TypeVar("S")


def check_reactor(reactor: object, service: str) -> None:
    """Whether this has the time: Twisted's reactor, or one that behaves like it.

    :param service: the name of the service, to show how it is written.
    :raises TypeError: when it is none.
    """
    right = f"write {service}(reactor, ...) after from twisted.internet import reactor"
    if reactor is None:
        raise TypeError(f"reactor: it is missing: {right}")
    if isclass(reactor) or ismodule(reactor):
        kind = "class" if isclass(reactor) else "module"
        raise TypeError(f"reactor: {reactor.__name__} is a {kind}, not the reactor that runs: {right}")
    if not all(callable(getattr(reactor, name, None)) for name in ("callLater", "seconds")):
        raise TypeError(f"reactor: {reactor!r} is none: {right}")


def check_listen(reactor: Any, listen: object, outward: Outward) -> Listen:
    """What to listen on; see :func:`~chordtx.mesh.endpoints.listen_on`.

    :raises ValueError: when it makes no sense. :raises TypeError: when it is no endpoint at all.
    """
    try:
        return listen_on(reactor, listen, outward)
    except (TypeError, ValueError) as error:
        raise type(error)(f"listen: {error}") from error.__cause__


def check_advertise(advertise: object) -> Address | None:
    """The outward address that people give.

    :raises ValueError: when it is none, or none that peers could connect to.
    :raises TypeError: when it is no text.
    """
    if advertise is None:
        return None
    address = _address("advertise", advertise)
    if is_wildcard(address.host):
        raise ValueError(
            f"advertise: {advertise!r} stands for every address of a machine: say one that leads to this node"
        )
    return address


def check_peers(peers: object) -> list[Address]:
    """Addresses of nodes to join through.

    :raises ValueError: when one is no address. :raises TypeError: when it is no list of texts.
    """
    if isinstance(peers, str | bytes) or not isinstance(peers, Iterable):
        example = peers if isinstance(peers, str) else "HOST:PORT"
        raise TypeError(f"peers: {peers!r} is no list: write peers=[{example!r}]")
    return [_address("peers", peer) for peer in peers]


def _address(name: str, given: object) -> Address:
    if not isinstance(given, str):
        example = "HOST:PORT"
        if isinstance(given, tuple | list) and len(given) == 2:
            example = f"{given[0]}:{given[1]}"
        raise TypeError(f"{name}: {given!r} is no text: write {example!r}")
    try:
        return Address.parse(given)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def check_subnet(subnet: object) -> str:
    """:raises TypeError: when it is no text."""
    if not isinstance(subnet, str):
        raise TypeError(f"subnet: {subnet!r} is no text")
    return subnet


def check_encryption(encryption: object) -> str:
    """:raises ValueError: when it is none that the protocol has."""
    if encryption not in ENCRYPTIONS:
        raise ValueError(f"encryption: must be {' or '.join(ENCRYPTIONS)}, not {encryption!r}")
    return str(encryption)


def check_settings(settings: S | None, kind: type[S]) -> S:
    """The settings, or the usual ones for None.

    :raises TypeError: when they are of another class.
    """
    if settings is None:
        return kind()
    if not isinstance(settings, kind):
        raise TypeError(
            f"settings: must be {kind.__name__}(...), not {type(settings).__name__}{_inner(settings, kind)}"
        )
    return settings


def _inner(settings: object, kind: type[Any]) -> str:
    """Where settings belong that are a part of those that are wanted."""
    usual = kind()
    for field in fields(kind):
        if has(type(settings)) and isinstance(settings, type(getattr(usual, field.name))):
            return f": write {kind.__name__}({field.name}={type(settings).__name__}(...))"
    return ""


def check_rng(rng: Random | None) -> Random:
    """The random source, or the system's for None.

    :raises TypeError: when it is none.
    """
    if rng is None:
        return SystemRandom()
    if not isinstance(rng, Random):
        raise TypeError(f"rng: {rng!r} is no random source: write rng=random.Random({rng!r})")
    return rng
