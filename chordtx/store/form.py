"""What a group keeps, as the bytes of its rows on the disk.

Each row has a checksum over its bytes, its keys and the table that it stands in: so a row that stands in a
wrong place is noticed as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from struct import Struct
from typing import Any, NamedTuple
from zlib import crc32

import msgpack

from chordtx.errors import ChordError, ProtocolError
from chordtx.group.configuration import Configuration, configuration_from_wire
from chordtx.group.rank import NO_RANK, Ballot, Epoch, Rank, ballot_from_wire, epoch_from_wire, rank_from_wire
from chordtx.group.record import Record, record_from_wire
from chordtx.group.replica import Aside, Stored
from chordtx.group.state import (
    Client,
    Done,
    Header,
    State,
    client_from_wire,
    client_to_wire,
    header_from_wire,
)

#: The tables, as the checksums know them.
PROMISES, HEADERS, RECORDS, OPERATIONS, ASIDES, VALUES = (b"%d" % i for i in range(6))

Pack = Callable[[Any], bytes]
RecordRow = tuple[int, bytes, bytes]
OperationRow = tuple[int, bytes, int, bytes]

#: What is wrong with bytes that match their checksum, or that another version has written.
_NONSENSE = (ProtocolError, ValueError, TypeError, msgpack.UnpackException)
_PARTITION = Struct(">q")
_NUMBER = Struct(">q")
_CHECKSUM = Struct(">I")


class Damaged(ChordError):
    """These bytes are not what was written here."""


def with_checksum(packed: bytes, seed: int) -> bytes:
    """These bytes as :func:`checked` reads them. :param seed: a checksum of what they are stored under."""
    return _CHECKSUM.pack(crc32(packed, seed)) + packed


def checked(stored: object, seed: int) -> bytes:
    """What was given to :func:`with_checksum`, with the same ``seed``.

    :raises Damaged: when a bit of it has changed since.
    """
    if not isinstance(stored, bytes) or len(stored) < _CHECKSUM.size:
        raise Damaged("what is stored is cut short")
    packed = stored[_CHECKSUM.size :]
    if _CHECKSUM.unpack_from(stored)[0] != crc32(packed, seed):
        raise Damaged("what is stored does not match its checksum")
    return packed


class Promises(NamedTuple):
    """What must never be lost: of :class:`~chordtx.group.replica.Stored` all but the state."""

    promised: Ballot
    left: Configuration
    entered: Epoch
    is_lost: bool

    def stored(self, rank: Rank = NO_RANK, header: Header | None = None) -> Stored:
        """The whole, with a state or without."""
        return Stored(self.promised, self.left, rank, header, self.entered, self.is_lost)


def packer() -> Pack:
    """Something that packs, for one thread."""
    return msgpack.Packer().pack  # type: ignore[no-any-return]


def seed_of(table: bytes, partition: int) -> int:
    """Where the checksums of a partition's rows begin."""
    return crc32(_PARTITION.pack(partition), crc32(table))


# A partition


def promises_to_stored(partition: int, stored: Stored, pack: Pack) -> bytes:
    """As :func:`promises_from_stored` reads it."""
    return with_checksum(pack(_promises_to_wire(stored)), seed_of(PROMISES, partition))


def _promises_to_wire(stored: Stored) -> tuple[Any, ...]:
    return stored.promised, stored.left.to_wire(), stored.entered, stored.is_lost


def promises_from_stored(partition: int, stored: object) -> Promises:
    """:raises Damaged: when it is not what was stored."""
    packed = checked(stored, seed_of(PROMISES, partition))
    try:
        return _promises_from_wire(msgpack.unpackb(packed))
    except _NONSENSE as error:
        raise Damaged(f"stored promises are none: {error}") from error


def _promises_from_wire(obj: Any) -> Promises:
    promised, left, entered, is_lost = obj
    if not isinstance(is_lost, bool):
        raise ValueError("whether a state is lost is no truth value")
    return Promises(
        ballot_from_wire(promised), configuration_from_wire(left), epoch_from_wire(entered), is_lost
    )


def header_to_stored(partition: int, stored: Stored, pack: Pack) -> bytes:
    """As :func:`header_from_stored` reads it. That there is no state is said too, so that it is checked."""
    return with_checksum(pack(_header_to_wire(stored)), seed_of(HEADERS, partition))


def _header_to_wire(stored: Stored) -> tuple[Any, ...]:
    return stored.rank, None if stored.header is None else stored.header.to_wire()


def header_from_stored(partition: int, stored: object) -> tuple[Rank, Header | None]:
    """:raises Damaged: when it is not what was stored."""
    packed = checked(stored, seed_of(HEADERS, partition))
    try:
        return _header_from_wire(msgpack.unpackb(packed))
    except _NONSENSE as error:
        raise Damaged(f"a stored header is no header: {error}") from error


def _header_from_wire(obj: Any) -> tuple[Rank, Header | None]:
    rank, header = obj
    return rank_from_wire(rank), None if header is None else header_from_wire(header)


# Records


def record_rows(partition: int, records: Mapping[bytes, Record | None], pack: Pack) -> Iterator[RecordRow]:
    """(partition, key, stored form) of those that are there."""
    seed = seed_of(RECORDS, partition)
    for key, record in records.items():
        if record is not None:
            yield partition, key, with_checksum(pack(record), crc32(key, seed))


class Decoder:
    """Reads rows. Epochs and ballots are the same in very many of them: each is in memory once."""

    def __init__(self) -> None:
        self._known: dict[tuple[Epoch, Ballot], tuple[Epoch, Ballot]] = {}

    def record(self, seed: int, key: object, stored: object) -> Record:
        """:param seed: of its table and partition. :raises Damaged: when it is not what was stored."""
        if not isinstance(key, bytes):
            raise Damaged("a key is no bytes")
        packed = checked(stored, crc32(key, seed))
        try:
            record = record_from_wire(msgpack.unpackb(packed))
        except _NONSENSE as error:
            raise Damaged(f"a stored record is no record: {error}") from error
        return self._with_shared_rank(record)

    def client(self, operations: Iterable[tuple[int, list[Any]]]) -> Client:
        """What is remembered of a client, from its rows (number, :func:`operation_from_stored`).

        Its newest change is among them, as long as anything is remembered of it; what it has answers up to
        goes with each operation, and the newest of them says it.

        :raises Damaged: when they make no sense.
        """
        rows = list(operations)
        try:
            answered = max(row[0] for _, row in rows)
            told = client_from_wire((answered, NO_RANK, [(number, *row[1:]) for number, row in rows]))
        except _NONSENSE as error:
            raise Damaged(f"stored operations make no sense: {error}") from error
        done = {number: each._replace(rank=self._shared(each.rank)) for number, each in told.done.items()}
        return Client(told.answered, max(each.rank for each in done.values()), done)

    def aside(self, partition: int, mark: object, stored: object) -> Aside:
        """:raises Damaged: when it is not what was stored."""
        if not isinstance(mark, int):
            raise Damaged("a history's mark is none")
        packed = checked(stored, _aside_seed(partition, mark))
        try:
            told, has, records, clients = msgpack.unpackb(packed)
            promises, (rank, header) = _promises_from_wire(told), _header_from_wire(has)
            if header is None:
                return Aside(promises.stored(rank), None)
            state = State(header)
            for key, *row in records:
                state.records[bytes(key)] = self._with_shared_rank(record_from_wire(row))
            for id, *row in clients:
                state.clients[bytes(id)] = client_from_wire(row)
            return Aside(promises.stored(rank, header), state)
        except _NONSENSE as error:
            raise Damaged(f"what was set aside is no state: {error}") from error

    def _with_shared_rank(self, record: Record) -> Record:
        return Record(record.value, record.expires_ms, self._shared(record.rank), record.written_ms)

    def _shared(self, rank: Rank) -> Rank:
        pair = rank.epoch, rank.ballot
        return Rank(*self._known.setdefault(pair, pair), rank.sequence)


# Operations


def operation_rows(
    partition: int, clients: Mapping[tuple[bytes, int], tuple[int, Done] | None], pack: Pack
) -> Iterator[OperationRow]:
    """(partition, client, number, stored form) of those that are remembered."""
    seed = seed_of(OPERATIONS, partition)
    for (client, number), kept in clients.items():
        if kept is not None:
            answered, done = kept
            packed = pack((answered, *done))
            yield partition, client, number, with_checksum(packed, _operation_seed(seed, client, number))


def operation_from_stored(seed: int, client: object, number: object, stored: object) -> list[Any]:
    """``[answered, rank, kind, key, result]``, still in wire form.

    :raises Damaged: when it is not what was stored.
    """
    if not isinstance(client, bytes) or not isinstance(number, int):
        raise Damaged("an operation's id is none")
    packed = checked(stored, _operation_seed(seed, client, number))
    try:
        match msgpack.unpackb(packed):
            case [int(), _, _, _, _] as row:
                return list(row)
    except _NONSENSE as error:
        raise Damaged(f"a stored operation is none: {error}") from error
    raise Damaged("a stored operation is [answered, rank, kind, key, result]")


def _operation_seed(seed: int, client: bytes, number: int) -> int:
    return crc32(client, crc32(_NUMBER.pack(number), seed))


# What a replica was in other histories


def aside_rows(
    partition: int, asides: Mapping[int, Aside | None], pack: Pack
) -> Iterator[tuple[int, int, bytes]]:
    """(partition, mark, stored form) of those that are there: each is one row, whole or damaged."""
    for mark, aside in asides.items():
        if aside is not None:
            yield partition, mark, with_checksum(pack(_aside_to_wire(aside)), _aside_seed(partition, mark))


def _aside_to_wire(aside: Aside) -> tuple[Any, ...]:
    stored, state = aside
    records, clients = ({}, {}) if state is None else (state.records, state.clients)
    return (
        _promises_to_wire(stored),
        _header_to_wire(stored),
        tuple((key, *record) for key, record in records.items()),
        tuple((id, *client_to_wire(client)) for id, client in clients.items()),
    )


def _aside_seed(partition: int, mark: int) -> int:
    return crc32(_NUMBER.pack(mark), seed_of(ASIDES, partition))


# Values beside


def value_to_stored(name: str, value: bytes) -> bytes:
    """As :func:`value_from_stored` reads it."""
    return with_checksum(value, crc32(name.encode(), crc32(VALUES)))


def value_from_stored(name: str, stored: object) -> bytes:
    """:raises Damaged: when it is not what was stored."""
    return checked(stored, crc32(name.encode(), crc32(VALUES)))
