"""What is believed of addresses that others tell, and how often these are dialled."""

from __future__ import annotations

import itertools
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chordtx.chord import ChordService
from chordtx.chord.ring_identity import Standing
from chordtx.mesh import Address, MeshConnection, MeshService
from chordtx.mesh.address_trust import PEERS_READ_MAX, DialLimits, believed
from chordtx.mesh.dialing import DialledTooOften
from chordtx.wire import encode_id, flags
from tests.mesh.fuzz import Stranger
from tests.sim.cluster import Cluster

LOCALHOSTS = [
    "".join(letter.upper() if upper else letter for letter, upper in zip("localhost", bits, strict=True))
    for bits in itertools.product((False, True), repeat=9)
]
NO_SINGLE_HOST = [
    *("", "0.0.0.0", "0.1.2.3", "224.0.0.1", "239.1.1.1", "255.255.255.255", "240.0.0.1", "::", "ff02::1"),
    *("fe80::1", "fe80::1%eth0", "::1%lo", "::ffff:0.0.0.0", "::ffff:224.0.0.1"),
]
OTHER_SPELLINGS = [
    *(
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f.1",
        "0x7f000001",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.1.",
        "1",
    ),
    *("10.0.0.01", "a.0x7f", "example.1", "localhost.", "x.localhost", "x.LOCALHOST.", ".", "..", "0x"),
]


@pytest.mark.parametrize(
    ("told", "canonical"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::FFFF:0a00:0001", "10.0.0.1"),
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("::1", "::1"),
    ],
)
def test_addresses_in_numbers_have_one_form(told: str, canonical: str) -> None:
    for names in (True, False):
        assert believed(Address(told, 7), names=names) == Address(canonical, 7)


@pytest.mark.parametrize("host", [*NO_SINGLE_HOST, *OTHER_SPELLINGS, *LOCALHOSTS[::37]])
@pytest.mark.parametrize("names", [True, False])
def test_nothing_else_is_one(host: str, names: bool) -> None:
    assert believed(Address(host, 7), names=names) is None


@pytest.mark.parametrize("host", ["node1", "node1.example", "xn--nxasmq6b.example", "a.b", "h0x7f", "node1."])
def test_names_count_from_members_only(host: str) -> None:
    assert believed(Address(host, 7), names=True) == Address(host, 7)
    assert believed(Address(host, 7)) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_loopback_counts_from_the_loopback_only(host: str) -> None:
    assert believed(Address(host, 7), "192.0.2.1") is None
    assert believed(Address(host, 7), "2001:db8::1") is None
    for teller in ("127.0.0.1", "::1", "::ffff:127.0.0.1", "localhost", "", None):
        assert believed(Address(host, 7), teller) is not None


def test_port_0_is_nowhere() -> None:
    assert believed(Address("10.0.0.1", 0)) is None


@given(st.text(max_size=60) | st.ip_addresses().map(str), st.integers(0, 65535), st.booleans())
def test_whatever_is_believed_is_believed_as_it_is(host: str, port: int, names: bool) -> None:
    found = believed(Address(host, port), names=names)
    assert found is None or believed(found, names=names) == found


# How often


def count(limits: DialLimits, addresses: Any, now: float, is_for_ring: bool = False) -> int:
    return sum(limits.may_dial(address, now, is_for_ring) for address in addresses)


@pytest.mark.parametrize("is_for_ring", [True, False])
def test_one_address_is_dialled_seldom(is_for_ring: bool) -> None:
    limits = DialLimits([])
    address = Address("10.0.0.1", 7)
    assert count(limits, [address] * 100, 1.0, is_for_ring) == 4
    assert sum(count(limits, [address] * 9, 1.0 + second, is_for_ring) for second in range(1, 102)) == 10


def test_one_host_is_dialled_seldom_however_many_ports_are_named() -> None:
    limits = DialLimits([])
    ports = [Address("10.0.0.1", port) for port in range(1, 2000)]
    assert count(limits, ports, 1.0, True) == 64
    assert count(limits, ports[500:], 11.0, True) == 40
    assert limits.may_dial(Address("10.0.0.2", 7), 11.0, True)


def test_all_hosts_together_are_dialled_seldom_but_for_the_ring() -> None:
    limits = DialLimits([])
    hosts = [Address(f"10.{number // 250}.{number % 250}.1", 7) for number in range(2000)]
    assert count(limits, hosts, 1.0) == 128
    assert count(limits, hosts[1000:], 1.0, True) == 1000


def test_what_people_gave_and_what_answered_is_dialled_whenever_wanted() -> None:
    given_one, answered = Address("name.example", 7), Address("10.0.0.1", 7)
    limits = DialLimits([given_one])
    limits.answered(answered)
    assert count(limits, [given_one, answered] * 50, 1.0) == 100
    for port in range(1, 3000):
        limits.answered(Address("10.0.0.2", port))
    assert count(limits, [given_one] * 50, 1.0) == 50
    assert count(limits, [answered] * 50, 1.0) == 4


def test_clock_that_is_set_back_harms_nothing() -> None:
    limits = DialLimits([])
    address = Address("10.0.0.1", 7)
    assert count(limits, [address] * 9, 1000.0) == 4
    assert count(limits, [address] * 9, 10.0) == 0
    assert count(limits, [address] * 9, 20.0) == 1


# A node


class Watched:
    """A node on a simulated network, and the addresses that it connects to."""

    def __init__(self, kind: Any) -> None:
        self.nodes = Cluster(kind)
        self.node = self.nodes.start()
        self.dialled: list[Address] = []
        endpoint = self.node._dialing.endpoint

        def watched(address: Address) -> Any:
            self.dialled.append(address)
            return endpoint(address)

        self.node._dialing.endpoint = watched
        self.nodes.run(2)
        self.rng = Random(1)

    def stranger(self, kind: str = "ours", address: tuple[str, int] = ("10.7.7.7", 0)) -> Stranger:
        stranger = Stranger(self.node, kind, self.rng)
        text = stranger.dialect.text
        if kind == "ours":
            stranger.say(flags.HELLO, 1)
        stranger.say(flags.HANDSHAKE, text(stranger.id), text(self.node._protocol_id), list(address), [])
        return stranger

    def list_of(self, addresses: list[tuple[str, int]]) -> list[Any]:
        return [[list(address), encode_id(self.rng.getrandbits(384)).encode()] for address in addresses]


@pytest.mark.parametrize("kind", [MeshService, ChordService])
def test_list_of_spellings_of_one_host_is_followed_nowhere(kind: Any) -> None:
    watched = Watched(kind)
    for _ in range(8):
        hosts = [*watched.rng.sample(LOCALHOSTS, 40), *OTHER_SPELLINGS, *NO_SINGLE_HOST, "node1.example"]
        watched.stranger().say(flags.PEERS, watched.list_of([(host, 24890) for host in hosts]))
        watched.nodes.run(1)
    assert watched.dialled == []


@pytest.mark.parametrize("kind", [MeshService, ChordService])
def test_lists_of_one_address_or_one_host_cause_few_connections(kind: Any) -> None:
    watched = Watched(kind)
    for _ in range(100):
        stranger = watched.stranger()
        stranger.say(flags.PEERS, watched.list_of([("10.6.6.6", 80)] * 200))
        watched.nodes.run(0.1)
        stranger.end()
    watched.nodes.run(10)
    assert 1 <= len(watched.dialled) <= 8
    watched.dialled.clear()
    for _ in range(100):
        ports = [("10.5.5.5", watched.rng.randrange(1, 60_000)) for _ in range(200)]
        stranger = watched.stranger()
        stranger.say(flags.PEERS, watched.list_of(ports))
        watched.nodes.run(0.1)
        stranger.end()
    assert 1 <= len([address for address in watched.dialled if address.host == "10.5.5.5"]) <= 64 + 4 * 15


@pytest.mark.parametrize("kind", [MeshService, ChordService])
def test_one_list_is_read_up_to_a_bound(kind: Any) -> None:
    watched = Watched(kind)
    named = [(f"10.4.{number // 250}.{number % 250 + 1}", 80) for number in range(1000)]
    watched.stranger().say(flags.PEERS, watched.list_of(named))
    watched.nodes.run(10)
    assert {str(address) for address in watched.dialled} <= {f"{h}:{p}" for h, p in named[:PEERS_READ_MAX]}


@pytest.mark.parametrize("kind", ["bin", "str", "ours"])
@pytest.mark.parametrize("service", [MeshService, ChordService])
def test_handshakes_with_the_address_of_another_cause_few_connections(service: Any, kind: str) -> None:
    watched = Watched(service)
    for _ in range(100):
        stranger = watched.stranger(kind, ("10.6.6.6", 24890))
        stranger.say(flags.HANDSHAKE, "0")
        if kind == "ours":
            stranger.say(flags.CALL, [[1, "notify"]])
        watched.nodes.run(0.05)
        stranger.end()
    watched.nodes.run(30)
    assert len(watched.dialled) <= 4 + 5


def test_member_may_be_reached_by_its_name() -> None:
    watched = Watched(ChordService)
    member = watched.stranger(address=("node1.example", 4000))
    member.say(flags.STANDING, Standing(watched.node._identity, False, False, False).to_wire())
    member.say(flags.HANDSHAKE, "0")
    assert watched.node._known_addresses() == [Address("node1.example", 4000)]
    member.say(flags.PEERS, watched.list_of([("node2.example", 4000)]))
    found: list[Address] = []
    watched.node._connect_quietly = found.append
    watched.nodes.run(3)
    assert found == [Address("node2.example", 4000)]
    stranger = watched.stranger(address=("node3.example", 4000))
    stranger.say(flags.PEERS, watched.list_of([("node4.example", 4000)]))
    watched.nodes.run(3)
    assert found == [Address("node2.example", 4000)]
    assert watched.node._known_addresses() == [Address("node1.example", 4000)]


def test_link_that_claims_an_address_is_not_taken_for_the_node_there() -> None:
    nodes = Cluster(MeshService)
    node, other = nodes.several(2, links=0)
    nodes.run(0.1)
    claimer = Stranger(node, "ours", Random(1))
    text = claimer.dialect.text
    claimer.say(flags.HELLO, 1)
    address = [other.reactor.host, other._own_address().port]
    claimer.say(flags.HANDSHAKE, text(claimer.id), text(node._protocol_id), address, [])
    link: MeshConnection = nodes.result(node._link_to(other._own_address(), other.id))
    assert link.id == other.id


def test_address_that_nobody_answers_at_is_refused_after_some_attempts() -> None:
    nodes = Cluster(MeshService)
    node = nodes.start()
    nodes.run(0.1)
    for _ in range(4):
        with pytest.raises(Exception, match="refused"):
            nodes.result(node._link_to(Address("10.0.0.77", 9)))
    with pytest.raises(DialledTooOften):
        nodes.result(node._link_to(Address("10.0.0.77", 9)))
