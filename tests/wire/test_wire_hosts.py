"""Hosts that stand for every address of a machine."""

from __future__ import annotations

import socket

import pytest

from chordtx.wire.hosts import is_wildcard

WILDCARDS = [
    *("", "0", "00", "0.0", "0.0.0", "0.0.0.0", "0x0", "0X0.0", "000.0x00.0.0"),
    *("::", "::0", "0::", "0:0:0:0:0:0:0:0", "::0.0.0.0", "::ffff:0.0.0.0", "::ffff:0:0", "::%eth0"),
]
SINGLE = [
    *("127.0.0.1", "0.0.0.1", "10.0.0.0", "192.0.2.10", "0x1", "0.0.0.0.0", "0x", "00x0"),
    *("::1", "::%", "::ffff:127.0.0.1", "fe80::1%eth0", "example.org", "0.example", "x", ":", "0:"),
]


@pytest.mark.parametrize("host", WILDCARDS)
def test_every_address(host: str) -> None:
    assert is_wildcard(host)


@pytest.mark.parametrize("host", SINGLE)
def test_one_address_or_none(host: str) -> None:
    assert not is_wildcard(host)


@pytest.mark.parametrize("host", [host for host in WILDCARDS + SINGLE if host and ":" not in host])
def test_the_system_reads_them_alike(host: str) -> None:
    try:
        is_zero = not any(socket.inet_aton(host))
    except OSError:
        is_zero = False
    assert is_wildcard(host) == is_zero
