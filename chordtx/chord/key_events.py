"""The events ``add``, ``delete`` and ``reset``: while somebody listens, one watch of all keys tells them.

The watch begins with the first listener, and ends with the last one. Where nobody listens, nothing is asked,
and nobody is told anything.

A key that comes and goes, or goes and comes, faster than a leader's answers travel is told with the last of
these changes only. When it is not known what became of some keys, nothing is invented: ``reset`` is told, and
then what happens from now on. So it is when a watch had to end while somebody listened, and another goes on.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from chordtx.chord.watching import RESET, Watch
from chordtx.errors import ChordError, Stopped

_PAUSE_SECONDS = 1.0
#: Whether a key is gone, by the kind of an event. Of updates listeners are told nothing.
_IS_GONE = {"add": False, "delete": True, "expire": True}


class Node(Protocol):
    """What these events need of a node."""

    def has_listeners(self) -> bool:
        """Whether somebody here listens to keys."""

    def is_ring_known(self) -> bool:
        """Whether the node knows which ring it is in."""

    def watch_all(self) -> Watch:
        """Begin a watch of all keys, without their values."""

    def tell(self, key: bytes, deleted: bool) -> None:
        """Call those who listen."""

    def tell_reset(self) -> None:
        """Tell those who listen that they may have missed something."""

    def sleep(self, seconds: float) -> Deferred[None]:
        """Fires after a while."""

    def background(self, work: Coroutine[object, object, object]) -> Deferred[object]:
        """Run a coroutine until it ends or the node stops."""


class KeyEvents:
    """See the module. One for each node."""

    _log = Logger()

    def __init__(self, node: Node) -> None:
        self._node = node
        self._watch: Watch | None = None
        self._is_gap = False

    def look(self) -> None:
        """Somebody listens now, or nobody does any more; or the node is in a ring, or in none any more."""
        is_wanted = self._node.has_listeners() and self._node.is_ring_known()
        if is_wanted and self._watch is None:
            self._watch = self._node.watch_all()
            self._node.background(self._tell(self._watch, self._is_gap))
        elif not is_wanted and self._watch is not None:
            watch = self._watch
            self._ended(watch)
            self._node.background(watch.aclose())
        if not self._node.has_listeners():
            self._is_gap = False

    async def when_ready(self) -> bool:
        """Returns once listeners miss no change that begins later; at once when nobody listens.

        :returns: False when the watch has ended meanwhile, because the node is in no ring any more, or nobody
            listens.
        """
        watch = self._watch
        if watch is not None:
            try:
                await watch.when_ready()
            except Stopped:
                if self._watch is watch:
                    raise
                return False
        return True

    async def _tell(self, watch: Watch, is_gap: bool) -> None:
        try:
            if is_gap:
                await watch.when_ready()
                self._is_gap = False
                self._node.tell_reset()
            async for event in watch:
                if event.key is not None and event.kind in _IS_GONE:
                    self._node.tell(event.key, _IS_GONE[event.kind])
                elif event.kind == RESET:
                    self._node.tell_reset()
        except Stopped:
            self._ended(watch)
        except ChordError as error:
            self._log.warn("the watch for listeners has ended, and begins again: {error}", error=str(error))
            await self._node.sleep(_PAUSE_SECONDS)
            await watch.aclose()
            self._ended(watch)
            self.look()

    def _ended(self, watch: Watch) -> None:
        if self._watch is watch:
            self._watch, self._is_gap = None, True
