"""Hosts as people and peers write them. Knows nothing of sockets: a name is not resolved."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address

# What the system's inet_aton takes for 0.0.0.0: one to four zeros, decimal, octal or hexadecimal.
_ZEROS = re.compile(r"(0x)?0+(\.(0x)?0+){0,3}", re.ASCII | re.IGNORECASE)


@lru_cache(maxsize=4096)  # asked for each member at each lookup
def is_wildcard(host: str) -> bool:
    """Whether a host stands for every address of a machine, in any spelling, or is empty.

    A port can be bound to it; as the address of a node it leads nowhere, or to whoever asks.
    """
    if not host or _ZEROS.fullmatch(host):
        return True
    if host[0] not in "0:":
        return False
    try:
        address = IPv6Address(host)
    except AddressValueError:
        return False
    mapped = address.ipv4_mapped
    return address.is_unspecified or (mapped is not None and mapped.is_unspecified)
