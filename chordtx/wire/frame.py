"""Frames: a length as big-endian ``uint32``, and as many bytes.

The highest bit of the length marks a *light* frame, which only our own nodes send one another: what is in it
is no message (:class:`~chordtx.wire.Light`). To a legacy peer it would be a frame that is far too long.

:class:`FrameReader` is given bytes as they come, torn anywhere, and gives back frames. It does no I/O. Its
work is linear in the bytes that come, however they are torn, for a peer chooses that.
"""

from __future__ import annotations

from struct import Struct

from chordtx.errors import ProtocolError

_LENGTH = Struct(">I")
LENGTH_BYTES = _LENGTH.size
_LIGHT = 1 << 31
#: A frame up to this length is copied twice: that takes less time than a view.
_SHORT_BYTES_MAX = 4096
#: Used bytes are cut off the buffer when there are this many, and at least as many as those that stay.
_CUT_BYTES_MIN = 64 * 1024


def frame(data: bytes) -> bytes:
    """``data`` with its length in front."""
    return _LENGTH.pack(len(data)) + data


def frame_header(size_bytes: int) -> bytes:
    """The header of a frame with this many bytes."""
    return _LENGTH.pack(size_bytes)


def light_frame(flag: int, body: bytes) -> bytes:
    """A light frame. :param flag: its first byte; it tells what the rest is."""
    return _LENGTH.pack(_LIGHT | 1 + len(body)) + bytes((flag,)) + body


class FrameReader:
    """Cuts a stream of bytes into frames.

    Past a :class:`ProtocolError` the stream cannot be read on: every later call raises it again.

    :param frame_bytes_max: a longer frame is refused; see :meth:`allow`.
    :ivar is_light: whether the frame that was read last is a light one.
    """

    def __init__(self, frame_bytes_max: int) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._may_be_light = False
        self.is_light = False
        self._buffer = bytearray()
        self._start = 0

    @property
    def pending_bytes(self) -> int:
        """Bytes received that no frame has been made of yet."""
        return len(self._buffer) - self._start

    def allow(self, frame_bytes_max: int, *, light: bool = False) -> None:
        """Frames may be this long from now on. :param light: and light ones may come."""
        self._frame_bytes_max = frame_bytes_max
        self._may_be_light = light

    def discard(self) -> None:
        """Forget what was received: nothing more is read."""
        self._buffer = bytearray()
        self._start = 0

    def receive_data(self, data: bytes) -> None:
        """Take what came from the peer. Read all frames before giving more, and memory stays bounded."""
        self._buffer += data

    def next_frame(self) -> bytes | None:
        """The next frame without its length, or ``None`` until more bytes come.

        :raises ProtocolError: as soon as a length past ``frame_bytes_max`` is read, before its bytes come.
        """
        buffer, begin = self._buffer, self._start + LENGTH_BYTES
        if len(buffer) < begin:
            return None
        (length_bytes,) = _LENGTH.unpack_from(buffer, self._start)
        self.is_light = is_light = length_bytes >= _LIGHT and self._may_be_light
        if is_light:
            length_bytes -= _LIGHT
        if length_bytes > self._frame_bytes_max:
            raise ProtocolError(f"a frame of {length_bytes} bytes, of {self._frame_bytes_max}")
        end = begin + length_bytes
        if end > len(buffer):
            return None
        if length_bytes <= _SHORT_BYTES_MAX:
            found = bytes(buffer[begin:end])
        else:
            with memoryview(buffer) as view:
                found = bytes(view[begin:end])
        self._start = end
        self._cut()
        return found

    def _cut(self) -> None:
        if self._start == len(self._buffer):
            self._buffer.clear()
            self._start = 0
        elif self._start >= _CUT_BYTES_MIN and 2 * self._start >= len(self._buffer):
            del self._buffer[: self._start]
            self._start = 0
