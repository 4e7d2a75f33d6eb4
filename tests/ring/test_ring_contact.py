"""Rpc, and what is refused as one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chordtx.errors import ProtocolError
from chordtx.ring import SIZE, Contact, UnusableContact, usable_contacts

ID = bytes(47) + b"\x07"


@given(
    st.integers(0, SIZE - 1),
    st.sampled_from(["127.0.0.1", "::1", "fe80::1%eth0", "a-b.example", "x_y"]),
    st.integers(1, 65_535),
)
def test_there_and_back(id: int, host: str, port: int) -> None:
    contact = Contact(id, host, port)
    wire = contact.to_wire()
    assert len(wire[0]) == 48
    assert Contact.from_wire(wire) == contact
    assert Contact.from_wire(tuple(wire)) == contact


@pytest.mark.parametrize(
    "obj",
    [
        None,
        b"abc",
        "abc",
        {},
        [],
        [ID, "host"],
        [ID, "host", 1, 2],
        [7, "host", 1],
        [ID[1:], "host", 1],
        [ID + b"\0", "host", 1],
        [ID, b"host", 1],
        [ID, "h" * 254, 1],
        [ID, "tcp:host=x y", 1],
        [ID, "host\n", 1],
        [ID, "hóst", 1],
        [ID, "host", "1"],
        [ID, "host", True],
        [ID, "host", 1.0],
        [ID, "host", -1],
        [ID, "host", 65_536],
    ],
)
def test_anything_else_is_refused(obj: object) -> None:
    with pytest.raises(ProtocolError):
        Contact.from_wire(obj)


def test_contacts_are_ordered_and_hashed_by_all_three() -> None:
    contacts = [Contact(1, "b", 1), Contact(1, "a", 2), Contact(0, "z", 9), Contact(1, "a", 1)]
    assert sorted(contacts) == [contacts[2], contacts[3], contacts[1], contacts[0]]
    assert len({*contacts, Contact(1, "a", 1)}) == 4


UNUSABLE = [[ID, "", 1], [ID, "host", 0], [ID, "", 0], [ID, "0.0.0.0", 1], [ID, "::", 1], [ID, "0", 1]]


@pytest.mark.parametrize("wire", UNUSABLE)
def test_who_cannot_be_connected_to_is_refused_alone(wire: list[object]) -> None:
    with pytest.raises(UnusableContact):
        Contact.from_wire(wire)
    good = Contact(7, "host", 1)
    assert usable_contacts([wire, good.to_wire(), wire]) == [good]
    assert usable_contacts([wire]) == []


def test_a_list_with_anything_else_is_refused() -> None:
    with pytest.raises(ProtocolError):
        usable_contacts([Contact(7, "host", 1).to_wire(), [ID, "host", 1, 2]])
