"""Broadcast recovery: two of our own nodes that link up tell each other the latest broadcasts.

A broadcast travels by every link, so one that breaks mostly does not matter. But a node may lose all of its
links at once, or the one by which something was about to come.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Any

from attrs import frozen

from chordtx.errors import ChordError, ProtocolError
from chordtx.mesh.connection import MeshConnection
from chordtx.mesh.translation import broadcast_id
from chordtx.wire import Message

_ID_BYTES = 8  # of a broadcast's id: enough to tell those of one minute apart
#: Ids in one question: more than a node keeps by default, and looked through within one turn.
_IDS_MAX = 32_768
_ANSWER_BYTES = 1 << 20
_CALL_SECONDS = 20.0
_BEGIN_SECONDS = 1.0


@frozen
class _Kept:
    id: bytes
    kept_at: float
    message: Message


class MissedBroadcasts:
    """One node's latest broadcasts.

    :param mesh: the service: ``reactor``, ``settings``, ``_background``, ``_methods``.
    """

    def __init__(self, mesh: Any) -> None:
        self._mesh = mesh
        self._kept: deque[_Kept] = deque()
        self._bytes = 0
        self._began_at = -inf
        mesh._methods["broadcasts"] = self._broadcasts

    def begin(self) -> None:
        """The service starts: what was passed on before is not for it."""
        self._began_at = self._mesh.reactor.seconds()

    def passed_on(self, message: Message) -> None:
        """A broadcast was passed on."""
        now = self._mesh.reactor.seconds()
        self._kept.append(_Kept(broadcast_id(message)[:_ID_BYTES], now, message))
        self._bytes += len(message.body)
        self._forget(now)

    def _forget(self, now: float) -> None:
        settings = self._mesh.settings
        oldest_at = now - settings.broadcast_age_seconds_max
        while self._kept and (
            self._bytes > settings.recent_broadcasts_bytes_max or self._kept[0].kept_at < oldest_at
        ):
            self._bytes -= len(self._kept.popleft().message.body)

    def link_opened(self, link: MeshConnection) -> None:
        """Ask a new neighbour for what we have missed."""
        self._mesh._background(self._ask(link))

    async def _ask(self, link: MeshConnection) -> None:
        now = self._mesh.reactor.seconds()
        self._forget(now)
        known = b"".join([kept.id for kept in self._kept][-_IDS_MAX:])
        try:
            missed = await link.call("broadcasts", known, now - self._began_at, timeout_seconds=_CALL_SECONDS)
            for data in missed:
                self._received(link, data)
        except ChordError as error:
            text = "{link} told no broadcasts: {error}"
            self._mesh._limited_log.debug(text, link=link, error=str(error))

    def _received(self, link: MeshConnection, data: Any) -> None:
        if not isinstance(data, bytes):
            raise ProtocolError("a broadcast is bytes")
        message = Message.parse(data, self._mesh.settings.limits)
        link.missed_received(message)

    def _broadcasts(self, caller: MeshConnection, known: Any, seconds: Any = inf) -> list[Any]:
        """``broadcasts(ids, seconds)`` -> those of the last minute that are not among these, oldest first.

        ``ids`` are the first 8 bytes of each, one after another; the answer is what fits in one. ``seconds``
        is how long the caller has been running: what was passed on before that was not for it. (A duration,
        for wall clocks may differ.)
        """
        if not isinstance(known, bytes) or len(known) % _ID_BYTES:
            raise ProtocolError("ids come as bytes")
        if len(known) > _IDS_MAX * _ID_BYTES:
            raise ProtocolError(f"at most {_IDS_MAX} ids are looked at")
        if not isinstance(seconds, int | float):
            raise ProtocolError("seconds are a number")
        theirs = {known[place : place + _ID_BYTES] for place in range(0, len(known), _ID_BYTES)}
        now = self._mesh.reactor.seconds()
        self._forget(now)
        # What was on its way to the caller when it began, it may have.
        oldest_at = now - seconds - _BEGIN_SECONDS
        found: list[bytes] = []
        size = 0
        for kept in reversed(self._kept):
            if kept.kept_at < oldest_at:
                break
            if kept.id not in theirs:
                size += len(kept.message.body)
                if size > _ANSWER_BYTES:
                    break
                found.append(kept.message.data)
        return found[::-1]
