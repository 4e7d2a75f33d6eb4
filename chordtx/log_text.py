"""The log as text, for files and terminals: no line can command a terminal, or pass for another one."""

from __future__ import annotations

from typing import TextIO

from twisted.logger import FileLogObserver, LogEvent, formatEventAsClassicLogText

from chordtx.escaping import escaped_lines


def log_text(event: LogEvent) -> str | None:
    """An event in Twisted's classic form, escaped; None when there is nothing to say.

    It may have more lines, as a traceback has: all after the first begin with a tab.
    """
    text = formatEventAsClassicLogText(event)
    return None if text is None else escaped_lines(text)


def text_log_observer(stream: TextIO) -> FileLogObserver:
    """What writes each event to ``stream``; in place of :func:`twisted.logger.textFileLogObserver`."""
    return FileLogObserver(stream, log_text)
