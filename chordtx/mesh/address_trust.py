"""What is believed of the addresses that others tell. Pure: it is given the times, in seconds.

Anybody may say that a node is reached at any address, in a handshake, a list of peers or a response. A node
that connected wherever it is told to would be a tool to flood a third party. So this is the rule:

1. Addresses that people give (``--peer``, ``connect()``) are dialled as they are; names are looked up.
2. Of what others tell, IPv4 and IPv6 addresses count, in numbers and in their one canonical form: nothing
   that is no single host (wildcard, multicast, broadcast), no zone, and a loopback address only when a peer
   on the loopback tells it. See :func:`believed`.
3. A name counts only when a storing member of the ring tells it, which may be reached by its name. It is
   looked up like any other, few at a time (:mod:`~chordtx.mesh.names`).
4. What is told is dialled seldom: one address and one host, and on the word of one source, and in all
   (:class:`DialLimits`). An address at which a peer of this network answered once is believed from then on.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address

from attrs import define

from chordtx.mesh.address import Address

PEERS_READ_MAX = 64  # of one list: as many as a node has links by default
_ENTRIES_MAX = 1000
# (how many at once, how many a second after that)
_OF_ADDRESS = (4.0, 0.1)  # a node that is started again is found at once; anything else hears little of us
_OF_HOST = (64.0, 4.0)  # a host may run many nodes
_OF_SOURCE = (64.0, 4.0)  # one list when we come, and what changes later
_OF_ALL = (128.0, 8.0)  # twice what a node keeps of links by default
_NOT_ONE_HOST = re.compile(r"(0x[0-9a-f]*|[0-9]+)|(.*\.)?localhost", re.ASCII | re.IGNORECASE)


def believed(address: Address, told_from: str | None = None, names: bool = False) -> Address | None:
    """What is dialled when somebody names an address; None when nothing is.

    :param told_from: the host of the link that told it; None when that is not known.
    :param names: whether it may be a name: a storing member told it.
    """
    if not address.reachable:
        return None
    literal = _literal(address.host)
    if literal is None:
        return address if names and _is_name(address.host) else None
    if literal.is_loopback and told_from is not None and not _is_local(told_from):
        return None
    return Address(str(literal), address.port) if _is_one_host(literal) else None


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    try:
        literal = ip_address(host)
    except ValueError:
        return None
    if isinstance(literal, IPv6Address) and literal.ipv4_mapped is not None:
        return literal.ipv4_mapped
    return literal


def _is_one_host(literal: IPv4Address | IPv6Address) -> bool:
    if literal.is_unspecified or literal.is_multicast:
        return False
    if isinstance(literal, IPv6Address):
        # Without a zone nobody can be reached at a link-local address, and a zone is nobody else's business.
        return literal.scope_id is None and not literal.is_link_local
    return not literal.is_reserved and int(literal) >> 24 != 0


def _is_name(host: str) -> bool:
    """Whether it can only be a name: ``127.1`` and ``0x7f.1`` are other ways to write an address."""
    name = host.rstrip(".")
    if ":" in name or "%" in name or _NOT_ONE_HOST.fullmatch(name):
        return False
    return bool(name) and not _NOT_ONE_HOST.fullmatch(name.rpartition(".")[2])


def _is_local(host: str) -> bool:
    literal = _literal(host)
    return literal.is_loopback if literal is not None else host in ("", "localhost")


@define
class _Bucket:
    tokens: float
    filled_at: float


class _Buckets:
    """A token bucket for each of some things, of which those used last are remembered."""

    def __init__(self, kind: tuple[float, float]) -> None:
        self._size, self._per_second = kind
        self._buckets: dict[object, _Bucket] = {}

    def has(self, thing: object, now: float) -> bool:
        bucket = self._buckets.pop(thing, None) or _Bucket(self._size, now)
        self._buckets[thing] = bucket
        if len(self._buckets) > _ENTRIES_MAX:
            del self._buckets[next(iter(self._buckets))]
        passed = max(0.0, now - bucket.filled_at)
        bucket.tokens = min(self._size, bucket.tokens + passed * self._per_second)
        bucket.filled_at = now
        return bucket.tokens >= 1

    def take(self, thing: object) -> None:
        self._buckets[thing].tokens -= 1


class DialLimits:
    """How often one node connects to where others say that somebody is.

    :param trusted: addresses that people gave.
    """

    def __init__(self, trusted: list[Address]) -> None:
        self._known: dict[Address, None] = dict.fromkeys(trusted)
        self._trusted: dict[Address, None] = dict.fromkeys(trusted)
        self._addresses = _Buckets(_OF_ADDRESS)
        self._hosts = _Buckets(_OF_HOST)
        self._sources = _Buckets(_OF_SOURCE)
        self._all = _Buckets(_OF_ALL)

    def is_known(self, address: Address) -> bool:
        """Whether people gave this address, or somebody of this network answered there."""
        return address in self._known

    def is_trusted(self, address: Address) -> bool:
        """Whether people gave this address."""
        return address in self._trusted

    def trust(self, address: Address) -> None:
        """People want us to connect there."""
        self._trusted[address] = None
        self.answered(address)

    def answered(self, address: Address) -> None:
        """We connected there, and whoever answered is of our network."""
        self._known.pop(address, None)
        self._known[address] = None
        if len(self._known) > _ENTRIES_MAX + len(self._trusted):
            del self._known[next(each for each in self._known if each not in self._trusted)]

    def may_dial(self, address: Address, now: float, is_for_ring: bool) -> bool:
        """Whether to connect there now, which counts.

        :param is_for_ring: members name it: others' talk has not used up what there is for it.
        """
        if address in self._known:
            return True
        host = address.host.lower()
        wanted: list[tuple[_Buckets, object]] = [(self._addresses, (host, address.port)), (self._hosts, host)]
        if not is_for_ring:
            wanted.append((self._all, None))
        if not all(buckets.has(thing, now) for buckets, thing in wanted):
            return False
        for buckets, thing in wanted:
            buckets.take(thing)
        return True

    def may_tell(self, source: str, now: float) -> bool:
        """Whether one more new address is taken from a source, which counts."""
        if not self._sources.has(source, now):
            return False
        self._sources.take(source)
        return True
