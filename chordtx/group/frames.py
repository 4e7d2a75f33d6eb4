"""The wire forms of groups: what members tell one another, what clients ask, and what they are answered.

What members tell is a frame: a msgpack array, and so is each message in it. Operations and answers come one
by one, in the calls of the mesh::

    members:    [[partition, code, *fields], ...]
    operation:  [client, number, answered, stamp, kind, key, arguments]
    answer:     [client, number, status, detail, rank, stamp]

Named tuples are arrays of their fields. Whatever the bytes are, reading them gives checked values or raises
:class:`~chordtx.errors.ProtocolError`: nothing behind here has to look at a type again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgpack
from attrs import evolve

from chordtx.config import Limits
from chordtx.errors import ProtocolError
from chordtx.group import fields
from chordtx.group.configuration import Configuration, configuration_from_wire
from chordtx.group.fields import KEY_BYTES_MAX, PARTITIONS_MAX
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
    FetchClients,
    Give,
    GiveClients,
    Gone,
    Install,
    Learn,
    Learned,
    Message,
    Moved,
    Newer,
    Operation,
    Prepare,
    Promise,
    Refused,
    Yours,
)
from chordtx.group.operations import (
    DELETED,
    EXPIRED,
    KINDS,
    LIST_ENTRIES_MAX,
    READS,
    TOO_LARGE,
    Entry,
    Event,
    arguments_from_wire,
    is_finite,
)
from chordtx.group.rank import (
    ARRAYS,
    COUNT_MAX,
    NO_RANK,
    Rank,
    ballot_from_wire,
    epoch_from_wire,
    named,
    rank_from_wire,
)
from chordtx.group.recent_keys import recent_from_wire
from chordtx.group.record import Record, record_from_wire
from chordtx.group.state import (
    Client,
    changes_from_wire,
    client_to_wire,
    header_from_wire,
)
from chordtx.wire.packing import walk

#: Up to this size, no array in a frame may claim more than so many entries before all of it is looked at in
#: Python. msgpack nests 1024 deep and reserves 8 bytes for what an array claims: 4 MiB at the worst.
_QUICK_BYTES_MAX = 64 << 10
_QUICK_ARRAY_MAX = 512

#: Records and changes are many small arrays: of members there may be more than in a user's value.
_MEMBERS_BYTES_PER_ARRAY = 8

#: A change is client, number, answered, stamp, and what is to be done: kind, key, arguments. A read is the
#: client and these.
_KIND, _CHANGE_FIELDS, _READ_FIELDS = 4, 7, 4
#: More than this is sent in several frames.
FRAME_BYTES = 1 << 20
_NO_MESSAGE = "a message is an array that begins with its partition"

Entries = list[tuple[int, Message]]
#: A message as it came: its partition, its code, and its fields.
Row = tuple[object, ...]


def _in_wire_form(obj: object) -> object:
    """What msgpack cannot pack by itself."""
    if type(obj) is Configuration:
        return obj.to_wire()
    if type(obj) is Client:
        return client_to_wire(obj)
    raise TypeError(f"{type(obj).__name__} has no wire form")


def _unpacked(data: bytes, limits: Limits) -> object:
    """The array that a frame is, with tuples for arrays.

    Most frames are small and right: those msgpack reads itself, within bounds. The keys of maps are bytes
    or text: others have hashes that a stranger can foresee.
    """
    if len(data) <= _QUICK_BYTES_MAX and len(data) <= limits.elements_max:
        try:
            return msgpack.unpackb(data, use_list=False, max_array_len=_QUICK_ARRAY_MAX)
        except (ValueError, TypeError, OverflowError, msgpack.UnpackException):
            pass  # broken, or with a long array: the next look tells
    containers_max = max(limits.containers_max, len(data) // _MEMBERS_BYTES_PER_ARRAY)
    walk(data, evolve(limits, containers_max=containers_max), envelope=True)
    try:
        return msgpack.unpackb(data, use_list=False)
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
        raise ProtocolError(f"broken msgpack: {error}") from error


def _rows(data: bytes, limits: Limits) -> tuple[Row, ...]:
    """The messages of a frame: each has a partition and one thing more."""
    rows = _unpacked(data, limits)
    if type(rows) is not tuple:
        raise ProtocolError("a frame is an array")
    for row in rows:
        if type(row) is not tuple or len(row) < 2:
            raise ProtocolError(_NO_MESSAGE)
    return rows


# Messages as a whole


def _accept(row: Row, value_bytes_max: int) -> Accept:
    _, _, ballot, epoch, after, now_ms, told, sent = row
    if type(after) is not int or not 0 <= after <= COUNT_MAX:
        raise ProtocolError("a sequence is a number from 0 on")
    if type(now_ms) is not int or not 0 <= now_ms <= COUNT_MAX:
        raise ProtocolError("a time is a number from 0 on")
    changes = changes_from_wire(told)
    if after + len(changes) > COUNT_MAX:
        raise ProtocolError("a change that has no sequence any more")
    for change in changes:
        if len(change[3]) > value_bytes_max or len(change[1]) > KEY_BYTES_MAX:
            raise ProtocolError("a change with too large a key or value")
    return named(
        Accept,
        (ballot_from_wire(ballot), epoch_from_wire(epoch), after, now_ms, changes, fields.seconds(sent)),
    )


def _accepted(row: Row, _value_bytes_max: int) -> Accepted:
    _, _, ballot, epoch, sequence, sent, wall_ms, full = row
    if type(sequence) is not int or not -1 <= sequence <= COUNT_MAX:
        raise ProtocolError("a sequence is a number from -1 on")
    if type(wall_ms) is not int or not 0 <= wall_ms <= COUNT_MAX or type(full) is not bool:
        raise ProtocolError("an acknowledgement ends with a time and a flag")
    return named(
        Accepted,
        (ballot_from_wire(ballot), epoch_from_wire(epoch), sequence, fields.seconds(sent), wall_ms, full),
    )


def _give(row: Row, value_bytes_max: int) -> Give:
    _, _, rank, leaf, began, told, surplus, whole, after = row
    if type(told) is not dict:
        raise ProtocolError("records are a map")
    records: dict[bytes, Record] = {}
    for key, each in told.items():
        records[fields.key(key)] = record = record_from_wire(each)
        if len(record.value) > value_bytes_max:
            raise ProtocolError("a record with too large a value")
    if not records and not fields.whole(whole):
        raise ProtocolError("an answer that brings nothing would be asked for again for ever")
    return Give(
        rank_from_wire(rank),
        fields.leaf(leaf),
        fields.digest_or_nothing(began),
        records,
        fields.digests(surplus),
        fields.whole(whole),
        fields.digest_or_nothing(after),
    )


def _give_clients(row: Row, _value_bytes_max: int) -> GiveClients:
    _, _, rank, began, told, more = row
    clients, has_more = fields.clients(told), fields.flag(more)
    if has_more and not clients:
        raise ProtocolError("an answer that brings nothing would be asked for again for ever")
    return GiveClients(rank_from_wire(rank), fields.client_id_or_none(began), clients, has_more)


Check = Callable[[object], object]
Reader = Callable[[Row, int], Message]


def _by(kind: type[Message], *checks: Check) -> tuple[type[Message], int, Reader]:
    """A message whose fields tell nothing of one another."""

    def read(row: Row, _: int) -> Message:
        return named(kind, [check(field) for check, field in zip(checks, row[2:], strict=True)])

    return kind, 2 + len(checks), read


#: Each class of messages: its place is its code; how long its row is; and what reads it. New ones are added
#: at the end, and those that are there stay as they are: nodes of other versions speak them.
_FORMS: tuple[tuple[type[Message], int, Reader], ...] = (
    _by(Prepare, ballot_from_wire, epoch_from_wire, fields.ballot_or_none, fields.flag),
    _by(
        Promise,
        ballot_from_wire,
        fields.flag,
        rank_from_wire,
        configuration_from_wire,
        fields.members_or_none,
        fields.count,
    ),
    _by(Refused, fields.count, ballot_from_wire, ballot_from_wire, fields.wait),
    (Accept, 8, _accept),
    _by(Install, rank_from_wire, rank_from_wire, header_from_wire, fields.seconds),
    (Accepted, 8, _accepted),
    _by(Newer, configuration_from_wire),
    _by(Learn, ballot_from_wire, rank_from_wire),
    _by(Learned, ballot_from_wire, rank_from_wire),
    _by(Yours, ballot_from_wire, fields.count),
    _by(Gone, configuration_from_wire),
    _by(Compare, rank_from_wire, fields.tree),
    _by(
        Differs,
        rank_from_wire,
        fields.digest,
        header_from_wire,
        fields.leaves,
        fields.digest,
        fields.digest,
        recent_from_wire,
    ),
    _by(Fetch, rank_from_wire, fields.wanted, fields.digest_or_nothing),
    (Give, 9, _give),
    _by(FetchClients, rank_from_wire, fields.client_id_or_none),
    (GiveClients, 6, _give_clients),
    _by(Moved, rank_from_wire),
    _by(Confirm, fields.count, fields.digest_number),
    _by(ConfirmAnswer, fields.count, fields.followed),
)
_CODES: dict[type, int] = {kind: code for code, (kind, _, _) in enumerate(_FORMS)}
_NODE_CODES = frozenset({_CODES[Confirm], _CODES[ConfirmAnswer]})


def to_wire(entries: Iterable[tuple[int, Message]]) -> bytes:
    """A frame of what one member tells another.

    :param entries: each message with its partition, or NODE_LEVEL.
    """
    codes = _CODES
    rows = [(partition, codes[type(message)], *message) for partition, message in entries]
    packed: bytes = msgpack.packb(rows, default=_in_wire_form)
    return packed


def to_frames(entries: Sequence[tuple[int, Message]]) -> list[bytes]:
    """The same as :func:`to_wire`, in as many frames as keep each to :data:`FRAME_BYTES`, where single
    messages do."""
    data = to_wire(entries)
    if len(data) <= FRAME_BYTES or len(entries) < 2:
        return [data]
    middle = len(entries) // 2
    return [*to_frames(entries[:middle]), *to_frames(entries[middle:])]


def from_wire(data: bytes, limits: Limits, value_bytes_max: int, partitions: int = PARTITIONS_MAX) -> Entries:
    """The opposite of :func:`to_wire`.

    :param partitions: how many there are.
    :raises ProtocolError: when anything in it is not what it ought to be; then nothing of it counts.
    """
    entries: Entries = []
    for row in _rows(data, limits):
        partition, code = row[0], row[1]
        if type(partition) is not int:
            raise ProtocolError(_NO_MESSAGE)
        if type(code) is not int or not 0 <= code < len(_FORMS):
            raise ProtocolError("there is no such message")
        _, length, read = _FORMS[code]
        if len(row) != length:
            raise ProtocolError("a message with too few or too many fields")
        if not (partition == NODE_LEVEL if code in _NODE_CODES else 0 <= partition < partitions):
            raise ProtocolError("there is no such partition")
        entries.append((partition, read(row, value_bytes_max)))
    return entries


# Clients


def operation_to_wire(operation: Operation) -> Sequence[object]:
    """One operation by itself. Nobody remembers reads: they have no number on the wire."""
    return (operation.client, *operation[_KIND:]) if operation.kind in READS else operation


def operation_from_wire(obj: object, value_bytes_max: int) -> Operation:
    """The opposite of :func:`operation_to_wire`. :raises ProtocolError: when ``obj`` is no operation."""
    if not isinstance(obj, ARRAYS) or len(obj) not in (_READ_FIELDS, _CHANGE_FIELDS):
        raise ProtocolError("an operation is an array of four or seven")
    kind, key, told = obj[-3:]
    if type(kind) is not int or not 0 <= kind < KINDS:
        raise ProtocolError("there is no such operation")
    if (kind in READS) != (len(obj) == _READ_FIELDS):
        raise ProtocolError("a change has a number, and a read has none")
    client, key, arguments = (
        fields.client_id(obj[0]),
        fields.key(key),
        arguments_from_wire(kind, told, value_bytes_max),
    )
    if kind in READS:
        return named(Operation, (client, 0, 0, NO_RANK, kind, key, arguments))
    number, answered, stamp = obj[1:_KIND]
    if fields.count(answered) >= fields.count(number):
        raise ProtocolError("nobody asks for a change after having had its answer")
    return named(Operation, (client, number, answered, rank_from_wire(stamp), kind, key, arguments))


def answer_to_wire(answer: Answer) -> Sequence[object]:
    """What became of an operation, to who knows which one it was.

    A change that is done is committed: its rank is the stamp, too. Reads, and what was not done, need none.
    """
    _, _, status, detail, rank, stamp = answer
    told = stamp if status == TOO_OLD else rank if status <= TOO_LARGE else NO_RANK
    return (status, detail) if told == NO_RANK else (status, detail, told)


def answer_from_wire(obj: object, client: bytes, number: int, value_bytes_max: int) -> Answer:
    """The opposite of :func:`answer_to_wire`.

    :param client: whose operation it was, and its ``number``.
    :raises ProtocolError: when ``obj`` is no answer.
    """
    if not isinstance(obj, ARRAYS) or len(obj) not in (2, 3):
        raise ProtocolError("an answer is an array of two or three")
    status, detail = obj[:2]
    if type(status) is not int or not (0 <= status <= TOO_LARGE or NOT_LEADER <= status <= BUSY):
        raise ProtocolError("there is no such status")
    detail = _detail(detail, value_bytes_max)
    stamp = rank_from_wire(obj[2]) if len(obj) > 2 else NO_RANK
    rank = stamp if status <= TOO_LARGE else NO_RANK
    return named(Answer, (client, number, status, detail, rank, stamp))


def _detail(obj: object, value_bytes_max: int) -> object:
    """Nothing, a number, a value or an id; or else its shape tells what it is."""
    if obj is None or type(obj) is int or is_finite(obj):
        return obj
    if type(obj) is bytes and len(obj) <= value_bytes_max:
        return obj
    if isinstance(obj, ARRAYS) and len(obj) == 2:
        return _page(obj, value_bytes_max)
    if isinstance(obj, ARRAYS) and len(obj) == 4:
        return _watched(obj, value_bytes_max)
    if isinstance(obj, ARRAYS) and len(obj) == 3:
        value, expires_ms, rank = obj
        if isinstance(value, ARRAYS):
            return rank_from_wire(obj)
        if type(value) is bytes and len(value) <= value_bytes_max:
            return value, fields.count(expires_ms), rank_from_wire(rank)
    raise ProtocolError("what comes with a status is not what it ought to be")


def _value_or_none(obj: object, value_bytes_max: int) -> bytes | None:
    if obj is None or (type(obj) is bytes and len(obj) <= value_bytes_max):
        return obj
    raise ProtocolError("a value is bytes")


def _watched(obj: Sequence[object], value_bytes_max: int) -> tuple[Rank, bool, list[Event], bool]:
    """What WATCH tells."""
    position, is_reset, told, more = obj
    if not isinstance(told, ARRAYS) or len(told) > LIST_ENTRIES_MAX:
        raise ProtocolError("events are an array")
    events: list[Event] = []
    for each in told:
        if not isinstance(each, ARRAYS) or len(each) != 4:
            raise ProtocolError("an event is [kind, key, value, version]")
        kind, key, value, rank = each
        if type(kind) is not int or not 0 <= kind <= EXPIRED or (value is None) != (kind >= DELETED):
            raise ProtocolError("there is no such event")
        events.append((kind, fields.key(key), _value_or_none(value, value_bytes_max), rank_from_wire(rank)))
    return rank_from_wire(position), fields.flag(is_reset), events, fields.flag(more)


def _page(obj: Sequence[object], value_bytes_max: int) -> tuple[list[Entry], bool]:
    """What LIST found."""
    told, more = obj
    if not isinstance(told, ARRAYS) or len(told) > LIST_ENTRIES_MAX:
        raise ProtocolError("a page is an array")
    entries: list[Entry] = []
    for each in told:
        if not isinstance(each, ARRAYS) or len(each) != 4:
            raise ProtocolError("an entry of a page is [key, value, expiry, rank]")
        key, value, expires_ms, rank = each
        known = _value_or_none(value, value_bytes_max)
        entries.append((fields.key(key), known, fields.count(expires_ms), rank_from_wire(rank)))
    return entries, fields.flag(more)
