"""The wire forms: everything comes back as it was, and whatever else comes raises ProtocolError."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, NamedTuple, get_args

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chordtx.config import Limits
from chordtx.errors import ProtocolError
from chordtx.group import frames
from chordtx.group.configuration import Configuration
from chordtx.group.frames import (
    FRAME_BYTES,
    answer_from_wire,
    answer_to_wire,
    from_wire,
    operation_from_wire,
    operation_to_wire,
    to_frames,
    to_wire,
)
from chordtx.group.messages import (
    BUSY,
    NODE_LEVEL,
    NOT_LEADER,
    TOO_OLD,
    Accept,
    Accepted,
    Answer,
    Compare,
    Confirm,
    ConfirmAnswer,
    Differs,
    Fetch,
    Give,
    GiveClients,
    Message,
    Moved,
    Operation,
    Prepare,
    Refused,
    Yours,
)
from chordtx.group.operations import (
    ADDED,
    CONFLICT,
    DELETED,
    DONE,
    GET,
    KINDS,
    LIST_ENTRIES_MAX,
    READS,
    SET,
    TOO_LARGE,
    UPDATED,
)
from chordtx.group.rank import COUNT_MAX, NO_RANK, NODE_ID_BYTES_MAX, Ballot, Epoch, Rank
from chordtx.group.recent_keys import Recent
from chordtx.group.record import Record
from chordtx.group.state import KEEP, STORE, Change, Client, Done, Header
from chordtx.wire.packing import pack, unpack
from tests.group.values import (
    MESSAGES,
    PARTITIONS,
    VALUE_BYTES_MAX,
    A,
    all_operations,
    answers,
    entries,
    entry_of,
    packed,
    rank,
)

LIMITS = Limits()
MIB = 1 << 20
BALLOT, EPOCH = Ballot(1, b"a"), Epoch(0)
DIGEST = bytes(16)
CHANGE = Change(SET, b"k", STORE, packed(1), 0, b"c", 1, 0, (DONE, None))
HEADER = Header(Configuration(EPOCH, (A,)))
RECORD = Record(packed(1), 0, rank(1), 0)
RECENT = Recent(rank(1), ())

Entry = tuple[int, Message]


def _differs(recent: Recent) -> Differs:
    return Differs(rank(9), DIGEST, HEADER, (), DIGEST, DIGEST, recent)


def read(data: bytes) -> list[Entry]:
    return from_wire(data, LIMITS, VALUE_BYTES_MAX, PARTITIONS)


def read_operations(data: bytes) -> list[Operation]:
    return [operation_from_wire(each, VALUE_BYTES_MAX) for each in _listed(data)]


def operations_frame(some: Iterable[Operation]) -> bytes:
    return pack([operation_to_wire(each) for each in some])


def read_answers(data: bytes) -> list[Answer]:
    return [answer_from_wire(each, b"c", 1, VALUE_BYTES_MAX) for each in _listed(data)]


def answers_frame(some: Iterable[Answer]) -> bytes:
    return pack([answer_to_wire(each) for each in some])


def _listed(data: bytes) -> list[Any]:
    """Several together, as calls and replies have them."""
    told = unpack(data, LIMITS)
    if type(told) is not list:
        raise ProtocolError("several are an array")
    return told


READERS: list[Callable[[bytes], Any]] = [read, read_operations, read_answers]
some_operations, some_answers = st.lists(all_operations, max_size=3), st.lists(answers, max_size=3)
any_frame = entries.map(to_wire) | some_operations.map(operations_frame) | some_answers.map(answers_frame)


def types_in(value: object) -> object:
    """The types of a value and of all that is in it."""
    if isinstance(value, tuple | list):
        return type(value), [types_in(each) for each in value]
    if isinstance(value, dict):
        return dict, {key: types_in(each) for key, each in value.items()}
    return type(value)


def test_there_is_a_strategy_for_every_class_of_messages() -> None:
    assert set(MESSAGES) == set(get_args(Message))


@settings(max_examples=30)
@given(st.tuples(*map(entry_of, MESSAGES)))
def test_every_message_comes_back(some: tuple[Entry, ...]) -> None:
    for entry in some:
        back = read(to_wire([entry]))
        assert back == [entry]
        assert types_in(back) == types_in([entry])


@given(entries)
def test_a_frame_of_many_comes_back_in_order(some: list[Entry]) -> None:
    assert read(to_wire(iter(some))) == some


@given(some_operations)
def test_operations_come_back(some: list[Operation]) -> None:
    back = read_operations(operations_frame(some))
    assert back == [without_number(each) if each.kind in READS else each for each in some]
    assert types_in(back) == types_in(some)


@given(some_answers)
def test_answers_come_back(some: list[Answer]) -> None:
    for answer, back in zip(some, read_answers(answers_frame(some)), strict=True):
        assert back[:4] == (b"c", 1, answer.status, answer.detail)
        if answer.status <= TOO_LARGE:
            assert back[4:] == (answer.rank, answer.rank)
        else:
            assert back[4:] == (NO_RANK, answer.stamp if answer.status == TOO_OLD else NO_RANK)
        assert types_in(back) == types_in(answer)


def test_codes_stay_as_they_are() -> None:
    """Nodes of other versions speak them."""
    assert [kind.__name__ for kind in frames._CODES] == [
        "Prepare", "Promise", "Refused", "Accept", "Install", "Accepted", "Newer", "Learn", "Learned",
        "Yours", "Gone", "Compare", "Differs", "Fetch", "Give", "FetchClients", "GiveClients", "Moved",
        "Confirm", "ConfirmAnswer",
    ]  # fmt: skip
    assert to_wire([(5, Yours(BALLOT, 3))]) == packed([[5, 9, [1, b"a"], 3]])


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_or_read(data: bytes) -> None:
    for reader in READERS:
        with suppress(ProtocolError):
            reader(data)


@given(any_frame, st.data())
def test_a_frame_with_other_bytes_is_refused_or_read(frame: bytes, data: st.DataObject) -> None:
    changed = bytearray(frame)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    for reader in READERS:
        with suppress(ProtocolError):
            reader(bytes(changed))


def _parts(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The places of all that is in a value."""
    paths = [path]
    if isinstance(value, list):
        for index, each in enumerate(value):
            paths += _parts(each, (*path, index))
    elif isinstance(value, dict):
        for key, each in value.items():
            paths += _parts(each, (*path, key))
    return paths


_others = st.sampled_from(
    [None, True, -1, 0, 1 << 63, (1 << 64) - 1, 0.5, float("nan"), float("inf"), "a", b"", b"a" * 100, [], {}]
    + [[0, 0], [1, b"a"], {b"a": 1}, msgpack.ExtType(1, b"a"), msgpack.Timestamp(1)]
)


@given(any_frame, st.data())
def test_a_frame_with_another_part_is_refused_or_read(frame: bytes, data: st.DataObject) -> None:
    """What is read of it is sound: it can be sent on, and comes back."""
    tree = msgpack.unpackb(frame, strict_map_key=False)
    *way, last = data.draw(st.sampled_from([path for path in _parts(tree) if path] or [(None,)]))
    if last is None:
        return
    inner = tree
    for step in way:
        inner = inner[step]
    inner[last] = data.draw(_others)
    changed = msgpack.packb(tree)
    with suppress(ProtocolError):
        assert read(to_wire(some := read(changed))) == some
    with suppress(ProtocolError):
        assert read_operations(operations_frame(asked := read_operations(changed))) == asked
    with suppress(ProtocolError):
        assert read_answers(answers_frame(told := read_answers(changed))) == told


SAMPLES: dict[Callable[[bytes], Any], bytes] = {
    read: to_wire(
        [
            (5, Accept(BALLOT, EPOCH, 3, 9, (CHANGE,), 1.5)),
            (6, Give(rank(1), 0, b"", {b"k": RECORD}, DIGEST, 1, b"")),
            (NODE_LEVEL, Confirm(1, 2)),
        ]
    ),
    read_operations: pack([Operation(b"c", 1, 0, NO_RANK, SET, b"k", (packed(1), None))]),
    read_answers: pack([(DONE, (packed(1), 0, rank(1)), rank(2))]),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_frame_cut_short_or_too_long_is_refused(reader: Callable[[bytes], Any]) -> None:
    frame = SAMPLES[reader]
    assert reader(frame)
    for wrong in [*(frame[:length] for length in range(len(frame))), frame + b"\x00", frame + frame]:
        with pytest.raises(ProtocolError):
            reader(wrong)


WRONG: dict[str, tuple[int, Message]] = {
    "another partition": (PARTITIONS, Moved(rank(1))),
    "no partition": (NODE_LEVEL, Moved(rank(1))),
    "a partition of the node": (0, Confirm(1, 2)),
    "a flag for a partition": (True, Moved(rank(1))),
    "a number for a flag": (0, Prepare(BALLOT, EPOCH, None, 1)),  # type: ignore[arg-type]
    "a flag for a number": (0, Prepare(Ballot(True, b"a"), EPOCH, None, True)),
    "no time": (0, Refused(0, BALLOT, BALLOT, float("nan"))),
    "less than no time": (0, Refused(0, BALLOT, BALLOT, -0.5)),
    "an endless lease": (0, Accepted(BALLOT, EPOCH, 1, float("inf"), 1, False)),
    "a sequence below -1": (0, Accepted(BALLOT, EPOCH, -2, 1.0, 1, False)),
    "a time below 0": (0, Accepted(BALLOT, EPOCH, 1, 1.0, -1, False)),
    "a value too large": (0, Accept(BALLOT, EPOCH, 1, 1, (CHANGE._replace(value=bytes(65)),), 1.0)),
    "a key too large": (0, Accept(BALLOT, EPOCH, 1, 1, (CHANGE._replace(key=bytes(65_537)),), 1.0)),
    "a kind of nobody": (0, Accept(BALLOT, EPOCH, 1, 1, (CHANGE._replace(client=b""),), 1.0)),
    "a kind of no client": (0, Accept(BALLOT, EPOCH, 1, 1, (CHANGE._replace(kind=KINDS),), 1.0)),
    "an effect too many": (0, Accept(BALLOT, EPOCH, 1, 1, (CHANGE._replace(effect=3),), 1.0)),
    "a number too large": (0, Accept(BALLOT, EPOCH, 1, 1, (CHANGE._replace(number=COUNT_MAX + 1),), 1.0)),
    "a map for a result": (0, Accept(BALLOT, EPOCH, 1, 1, (CHANGE._replace(result=(DONE, {})),), 1.0)),
    "a tree of half a leaf": (0, Compare(rank(1), bytes(8))),
    "a tree of one leaf": (0, Compare(rank(1), DIGEST)),
    "a short digest": (0, Differs(rank(1), bytes(15), HEADER, (), DIGEST, DIGEST, RECENT)),
    "leaves out of order": (0, Differs(rank(1), DIGEST, HEADER, (2, 1), DIGEST, DIGEST, RECENT)),
    "a leaf twice": (0, Differs(rank(1), DIGEST, HEADER, (1, 1), DIGEST, DIGEST, RECENT)),
    "a leaf too many": (0, Differs(rank(1), DIGEST, HEADER, (256,), DIGEST, DIGEST, RECENT)),
    "a key before what is known": (0, _differs(Recent(rank(5), ((rank(4), b"k", ADDED),)))),
    "keys out of order": (0, _differs(Recent(rank(1), ((rank(3), b"k", ADDED), (rank(2), b"l", DELETED))))),
    "a key that was changed": (0, _differs(Recent(rank(1), ((rank(2), b"k", UPDATED),)))),
    "too many keys": (0, _differs(Recent(rank(1), ((rank(2), b"k", ADDED),) * 501))),
    "no leaf": (0, Fetch(rank(1), (), b"")),
    "too many leaves": (0, Fetch(rank(1), tuple((leaf, b"") for leaf in range(33)), b"")),
    "half a digest": (0, Fetch(rank(1), ((1, bytes(8)),), b"")),
    "after half a digest": (0, Fetch(rank(1), ((1, b""),), bytes(8))),
    "a record too large": (0, Give(rank(1), 0, b"", {b"k": RECORD._replace(value=bytes(65))}, b"", 1, b"")),
    "no page": (0, Give(rank(1), 0, b"", {}, b"", 0, b"")),
    "no clients and more": (0, GiveClients(rank(1), None, {}, True)),
    "a client without an id": (0, GiveClients(rank(1), None, {b"": Client(0, rank(1), {})}, False)),
    "a client that did what is none": (
        0,
        GiveClients(
            rank(1), None, {b"c": Client(0, rank(1), {1: Done(rank(1), KINDS, b"", (0, None))})}, False
        ),
    ),
    "a digest too large for 64 bits": (NODE_LEVEL, Confirm(1, -1)),
    "a partition that there is not": (NODE_LEVEL, ConfirmAnswer(1, ((-1, 1, EPOCH),))),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_members_do_not_say_is_refused(name: str) -> None:
    data = to_wire([WRONG[name]])
    with pytest.raises(ProtocolError):
        read(data)


OPERATION = Operation(b"c", 2, 1, NO_RANK, SET, b"k", (packed(1), None))


@pytest.mark.parametrize(
    "wrong",
    [
        OPERATION._replace(client=b""),
        OPERATION._replace(client=bytes(33)),
        OPERATION._replace(client="c"),
        OPERATION._replace(number=1),
        OPERATION._replace(number=True, answered=0),
        OPERATION._replace(answered=-1),
        OPERATION._replace(number=COUNT_MAX + 1),
        OPERATION._replace(stamp=None),
        OPERATION._replace(kind=KINDS),
        OPERATION._replace(kind=-1),
        OPERATION._replace(kind=True),
        OPERATION._replace(kind=GET, arguments=()),
        OPERATION[4:],
        OPERATION[3:],
        OPERATION._replace(key=bytes(65_537)),
        OPERATION._replace(key="k"),
        OPERATION._replace(arguments=()),
        OPERATION._replace(arguments=(bytes(65), None)),
        OPERATION._replace(arguments={}),
        OPERATION[:-1],
        (*OPERATION, 1),
        None,
    ],
)
def test_what_clients_do_not_ask_is_refused(wrong: Any) -> None:
    with pytest.raises(ProtocolError):
        read_operations(pack([wrong]))


def test_a_read_has_no_number_on_the_wire() -> None:
    read = Operation(b"c", 0, 0, NO_RANK, GET, b"k", ())
    assert read_operations(pack([(b"c", GET, b"k", ())])) == [read]
    assert operations_frame([read]) == pack([(b"c", GET, b"k", ())])


def without_number(read: Operation) -> Operation:
    return read._replace(number=0, answered=0, stamp=NO_RANK)


class Told(NamedTuple):
    """An answer on the wire."""

    status: Any
    detail: Any
    rank: Any


ANSWER = Told(DONE, None, rank(1))
ENTRY = (b"k", None, 0, rank(1))


@pytest.mark.parametrize(
    "wrong",
    [
        ANSWER._replace(status=5),
        ANSWER._replace(status=NOT_LEADER - 1),
        ANSWER._replace(status=BUSY + 1),
        ANSWER._replace(status=False),
        ANSWER._replace(detail="text"),
        ANSWER._replace(detail=True),
        ANSWER._replace(detail=float("inf")),
        ANSWER._replace(detail=bytes(65)),
        ANSWER._replace(detail={}),
        ANSWER._replace(detail=()),
        ANSWER._replace(detail=(bytes(65), 0, rank(1))),
        ANSWER._replace(detail=(b"\x01", -1, rank(1))),
        ANSWER._replace(detail=(b"\x01", 0, None)),
        ANSWER._replace(detail=(b"\x01", 0, rank(1), 0)),
        ANSWER._replace(detail=([ENTRY], 1)),
        ANSWER._replace(detail=([ENTRY[:-1]], True)),
        ANSWER._replace(detail=([(b"k", bytes(65), 0, rank(1))], True)),
        ANSWER._replace(detail=([ENTRY] * (LIST_ENTRIES_MAX + 1), True)),
        ANSWER._replace(rank=None),
        ANSWER._replace(rank=(1, 2, 3)),
        ANSWER[:1],
        (*ANSWER, rank(1)),
        None,
    ],
)
def test_what_leaders_do_not_answer_is_refused(wrong: Any) -> None:
    with pytest.raises(ProtocolError):
        read_answers(pack([wrong]))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xc0",
        b"\x80",
        b"\x91\xc0",
        b"\x91\x90",
        b"\x91\x91\x00",
        b"\x91\x92\x63\x00",
        b"\x91\x92\xc3\x00",
        b"\xc1",
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 2000,
        b"\xdd\x00\x00\xf0\x00" * 13_000,
        b"\xdc\x01\xff" * 20_000,
        b"\xdc\xff\xff" + b"\x80" * 65_535,
        b"\x91\x93\x00\x00\x81\x90\x00",
        b"\x91\x92\x00\xd5\x01ab",
    ],
    ids=lambda value: f"{value[:8].hex()}-{len(value)}" if isinstance(value, bytes) else value.__name__,
)
def test_what_is_made_to_hurt_is_refused_for_little_memory(
    reader: Callable[[bytes], Any], frame: bytes
) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            reader(frame)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 12 * MIB


def test_long_arrays_are_read_too() -> None:
    """More than msgpack may reserve unasked."""
    at = Rank(EPOCH, Ballot(1, bytes(NODE_ID_BYTES_MAX)), 1)
    change = CHANGE._replace(client=bytes(16), result=(CONFLICT, at))
    many = tuple(change._replace(number=number + 1) for number in range(40_000))
    entry = (5, Accept(BALLOT, EPOCH, 0, 1, many, 1.0))
    assert read(to_wire([entry])) == [entry]


def test_a_long_frame_is_sent_in_parts() -> None:
    change = Change(SET, b"k", KEEP, bytes(VALUE_BYTES_MAX), 0, b"c", 1, 0, (DONE, None))
    some: list[Entry] = [(each, Accept(BALLOT, EPOCH, 0, 1, (change,) * 1000, 1.0)) for each in range(40)]
    parts = to_frames(some)
    assert len(parts) > 1
    assert all(len(part) <= FRAME_BYTES for part in parts)
    assert [entry for part in parts for entry in read(part)] == some
    assert to_frames(some[:1]) == [to_wire(some[:1])]
    assert [read(part) for part in to_frames([])] == [[]]


def test_one_message_is_not_parted() -> None:
    change = CHANGE._replace(value=bytes(FRAME_BYTES))
    some: list[Entry] = [(each, Accept(BALLOT, EPOCH, 0, 1, (change,), 1.0)) for each in range(3)]
    parts = to_frames(some)
    assert [from_wire(part, LIMITS, 2 * FRAME_BYTES) for part in parts] == [[entry] for entry in some]


def test_what_has_no_wire_form_is_a_bug_of_ours() -> None:
    with pytest.raises(TypeError):
        to_wire([(0, Moved(object()))])  # type: ignore[arg-type]
