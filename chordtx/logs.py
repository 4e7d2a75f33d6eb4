"""How a log event becomes a line: as text for people, or as a JSON object for programs.

All lines that a process of ours writes are made here: of the daemon, of the command and of the sockets.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
    formatEventAsClassicLogText,
)

from chordtx.escaping import escaped_lines

LEVELS = tuple(level.name for level in LogLevel.iterconstants())
_OWN_NAMES = ("time", "level", "namespace", "text", "traceback")
# What Twisted's older logging adds to an event beside what it is told.
_LEGACY_NAMES = frozenset({"message", "isError", "system", "format", "time", "why", "failure", "printed"})
_DEPTH_MAX = 8

Line = Callable[[LogEvent], str | None]


def text_line(event: LogEvent) -> str | None:
    """One line with time, namespace, level and text; a traceback follows in lines that begin with a tab.

    It is escaped, so that none can command a terminal, or pass for another line.

    :returns: with its newline; None for an event that says nothing.
    """
    text = formatEventAsClassicLogText(event)
    return None if text is None else escaped_lines(text)


def json_line(event: LogEvent) -> str | None:
    """A JSON object in one line of ASCII.

    It has ``time`` (RFC 3339, UTC), ``level``, ``namespace``, ``text``, with a failure its ``traceback``, and
    the event's own fields by their names; a field that is called as one of these gets a ``_`` at its end.

    :returns: with its newline; None for an event that says nothing.
    """
    text = formatEvent(event)
    failure = event.get("log_failure")
    if not text and failure is None:
        return None
    level = event.get("log_level")
    line: dict[str, Any] = {
        "time": _time(event.get("log_time")),
        "level": level.name if level is not None else LogLevel.info.name,
        "namespace": str(event.get("log_namespace") or event.get("log_system") or ""),
        "text": text,
    }
    if failure is not None:
        line["traceback"] = failure.getTraceback()
    for name, value in _fields(event):
        line[f"{name}_" if name in _OWN_NAMES else name] = _plain(value)
    return json.dumps(line) + "\n"


LINES: Mapping[str, Line] = {"text": text_line, "json": json_line}


def to_stream(stream: Any, line: Line) -> ILogObserver:
    """Writes a line for each event."""
    encoding = getattr(stream, "encoding", None) or "utf-8"

    def writable(event: LogEvent) -> str | None:
        # No line is lost for a character that the stream has no form for.
        text = line(event)
        return None if text is None else text.encode(encoding, "backslashreplace").decode(encoding)

    return FileLogObserver(stream, writable)


def from_level(observer: ILogObserver, level: str) -> ILogObserver:
    """Passes on what is at least as important as ``level``, one of :data:`LEVELS`."""
    least = LogLevel.levelWithName(level)
    return FilteringLogObserver(observer, [LogLevelFilterPredicate(defaultLogLevel=least)])


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _fields(event: LogEvent) -> list[tuple[str, Any]]:
    hidden = _LEGACY_NAMES if "isError" in event else frozenset()
    return [(name, event[name]) for name in event if not name.startswith("log_") and name not in hidden]


def _plain(value: Any, depth: int = 0) -> Any:
    """What JSON has a form for; its text for anything else."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and isfinite(value):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, list | tuple | set | frozenset) and depth < _DEPTH_MAX:
        return [_plain(each, depth + 1) for each in value]
    if isinstance(value, Mapping) and depth < _DEPTH_MAX:
        return {str(_plain(name, _DEPTH_MAX)): _plain(each, depth + 1) for name, each in value.items()}
    try:
        return str(value)
    except Exception:  # of somebody else's object: a line must not be lost for it
        return f"<{type(value).__name__}>"
