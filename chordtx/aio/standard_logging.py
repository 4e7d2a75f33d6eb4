"""What is logged, through the standard library's ``logging``, as asyncio programs expect it."""

from __future__ import annotations

import logging
import warnings

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogBeginner
from zope.interface import provider

from chordtx.escaping import escaped_lines

_LEVELS = {
    LogLevel.debug: logging.DEBUG,
    LogLevel.info: logging.INFO,
    LogLevel.warn: logging.WARNING,
    LogLevel.error: logging.ERROR,
    LogLevel.critical: logging.CRITICAL,
}


def begin() -> None:
    """Hand over what is logged from now on, to the logger of each event's namespace
    (``chordtx.chord.service...``)."""
    shown = warnings.showwarning
    globalLogBeginner.beginLoggingTo([observe], redirectStandardIO=False)
    warnings.showwarning = shown  # Twisted would log all warnings of the program


@provider(ILogObserver)
def observe(event: LogEvent) -> None:
    """Log one event. What peers sent may be part of it, so it is escaped."""
    logger = logging.getLogger(event.get("log_namespace") or "twisted")
    level = _LEVELS[event.get("log_level", LogLevel.info)]
    if logger.isEnabledFor(level):
        failure = event.get("log_failure")
        raised = failure and (failure.type, failure.value, failure.getTracebackObject())
        logger.log(level, "%s", escaped_lines(formatEvent(event)), exc_info=raised)
