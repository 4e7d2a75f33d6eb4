"""Locks for asyncio: see :class:`chordtx.Lock`."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from chordtx.aio.bridge import Node, awaited, result_of
from chordtx.chord import locking


class Lock:
    """A lock with a name: ``async with node.lock("name", ttl=10) as lock``. See :class:`chordtx.Lock`."""

    def __init__(self, node: Node, lock: locking.Lock) -> None:
        self._node = node
        self._service = lock

    def _must_be_on_loop(self) -> None:
        self._node._must_be_on_loop()

    @property
    def token(self) -> int:
        """Of the present hold, or the last: it only grows."""
        return self._service.token

    @property
    def is_held(self) -> bool:
        """Whether it is held: until its lease ends nobody else has it."""
        return self._service.is_held

    _acquire = awaited(locking.Lock.acquire)

    async def acquire(self, wait: bool = True) -> bool:
        """As :meth:`chordtx.Lock.acquire`. Who is cancelled does not hold it, however late that comes."""
        try:
            return await self._acquire(wait)
        except asyncio.CancelledError:
            self._service.given_up()
            raise

    release = awaited(locking.Lock.release)
    when_lost = awaited(locking.Lock.when_lost)

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._must_be_on_loop()
        await result_of(self._service.left(error))
