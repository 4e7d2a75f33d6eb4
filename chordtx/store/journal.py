"""Looks into SQLite's write-ahead log, before SQLite does, for commits that it would pass over.

SQLite takes the log's frames up to the first that does not match its checksum, and ignores the rest without a
word. After a crash that is right: the last commit was torn off while it was written, and nobody was told of
it. But commits are made one after another, each synced before the next begins. So where two commits or more
follow the frame that is wrong, the first of them had been acknowledged, and the log was damaged later.

Source: "WAL-mode File Format" of SQLite's documentation.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from struct import Struct, unpack
from typing import BinaryIO, NamedTuple

_HEADER = Struct(">8I")
_FRAME = Struct(">6I")
_MAGIC = 0x377F0682
_WORD = 1 << 32


class _Frame(NamedTuple):
    """One page in the log. ``ends_commit``: whether it is the last one of its commit."""

    salts: tuple[int, int]
    ends_commit: bool
    checksum: tuple[int, int]
    summed: bytes


def commits_passed_over(path: Path) -> int:
    """How many commits stand in a write-ahead log after its first frame that is wrong.

    One may be what a crash has torn.

    :param path: of the log; 0 when it is not there.
    :raises OSError: when it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return _commits_passed_over(file)
    except FileNotFoundError:
        return 0


def _commits_passed_over(file: BinaryIO) -> int:
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return 0
    magic, _, page_bytes, _, *salts, sum_1, sum_2 = _HEADER.unpack(header)
    order = ">" if magic & 1 else "<"
    running = _checksum(header[:24], (0, 0), order)
    is_right = magic & ~1 == _MAGIC and running == (sum_1, sum_2)
    if not is_right:
        page_bytes = page_bytes if 512 <= page_bytes <= 65536 else 4096
    passed_over = 0
    wanted = tuple(salts) if is_right else None
    for frame in _frames(file, page_bytes):
        wanted = wanted or frame.salts
        is_of_now = frame.salts == wanted  # or left from before the log was begun anew
        if is_right:
            running = _checksum(frame.summed, running, order)
            is_right = is_of_now and running == frame.checksum
        if not is_right and is_of_now and frame.ends_commit:
            passed_over += 1
    return passed_over


def _frames(file: BinaryIO, page_bytes: int) -> Iterator[_Frame]:
    while len(data := file.read(_FRAME.size + page_bytes)) == _FRAME.size + page_bytes:
        _, size_after, salt_1, salt_2, sum_1, sum_2 = _FRAME.unpack_from(data)
        yield _Frame((salt_1, salt_2), size_after > 0, (sum_1, sum_2), data[:8] + data[_FRAME.size :])


def _checksum(data: bytes, start: tuple[int, int], order: str) -> tuple[int, int]:
    first, second = start
    words = unpack(f"{order}{len(data) // 4}I", data)
    for index in range(0, len(words), 2):
        first = (first + words[index] + second) % _WORD
        second = (second + words[index + 1] + first) % _WORD
    return first, second
