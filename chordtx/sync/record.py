"""What is stored under a key, and how two copies of it become one.

Values stay packed (msgpack): replicas compare versions and never look inside. A record is a *base*,
written as a whole, and *fields* written singly into the map that the base holds (deltas). Merging is
the join of a semilattice: commutative, associative, idempotent. So copies may be exchanged in any
order and as often as one likes, and all end up the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgpack
from attrs import evolve, frozen

from chordtx.errors import ProtocolError
from chordtx.sync.version import CLOCK_MAX, WRITER_BYTES_MAX, Version

Field = tuple[Version, bytes]

# One for all: a dict of its own for each record would take as much memory as a small value.
_NO_FIELDS: Mapping[bytes, Field] = MappingProxyType({})
OVERHEAD_BYTES = 64  # about what one version costs beside its value


@frozen
class Record:
    """One key's state. Fields that are no newer than the base are dropped, having been overwritten by it.

    :ivar version: of the base.
    :ivar value: the packed base; None is a tombstone.
    :ivar expiry_ms: Unix time from which the base counts as absent, in milliseconds; None is never.
    :ivar fields: packed key of the map -> its version and its packed value, newer than the base. (Packed,
        so that ``"a"`` and ``b"a"`` stay two keys.)
    """

    version: Version
    value: bytes | None
    expiry_ms: int | None = None
    fields: Mapping[bytes, Field] = _NO_FIELDS

    def __attrs_post_init__(self) -> None:
        if self.fields and any(version <= self.version for version, _ in self.fields.values()):
            newer = {name: entry for name, entry in self.fields.items() if entry[0] > self.version}
            object.__setattr__(self, "fields", newer)

    @property
    def newest(self) -> Version:
        """The greatest version in it: what a write must be above."""
        if not self.fields:  # as most records
            return self.version
        return max(version for version, _ in self.fields.values())

    @property
    def cost_bytes(self) -> int:
        """About what it takes to keep."""
        size = OVERHEAD_BYTES + len(self.value or b"")
        if self.fields:
            size += sum(len(name) + len(blob) + OVERHEAD_BYTES for name, (_, blob) in self.fields.items())
        return size

    def alive(self, now_ms: int) -> bool:
        """Whether there is a value: neither deleted nor expired, or written to since."""
        if self.expiry_ms is None:  # as most
            return self.value is not None or bool(self.fields)
        return self._base(now_ms) is not None or bool(self._fields(now_ms))

    def forgettable(self, now_ms: int, after_ms: int) -> bool:
        """Whether it was deleted, or has expired, longer ago than ``after_ms``."""
        return not self.alive(now_ms) and max(self.newest.time_ms, self.expiry_ms or 0) + after_ms < now_ms

    def packed_value(self, now_ms: int) -> bytes | None:
        """The value, packed: the base with the fields put in.

        Where the base is deleted, expired or no map, the fields are a map of their own.

        :returns: None when there is no value.
        :raises ProtocolError: when the base is broken (seen only where fields go into it).
        """
        base, fields = self._base(now_ms), self._fields(now_ms)
        if not fields:
            return base
        entries = {} if base is None else _map_entries(base)
        entries.update((name, blob) for name, (_, blob) in sorted(fields.items()))
        header: bytes = msgpack.Packer().pack_map_header(len(entries))
        return header + b"".join(name + blob for name, blob in entries.items())

    def with_fields(self, version: Version, fields: Mapping[bytes, bytes]) -> Record:
        """The record with packed ``fields`` written into it: what a delta makes of it."""
        return evolve(
            self, fields={**self.fields, **{name: (version, blob) for name, blob in fields.items()}}
        )

    def to_wire(self) -> list[Any]:
        """:returns: ``[clock, writer, value, expiry_ms, [[name, clock, writer, value], ...]]``, the fields
        by name, so that equal records are equal bytes."""
        clock, writer = self.version
        if not self.fields:
            return [clock, writer, self.value, self.expiry_ms, []]
        fields = [[name, *version, blob] for name, (version, blob) in sorted(self.fields.items())]
        return [clock, writer, self.value, self.expiry_ms, fields]

    @classmethod
    def from_wire(cls, obj: object) -> Record:
        """The opposite of :meth:`to_wire`, for whatever a peer sent.

        :raises ProtocolError: when it has any other shape.
        """
        clock, writer, value, expiry_ms, fields = _items(obj, 5)
        # Not by `_expect`, for every write passes here on every replica.
        if value is not None and not isinstance(value, bytes):
            raise ProtocolError("a value is bytes or nil")
        if expiry_ms is not None and not _is_time(expiry_ms):
            raise ProtocolError("an expiry is milliseconds or nil")
        if type(fields) is not list and type(fields) is not tuple:
            raise ProtocolError("fields are an array")
        version = _version_from_wire(clock, writer)
        if not fields:
            return cls(version, value, expiry_ms)
        named = dict(map(_field_from_wire, fields))
        _expect(len(named) == len(fields), "a field stands there twice")
        return cls(version, value, expiry_ms, named)

    def _expired(self, now_ms: int) -> bool:
        return self.expiry_ms is not None and self.expiry_ms <= now_ms

    def _base(self, now_ms: int) -> bytes | None:
        return None if self._expired(now_ms) else self.value

    def _fields(self, now_ms: int) -> Mapping[bytes, Field]:
        """Those that count. What was written into a base before it expired has expired with it."""
        expiry_ms = self.expiry_ms
        if expiry_ms is None or expiry_ms > now_ms:
            return self.fields
        return {name: entry for name, entry in self.fields.items() if entry[0].time_ms >= expiry_ms}


#: What a delta meets where nothing is.
NEVER_WRITTEN = Record(Version(0, b""), None)


def merge(a: Record | None, b: Record | None) -> Record | None:
    """What is known once both are: the newest base, and each field's newest value where it is newer.

    :param a: one copy, None where there is none.
    :param b: the other one.
    """
    if a is None or b is None or a == b:
        return b if a is None else a
    base = max(a, b, key=_base_order)
    if not a.fields and not b.fields:
        return base
    fields = dict(a.fields)
    for name, entry in b.fields.items():
        fields[name] = max(entry, fields.get(name, entry))
    return evolve(base, fields=fields)


def _base_order(record: Record) -> tuple[Version, bool, bytes, bool, int]:
    """By version. The rest can differ only when somebody gave out one version twice, and then all
    copies must still come to the same choice."""
    expiry_ms = record.expiry_ms
    return (
        record.version,
        record.value is not None,
        record.value or b"",
        expiry_ms is not None,
        expiry_ms or 0,
    )


def _map_entries(packed: bytes) -> dict[bytes, bytes]:
    """The entries of a packed map, keys and values still packed; none when it is no map.

    Nothing inside is decoded, so this costs no more than the bytes do.

    :raises ProtocolError: when it is no msgpack.
    """
    unpacker = msgpack.Unpacker(max_buffer_size=max(len(packed), 1))
    unpacker.feed(packed)

    def span() -> bytes:
        start = unpacker.tell()
        unpacker.skip()
        return packed[start : unpacker.tell()]

    if not _is_map(packed):
        return {}
    try:
        return {span(): span() for _ in range(unpacker.read_map_header())}
    except Exception as error:  # the decoder's errors have no common base
        raise ProtocolError(f"a stored value is broken: {error!r}") from error


def _is_map(packed: bytes) -> bool:
    return packed[:1] in (b"\xde", b"\xdf") or (bool(packed) and packed[0] & 0xF0 == 0x80)


def _field_from_wire(obj: object) -> tuple[bytes, Field]:
    name, clock, writer, blob = _items(obj, 4)
    _expect(isinstance(name, bytes) and isinstance(blob, bytes), "a field's name and value are bytes")
    return name, (_version_from_wire(clock, writer), blob)


def _version_from_wire(clock: object, writer: object) -> Version:
    if not isinstance(writer, bytes) or len(writer) > WRITER_BYTES_MAX:
        raise ProtocolError(f"a version's writer is at most {WRITER_BYTES_MAX} bytes")
    if type(clock) is not int or not 0 <= clock <= CLOCK_MAX:
        raise ProtocolError("a version's clock is 0 .. 2**63 - 1")
    return Version(clock, writer)


def _items(obj: object, count: int) -> Sequence[Any]:
    if (type(obj) is list or type(obj) is tuple) and len(obj) == count:
        return obj
    raise ProtocolError(f"an array of {count} was expected")


def _is_time(obj: object) -> bool:
    return type(obj) is int and 0 <= obj <= CLOCK_MAX


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise ProtocolError(what)
