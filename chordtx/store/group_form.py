"""What a group keeps, as the bytes of its rows on the disk.

Each row has a checksum over its bytes, its keys and the table that it stands in: so a row that came to stand
anywhere else than where it was put is noticed as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from struct import Struct
from typing import Any, NamedTuple
from zlib import crc32

import msgpack

from chordtx.errors import ProtocolError
from chordtx.group.configuration import Configuration, configuration_from_wire
from chordtx.group.rank import NO_RANK, Ballot, Epoch, Rank, ballot_from_wire, rank_from_wire
from chordtx.group.record import Record, record_from_wire
from chordtx.group.replica import Stored
from chordtx.group.state import Client, Done, Header, client_from_wire, header_from_wire
from chordtx.store.form import Damaged, checked, with_checksum

#: The tables, as the checksums know them.
PROMISES, HEADERS, RECORDS, OPERATIONS, ASIDE_HEADERS, ASIDE_RECORDS, VALUES = (b"%d" % i for i in range(7))

Pack = Callable[[Any], bytes]
RecordRow = tuple[int, bytes, bytes]
OperationRow = tuple[int, bytes, int, bytes]

#: What is wrong with bytes that match their checksum, or that another version has written.
_NONSENSE = (ProtocolError, ValueError, TypeError, msgpack.UnpackException)
_PARTITION = Struct(">q")
_NUMBER = Struct(">q")


class Promises(NamedTuple):
    """What must never be lost: the first half of :class:`~chordtx.group.replica.Stored`."""

    promised: Ballot
    left: Configuration


def packer() -> Pack:
    """Something that packs, for one thread."""
    return msgpack.Packer().pack  # type: ignore[no-any-return]


def seed_of(table: bytes, partition: int) -> int:
    """Where the checksums of a partition's rows begin."""
    return crc32(_PARTITION.pack(partition), crc32(table))


# A partition


def promises_to_stored(partition: int, stored: Stored, pack: Pack) -> bytes:
    """As :func:`promises_from_stored` reads it."""
    packed = pack((stored.promised, stored.left.to_wire()))
    return with_checksum(packed, seed_of(PROMISES, partition))


def promises_from_stored(partition: int, stored: object) -> Promises:
    """:raises Damaged: when it is not what was stored."""
    packed = checked(stored, seed_of(PROMISES, partition))
    try:
        promised, left = msgpack.unpackb(packed)
        return Promises(ballot_from_wire(promised), configuration_from_wire(left))
    except _NONSENSE as error:
        raise Damaged(f"stored promises are none: {error}") from error


def header_to_stored(
    partition: int, rank: Rank, header: Header | None, pack: Pack, table: bytes = HEADERS
) -> bytes:
    """As :func:`header_from_stored` reads it. That there is no state is said too, so that it is checked."""
    packed = pack((rank, None if header is None else header.to_wire()))
    return with_checksum(packed, seed_of(table, partition))


def header_from_stored(partition: int, stored: object, table: bytes = HEADERS) -> tuple[Rank, Header | None]:
    """:raises Damaged: when it is not what was stored."""
    packed = checked(stored, seed_of(table, partition))
    try:
        rank, header = msgpack.unpackb(packed)
        return rank_from_wire(rank), None if header is None else header_from_wire(header)
    except _NONSENSE as error:
        raise Damaged(f"a stored header is no header: {error}") from error


# Records


def record_rows(
    partition: int, records: Mapping[bytes, Record | None], pack: Pack, table: bytes = RECORDS
) -> Iterator[RecordRow]:
    """(partition, key, stored form) of those that are there."""
    seed = seed_of(table, partition)
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
        return Record(record.value, record.expires_ms, self._shared(record.rank), record.written_ms)

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


# Values beside


def value_to_stored(name: str, value: bytes) -> bytes:
    """As :func:`value_from_stored` reads it."""
    return with_checksum(value, crc32(name.encode(), crc32(VALUES)))


def value_from_stored(name: str, stored: object) -> bytes:
    """:raises Damaged: when it is not what was stored."""
    return checked(stored, crc32(name.encode(), crc32(VALUES)))
