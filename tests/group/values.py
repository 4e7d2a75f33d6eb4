"""Plain values for the tests of groups, and strategies for all that they tell one another."""

from __future__ import annotations

from typing import Any

import msgpack
from hypothesis import strategies as st

from chordtx.group import messages, operations
from chordtx.group.configuration import MEMBERS_MAX, Configuration, Member
from chordtx.group.copying import LEAVES_AT_ONCE
from chordtx.group.digest import DIGEST_BYTES, LEAVES
from chordtx.group.locks import LEASE_MS_MAX
from chordtx.group.rank import COUNT_MAX, NODE_ID_BYTES_MAX, Ballot, Epoch, Rank
from chordtx.group.recent_keys import Recent
from chordtx.group.record import Record
from chordtx.group.state import (
    CLIENT_BYTES_MAX,
    EVICT,
    EXPIRE,
    KEEP,
    REMOVE,
    SEAL,
    Change,
    Client,
    Done,
    Header,
)

PARTITIONS = 64
VALUE_BYTES_MAX = 64

A, B, C, D, E = (Member(id) for id in (b"a", b"b", b"c", b"d", b"e"))


def rank(sequence: int, epoch: int = 0, ballot: int = 1) -> Rank:
    """A rank of node a."""
    return Rank(Epoch(epoch), Ballot(ballot, b"a"), sequence)


def packed(value: object) -> bytes:
    """A value as it is stored."""
    data: bytes = msgpack.packb(value)
    return data


counts = st.integers(0, COUNT_MAX) | st.integers(0, 9)
times = st.floats(allow_nan=False, allow_infinity=False) | st.integers(0, 1000)
flags = st.booleans()
node_ids = st.binary(max_size=NODE_ID_BYTES_MAX)
ballots = st.builds(Ballot, counts, node_ids)
epochs = st.builds(Epoch, st.integers(-1, 9), counts)
ranks = st.builds(Rank, epochs, ballots, counts)
members = st.lists(
    st.builds(Member, node_ids, flags), unique_by=lambda member: member.id, max_size=min(4, MEMBERS_MAX)
).map(lambda some: tuple(sorted(some)))
configurations = st.builds(Configuration, epochs, members, ranks)
keys = st.binary(max_size=8)
client_ids = st.binary(min_size=1, max_size=CLIENT_BYTES_MAX)
values = st.none() | flags | st.integers(-5, 1 << 40) | st.text(max_size=5) | st.binary(max_size=9)
packed_values = (
    (values | st.lists(values, max_size=2) | st.dictionaries(st.text(max_size=3), values))
    .map(packed)
    .filter(lambda data: len(data) <= VALUE_BYTES_MAX)
)
headers = st.builds(Header, configurations, ranks, counts, st.none() | members)
records = st.builds(Record, packed_values, counts, ranks, counts)
numbers = st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(allow_nan=False, allow_infinity=False)
details = st.none() | ranks | packed_values | numbers
results = st.tuples(st.integers(operations.DONE, operations.TOO_LARGE), details)
done = st.builds(Done, ranks, st.integers(0, operations.KINDS - 1), keys, results)
clients = st.builds(Client, counts, ranks, st.dictionaries(counts, done, max_size=3))
recents = st.lists(
    st.tuples(ranks, keys, st.sampled_from([operations.ADDED, operations.DELETED, operations.EXPIRED])),
    max_size=4,
).map(lambda steps: Recent(min(steps, default=(Rank(Epoch(0), Ballot(0, b""), 0),))[0], tuple(sorted(steps))))
digests = st.binary(min_size=DIGEST_BYTES, max_size=DIGEST_BYTES)
some_digests = st.lists(digests, max_size=3).map(b"".join)
digest_or_nothing = st.just(b"") | digests
leaf_numbers = st.integers(0, LEAVES - 1)
partitions = st.integers(0, PARTITIONS - 1)


def _change(draw: Any) -> Change:
    kind = draw(st.sampled_from([SEAL, EVICT, EXPIRE]) | st.integers(0, operations.KINDS - 1))
    own = {SEAL: members, EVICT: ranks, EXPIRE: st.lists(keys, max_size=3).map(tuple)}
    return Change(
        kind,
        draw(keys),
        draw(st.integers(KEEP, REMOVE)),
        draw(packed_values),
        draw(counts),
        b"" if kind in own else draw(client_ids),
        draw(counts),
        draw(counts),
        draw(own.get(kind, results)),
    )


changes = st.composite(_change)()
followed = st.lists(st.tuples(partitions, counts, epochs), max_size=3).map(tuple)
wanted = st.dictionaries(leaf_numbers, some_digests, min_size=1, max_size=LEAVES_AT_ONCE).map(
    lambda some: tuple(sorted(some.items()))
)
leaves = st.sets(leaf_numbers).map(lambda some: tuple(sorted(some)))
trees = st.sampled_from([b"", bytes(LEAVES * DIGEST_BYTES), b"\xff" * (LEAVES * DIGEST_BYTES)])

#: Every class of messages, with what there may be of it.
MESSAGES: dict[type, st.SearchStrategy[Any]] = {
    messages.Prepare: st.builds(messages.Prepare, ballots, epochs, st.none() | ballots, flags),
    messages.Promise: st.builds(
        messages.Promise, ballots, flags, ranks, configurations, st.none() | members, counts
    ),
    messages.Refused: st.builds(
        messages.Refused,
        st.integers(0, COUNT_MAX),
        ballots,
        ballots,
        st.floats(0, allow_nan=False, allow_infinity=False),
    ),
    messages.Accept: st.builds(
        messages.Accept,
        ballots,
        epochs,
        counts.map(lambda after: min(after, COUNT_MAX - 3)),  # each change has a sequence
        counts,
        st.lists(changes, max_size=3).map(tuple),
        times,
    ),
    messages.Install: st.builds(messages.Install, ranks, ranks, headers, times),
    messages.Accepted: st.builds(
        messages.Accepted, ballots, epochs, st.just(-1) | counts, times, counts, flags
    ),
    messages.Newer: st.builds(messages.Newer, configurations),
    messages.Learn: st.builds(messages.Learn, ballots, ranks),
    messages.Learned: st.builds(messages.Learned, ballots, ranks),
    messages.Yours: st.builds(messages.Yours, ballots, st.integers(0, COUNT_MAX)),
    messages.Gone: st.builds(messages.Gone, configurations),
    messages.Compare: st.builds(messages.Compare, ranks, trees),
    messages.Differs: st.builds(messages.Differs, ranks, digests, headers, leaves, digests, digests, recents),
    messages.Fetch: st.builds(messages.Fetch, ranks, wanted, digest_or_nothing),
    messages.Give: st.builds(
        messages.Give,
        ranks,
        leaf_numbers,
        digest_or_nothing,
        st.dictionaries(keys, records, max_size=2),
        some_digests,
        st.integers(1, LEAVES_AT_ONCE),
        digest_or_nothing,
    ),
    messages.FetchClients: st.builds(messages.FetchClients, ranks, st.none() | client_ids),
    messages.GiveClients: st.builds(
        messages.GiveClients,
        ranks,
        st.none() | client_ids,
        st.dictionaries(client_ids, clients, min_size=1, max_size=2),
        flags,
    ),
    messages.Moved: st.builds(messages.Moved, ranks),
    messages.Confirm: st.builds(messages.Confirm, counts, st.integers(0, (1 << 64) - 1)),
    messages.ConfirmAnswer: st.builds(messages.ConfirmAnswer, counts, st.none() | followed),
}
AT_NODE_LEVEL = (messages.Confirm, messages.ConfirmAnswer)


def _entry(draw: Any, kind: type) -> tuple[int, messages.Message]:
    message: messages.Message = draw(MESSAGES[kind])
    return (messages.NODE_LEVEL if kind in AT_NODE_LEVEL else draw(partitions)), message


#: A message of a class, with the partition that it is about.
entry_of = st.composite(_entry)
entries = st.lists(
    st.sampled_from(sorted(MESSAGES, key=lambda kind: kind.__name__)).flatmap(entry_of), max_size=4
)

_expiries = st.none() | counts | st.integers(1, COUNT_MAX).map(lambda time: (time,))
_versions = st.none() | ranks
_owners = st.text(min_size=1, max_size=30)
_leases = st.integers(1, LEASE_MS_MAX)
_ARGUMENTS: dict[int, st.SearchStrategy[tuple[Any, ...]]] = {
    operations.GET: st.just(()),
    operations.SET: st.tuples(st.none() | packed_values, _expiries),
    operations.DELETE: st.tuples(_versions),
    operations.COMPARE_AND_SET: st.tuples(_versions, st.none() | packed_values, _expiries),
    operations.DELTA: st.tuples(
        st.dictionaries(st.text(max_size=3), st.integers(0, 9), max_size=3).map(packed)
    ),
    operations.INCREMENT: st.tuples(numbers.map(packed)),
    operations.TAKE: st.just(()),
    operations.TOUCH: st.tuples(_expiries),
    operations.LIST: st.tuples(keys, st.none() | keys, st.integers(1, operations.LIST_ENTRIES_MAX), flags),
    operations.COUNT: st.tuples(keys),
    operations.LOCK: st.tuples(_owners, _leases, flags),
    operations.RENEW: st.tuples(_owners, _leases),
    operations.UNLOCK: st.tuples(_owners),
    operations.WATCH: st.tuples(keys, flags, st.none() | ranks, st.integers(0, operations.WATCH_MS_MAX)),
}


def _operation(draw: Any) -> messages.Operation:
    kind = draw(st.integers(0, operations.KINDS - 1))
    answered = draw(st.integers(0, 1000))
    number = answered + draw(st.integers(1, 1000))
    return messages.Operation(
        draw(client_ids), number, answered, draw(ranks), kind, draw(keys), draw(_ARGUMENTS[kind])
    )


all_operations = st.composite(_operation)()
_found = st.tuples(packed_values, counts, ranks)
_page = st.tuples(st.lists(st.tuples(keys, st.none() | packed_values, counts, ranks), max_size=3), flags)
answers = st.builds(
    messages.Answer,
    client_ids,
    counts,
    st.integers(operations.DONE, operations.TOO_LARGE) | st.integers(messages.NOT_LEADER, messages.BUSY),
    details | _found | _page,
    ranks,
    ranks,
)
