"""What sockets log on standard error: one observer for all of them, while any of them asks for it."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from chordtx.logs import LINES, from_level, to_stream

#: ``debug_level`` -> the least important that is written.
_LEVELS = {1: "warn", 2: "info", 3: "debug"}


@implementer(ILogObserver)
class StderrLog:
    """Writes lines of the log to whatever is standard error then.

    The log belongs to the process. So lines are written once, for all sockets, as many as the most talkative
    one of them asks for. A standard error that is closed costs lines, and nothing else.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._wanted: list[int] = []
        self._stream: Any = None
        self._writer: ILogObserver | None = None
        self._is_writing = False
        # Python's logging, which crochet passes everything to, would write warnings a second time if the
        # program has set up no logging.
        self._nothing_else = logging.NullHandler()

    def want(self, debug_level: int) -> Callable[[], None]:
        """Have lines written from now on.

        :param debug_level: 0 asks for none, 1 for warnings, 2 for what happens, 3 or more for everything.
        :returns: call it when they are not wanted any more; once or more often.
        """
        level = min(debug_level, max(_LEVELS))
        if level not in _LEVELS:
            return lambda: None
        with self._lock:
            self._wanted.append(level)
            self._changed()
        left = [level]

        def unwant() -> None:
            with self._lock:
                if left:
                    self._wanted.remove(left.pop())
                    self._changed()

        return unwant

    def forget(self) -> None:
        """In a forked process: no socket is open here, and whoever held the lock is not here either."""
        self._lock = threading.RLock()
        self._is_writing = False
        if self._wanted:
            self._wanted.clear()
            self._changed()

    def _changed(self) -> None:
        self._writer = None
        if self._wanted:
            logging.getLogger("twisted").addHandler(self._nothing_else)
            globalLogPublisher.addObserver(self)
        else:
            globalLogPublisher.removeObserver(self)
            logging.getLogger("twisted").removeHandler(self._nothing_else)

    def __call__(self, event: LogEvent) -> None:
        """Write a line, if the event is important enough."""
        with self._lock:
            if self._is_writing or not self._wanted or sys.stderr is None:
                return  # (a standard error that logs what is written to it must not go round in circles)
            self._is_writing = True
            try:
                # What is wrong with the stream is not for the log to say: it would go to the same stream.
                with suppress(Exception):
                    self._written_by()(event)
            finally:
                self._is_writing = False

    def _written_by(self) -> ILogObserver:
        if self._writer is None or self._stream is not sys.stderr:
            self._stream = sys.stderr
            writer = to_stream(self._stream, LINES["text"])
            self._writer = from_level(writer, _LEVELS[max(self._wanted)])
        return self._writer


log = StderrLog()
os.register_at_fork(after_in_child=log.forget)
