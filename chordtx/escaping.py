"""Any text made fit for one line of a log or of a terminal.

What a peer sends (an id, a key, the text of an error) may hold characters that command a terminal, begin a
line of their own in a log, or turn the order of what is read. Each of them is written as an escape instead.
This module must not know where a text comes from, or where it goes.
"""

from __future__ import annotations

import re

#: The control characters C0, DEL and C1; separators of lines and paragraphs; what changes the direction of
#: reading (Unicode's Bidi_Control); halves of surrogate pairs, which cannot be encoded.
_UNFIT = r"\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_NO_LINE = re.compile(f"[{_UNFIT}]")
#: As it is, but for line feeds and tabs.
_NO_TEXT = re.compile(rf"(?![\n\t])[{_UNFIT}]")
_CUT = "..."


def escaped(text: str | bytes, characters_max: int | None = None) -> str:
    """One line, whatever ``text`` holds: what is unfit is written as ``\\xNN`` or ``\\uNNNN``.

    :param text: bytes are read as UTF-8; those that are none are written as ``\\xNN``.
    :param characters_max: what is longer, escapes counted, is cut there and ends with ``...``.
    """
    if characters_max is None:
        return _NO_LINE.sub(_escape, _decoded(text))
    line = _NO_LINE.sub(_escape, _decoded(text[: characters_max + 1]))
    return line if len(line) <= characters_max else line[: characters_max - len(_CUT)] + _CUT


def escaped_lines(text: str | bytes) -> str:
    """As :func:`escaped` for a text of several lines: line feeds and tabs stay."""
    return _NO_TEXT.sub(_escape, _decoded(text))


def escaped_json(text: str) -> str:
    """JSON that means the same, and is fit for a terminal; line feeds, which can only stand between its
    parts, stay."""
    return _NO_TEXT.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _decoded(text: str | bytes) -> str:
    return text if isinstance(text, str) else text.decode("utf-8", "backslashreplace")


def _escape(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
