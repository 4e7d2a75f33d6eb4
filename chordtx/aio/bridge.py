"""Methods of Twisted's services as coroutines and asynchronous iterators, with their names, types and
docstrings.

``get = awaited(DictMixin.get)`` in the class of a node makes a coroutine function of the method. So each
method is one line, and a type checker sees the parameters and the result of the method that it stands for.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import suppress
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

P = ParamSpec("P")
T = TypeVar("T")

#: What an iterator gives when nothing comes any more.
OVER: Any = object()
#: Entries that an iterator gives at most before other tasks of the loop have a turn.
_ENTRIES_OF_A_TURN = 64
_DEFERRED = re.compile(r"Deferred\[(.*)\]")


class Node(Protocol):
    """What is asked of a node."""

    _service: Any

    def _must_be_on_loop(self) -> None:
        """:raises RuntimeError: when another loop runs than the node's."""

    def _call_soon(self, work: Callable[[], object]) -> None:
        """Have the node's loop call ``work``, from any thread; not at all when it has ended."""


def call_soon(loop: asyncio.AbstractEventLoop, work: Callable[[], object]) -> None:
    """Have the loop call ``work``, from any thread; not at all when the loop has ended."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(work)


async def result_of(work: Deferred[T], *, at_once: bool = False) -> T:
    """Wait for what Twisted's service does. Cancelling the task cancels it.

    :param at_once: whether a result that is there already is taken at once. Else other tasks have a turn
        first, for a program may ask again and again in a loop.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def ended(outcome: Any) -> None:
        if future.done() or loop.is_closed():
            return
        if isinstance(outcome, Failure):
            future.set_exception(cast("BaseException", outcome.value))
        else:
            future.set_result(outcome)

    work.addBoth(ended)
    try:
        if future.done() and not at_once:
            await asyncio.sleep(0)
        return await future
    except asyncio.CancelledError:
        work.cancel()
        if not future.cancelled():
            future.exception()  # which is nobody's any more
        raise


def awaited(
    method: Callable[Concatenate[Any, P], Deferred[T]],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """The coroutine function for a method that returns a Deferred."""
    name = method.__name__

    async def call(node: Node, /, *args: P.args, **kwargs: P.kwargs) -> T:
        node._must_be_on_loop()
        work: Deferred[T] = getattr(node._service, name)(*args, **kwargs)
        return await result_of(work)

    return _described(call, method)


def iterated(
    method: Callable[Concatenate[Any, P], AsyncIterator[T]],
) -> Callable[Concatenate[Any, P], AsyncGenerator[T, None]]:
    """The asynchronous generator function for one of Twisted's."""
    name = method.__name__

    async def iterate(node: Node, /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[T, None]:
        node._must_be_on_loop()
        source: AsyncGenerator[T, None] = getattr(node._service, name)(*args, **kwargs)
        count = 0
        try:
            while True:
                entry = await result_of(Deferred.fromCoroutine(next_of(source)), at_once=True)
                if entry is OVER:
                    return
                yield entry
                count += 1
                if not count % _ENTRIES_OF_A_TURN:
                    await asyncio.sleep(0)
        finally:
            await result_of(Deferred.fromCoroutine(_closed(source)), at_once=True)

    return _described(iterate, method)


def plain(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
    """A method that waits for nothing, as it is."""
    name = method.__name__

    def call(node: Node, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return cast("T", getattr(node._service, name)(*args, **kwargs))

    return _described(call, method)


def made(
    kind: Callable[[Node, Any], T], method: Callable[Concatenate[Any, P], Any]
) -> Callable[Concatenate[Any, P], T]:
    """A method that makes an object, which ``kind`` wraps for asyncio."""
    name = method.__name__

    def call(node: Node, /, *args: P.args, **kwargs: P.kwargs) -> T:
        node._must_be_on_loop()
        return kind(node, getattr(node._service, name)(*args, **kwargs))

    return _described(call, method)


F = TypeVar("F", bound=Callable[..., Any])


def _described(function: F, method: Callable[..., Any]) -> F:
    """``function`` with the name, docstring and parameters of ``method``, and what it gives instead of a
    Deferred."""
    described = wraps(method)(function)
    signature = inspect.signature(method)
    gives = signature.return_annotation
    if isinstance(gives, str) and (deferred := _DEFERRED.fullmatch(gives)):
        signature = signature.replace(return_annotation=deferred[1])
    described.__signature__ = signature  # type: ignore[attr-defined]
    return cast("F", described)


async def next_of(source: AsyncIterator[T]) -> T:
    """The next entry, or :data:`OVER`: a StopAsyncIteration does not go through a Deferred."""
    try:
        return await source.__anext__()
    except StopAsyncIteration:
        return cast("T", OVER)


async def _closed(source: AsyncGenerator[Any, None]) -> None:
    await source.aclose()
