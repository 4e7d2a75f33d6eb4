"""The events of a service: ``on``, ``once`` and ``remove_listener``, plain or as decorators.

Which listeners are called when:

1. The listeners of an event are called in the order in which they were registered, at once.
2. A listener may be ``async def``, or return a Deferred. What it does is awaited, and no other listener waits
   for it: the next one is called as soon as it waits for the first time.
3. While a listener is awaited, further events wait for it, in their order: it is called for one at a time.
4. A failure is logged, and concerns nobody else. When the service stops, what is under way is cancelled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from difflib import get_close_matches
from inspect import iscoroutine
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from chordtx.mesh.tasks import Tasks

Listener = Callable[..., Any]
Work = Coroutine[Any, Any, Any] | Deferred[Any]

#: Events that wait for one listener. A listener that is slower than events come for long loses the oldest.
WAITING_MAX = 10_000


def work_of(result: Any) -> Work | None:
    """What a listener or a handler has begun, and is to be awaited; None when it is done."""
    return result if iscoroutine(result) or isinstance(result, Deferred) else None


def close(work: Work) -> None:
    """What a stopped service did not even begin is over, and Python need not complain of it."""
    if iscoroutine(work):
        work.close()


@define(eq=False)
class _Registered:
    """A listener of an event. :ivar waiting: arguments of the events to come, while it is awaited."""

    event: str
    listener: Listener
    once: bool
    is_awaited: bool = False
    waiting: deque[tuple[Any, ...]] = field(factory=deque)


class EventEmitter:
    """Calls what was registered for an event.

    :param events: those that there are. :param tasks: where what listeners do goes on until it ends, or the
        service stops. :param log: for failures of listeners, which peers may cause.
    """

    def __init__(self, events: tuple[str, ...], tasks: Tasks, log: Logger) -> None:
        self._events = events
        self._tasks_of_listeners = tasks
        self._failures_log = log
        self._listeners: dict[str, list[_Registered]] = {event: [] for event in events}

    def on(self, event: str, listener: Listener | None = None) -> Any:
        """Call ``listener`` at each ``event``; without one, a decorator that does.

        A listener may be ``async def``: it is awaited, and called for one event at a time, in their order.
        Its failure is logged, and it is cancelled when the service stops.

        :returns: the listener, so that it can be removed later.
        :raises ValueError: when there is no such event. :raises TypeError: when it cannot be called.
        """
        return self._register(event, listener, once=False)

    def once(self, event: str, listener: Listener | None = None) -> Any:
        """As :meth:`on`, for the next ``event`` only."""
        return self._register(event, listener, once=True)

    def remove_listener(self, event: str, listener: Listener) -> None:
        """Forget a listener; what it is busy with goes on.

        :raises KeyError: when it was not registered for this event.
        :raises ValueError: when there is no such event.
        """
        registered = self._registered(event)
        found = [each for each in registered if each.listener == listener]
        if not found:
            raise KeyError(f"no such listener for {event!r}")
        for each in found:
            registered.remove(each)
            each.waiting.clear()
        self._listeners_changed()

    def _emit(self, event: str, *args: Any) -> None:
        """Call the listeners of ``event`` with ``args``."""
        registered = self._listeners[event]
        for each in tuple(registered):
            if each not in registered:
                continue  # an earlier one removed it
            if each.once:
                registered.remove(each)
            self._call(each, args)
            if each.once:
                self._listeners_changed()

    def _has_listeners(self, event: str) -> bool:
        """Whether anybody listens to ``event``."""
        return bool(self._listeners[event])

    def _register(self, event: str, listener: Listener | None, once: bool) -> Any:
        registered = self._registered(event)
        if listener is None:
            return lambda decorated: self._register(event, decorated, once)
        if not callable(listener):
            raise TypeError(f"a listener is called with the event's arguments; {listener!r} cannot be")
        registered.append(_Registered(event, listener, once))
        self._listeners_changed()
        return listener

    def _listeners_changed(self) -> None:
        """Somebody listens to something, or does not any more; for subclasses."""

    def _registered(self, event: str) -> list[_Registered]:
        if event in self._listeners:
            return self._listeners[event]
        near = get_close_matches(str(event), self._events, 1, 0.5)
        advice = f"; do you mean {near[0]!r}?" if near else ""
        known = ", ".join(map(repr, self._events))
        raise ValueError(f"there is no event {event!r}: the events are {known}{advice}")

    # Calling

    def _call(self, each: _Registered, args: tuple[Any, ...]) -> None:
        if each.is_awaited:
            self._let_wait(each, args)
            return
        work = self._begun(each, args)
        if work is not None:
            each.is_awaited = True
            self._tasks_of_listeners.run(self._one_after_another(each, work)).addBoth(self._ended, each, work)

    def _let_wait(self, each: _Registered, args: tuple[Any, ...]) -> None:
        if len(each.waiting) >= WAITING_MAX:
            each.waiting.popleft()
            text = "an event {event!r} is dropped: too many wait for a listener that is slow"
            self._failures_log.warn(text, event=each.event)
        each.waiting.append(args)

    def _begun(self, each: _Registered, args: tuple[Any, ...]) -> Work | None:
        try:
            return work_of(each.listener(*args))
        except Exception:
            self._failed(each)
            return None

    async def _one_after_another(self, each: _Registered, work: Work | None) -> None:
        while True:
            if work is not None:
                await self._done(each, work)
            if not each.waiting or self._tasks_of_listeners.are_stopped:
                return
            work = self._begun(each, each.waiting.popleft())

    def _ended(self, _: Any, each: _Registered, work: Work) -> None:
        close(work)
        each.is_awaited = False
        each.waiting.clear()

    async def _done(self, each: _Registered, work: Work) -> None:
        try:
            await work
        except Exception:
            if not self._tasks_of_listeners.are_stopped:
                self._failed(each)

    def _failed(self, each: _Registered) -> None:
        self._failures_log.failure("a listener of {event} failed", failure=Failure(), event=each.event)
