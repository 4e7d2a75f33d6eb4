"""A partition's state: what each kind of change does, what is remembered of clients, and its wire forms."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chordtx.errors import ProtocolError
from chordtx.group.configuration import Configuration
from chordtx.group.operations import DELETE, DONE, KINDS, SET, TAKE
from chordtx.group.rank import COUNT_MAX, FIRST_RANK, NO_RANK, Epoch
from chordtx.group.recent_keys import RecentKeys
from chordtx.group.record import Record, cost_bytes, is_expired, record_from_wire
from chordtx.group.state import (
    EVICT,
    EXPIRE,
    KEEP,
    REMOVE,
    SEAL,
    STORE,
    Change,
    Client,
    Done,
    Header,
    State,
    Touched,
    changes_from_wire,
    client_from_wire,
    client_to_wire,
    done_in,
    first_state,
    header_from_wire,
)
from tests.group.values import A, B, C, changes, clients, headers, packed, rank, records

ONE, TWO = packed(1), packed(2)
NOTHING: tuple[int, Any] = (DONE, None)


def stored(key: bytes, value: bytes, number: int, answered: int = 0, client: bytes = b"c") -> Change:
    return Change(SET, key, STORE, value, 0, client, number, answered, NOTHING)


def own(kind: int, about: Any) -> Change:
    return Change(kind, b"", KEEP, b"", 0, b"", 0, 0, about)


class Story:
    """A state, with what its changes did."""

    def __init__(self) -> None:
        self.state = first_state([A])
        self.sequence = 0

    def go_on(self, *changes: Change) -> Touched:
        """Apply some, one each time step."""
        touched = Touched([], [], RecentKeys(NO_RANK))
        for change in changes:
            self.sequence += 1
            self.state.apply(change, rank(self.sequence), 100 * self.sequence, touched)
        return touched


def test_the_first_state_has_nothing() -> None:
    state = first_state([B, A])
    assert state.header == Header(Configuration(Epoch(0), (A, B)), NO_RANK, 0, None)
    assert (state.records, state.clients) == ({}, {})
    assert state.configuration.epoch == FIRST_RANK.epoch


def test_store_puts_a_record_with_its_rank_and_time() -> None:
    story = Story()
    first = Record(ONE, 0, rank(1), 100)
    assert story.go_on(stored(b"k", ONE, 1)).records == [(b"k", None, first)]
    second = Record(TWO, 0, rank(2), 200)
    assert story.go_on(stored(b"k", TWO, 2)).records == [(b"k", first, second)]
    assert story.state.records == {b"k": second}
    assert story.state.now_ms == 200


def test_store_keeps_when_it_expires() -> None:
    story = Story()
    story.go_on(stored(b"k", ONE, 1)._replace(expires_ms=777))
    assert story.state.records[b"k"].expires_ms == 777


def test_remove_and_keep() -> None:
    story = Story()
    story.go_on(stored(b"k", ONE, 1))
    record = story.state.records[b"k"]
    kept = Change(DELETE, b"k", KEEP, b"", 0, b"c", 2, 0, (2, rank(1)))
    assert story.go_on(kept).records == []
    assert story.state.records == {b"k": record}
    removed = Change(TAKE, b"k", REMOVE, b"", 0, b"c", 3, 0, (DONE, ONE))
    assert story.go_on(removed).records == [(b"k", record, None)]
    assert story.state.records == {}
    assert story.go_on(removed._replace(number=4)).records == []


def test_every_operation_is_remembered_with_its_result() -> None:
    story = Story()
    touched = story.go_on(stored(b"k", ONE, 1), stored(b"l", TWO, 2)._replace(result=(1, 5)))
    first, second = Done(rank(1), SET, b"k", NOTHING), Done(rank(2), SET, b"l", (1, 5))
    assert touched.clients == [(b"c", 1, first), (b"c", 2, second)]
    assert story.state.clients == {b"c": Client(0, rank(2), {1: first, 2: second})}
    assert list(done_in(story.state.clients)) == [(b"c", 1, first), (b"c", 2, second)]


def test_what_a_client_has_its_answers_of_is_forgotten() -> None:
    story = Story()
    story.go_on(*(stored(b"k", ONE, number) for number in (1, 2, 5)))
    touched = story.go_on(stored(b"k", ONE, 6, answered=2))
    assert touched.clients == [(b"c", 1, None), (b"c", 2, None), (b"c", 6, Done(rank(4), SET, b"k", NOTHING))]
    client = story.state.clients[b"c"]
    assert (client.answered, client.newest, sorted(client.done)) == (2, rank(4), [5, 6])


def test_the_mark_of_a_client_never_goes_back() -> None:
    story = Story()
    story.go_on(stored(b"k", ONE, 6, answered=5), stored(b"k", ONE, 7, answered=3))
    assert story.state.clients[b"c"].answered == 5


def test_clients_have_nothing_to_do_with_each_other() -> None:
    story = Story()
    story.go_on(stored(b"k", ONE, 1, client=b"c"), stored(b"k", ONE, 9, answered=8, client=b"d"))
    assert sorted(story.state.clients[b"c"].done) == [1]
    assert story.state.clients[b"c"].answered == 0
    assert story.state.clients[b"d"].answered == 8


def test_expire_removes_what_is_there() -> None:
    story = Story()
    story.go_on(stored(b"k", ONE, 1), stored(b"l", TWO, 2), stored(b"m", TWO, 3))
    before = dict(story.state.records)
    touched = story.go_on(own(EXPIRE, (b"k", b"x", b"m")))
    assert touched.records == [(b"k", before[b"k"], None), (b"m", before[b"m"], None)]
    assert story.state.records == {b"l": before[b"l"]}
    assert touched.clients == []


def test_seal_sets_who_is_next_and_the_next_epoch_begins_with_all_else() -> None:
    story = Story()
    story.go_on(stored(b"k", ONE, 1), own(SEAL, (B, C)))
    state = story.state
    assert state.next == (B, C)
    after = state.succeed(state.configuration.successor((B, C)))
    assert after.header == Header(Configuration(Epoch(1), (B, C)), NO_RANK, state.now_ms, None)
    assert (after.records, after.clients) == (state.records, state.clients)
    assert state.next == (B, C)


def test_evict_forgets_by_rank() -> None:
    story = Story()
    story.go_on(
        stored(b"k", ONE, 1, client=b"c"),
        stored(b"k", ONE, 1, client=b"d"),
        stored(b"k", ONE, 2, client=b"c"),
    )
    touched = story.go_on(own(EVICT, rank(2)))
    assert sorted(touched.clients) == [(b"c", 1, None), (b"d", 1, None)]
    state = story.state
    assert state.evicted == rank(2)
    assert state.clients == {b"c": Client(0, rank(3), {2: Done(rank(3), SET, b"k", NOTHING)})}
    assert state.records[b"k"].rank == rank(3)


def test_a_client_goes_with_its_newest_operation() -> None:
    """Until then its mark says what must not be done again."""
    story = Story()
    story.go_on(stored(b"k", ONE, 1), stored(b"k", ONE, 2, answered=1), own(EVICT, rank(1)))
    assert sorted(story.state.clients) == [b"c"]
    story.go_on(own(EVICT, rank(2)))
    assert story.state.clients == {}


def test_a_copy_goes_its_own_way() -> None:
    story = Story()
    story.go_on(stored(b"k", ONE, 1))
    copy = story.state.copy()
    assert copy == story.state
    story.go_on(stored(b"k", TWO, 2), own(SEAL, (B,)))
    assert copy != story.state
    again = Story()
    again.go_on(stored(b"k", ONE, 1))
    assert copy == again.state


@pytest.mark.parametrize(
    "change",
    [stored(b"k", ONE, 2), own(SEAL, (B,)), own(EVICT, rank(1)), own(EXPIRE, (b"k",))],
    ids=lambda change: str(change.kind),
)
def test_whatever_differs_makes_states_unequal(change: Change) -> None:
    one, other = Story(), Story()
    for story in (one, other):
        story.go_on(stored(b"k", ONE, 1))
    assert one.state == other.state
    one.go_on(change)
    other.state.now_ms = one.state.now_ms
    assert one.state != other.state
    other.go_on(change)
    assert one.state == other.state


def test_states_and_clients_are_unlike_other_things() -> None:
    assert first_state([A]) != 1
    assert Client(0, NO_RANK, {}) != 1
    assert Client(0, NO_RANK, {}) != Client(1, NO_RANK, {})
    for unhashable in (first_state([A]), Client(0, NO_RANK, {})):
        with pytest.raises(TypeError):
            hash(unhashable)


@given(st.lists(changes, max_size=12))
def test_members_that_take_the_same_changes_have_the_same_state(some: list[Change]) -> None:
    one, other = State(Header(Configuration(Epoch(0), (A,)))), State(Header(Configuration(Epoch(0), (A,))))
    touched = Touched([], [], RecentKeys(NO_RANK))
    for sequence, change in enumerate(some):
        one.apply(change, rank(sequence), sequence, touched)
    for sequence, change in enumerate(changes_from_wire(msgpack.unpackb(packed(some)))):
        other.apply(change, rank(sequence), sequence, Touched([], [], RecentKeys(NO_RANK)))
    assert one == other
    records = dict[bytes, Record]()
    for key, before, after in touched.records:
        assert records.get(key) == before
        if after is None:
            del records[key]
        else:
            records[key] = after
    assert records == one.records
    done = dict[tuple[bytes, int], Done]()
    for id, number, did in touched.clients:
        if did is None:
            del done[id, number]
        else:
            done[id, number] = did
    assert done == {(id, number): did for id, number, did in done_in(one.clients)}


# Records


def test_a_record_is_expired_from_its_time_on() -> None:
    record = Record(ONE, 1000, rank(1), 0)
    assert [is_expired(record, now_ms) for now_ms in (999, 1000, 1001)] == [False, True, True]
    assert not is_expired(record._replace(expires_ms=0), COUNT_MAX)
    assert not is_expired(None, COUNT_MAX)


def test_a_record_costs_more_than_its_bytes() -> None:
    small = cost_bytes(b"k", Record(ONE, 0, rank(1), 0))
    assert small > 2
    assert cost_bytes(b"kk", Record(bytes(11), 0, rank(1), 0)) == small + 1 + 10


# Wire forms


@given(records, headers, clients, st.lists(changes, max_size=3).map(tuple))
def test_all_come_back(record: Record, header: Header, client: Client, some: tuple[Change, ...]) -> None:
    assert record_from_wire(msgpack.unpackb(packed(record))) == record
    assert header_from_wire(msgpack.unpackb(packed(header.to_wire()))) == header
    assert client_from_wire(msgpack.unpackb(packed(client_to_wire(client)))) == client
    back = changes_from_wire(msgpack.unpackb(packed(some)))
    assert back == some
    assert all(type(each) is Change for each in back)


def test_a_counter_that_has_become_one_is_no_value_that_was_written() -> None:
    """The number 1 is equal to True."""
    for result in ((DONE, 1), (DONE, True)):
        change = Change(*CHANGE)._replace(result=result)
        (back,) = changes_from_wire(msgpack.unpackb(packed((change,))))
        assert repr(back) == repr(change)


CHANGE = list(stored(b"k", ONE, 1))


def changed(**fields: Any) -> list[Any]:
    return list(Change(*CHANGE)._replace(**fields))


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        [],
        CHANGE[:-1],
        [*CHANGE, 1],
        changed(kind=True),
        changed(kind=-1),
        changed(kind=KINDS),
        changed(kind=SEAL),
        changed(key="k"),
        changed(effect=3),
        changed(effect=-1),
        changed(effect=True),
        changed(value=None),
        changed(expires_ms=-1),
        changed(expires_ms=1.0),
        changed(expires_ms=COUNT_MAX + 1),
        changed(client=None),
        changed(client=bytes(33)),
        changed(client=b""),
        changed(number=-1),
        changed(number=True),
        changed(answered=-1),
        changed(answered="0"),
        changed(result=None),
        changed(result=[DONE, {}]),
        changed(client=b"", kind=SEAL, result=[[b"a", 1]]),
        changed(client=b"", kind=EVICT, result=[1, 2]),
        changed(client=b"", kind=EXPIRE, result=["k"]),
        changed(client=b"", kind=EXPIRE, result=None),
        changed(client=b"", kind=35, result=None),
    ],
)
def test_what_is_no_change_is_refused(wrong: Any) -> None:
    with pytest.raises(ProtocolError):
        changes_from_wire([CHANGE, wrong])


@pytest.mark.parametrize("wrong", [None, 1, b"", {}, CHANGE])
def test_what_are_no_changes_is_refused(wrong: Any) -> None:
    with pytest.raises(ProtocolError):
        changes_from_wire(wrong)


RANK = [[0, 0], [1, b"a"], 1]


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        [ONE, 0, RANK],
        ["a", 0, RANK, 0],
        [ONE, -1, RANK, 0],
        [ONE, True, RANK, 0],
        [ONE, 0, None, 0],
        [ONE, 0, RANK, -1],
        [ONE, 0, RANK, 0.5],
        [ONE, 0, RANK, COUNT_MAX + 1],
        [ONE, 0, RANK, 0, 0],
    ],
)
def test_what_is_no_record_is_refused(wrong: Any) -> None:
    with pytest.raises(ProtocolError):
        record_from_wire(wrong)


DID = [1, RANK, SET, b"k", [DONE, None]]


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        [0, RANK],
        [-1, RANK, []],
        [True, RANK, []],
        [0, None, []],
        [0, RANK, None],
        [0, RANK, {}],
        [0, RANK, [None]],
        [0, RANK, [DID[:-1]]],
        *[
            [0, RANK, [[*DID[:place], wrong, *DID[place + 1 :]]]]
            for place, wrong in enumerate((True, 1, KINDS, "k", [DONE]))
        ],
        [0, RANK, [[-1, *DID[1:]]]],
    ],
)
def test_what_is_no_client_is_refused(wrong: Any) -> None:
    with pytest.raises(ProtocolError):
        client_from_wire(wrong)
    assert client_from_wire([0, RANK, [DID]]) == Client(0, rank(1), {1: Done(rank(1), SET, b"k", NOTHING)})


HEADER = [[[0, 0], [[b"a", True]], RANK], RANK, 0, None]


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        HEADER[:-1],
        [None, *HEADER[1:]],
        [HEADER[0], None, 0, None],
        [*HEADER[:2], -1, None],
        [*HEADER[:2], True, None],
        [*HEADER[:3], [[b"a"]]],
        [*HEADER[:3], 1],
    ],
)
def test_what_is_no_header_is_refused(wrong: Any) -> None:
    assert header_from_wire(HEADER) == Header(Configuration(Epoch(0), (A,), rank(1)), rank(1), 0, None)
    with pytest.raises(ProtocolError):
        header_from_wire(wrong)
