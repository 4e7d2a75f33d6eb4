"""The handshake as a machine: who says what to whom, in which dialect, and who is turned away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from chordtx.errors import ProtocolError, WrongSubnet
from chordtx.mesh.address import Address
from chordtx.mesh.handshake import EXTENSION_VERSION, Dialect, Greeting, Handshake, SameId
from chordtx.wire import Message, encode_id, flags, protocol_id

SUBNET = protocol_id("mesh", "Plaintext")
OURS, THEIRS = encode_id(12345678), encode_id(87654321)
ADDRESS = ["127.0.0.1", 4444]
OUR_ADDRESS = ("127.0.0.1", 4445)


class Side:
    """One side's handshake, and what it did."""

    def __init__(self, outgoing: bool, subnet: str = SUBNET) -> None:
        self.sent: list[Any] = []
        self.opened: tuple[Greeting, bool] | None = None
        self.refused: list[Exception] = []
        self.machine = Handshake(
            OURS,
            Address(*OUR_ADDRESS),
            subnet,
            outgoing,
            lambda: self.sent.append("hello"),
            self.sent.append,
            lambda greeting, ours: setattr(self, "opened", (greeting, ours)),
            self.refused.append,
        )
        self.machine.connected()

    def hears(self, *payload: Any) -> None:
        self.machine.message_received(Message.build(flags.WHISPER, b"x", 0, payload))

    def hears_hello(self) -> None:
        self.hears(flags.HELLO, EXTENSION_VERSION)

    def hears_greeting(
        self, dialect: Dialect, id: str = THEIRS, subnet: str = SUBNET, address: Sequence[Any] = ADDRESS
    ) -> None:
        self.hears(flags.HANDSHAKE, dialect.text(id), dialect.text(subnet), list(address), [flags.ZLIB, 99])


def test_accepting_side_says_hello_and_nothing_else() -> None:
    assert Side(outgoing=False).sent == ["hello"]


def test_connecting_side_says_nothing_before_it_knows_to_whom() -> None:
    assert Side(outgoing=True).sent == []


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize("outgoing", [False, True])
def test_legacy_peer_is_answered_in_its_dialect(outgoing: bool, dialect: Dialect) -> None:
    side = Side(outgoing)
    said_before = list(side.sent)
    side.hears_greeting(dialect)
    assert side.sent == [*said_before, dialect]
    assert side.opened is not None
    greeting, ours = side.opened
    assert not ours
    assert (greeting.id, greeting.id_10, greeting.dialect) == (THEIRS, 87654321, dialect)
    assert greeting.address.to_wire() == ADDRESS
    assert greeting.methods == (flags.ZLIB, 99)


def test_our_nodes_are_through_after_hello_both_ways() -> None:
    connecting, accepting = Side(outgoing=True), Side(outgoing=False)
    connecting.hears_hello()
    assert connecting.sent == ["hello", Dialect.BIN]
    accepting.hears_hello()
    assert accepting.sent == ["hello"]
    accepting.hears_greeting(Dialect.BIN)
    assert accepting.sent == ["hello", Dialect.BIN]
    connecting.hears_greeting(Dialect.BIN)
    for side in (connecting, accepting):
        assert side.opened is not None
        assert side.opened[1]


@pytest.mark.parametrize("is_ours", [False, True])
@pytest.mark.parametrize("outgoing", [False, True])
def test_wrong_subnet_is_told_ours_before_it_is_turned_away(outgoing: bool, is_ours: bool) -> None:
    side = Side(outgoing)
    if is_ours:
        side.hears_hello()
    side.hears_greeting(Dialect.BIN, subnet=protocol_id("other", "Plaintext"))
    assert side.sent[-1] is Dialect.BIN
    assert side.opened is None
    (error,) = side.refused
    assert isinstance(error, WrongSubnet)
    assert (error.ours, error.theirs) == (SUBNET, protocol_id("other", "Plaintext"))


def test_connection_to_ourselves_is_turned_away() -> None:
    side = Side(outgoing=True)
    side.hears_greeting(Dialect.BIN, id=OURS, address=OUR_ADDRESS)
    assert side.opened is None
    assert isinstance(side.refused[0], ProtocolError)
    assert "ourselves" in str(side.refused[0])


@pytest.mark.parametrize("outgoing", [False, True])
def test_who_has_our_id_at_another_address_is_no_connection_to_ourselves(outgoing: bool) -> None:
    side = Side(outgoing)
    side.hears_hello()
    side.hears_greeting(Dialect.BIN, id=OURS)
    assert side.opened is None
    assert isinstance(side.refused[0], SameId)
    assert "another process with this node's id runs at 127.0.0.1:4444" in str(side.refused[0])


NO_GREETINGS: list[tuple[Any, ...]] = [
    (flags.HANDSHAKE,),
    (flags.HANDSHAKE, b"x", b"y", ADDRESS),
    (flags.HANDSHAKE, 5, b"y", ADDRESS, []),
    (flags.HANDSHAKE, b"0OIl", b"y", ADDRESS, []),
    (flags.HANDSHAKE, b"\xff", b"y", ADDRESS, []),
    (flags.HANDSHAKE, "é", "y", ADDRESS, []),
    (flags.HANDSHAKE, b"", b"y", ADDRESS, []),
    (flags.HANDSHAKE, b"z" * 200, b"y", ADDRESS, []),
    (flags.HANDSHAKE, b"1" + THEIRS.encode(), b"y", ADDRESS, []),
    (flags.HANDSHAKE, THEIRS, None, ADDRESS, []),
    (flags.HANDSHAKE, THEIRS, "y" * 1000, ADDRESS, []),
    (flags.HANDSHAKE, THEIRS, SUBNET, ["127.0.0.1", "http"], []),
    (flags.HANDSHAKE, THEIRS, SUBNET, ["127.0.0.1", -1], []),
    (flags.HANDSHAKE, THEIRS, SUBNET, None, []),
    (flags.HANDSHAKE, THEIRS, SUBNET, ADDRESS, None),
    (flags.HANDSHAKE, THEIRS, SUBNET, ADDRESS, ["zlib"]),
    (flags.HANDSHAKE, THEIRS, SUBNET, ADDRESS, [True]),
    (flags.HANDSHAKE, THEIRS, SUBNET, ADDRESS, [flags.ZLIB] * 1000),
    (flags.HELLO,),
    (flags.HELLO, "1"),
    (flags.PEERS, []),
    (flags.BROADCAST, "too early"),
    ([], {}),
]


@pytest.mark.parametrize("outgoing", [False, True])
@pytest.mark.parametrize("is_ours", [False, True])
@pytest.mark.parametrize("payload", NO_GREETINGS)
def test_what_is_no_handshake_is_a_protocol_error(
    outgoing: bool, is_ours: bool, payload: tuple[Any, ...]
) -> None:
    side = Side(outgoing)
    if is_ours:
        side.hears_hello()
    with pytest.raises(ProtocolError):
        side.hears(*payload)
    assert side.opened is None


def test_second_hello_is_a_protocol_error() -> None:
    side = Side(outgoing=False)
    side.hears_hello()
    with pytest.raises(ProtocolError):
        side.hears_hello()
