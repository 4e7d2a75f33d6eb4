"""Keepalive: looks after all links at intervals. Also sends what one turn of the reactor gathered.

A link for which that fails is ended; the others are looked after all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from chordtx.errors import ChordError
from chordtx.mesh.connection import MeshConnection
from chordtx.mesh.tasks import Tasks
from chordtx.mesh.turns import Turns

INTERVAL_SECONDS = 0.25


class Keepalive:
    """The timers of one node.

    :param tasks: keeps the rounds going. :param turns: of the links.
    :param links: gives the links whose handshake is through.
    """

    _log = Logger()

    def __init__(
        self, reactor: Any, tasks: Tasks, turns: Turns, links: Callable[[], Iterable[MeshConnection]]
    ) -> None:
        self._reactor = reactor
        self._tasks = tasks
        self._turns = turns
        self._links = links
        self._due = 0.0
        self._excused = False
        self._flush_call: IDelayedCall | None = None
        self._dirty: list[MeshConnection] = []

    def start(self) -> None:
        """Look after the links from now on."""
        self._due = self._reactor.seconds() + INTERVAL_SECONDS
        self._tasks.keep("looking after links", self._watch, lambda: INTERVAL_SECONDS, INTERVAL_SECONDS)

    def stop(self) -> None:
        """Send what is left. (The looking after ends with the tasks.)"""
        if self._flush_call is not None and self._flush_call.active():
            self._flush_call.cancel()
        self._flush_call = None
        self.flush()

    def wants_flush(self, link: MeshConnection) -> None:
        """Flush the calls of ``link`` once what links do just now is done, or this turn of the reactor."""
        self._dirty.append(link)
        if self._flush_call is None and not self._turns.is_working:
            self._flush_call = self._reactor.callLater(0, self._flush_later)

    def _flush_later(self) -> None:
        self._flush_call = None
        self.flush()

    def flush(self) -> None:
        """Flush the calls of all links that have asked for it."""
        dirty, self._dirty = self._dirty, []
        for link in dirty:
            try:
                link.calls.flush()
            except Exception as error:
                self._end(link, error)

    def _watch(self) -> None:
        now = self._reactor.seconds()
        # When this process stood still, what came meanwhile is not read yet: nobody is judged, this once.
        self._excused = not self._excused and now - self._due > INTERVAL_SECONDS
        self._due = now + INTERVAL_SECONDS
        for link in self._links():
            try:
                link.watch(now, self._excused)
            except Exception as error:
                self._end(link, error)

    def _end(self, link: MeshConnection, error: Exception) -> None:
        """To be called while ``error`` is handled."""
        self._log.failure("{link} is ended: it could not be looked after", link=link)
        link.abort(ChordError(f"it could not be looked after: {error!r}"))
