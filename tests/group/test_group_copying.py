"""Copying a state: whatever there was before, and however often answers come, it is the very state."""

from __future__ import annotations

from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chordtx.config import Limits
from chordtx.group import copying
from chordtx.group.configuration import Configuration
from chordtx.group.copying import LEAVES_AT_ONCE, Copy, Request, Source
from chordtx.group.digest import LEAVES, Digests, clients_digest, leaf_of
from chordtx.group.frames import from_wire, to_wire
from chordtx.group.messages import Compare, Differs, Fetch, FetchClients, Give, GiveClients, Message, Moved
from chordtx.group.operations import ADDED, DELETED, DONE, EXPIRED, SET
from chordtx.group.rank import Epoch, Rank
from chordtx.group.recent_keys import Recent, RecentKeys
from chordtx.group.record import Record
from chordtx.group.state import Client, Done, Header, State
from tests.group.values import A, B, packed, rank

LIMITS = Limits()
RANK = rank(1000, epoch=3)
HEADER = Header(Configuration(Epoch(3), (A, B)), rank(7), 55, (A,))
OLD_HEADER = Header(Configuration(Epoch(1), (A,)))

Answered = Differs | Give | GiveClients | Moved


def record(key: bytes, sequence: int) -> Record:
    """What a change of this rank wrote: a rank is used for one content only."""
    return Record(packed([key, sequence] * (sequence % 5)), sequence, rank(sequence), sequence)


def client(sequence: int) -> Client:
    return Client(0, rank(sequence), {1: Done(rank(sequence), SET, b"k", (DONE, None))})


def state_of(keys: dict[bytes, int], ids: dict[bytes, int], header: Header = HEADER) -> State:
    """A state with these keys and clients, each with the rank that it has."""
    return State(
        header,
        {key: record(key, sequence) for key, sequence in keys.items()},
        {id: client(sequence) for id, sequence in ids.items()},
    )


def sent(message: Message) -> tuple[Message, int]:
    """A message as it arrives, and what it took on the way."""
    data = to_wire([(0, message)])
    [(_, arrived)] = from_wire(data, LIMITS, 8 << 20)
    return arrived, len(data)


def answer_of(source: Source, question: Request) -> Answered:
    if isinstance(question, Compare):
        return source.compare(question)
    if isinstance(question, Fetch):
        return source.fetch(question)
    return source.fetch_clients(question)


class Transfer:
    """A copy from beginning to end.

    :ivar questions: all that were asked. :ivar size_bytes: of all that was said.
    """

    def __init__(self, state: State, base: State | None, again: list[int] | None = None) -> None:
        self.copy = Copy(b"s", RANK, base)
        self.questions: list[Request] = []
        self.answers: list[Answered] = []
        self.size_bytes = 0
        source = Source(state, RANK)
        repeated = iter(again or [])
        while (question := self.copy.request()) is not None and not self.copy.is_broken:
            arrived, asked_bytes = sent(question)
            assert isinstance(arrived, Request)
            answer, answered_bytes = sent(answer_of(source, arrived))
            assert isinstance(answer, Answered)
            self.questions.append(question)
            self.answers.append(answer)
            self.size_bytes += asked_bytes + answered_bytes
            self.copy.answered(answer)
            if (place := next(repeated, None)) is not None:
                self.copy.answered(self.answers[-1 - place % len(self.answers)])

    @property
    def kinds(self) -> list[type]:
        return [type(question) for question in self.questions]


some_keys = st.dictionaries(st.binary(max_size=2), st.integers(1, 6), max_size=30)
some_ids = st.dictionaries(st.binary(min_size=1, max_size=2), st.integers(1, 6), max_size=6)
pages = st.sampled_from([1, 100, 1000, copying.PAGE_BYTES])
leaves_at_once = st.sampled_from([1, 2, LEAVES_AT_ONCE])


@given(some_keys, some_ids, st.none() | st.tuples(some_keys, some_ids), pages, leaves_at_once, st.data())
def test_a_copy_is_the_state(
    keys: dict[bytes, int],
    ids: dict[bytes, int],
    before: tuple[dict[bytes, int], dict[bytes, int]] | None,
    page_bytes: int,
    leaves: int,
    data: st.DataObject,
) -> None:
    state = state_of(keys, ids)
    base = None if before is None else state_of(*before, OLD_HEADER)
    untouched = None if base is None else base.copy()
    again = data.draw(st.lists(st.integers(0, 5), max_size=30))
    with patch.multiple(copying, PAGE_BYTES=page_bytes, LEAVES_AT_ONCE=leaves):
        transfer = Transfer(state, base, again)
    assert not transfer.copy.is_broken
    assert transfer.copy.state == state
    assert transfer.copy.request() is None
    assert base == untouched


@given(some_keys, some_keys)
def test_large_leaves_are_copied_page_by_page(keys: dict[bytes, int], before: dict[bytes, int]) -> None:
    """All keys are in one leaf."""
    with (
        patch.object(copying, "PAGE_BYTES", 100),
        patch("chordtx.group.digest.leaf_of", return_value=7),
    ):
        transfer = Transfer(state_of(keys, {}), state_of(before, {}))
    assert transfer.copy.state == state_of(keys, {})


def test_a_copy_goes_its_own_way() -> None:
    state, base = state_of({b"k": 1}, {b"c": 1}), state_of({b"l": 1}, {b"c": 1})
    copy = Transfer(state, base).copy.state
    assert copy is not None
    copy.records[b"m"] = record(b"m", 2)
    copy.clients[b"c"].done.clear()
    assert (state, base) == (state_of({b"k": 1}, {b"c": 1}), state_of({b"l": 1}, {b"c": 1}))


def test_what_is_there_already_takes_one_question() -> None:
    keys, ids = {b"%d" % each: 1 for each in range(500)}, {b"c": 1}
    transfer = Transfer(state_of(keys, ids), state_of(keys, ids, OLD_HEADER))
    assert transfer.kinds == [Compare]
    assert transfer.copy.state == state_of(keys, ids)


def test_nothing_is_copied_by_one_question() -> None:
    transfer = Transfer(state_of({}, {}), None)
    assert transfer.kinds == [Compare]
    assert transfer.copy.state == state_of({}, {})


def test_only_what_is_lacking_is_given() -> None:
    keys = {b"%d" % each: 1 for each in range(1000)}
    transfer = Transfer(state_of(keys | {b"5": 2, b"x": 3}, {}), state_of(keys | {b"y": 3}, {}))
    given = [answer for answer in transfer.answers if isinstance(answer, Give)]
    assert {key for answer in given for key in answer.records} == {b"5", b"x"}
    assert sum(len(answer.surplus) for answer in given) == 2 * 16  # the old 5, and y


def test_records_come_in_pages() -> None:
    keys = {b"%d" % each: 4 for each in range(1000)}
    with patch.object(copying, "PAGE_BYTES", 1000):
        transfer = Transfer(state_of(keys, {}), None)
    given = [answer for answer in transfer.answers if isinstance(answer, Give)]
    assert len(given) > 50
    assert max(len(answer.records) for answer in given) < 20
    assert sum(len(answer.records) for answer in given) == 1000  # none twice


def test_clients_come_in_pages_and_only_when_they_differ() -> None:
    ids = {b"%03d" % each: 1 for each in range(200)}
    with patch.object(copying, "PAGE_BYTES", 1000):
        transfer = Transfer(state_of({}, ids), None)
    assert transfer.kinds[0] is Compare
    assert set(transfer.kinds[1:]) == {FetchClients}
    assert len(transfer.kinds) > 10
    assert transfer.copy.state == state_of({}, ids)
    assert Transfer(state_of({b"k": 1}, ids), state_of({}, ids)).kinds == [Compare, Fetch]


def test_few_bytes_are_moved_for_few_differences() -> None:
    keys = {b"%d" % each: 1 for each in range(20_000)}
    state = state_of(keys, {})
    moved = {
        many: Transfer(state, state_of(keys | {b"%d" % each: 2 for each in range(many)}, {})).size_bytes
        for many in (0, 1, 10, 100)
    }
    tree_bytes = moved[0]
    assert tree_bytes < 5000
    per_record = moved[1] - tree_bytes
    assert per_record < 3000  # the digests of a leaf, and a record
    assert moved[10] - tree_bytes < 12 * per_record
    assert moved[100] - tree_bytes < 120 * per_record
    assert moved[100] < Transfer(state, None).size_bytes / 5


# When it cannot be finished


def begun() -> tuple[Copy, Source, Request]:
    """A copy that has compared, and waits for records."""
    copy, source = Copy(b"s", RANK, None), Source(state_of({b"a": 1, b"b": 2}, {b"c": 1}), RANK)
    question = copy.request()
    assert isinstance(question, Compare)
    copy.answered(source.compare(question))
    question = copy.request()
    assert isinstance(question, Fetch)
    return copy, source, question


def test_who_has_the_state_no_more_breaks_the_copy() -> None:
    copy, _, _ = begun()
    assert copy.answered(Moved(RANK))
    assert copy.state is None
    assert copy.is_broken


@pytest.mark.parametrize(
    "records",
    [{}, {b"a": record(b"a", 1)}, {b"a": record(b"a", 1), b"b": record(b"b", 3)}],
    ids=["none", "one lacks", "another"],
)
def test_a_source_that_gives_what_is_not_its_state_breaks_the_copy(records: dict[bytes, Record]) -> None:
    copy, source, question = begun()
    answer = answer_of(source, question)
    assert isinstance(answer, Give)
    copy.answered(answer._replace(records=records))
    assert copy.request() == FetchClients(RANK, None)
    copy.answered(source.fetch_clients(FetchClients(RANK, None)))
    assert copy.is_broken
    assert copy.state is None


def test_answers_to_what_was_not_asked_are_passed_over() -> None:
    copy, source, question = begun()
    answer = answer_of(source, question)
    assert isinstance(answer, Give)
    other = rank(5)
    for wrong in [
        answer._replace(rank=other),
        answer._replace(leaf=(answer.leaf + 1) % LEAVES),
        answer._replace(began=bytes(16)),
        GiveClients(RANK, None, {}, False),
        source.compare(Compare(RANK, b""))._replace(leaves=()),
    ]:
        copy.answered(wrong)
        assert copy.request() == question
    copy.answered(answer)
    clients = source.fetch_clients(FetchClients(RANK, None))
    for late in [answer, clients._replace(rank=other), clients._replace(began=b"c")]:
        copy.answered(late)
        assert copy.request() == FetchClients(RANK, None)
    assert copy.answered(clients)
    assert copy.state == state_of({b"a": 1, b"b": 2}, {b"c": 1})
    assert not copy.answered(clients)
    assert copy.state == state_of({b"a": 1, b"b": 2}, {b"c": 1})


def test_a_comparison_of_another_rank_is_passed_over() -> None:
    copy = Copy(b"s", RANK, None)
    copy.answered(Differs(rank(5), bytes(16), HEADER, (), bytes(16), bytes(16), Recent(rank(5), ())))
    assert isinstance(copy.request(), Compare)


def test_copies_from_several_sources_make_one_state() -> None:
    """Equal rank, equal state: whoever gives a page."""
    keys = {b"%d" % each: 1 for each in range(100)}
    copy = Copy(b"s", RANK, None)
    with patch.object(copying, "PAGE_BYTES", 300):
        while (question := copy.request()) is not None:
            copy.answered(answer_of(Source(state_of(keys, {b"c": 1}), RANK), question))
    assert copy.state == state_of(keys, {b"c": 1})


# Digests


def test_digests_tell_keys_and_ranks() -> None:
    keys = {b"%d" % each: 1 for each in range(300)}
    digests = Digests(state_of(keys, {}).records)
    assert sum(map(len, digests.leaves)) == 300
    assert digests.leaves_unlike(digests.tree) == []
    assert digests.leaves_unlike(b"") == [leaf for leaf in range(LEAVES) if digests.leaves[leaf]]
    for other in [keys | {b"7": 2}, keys | {b"x": 1}, {key: 1 for key in keys if key != b"7"}]:
        [leaf] = Digests(state_of(other, {}).records).leaves_unlike(digests.tree)
        assert leaf in (leaf_of(b"7"), leaf_of(b"x"))


@given(some_ids, some_ids)
def test_the_digest_of_clients_tells_them_apart(one: dict[bytes, int], other: dict[bytes, int]) -> None:
    digests = [clients_digest(state_of({}, ids).clients) for ids in (one, other)]
    assert (digests[0] == digests[1]) == (one == other)
    backwards = dict(reversed(one.items()))
    assert clients_digest(state_of({}, backwards).clients) == digests[0]


def test_a_live_source_says_so() -> None:
    assert Source(state_of({}, {}), RANK, is_live=True).is_live
    assert not Source(state_of({}, {}), RANK).is_live
    assert Source(state_of({}, {}), Rank(*RANK)).rank == RANK


def recent_of(*steps: tuple[int, bytes, int]) -> RecentKeys:
    """Which keys came and went, noted one by one, at the sequences given."""
    recent = RecentKeys(rank(0))
    for sequence, key, kind in steps:
        recent.note(rank(sequence), key, kind)
    return recent


def test_which_keys_came_and_went_goes_along() -> None:
    recent = recent_of((1, b"a", ADDED), (2, b"b", ADDED), (3, b"a", DELETED))
    source, copy = Source(state_of({b"b": 1}, {}), RANK, recent.sent()), Copy(b"s", RANK, None)
    assert copy.recent is None
    while (question := copy.request()) is not None:
        copy.answered(answer_of(source, question))
    assert copy.recent is not None
    newcomer = RecentKeys(RANK)
    newcomer.copied(copy.recent, rank(3))
    assert newcomer.since == rank(0)
    assert newcomer.between(rank(1), rank(9)) == recent.between(rank(1), rank(9))
    newcomer.copied(copy.recent, rank(2))  # what is later than the state is not believed
    assert newcomer.between(rank(0), rank(9)) == recent.between(rank(0), rank(2))


def test_of_a_source_that_knows_nothing_nothing_goes_along() -> None:
    differs = Source(state_of({}, {}), RANK).compare(Compare(RANK, b""))
    assert differs.recent == Recent(RANK, ())


def test_only_the_newest_go_along_when_keys_are_long() -> None:
    keys = [bytes([number]) * 4000 for number in range(20)]
    sent = recent_of(*((number, key, ADDED) for number, key in enumerate(keys, 1))).sent()
    assert [key for _, key, _ in sent.steps] == keys[-8:]
    assert sent.since == rank(12)


def test_of_keys_that_one_change_removed_all_go_along_or_none() -> None:
    keys = [bytes([number]) * 4000 for number in range(20)]
    sent = recent_of(*((1, key, EXPIRED) for key in keys), (2, b"k", ADDED)).sent()
    assert (sent.since, [key for _, key, _ in sent.steps]) == (rank(1), [b"k"])
