"""What the services make of wrong arguments: an error that says what to write instead."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import selectreactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    SSL4ServerEndpoint,
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    UNIXServerEndpoint,
)
from twisted.internet.task import Clock

from chordtx import ChordService, ChordSettings, MeshService, MeshSettings, SyncService, SyncSettings

SERVICES = [MeshService, ChordService, SyncService]
HERE = "tcp:0:interface=127.0.0.1"
EVERYWHERE = [
    "tcp:4444",
    "tcp:port=4444",
    "tcp:4444:interface=0.0.0.0",
    "tcp:4444:0.0.0.0",
    "tcp:4444:interface=0",
    "tcp:4444:interface=0.0",
    "tcp:4444:interface=0x0",
    r"tcp:4444:interface=\:\:",
    r"tcp:4444:interface=\:\:0",
    "tcp:0",
    "tcp6:4444",
    r"tcp6:4444:interface=\:\:",
    r"tcp6:4444:interface=0\:\:0",
    r"tcp6:4444:interface=\:\:ffff\:0.0.0.0",
    "tcp:interface=0.0.0.0:port=4444",
]
#: What a text does not tell: a proxy's address in front, a socket of somebody else's making.
WHO_KNOWS = ["haproxy:tcp:4444", "haproxy:tcp:4444:interface=127.0.0.1", "haproxy:tcp6:4444"]
OWN_TLS = ["ssl:4444", "ssl:4444:interface=127.0.0.1", "tls:4444", "haproxy:ssl:4444", "SSL:4444"]
NO_ENDPOINT = ["", ":", "tcp", "tcp:x", "carrier-pigeon:1", "tcp:65536:interface=127.0.0.1", "stdio:"]


def refused(kind: Any, *arguments: Any, error: type[Exception] = ValueError, **options: Any) -> str:
    """The one line that says why."""
    with pytest.raises(error) as raised:
        kind(*(arguments or (Clock(),)), **options)
    said = str(raised.value)
    assert "\n" not in said
    return said


# What to listen on


@pytest.mark.parametrize("kind", SERVICES)
@pytest.mark.parametrize("listen", EVERYWHERE)
def test_on_every_address_one_must_be_advertised(kind: Any, listen: str) -> None:
    said = refused(kind, listen=listen)
    assert said.startswith(f"listen: {listen!r} is on every address of this machine: say with advertise")
    node = kind(Clock(), listen=listen, advertise="node.example:4444")
    assert node.out_addr == ("node.example", 4444)


@pytest.mark.parametrize("kind", SERVICES)
@pytest.mark.parametrize("listen", WHO_KNOWS)
def test_where_the_text_names_no_address_one_must_be_advertised(kind: Any, listen: str) -> None:
    assert "say one with advertise HOST:PORT" in refused(kind, listen=listen)
    assert kind(Clock(), listen=listen, advertise="[2001:db8::1]:4444").out_addr == ("2001:db8::1", 4444)


def test_a_storing_node_must_be_found_and_others_need_not() -> None:
    assert "names no address" in refused(ChordService, listen="unix:/nowhere/node.sock")
    ChordService(Clock(), listen="unix:/nowhere/node.sock", advertise="node.example:1")
    for kind in (MeshService, SyncService):
        assert kind(Clock(), listen="unix:/nowhere/node.sock").out_addr == ("", 0)


@pytest.mark.parametrize("listen", [*EVERYWHERE, *WHO_KNOWS, "unix:/nowhere/node.sock", None])
def test_who_leeches_need_not_be_found(listen: str | None) -> None:
    assert ChordService(Clock(), listen=listen, leech=True).leeching


@pytest.mark.parametrize("kind", SERVICES)
@pytest.mark.parametrize("listen", OWN_TLS)
def test_tls_is_the_services_own(kind: Any, listen: str) -> None:
    said = refused(kind, listen=listen, advertise="node.example:4444")
    assert "SSL as the encryption" in said


@pytest.mark.parametrize("kind", SERVICES)
@pytest.mark.parametrize("listen", NO_ENDPOINT)
def test_what_is_no_endpoint_is_refused(kind: Any, listen: str) -> None:
    assert refused(kind, listen=listen, advertise="a.example:1").startswith(f"listen: {listen!r}")


@pytest.mark.parametrize(
    ("listen", "instead"),
    [
        (4444, "'tcp:4444:interface=127.0.0.1'"),
        ("4444", "'tcp:4444:interface=127.0.0.1'"),
        ("127.0.0.1:4444", "'tcp:4444:interface=127.0.0.1'"),
        ("localhost:4444", "'tcp:4444:interface=localhost'"),
        ("[::1]:4444", r"'tcp6:4444:interface=\:\:1'"),
    ],
)
def test_for_a_port_or_an_address_the_endpoint_is_said(listen: Any, instead: str) -> None:
    with pytest.raises((TypeError, ValueError)) as raised:
        ChordService(Clock(), listen=listen)
    assert f"write {instead}" in str(raised.value)


def test_one_address_is_taken_as_it_is() -> None:
    for listen, address in [
        (HERE, ("127.0.0.1", 0)),
        ("tcp:4444:192.0.2.1", ("192.0.2.1", 4444)),
        ("tcp:4444:interface=192.0.2.1", ("192.0.2.1", 4444)),
        (r"tcp6:4444:interface=\:\:1", ("::1", 4444)),
        ("tcp:interface=192.0.2.1:port=4444", ("192.0.2.1", 4444)),
        ("tcp:4444:interface=node.example", ("node.example", 4444)),
    ]:
        assert ChordService(Clock(), listen=listen).out_addr == address


# Endpoint objects


async def opened(node: Any) -> Any:
    """Start a node and wait for its port; then stop it again. :returns: its outward address."""
    node.startService()
    try:
        await node.when_listening()
        return node.out_addr
    finally:
        await node.stopService()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kind", SERVICES)
async def test_an_endpoint_is_taken(running_reactor: Any, kind: Any) -> None:
    endpoint = TCP4ServerEndpoint(running_reactor, 0, interface="127.0.0.1")
    host, port = await opened(kind(running_reactor, listen=endpoint))
    assert host == "127.0.0.1"
    assert port > 0


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kind", SERVICES)
async def test_an_endpoint_on_every_address_is_found_out(running_reactor: Any, kind: Any) -> None:
    endpoint = TCP4ServerEndpoint(running_reactor, 0)
    with pytest.raises(ValueError, match="is on every address of this machine: say with advertise"):
        await opened(kind(running_reactor, listen=endpoint))
    node = kind(running_reactor, listen=endpoint, advertise="127.0.0.1:4444")
    assert await opened(node) == ("127.0.0.1", 4444)


@pytest_twisted.ensureDeferred
async def test_an_endpoint_without_an_address_is_found_out(running_reactor: Any, tmp_path: Any) -> None:
    endpoint = UNIXServerEndpoint(running_reactor, str(tmp_path / "node.sock"))
    with pytest.raises(ValueError, match="names no address"):
        await opened(ChordService(running_reactor, listen=endpoint))
    assert await opened(MeshService(running_reactor, listen=endpoint)) == ("", 0)


@pytest_twisted.ensureDeferred
async def test_who_leeches_on_every_address_tells_none(running_reactor: Any) -> None:
    node = ChordService(running_reactor, listen="tcp:0", leech=True)
    assert await opened(node) == ("", 0)


def test_who_cannot_be_found_cannot_join() -> None:
    for listen in ("tcp:4444", "unix:/nowhere/node.sock", None):
        with pytest.raises(ValueError, match="cannot store"):
            ChordService(Clock(), listen=listen, leech=True).join()


def test_other_objects_are_refused() -> None:
    for wrong in (TCP4ClientEndpoint(Clock(), "127.0.0.1", 1), b"tcp:1", 4.4, ["tcp:1"], object()):
        assert "is no server endpoint" in refused(MeshService, listen=wrong, error=TypeError)
    tls = SSL4ServerEndpoint(Clock(), 0, None)
    assert "SSL as the encryption" in refused(MeshService, listen=tls)


# What is told, and who is asked


@pytest.mark.parametrize("kind", SERVICES)
@pytest.mark.parametrize("host", ["0.0.0.0", "0", "0x0.0", "[::]", "[::0]", "[::ffff:0.0.0.0]"])
def test_every_address_cannot_be_advertised(kind: Any, host: str) -> None:
    assert refused(kind, listen=HERE, advertise=f"{host}:4444").startswith("advertise: ")


@pytest.mark.parametrize("kind", SERVICES)
@pytest.mark.parametrize("advertise", ["", "node.example", "node.example:0", ":1", "a:b:1", "a b:1"])
def test_what_is_advertised_must_be_an_address(kind: Any, advertise: str) -> None:
    assert refused(kind, listen=HERE, advertise=advertise).startswith("advertise: ")


@pytest.mark.parametrize("kind", SERVICES)
def test_arguments_of_another_kind(kind: Any) -> None:
    for wrong, said in [
        ({"peers": "h.example:1"}, "write peers=['h.example:1']"),
        ({"peers": b"h:1"}, "is no list"),
        ({"peers": None}, "is no list"),
        ({"peers": 4444}, "is no list"),
        ({"peers": [("h.example", 1)]}, "write 'h.example:1'"),
        ({"peers": [4444]}, "write 'HOST:PORT'"),
        ({"advertise": ("h.example", 1)}, "write 'h.example:1'"),
        ({"advertise": 4444}, "write 'HOST:PORT'"),
        ({"subnet": b"demo"}, "subnet: b'demo' is no text"),
        ({"subnet": None}, "subnet: None is no text"),
        ({"rng": 7}, "write rng=random.Random(7)"),
        ({"settings": {"replicas": 3}}, "Settings(...), not dict"),
    ]:
        assert said in refused(kind, listen=HERE, error=TypeError, **wrong)


def test_settings_of_another_class_say_where_they_belong() -> None:
    for kind, settings, said in [
        (ChordService, MeshSettings(), "write ChordSettings(mesh=MeshSettings(...))"),
        (SyncService, MeshSettings(), "write SyncSettings(mesh=MeshSettings(...))"),
        (SyncService, ChordSettings(), "must be SyncSettings(...), not ChordSettings"),
        (MeshService, SyncSettings(), "must be MeshSettings(...), not SyncSettings"),
        (MeshService, ChordSettings, "must be MeshSettings(...), not type"),
    ]:
        assert said in refused(kind, listen=None, settings=settings, error=TypeError)


@pytest.mark.parametrize("kind", SERVICES)
def test_peers_may_be_any_iterable(kind: Any) -> None:
    for peers in ([], (), {"h.example:1"}, (f"h{number}.example:1" for number in range(3))):
        kind(Clock(), listen=HERE, peers=peers, rng=Random(1))


# The reactor


@pytest.mark.parametrize("kind", SERVICES)
def test_the_reactor_comes_first(kind: Any) -> None:
    right = f"write {kind.__name__}(reactor, ...) after from twisted.internet import reactor"
    with pytest.raises(TypeError) as raised:
        kind(listen=HERE)
    assert str(raised.value) == f"reactor: it is missing: {right}"
    for wrong in (HERE, 4444, selectreactor, selectreactor.SelectReactor, Deferred(), object()):
        assert refused(kind, wrong, error=TypeError).endswith(right)
