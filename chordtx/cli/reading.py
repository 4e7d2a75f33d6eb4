"""Reads a file, a pipe or a terminal line by line, while the reactor runs on; sees when a reader is gone."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

CHUNK_BYTES = 1 << 18


@implementer(IReadDescriptor)
class _Readable:
    """Waits until a descriptor can be read without blocking; the reactor takes regular files too."""

    def __init__(self, reactor: Any, descriptor: int) -> None:
        self._reactor = reactor
        self._descriptor = descriptor
        self._waiting: Deferred[None] = Deferred(lambda _: reactor.removeReader(self))

    def wait(self) -> Deferred[None]:
        self._reactor.addReader(self)
        return self._waiting

    def fileno(self) -> int:
        return self._descriptor

    def logPrefix(self) -> str:
        return "input"

    def doRead(self) -> None:
        self._reactor.removeReader(self)
        self._waiting.callback(None)

    def connectionLost(self, reason: Failure) -> None:
        """The other end hung up: what is left is still to be read."""
        if not self._waiting.called:
            self.doRead()


async def read_chunks(reactor: Any, descriptor: int) -> AsyncIterator[bytes]:
    """What comes from a file descriptor, as it comes, to its end."""
    while True:
        await _Readable(reactor, descriptor).wait()
        try:
            chunk = os.read(descriptor, CHUNK_BYTES)
        except BlockingIOError:
            continue
        if not chunk:
            return
        yield chunk


def when_unread(reactor: Any, pipe: int) -> Deferred[None]:
    """Fires when nobody can read any more what is written into a pipe. To be cancelled when it is of no use.

    :param pipe: the descriptor that is written to: it has nothing to be read, and can only be hung up.
    """
    return _Readable(reactor, pipe).wait()


async def split_lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The lines of the chunks, without their ends; linear in the bytes however they are cut."""
    parts: list[bytes] = []
    async for chunk in chunks:
        first, *others = chunk.split(b"\n")
        parts.append(first)
        for other in others:
            yield b"".join(parts)
            parts = [other]
    if any(parts):
        yield b"".join(parts)
