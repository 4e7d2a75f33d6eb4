"""twistd or twist: where they log to, and in which lines.

Both make their log themselves, after their own options. twistd takes another observer from the application
that it runs, twist reads its options only when it begins: so here they are told how, and where stays theirs.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, MutableMapping
from typing import Any

from twisted.logger import ILogObserver, LogEvent, LogLevel
from twisted.python.logfile import LogFile
from twisted.python.usage import UsageError
from zope.interface import implementer

from chordtx.logs import LINES, Line, from_level, to_stream
from chordtx.tap.telling import EXIT_CANNOT_START, tell

_FILE_DEFAULT = "twistd.log"


class Runner:
    """What runs the node.

    :param options: its own; None when a program does it by itself.
    """

    def __init__(self, options: MutableMapping[str, Any] | None) -> None:
        self._options = options or {}
        self._is_twistd = "logfile" in self._options
        self._is_twist = "logLevel" in self._options

    def log_defaults(self) -> dict[str, str]:
        """What twist was told with its own options of the same names, or does by itself."""
        if not self._is_twist:
            return {}
        return {"log-level": self._options["logLevel"].name, "log-format": self._options["logFormat"]}

    def check_log(self) -> None:
        """:raises UsageError: for a place that cannot be logged to."""
        if self._is_twistd and self._options["logfile"] == "-" and not self._is_in_foreground():
            raise UsageError("twistd --logfile - needs -n: a daemon has no standard output")

    def log_as(self, level: str, form: str) -> Callable[[Any], ILogObserver] | None:
        """Have lines of this form logged, from this level on.

        :param form: a name of :data:`~chordtx.logs.LINES`.
        :returns: for twistd, what makes an observer of the reactor that the application is to be given.
        """
        line = LINES[form]
        if self._is_twist:
            self._options["logLevel"] = LogLevel.levelWithName(level)
            self._options["fileLogObserverFactory"] = lambda file: to_stream(file, line)
        if not self._is_twistd or self._options.get("logger") is not None:
            return None
        return lambda reactor: from_level(self._observer(reactor, line), level)

    def _is_in_foreground(self) -> bool:
        return bool(self._options.get("nodaemon") or self._options.get("debug"))

    def _observer(self, reactor: Any, line: Line) -> ILogObserver:
        if self._options.get("syslog"):
            return _Syslog(self._options.get("prefix", ""), line)
        name = self._options["logfile"]
        if name == "-" or (not name and self._is_in_foreground()):
            return to_stream(sys.stdout, line)
        file = _opened(name or _FILE_DEFAULT)
        _rotate_on_signal(reactor, file)
        return to_stream(file, line)


def _opened(name: str) -> LogFile:
    try:
        file: LogFile = LogFile.fromFullPath(name)
    except OSError as error:
        tell(f"cannot log to {name}: {error.strerror}")
        sys.exit(EXIT_CANNOT_START)
    return file


def _rotate_on_signal(reactor: Any, file: LogFile) -> None:
    """SIGUSR1 begins a new log file, as with twistd's own."""
    if not signal.getsignal(signal.SIGUSR1):
        signal.signal(signal.SIGUSR1, lambda *_: reactor.callFromThread(file.rotate))


@implementer(ILogObserver)
class _Syslog:
    """Writes to the system's log, each level with its own priority."""

    def __init__(self, prefix: str, line: Line) -> None:
        import syslog  # there is none on Windows

        self._write = syslog.syslog
        self._priorities = {
            LogLevel.debug: syslog.LOG_DEBUG,
            LogLevel.info: syslog.LOG_INFO,
            LogLevel.warn: syslog.LOG_WARNING,
            LogLevel.error: syslog.LOG_ERR,
            LogLevel.critical: syslog.LOG_CRIT,
        }
        self._info = syslog.LOG_INFO
        self._line = line
        syslog.openlog(prefix, 0, syslog.LOG_USER)

    def __call__(self, event: LogEvent) -> None:
        # A new line would be another record, and the system adds the time by itself.
        said = self._line({**event, "log_time": None}) or ""
        level: Any = event.get("log_level")
        for line in said.removeprefix("- ").splitlines():
            self._write(self._priorities.get(level, self._info), line)
