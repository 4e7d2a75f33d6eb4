"""Users' messages: asked of their handlers, or kept until they are read."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from chordtx.config import MeshSettings
from chordtx.mesh.connection import MeshConnection
from chordtx.mesh.deferreds import awaited
from chordtx.mesh.events import Work, close, work_of
from chordtx.mesh.message import ReceivedMessage
from chordtx.mesh.tasks import Tasks

UserHandler = Callable[[ReceivedMessage, MeshConnection], Any]


class Inbox:
    """Messages that came and are not the protocol's own.

    :param settings: how many messages are kept, and about what they may take together in memory. Past either,
        the oldest go. Messages that handlers are busy with are bounded by the same numbers.
    :param tasks: where handlers that are awaited go on until they end, or the service stops.
    :param log: for their failures, which peers may cause.
    :param is_wanted: whether messages are kept; if not, from when somebody asks (:meth:`want`).
    """

    def __init__(self, settings: MeshSettings, tasks: Tasks, log: Logger, is_wanted: bool = True) -> None:
        self._count_max = settings.received_messages_max
        self._bytes_max = settings.received_bytes_max
        self._tasks = tasks
        self._log = log
        self._is_wanted = is_wanted
        self._awaited = self._awaited_bytes = 0
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

    def want(self) -> None:
        """Somebody asks for messages: keep them from now on."""
        self._is_wanted = True

    def is_taken(
        self, message: ReceivedMessage, link: MeshConnection, size_bytes: int
    ) -> bool | Deferred[bool]:
        """Whether a handler takes the message; all are asked in order until one does.

        :returns: a Deferred when one of them is to be awaited.
        """
        if self._awaited >= self._count_max or self._awaited_bytes > self._bytes_max:
            self._log.warn("a message is dropped: handlers are still busy with too many")
            return True
        taken = self._asked(iter(tuple(self._handlers)), message, link)
        if isinstance(taken, Deferred):
            self._awaited_bytes += size_bytes
            taken.addCallback(self._no_more_awaited, size_bytes)
        return taken

    def _no_more_awaited(self, taken: bool, size_bytes: int) -> bool:
        self._awaited_bytes -= size_bytes
        return taken

    def _asked(
        self, handlers: Iterator[UserHandler], message: ReceivedMessage, link: MeshConnection
    ) -> bool | Deferred[bool]:
        for handler in handlers:
            answer = self._ask(handler, message, link)
            work = work_of(answer)
            if work is not None:
                answered = self._answered(work)
                return answered.addCallback(lambda taken: taken or self._asked(handlers, message, link))
            if answer:
                return True
        return False

    def _ask(self, handler: UserHandler, message: ReceivedMessage, link: MeshConnection) -> Any:
        try:
            return handler(message, link)
        except Exception:
            self._log.failure("a handler of messages failed")
            return False

    def _answered(self, work: Work) -> Deferred[bool]:
        self._awaited += 1
        return self._tasks.run(awaited(work)).addBoth(self._ended, work)

    def _ended(self, result: Any, work: Work) -> bool:
        self._awaited -= 1
        close(work)
        if self._tasks.are_stopped:
            return True  # nobody else is asked any more
        if isinstance(result, Failure):
            self._log.failure("a handler of messages failed", failure=result)
            return False
        return bool(result)

    def keep(self, message: ReceivedMessage, size_bytes: int) -> None:
        """Keep a message until it is read, if anybody has asked for messages."""
        if not self._is_wanted:
            return
        self._kept.append((message, size_bytes))
        self._bytes += size_bytes
        while len(self._kept) > self._count_max or self._bytes > self._bytes_max:
            self._oldest()

    def read(self, quantity: int) -> list[ReceivedMessage]:
        """Take out up to ``quantity`` messages, the oldest first."""
        self.want()
        return [self._oldest() for _ in range(min(quantity, len(self._kept)))]

    def _oldest(self) -> ReceivedMessage:
        message, size_bytes = self._kept.popleft()
        self._bytes -= size_bytes
        return message
