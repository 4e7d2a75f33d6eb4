"""What can be done to a key: pure functions of the record that is there.

Each takes the record (None where nothing is), the moment, and the arguments, and gives the record that is
there afterwards and a result. Only a leader calls them; what it found out travels to the other members as
the record itself, so no two members can disagree about it.

=================  =====================================  ==================================================
operation          arguments                              result: a status and what comes with it
=================  =====================================  ==================================================
GET                                                       DONE (value, expires_ms, rank); ABSENT
SET                value, expires                         DONE
DELETE             version or None                        DONE; ABSENT; CONFLICT rank
COMPARE_AND_SET    version or None, value, expires        DONE; CONFLICT rank or None
DELTA              packed fields                          DONE value; WRONG_TYPE; TOO_LARGE
INCREMENT          packed number                          DONE number; WRONG_TYPE; TOO_LARGE
TAKE                                                      DONE value; ABSENT
TOUCH              expires                                DONE; ABSENT
LOCK               owner, milliseconds, whether to wait   DONE token; CONFLICT milliseconds left; WRONG_TYPE;
                                                          TOO_LARGE
RENEW              owner, milliseconds                    DONE token; ABSENT; WRONG_TYPE
UNLOCK             owner                                  DONE; ABSENT; WRONG_TYPE
LIST               prefix, after, limit, with values      DONE (entries, whether there are more)
COUNT              prefix                                 DONE number
WATCH              key or prefix, which, position or      DONE (position, whether to begin anew, events,
                   None, milliseconds                     whether there are more)
=================  =====================================  ==================================================

A WATCH waits, so many milliseconds at most, until something has changed after its position. Without a
position it is answered at once. An event is ``(kind, key, value or None, version)``.

A *version* is the rank of the change that wrote a record. *Expires* is None for never, a number of
milliseconds from now for a time to live, or ``[time]`` for a time that is meant absolutely. A value of None
deletes, as in ``set(key, None)``.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from typing import Never

import msgpack

from chordtx.config import Limits
from chordtx.errors import ProtocolError
from chordtx.group import locks

# Those who deal with operations find what comes of them here.
from chordtx.group.outcomes import ABSENT as ABSENT
from chordtx.group.outcomes import CONFLICT as CONFLICT
from chordtx.group.outcomes import DONE as DONE
from chordtx.group.outcomes import TOO_LARGE as TOO_LARGE
from chordtx.group.outcomes import WRONG_TYPE as WRONG_TYPE
from chordtx.group.outcomes import Moment as Moment
from chordtx.group.outcomes import Outcome as Outcome
from chordtx.group.outcomes import Result as Result
from chordtx.group.rank import ARRAYS, COUNT_MAX, Rank, rank_from_wire
from chordtx.group.record import Record, is_expired
from chordtx.wire.packing import scan, unpack_scanned

GET, SET, DELETE, COMPARE_AND_SET, DELTA, INCREMENT, TAKE, TOUCH, LIST, COUNT, WATCH, LOCK, RENEW, UNLOCK = (
    range(14)
)
NAMES = (
    "get",
    "set",
    "delete",
    "compare_and_set",
    "delta",
    "increment",
    "take",
    "touch",
    "list",
    "count",
    "watch",
    "lock",
    "renew",
    "unlock",
)
KINDS = len(NAMES)
#: What may be answered without being a change.
READS = frozenset({GET, LIST, COUNT, WATCH})
OF_LOCKS = frozenset({LOCK, RENEW, UNLOCK})

#: Kinds of events. A key that came after it had gone counts as added, whatever a watcher knew of it.
ADDED, UPDATED, DELETED, EXPIRED = range(4)
NAMES_OF_EVENTS = ("add", "update", "delete", "expire")

#: Entries in one answer to LIST, and about how many bytes of values.
LIST_ENTRIES_MAX = 1000
LIST_BYTES_MAX = 1 << 20
#: The longest that a watcher may wait for an answer.
WATCH_MS_MAX = 60_000

_INTEGER_MIN, _INTEGER_MAX = -(1 << 63), (1 << 64) - 1

#: What everybody who reads a value can build of it.
_LIMITS = Limits()
# First bytes in msgpack: of numbers, and of what is not just a text, bytes, number, bool or nil.
_NUMBERS = frozenset([*range(0x80), *range(0xCA, 0xD4), *range(0xE0, 0x100)])
_NUMBER_BYTES_MAX = 9
_MAPS = frozenset([*range(0x80, 0x90), 0xDE, 0xDF])
_HAS_PARTS = _MAPS | {*range(0x90, 0xA0), *range(0xC7, 0xCA), *range(0xD4, 0xD9), 0xDC, 0xDD}


#: Of a page that LIST finds: key, value or None, when it expires, and version.
Entry = tuple[bytes, bytes | None, int, Rank]
#: What a watcher is told: kind, key, value or None, and version.
Event = tuple[int, bytes, bytes | None, Rank]
#: Each takes the arguments of its own kind of operations; there are none that all of them take.
Function = Callable[[Record | None, Moment, Never], Outcome]
Look = Callable[[list[bytes], Mapping[bytes, Record], Never], Result]
#: When a record expires: never, after a number of milliseconds, or at a time.
Expires = int | tuple[int] | None

_DONE: Result = (DONE, None)
#: In a change: the result is what was written. So a large value does not travel twice.
WRITTEN: Result = (DONE, True)
_ABSENT: Result = (ABSENT, None)


def grows(kind: int, arguments: tuple[object, ...]) -> bool:
    """Whether an operation may make a member hold more than before."""
    if kind == SET:
        return arguments[0] is not None
    if kind == COMPARE_AND_SET:
        return arguments[1] is not None
    return kind in (DELTA, INCREMENT, LOCK)


def get(record: Record | None) -> Result:
    """The value, when it expires, and its version."""
    return _ABSENT if record is None else (DONE, (record.value, record.expires_ms, record.rank))


def _set(record: Record | None, at: Moment, arguments: tuple[bytes | None, Expires]) -> Outcome:
    value, expires = arguments
    if value is None:
        return None, _DONE
    return _written(value, expires_ms(expires, at.now_ms), at), _DONE


def _delete(record: Record | None, at: Moment, arguments: tuple[Rank | None]) -> Outcome:
    (version,) = arguments
    if record is None:
        return None, _ABSENT
    if version is not None and record.rank != version:
        return record, (CONFLICT, record.rank)
    return None, _DONE


def _compare_and_set(
    record: Record | None, at: Moment, arguments: tuple[Rank | None, bytes | None, Expires]
) -> Outcome:
    version, value, expires = arguments
    present = None if record is None else record.rank
    if present != version:
        return record, (CONFLICT, present)
    return _set(record, at, (value, expires))


def _delta(record: Record | None, at: Moment, arguments: tuple[bytes]) -> Outcome:
    (fields,) = arguments
    entries = {} if record is None else map_entries(record.value)
    if entries is None:
        return record, (WRONG_TYPE, None)
    entries.update(map_entries(fields) or {})
    value = map_header(len(entries)) + b"".join(name + packed for name, packed in entries.items())
    if len(value) > at.value_bytes_max or not _can_be_built(value):
        return record, (TOO_LARGE, len(value))
    return _rewritten(record, value, at), (DONE, value)


def _increment(record: Record | None, at: Moment, arguments: tuple[bytes]) -> Outcome:
    by = msgpack.unpackb(arguments[0])
    present = 0 if record is None else _number(record.value)
    if present is None:
        return record, (WRONG_TYPE, None)
    total = present + by
    fits = math.isfinite(total) if isinstance(total, float) else _INTEGER_MIN <= total <= _INTEGER_MAX
    if not fits:
        return record, (TOO_LARGE, None)
    return _rewritten(record, msgpack.packb(total), at), (DONE, total)


def _take(record: Record | None, at: Moment, arguments: tuple[()]) -> Outcome:
    return None, _ABSENT if record is None else (DONE, record.value)


def _touch(record: Record | None, at: Moment, arguments: tuple[Expires]) -> Outcome:
    (expires,) = arguments
    if record is None:
        return None, _ABSENT
    return _written(record.value, expires_ms(expires, at.now_ms), at), _DONE


_FUNCTIONS: dict[int, Function] = {
    SET: _set,
    DELETE: _delete,
    COMPARE_AND_SET: _compare_and_set,
    DELTA: _delta,
    INCREMENT: _increment,
    TAKE: _take,
    TOUCH: _touch,
    LOCK: locks.acquire,
    RENEW: locks.renew,
    UNLOCK: locks.release,
}


def change(kind: int, record: Record | None, at: Moment, arguments: tuple[object, ...]) -> Outcome:
    """Do what ``kind`` says to a key. A record whose time is over is as good as none.

    :param record: that is there. :param arguments: as :func:`arguments_from_wire` gives them.
    :returns: what is there afterwards (``record`` itself when nothing changed), and the result.
    """
    return _FUNCTIONS[kind](None if is_expired(record, at.now_ms) else record, at, arguments)  # type: ignore[arg-type]  # each kind has its own


def look_at_all(
    kind: int, keys: list[bytes], records: Mapping[bytes, Record], arguments: tuple[object, ...]
) -> Result:
    """LIST or COUNT.

    :param keys: of all records, none of which is expired; sorted.
    """
    look: Look = _count if kind == COUNT else _page
    return look(keys, records, arguments)  # type: ignore[arg-type]  # each kind has its own


def _count(keys: list[bytes], _: Mapping[bytes, Record], arguments: tuple[bytes]) -> Result:
    (prefix,) = arguments
    if not prefix:
        return DONE, len(keys)
    start = bisect_left(keys, prefix)
    return DONE, bisect_left(keys, True, lo=start, key=lambda key: not key.startswith(prefix)) - start


def _page(
    keys: list[bytes], records: Mapping[bytes, Record], arguments: tuple[bytes, bytes | None, int, bool]
) -> Result:
    return DONE, page(keys, records, arguments)


def page(
    keys: list[bytes], records: Mapping[bytes, Record], arguments: tuple[bytes, bytes | None, int, bool]
) -> tuple[list[Entry], bool]:
    """One page of the keys that begin with a prefix, in order.

    :param keys: of all records; sorted.
    :returns: (entries, whether there are more); an entry is ``(key, value or None, expires_ms, rank)``.
    """
    prefix, after, limit, with_values = arguments
    entries: list[Entry] = []
    room = LIST_BYTES_MAX
    start = max(bisect_right(keys, after) if after is not None else 0, bisect_left(keys, prefix))
    for index in range(start, len(keys)):
        key = keys[index]
        if not key.startswith(prefix):
            break
        record = records[key]
        value = record.value if with_values else None
        room -= len(key) + (len(value) if value is not None else 0)
        if entries and (len(entries) >= limit or room < 0):
            return entries, True
        entries.append((key, value, record.expires_ms, record.rank))
    return entries, False


def expires_ms(expires: Expires, now_ms: int) -> int:
    """When a record is gone, from an operation's argument: 0 for never."""
    if expires is None:
        return 0
    if isinstance(expires, int):
        return min(now_ms + expires, COUNT_MAX)
    return int(expires[0])


def _written(value: bytes, expires: int, at: Moment) -> Record:
    return Record(value, expires, at.rank, at.now_ms)


def _rewritten(record: Record | None, value: bytes, at: Moment) -> Record:
    """What comes of a value keeps its time to live."""
    return _written(value, 0 if record is None else record.expires_ms, at)


def _can_be_built(packed: bytes) -> bool:
    """Whether what was put together of values that can be built can be, too: it may have too many parts."""
    try:
        scan(packed, _LIMITS)
    except ProtocolError:
        return False
    return True


def _number(packed: bytes) -> int | float | None:
    if not packed or packed[0] not in _NUMBERS or len(packed) > _NUMBER_BYTES_MAX:
        return None
    try:
        number: int | float = msgpack.unpackb(packed)
    except (ValueError, msgpack.exceptions.UnpackException):  # cut short, or something after it
        return None
    return number


def map_header(count: int) -> bytes:
    """The header of a packed map with this many entries."""
    header: bytes = msgpack.Packer().pack_map_header(count)
    return header


def map_entries(packed: bytes) -> dict[bytes, bytes] | None:
    """The entries of a packed map, names and values still packed; None when it is no map.

    Nothing inside is decoded, so this costs no more than the bytes do.
    """
    if not packed or packed[0] not in _MAPS:
        return None
    unpacker = msgpack.Unpacker(max_buffer_size=max(len(packed), 1))
    unpacker.feed(packed)

    def span() -> bytes:
        start = unpacker.tell()
        unpacker.skip()
        return packed[start : unpacker.tell()]

    try:
        entries = {span(): span() for _ in range(unpacker.read_map_header())}
    except (ValueError, msgpack.exceptions.UnpackException):
        return None
    return entries if unpacker.tell() == len(packed) else None


def result_from_wire(obj: object) -> Result:
    """The result of a change, checked.

    :raises ProtocolError: when ``obj`` is none.
    """
    if isinstance(obj, ARRAYS) and len(obj) == 2:
        status, detail = obj
        if type(status) is int and 0 <= status <= TOO_LARGE:
            if isinstance(detail, ARRAYS):
                return status, rank_from_wire(detail)
            if detail is None or type(detail) in (bytes, int) or is_finite(detail):
                return status, detail
    raise ProtocolError("a result is [status, detail]")


def is_finite(obj: object) -> bool:
    """Whether it is a finite float."""
    return type(obj) is float and math.isfinite(obj)


def arguments_from_wire(kind: int, obj: object, value_bytes_max: int) -> tuple[object, ...]:
    """The arguments of an operation, checked.

    :raises ProtocolError: when they are not what ``kind`` takes.
    """
    if not isinstance(obj, ARRAYS):
        raise ProtocolError("an operation's arguments are an array")
    check = _CHECKS.get(kind)
    if check is None:
        raise ProtocolError("there is no such operation")
    if len(obj) != len(check):
        raise ProtocolError(f"{NAMES[kind]} takes {len(check)} arguments")
    return tuple(each(argument, value_bytes_max) for each, argument in zip(check, obj, strict=True))


def _value(obj: object, bytes_max: int) -> bytes:
    """Just one value in msgpack, and one that can be built: or whoever reads it would be in trouble."""
    if type(obj) is not bytes or not 0 < len(obj) <= bytes_max:
        raise ProtocolError(f"a value is 1 to {bytes_max} bytes")
    if obj[0] in _HAS_PARTS:
        scan(obj, _LIMITS)
    unpack_scanned(obj)
    return obj


def _value_or_none(obj: object, bytes_max: int) -> bytes | None:
    return None if obj is None else _value(obj, bytes_max)


def _version(obj: object, _: int) -> Rank | None:
    return None if obj is None else rank_from_wire(obj)


def _expires(obj: object, _: int) -> Expires:
    if obj is None or (type(obj) is int and 0 <= obj <= COUNT_MAX):
        return obj
    if isinstance(obj, ARRAYS) and len(obj) == 1 and type(obj[0]) is int and 0 < obj[0] <= COUNT_MAX:
        return tuple(obj)
    raise ProtocolError("an expiry is nil, milliseconds from now, or [a time]")


def _fields(obj: object, bytes_max: int) -> bytes:
    packed = _value(obj, bytes_max)
    if map_entries(packed) is None:
        raise ProtocolError("a delta is a map")
    return packed


def _packed_number(obj: object, bytes_max: int) -> bytes:
    packed = _value(obj, bytes_max)
    number = _number(packed)
    if number is None or (isinstance(number, float) and not math.isfinite(number)):
        raise ProtocolError("an increment is by a number")
    return packed


def _prefix(obj: object, bytes_max: int) -> bytes:
    if isinstance(obj, bytes) and len(obj) <= bytes_max:
        return obj
    raise ProtocolError("a prefix is bytes")


def _after(obj: object, bytes_max: int) -> bytes | None:
    return None if obj is None else _prefix(obj, bytes_max)


def _wait_ms(obj: object, _: int) -> int:
    if type(obj) is int and 0 <= obj <= WATCH_MS_MAX:
        return obj
    raise ProtocolError(f"a watcher waits for up to {WATCH_MS_MAX} ms")


def _owner(obj: object, _: int) -> str:
    if type(obj) is str and obj and len(obj.encode("utf-8", "replace")) <= locks.OWNER_BYTES_MAX:
        return obj
    raise ProtocolError(f"who holds a lock is a text of up to {locks.OWNER_BYTES_MAX} bytes")


def _lease_ms(obj: object, _: int) -> int:
    if type(obj) is int and 0 < obj <= locks.LEASE_MS_MAX:
        return obj
    raise ProtocolError("a lease is a number of milliseconds, up to a year")


def _limit(obj: object, _: int) -> int:
    if type(obj) is int and obj > 0:
        return min(obj, LIST_ENTRIES_MAX)
    raise ProtocolError("a limit is a number above 0")


def _flag(obj: object, _: int) -> bool:
    if isinstance(obj, bool):
        return obj
    raise ProtocolError("true or false was expected")


_CHECKS: dict[int, tuple[Callable[[object, int], object], ...]] = {
    GET: (),
    SET: (_value_or_none, _expires),
    DELETE: (_version,),
    COMPARE_AND_SET: (_version, _value_or_none, _expires),
    DELTA: (_fields,),
    INCREMENT: (_packed_number,),
    TAKE: (),
    TOUCH: (_expires,),
    LIST: (_prefix, _after, _limit, _flag),
    COUNT: (_prefix,),
    WATCH: (_prefix, _flag, _version, _wait_ms),
    LOCK: (_owner, _lease_ms, _flag),
    RENEW: (_owner, _lease_ms),
    UNLOCK: (_owner,),
}
