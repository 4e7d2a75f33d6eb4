"""What is done for all links of a node now and then: looking after each, and sending what one turn gave."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.interfaces import IDelayedCall

from chordtx.mesh.connection import MeshConnection

INTERVAL_SECONDS = 0.25


class Rounds:
    """The timers of one node.

    :param links: gives the links whose handshake is through.
    """

    def __init__(self, reactor: Any, links: Callable[[], Iterable[MeshConnection]]) -> None:
        self._reactor = reactor
        self._links = links
        self._due = 0.0
        self._excused = False
        self._watch_call: IDelayedCall | None = None
        self._flush_call: IDelayedCall | None = None
        self._dirty: list[MeshConnection] = []

    def start(self) -> None:
        """Look after the links from now on."""
        self._schedule(self._reactor.seconds())

    def stop(self) -> None:
        """Send what is left, and look after nothing more."""
        for call in (self._watch_call, self._flush_call):
            if call is not None and call.active():
                call.cancel()
        self._flush()

    def wants_flush(self, link: MeshConnection) -> None:
        """Flush the calls of ``link`` at the end of this turn of the reactor."""
        self._dirty.append(link)
        if self._flush_call is None:
            self._flush_call = self._reactor.callLater(0, self._flush)

    def _flush(self) -> None:
        self._flush_call = None
        dirty, self._dirty = self._dirty, []
        for link in dirty:
            link.calls.flush()

    def _schedule(self, now: float) -> None:
        self._due = now + INTERVAL_SECONDS
        self._watch_call = self._reactor.callLater(INTERVAL_SECONDS, self._watch)

    def _watch(self) -> None:
        now = self._reactor.seconds()
        # When this process stood still, what came meanwhile is not read yet: nobody is judged, this once.
        self._excused = not self._excused and now - self._due > INTERVAL_SECONDS
        self._schedule(now)
        for link in self._links():
            link.watch(now, self._excused)
