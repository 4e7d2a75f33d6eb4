"""Users' messages: asked of their handlers, or kept until they are read."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from chordtx.mesh.connection import MeshConnection
from chordtx.mesh.message import ReceivedMessage

UserHandler = Callable[[ReceivedMessage, MeshConnection], Any]


class Inbox:
    """Messages that came and are not the protocol's own.

    :param count_max: most messages kept. :param bytes_max: what they may take together, as they came.
        Past either, the oldest go.
    """

    _log = Logger()

    def __init__(self, count_max: int, bytes_max: int) -> None:
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._kept: deque[tuple[ReceivedMessage, int]] = deque()
        self._handlers: list[UserHandler] = []

    def register(self, handler: UserHandler) -> None:
        """See :meth:`chordtx.MeshService.register_handler`."""
        try:
            inspect.signature(handler).bind(None, None)
        except TypeError as error:
            raise ValueError("a handler takes two arguments: the message and the link") from error
        self._handlers.append(handler)

    def is_taken(self, message: ReceivedMessage, link: MeshConnection) -> bool:
        """Whether a handler takes the message; all are asked in order until one does."""
        return any(self._ask(handler, message, link) for handler in tuple(self._handlers))

    def _ask(self, handler: UserHandler, message: ReceivedMessage, link: MeshConnection) -> bool:
        try:
            return bool(handler(message, link))
        except Exception:
            self._log.failure("a handler of messages failed")
            return False

    def keep(self, message: ReceivedMessage, size_bytes: int) -> None:
        """Keep a message until it is read."""
        self._kept.append((message, size_bytes))
        self._bytes += size_bytes
        while len(self._kept) > self._count_max or self._bytes > self._bytes_max:
            self._oldest()

    def read(self, quantity: int) -> list[ReceivedMessage]:
        """Take out up to ``quantity`` messages, the oldest first."""
        return [self._oldest() for _ in range(min(quantity, len(self._kept)))]

    def _oldest(self) -> ReceivedMessage:
        message, size_bytes = self._kept.popleft()
        self._bytes -= size_bytes
        return message
