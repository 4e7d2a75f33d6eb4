"""Size limits of a record: whether it fits into one message, and whether every receiver can read it.

Writers keep to the limits, replicas and readers to more. Two callers may write different fields of one map at
once, each within the limits; what their writes merge to can still be stored, repaired and read.
"""

from __future__ import annotations

from chordtx.config import Limits
from chordtx.errors import ProtocolError, ValueTooLarge
from chordtx.sync.record import Record
from chordtx.wire.packing import TooDeep, TooMany, scan

#: What a message has around a record beside its key: the checksum, ids, the method and its other arguments.
_AROUND_BYTES = 4096
#: What a field takes beside its name, its writer and its value: headers, and the clock.
_FIELD_BYTES = 32
_FIELD_ELEMENTS = 5
#: What a message has around a record beside its key, in arrays.
_AROUND_CONTAINERS = 100


class RecordLimits:
    """What a record may be.

    :param value_bytes_max: packed size of a value. :param limits: those of a message, the same on all nodes.
    :ivar read: of a value that is read.
    """

    def __init__(self, value_bytes_max: int, limits: Limits) -> None:
        self._value_bytes_max = value_bytes_max
        self._limits = limits
        # Each is an array, of so many elements, in whatever message it is.
        most = min(limits.containers_max, limits.elements_max // _FIELD_ELEMENTS)
        self._fields_max = max(0, most - _AROUND_CONTAINERS)
        self._message_bytes_max = min(limits.frame_bytes_max, limits.expanded_bytes_max)
        self._fields_written_max = min(2 * most // 3, self._fields_max)
        self.read = limits.of_reading

    def must_fit(self, key: bytes, record: Record) -> None:
        """Before a record is sent. :raises ValueTooLarge: when it does not fit into a message."""
        fields, limit_bytes = record.fields, self._message_bytes_max
        size_bytes = _AROUND_BYTES + len(key) + len(record.value or b"")
        if fields:
            size_bytes += sum(
                len(name) + len(version.writer) + len(blob) + _FIELD_BYTES
                for name, (version, blob) in fields.items()
            )
            self._must_be_few(len(fields), self._fields_max)
        if size_bytes > limit_bytes:
            _must_be_below("the record", size_bytes, limit_bytes)

    def _must_be_few(self, fields: int, fields_max: int) -> None:
        if fields > fields_max:
            text = f"{fields} fields of the map are from deltas, of {fields_max}: set it as a whole"
            raise ValueTooLarge(text)

    def must_be_kept(self, key: bytes, record: Record, now_ms: int) -> None:
        """Before a replica stores a record.

        :raises ValueTooLarge: when it could not be sent to others, or not be read.
        """
        self._must_be_storable(key, record)
        if record.fields and (packed := record.packed_value(now_ms)) is not None:
            try:
                scan(packed, self.read)
            except (TooMany, TooDeep) as error:
                raise ValueTooLarge(f"the map: {error}", len(packed), self._value_bytes_max) from error

    def _must_be_storable(self, key: bytes, record: Record) -> None:
        size_bytes, limit_bytes = record.cost_bytes, 2 * self._value_bytes_max
        if size_bytes > limit_bytes:  # asked here already, for every write passes here on every replica
            _must_be_below("the record", size_bytes, limit_bytes)
        self.must_fit(key, record)

    def must_be_written(self, key: bytes, record: Record, now_ms: int) -> None:
        """Before a writer gives a record to anybody.

        :raises ValueTooLarge: when its value or its fields are past the limits.
        :raises TypeError: when a field makes the value nested too deep.
        """
        self._must_be_few(len(record.fields), self._fields_written_max)
        self._must_be_storable(key, record)
        packed = record.packed_value(now_ms) or b""
        _must_be_below("the value", len(packed), self._value_bytes_max)
        if record.fields:
            try:
                scan(packed, self._limits)
            except TooMany as error:
                raise ValueTooLarge(f"the value has {error}", len(packed), self._value_bytes_max) from error
            except ProtocolError as error:
                raise TypeError(f"msgpack cannot carry this value: {error}") from error


def _must_be_below(what: str, size_bytes: int, limit_bytes: int) -> None:
    if size_bytes > limit_bytes:
        raise ValueTooLarge(f"{what} takes {size_bytes} bytes, of {limit_bytes}", size_bytes, limit_bytes)
