"""The events of a service: ``on``, ``once`` and ``remove_listener``, plain or as decorators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

Listener = Callable[..., Any]


class EventEmitter:
    """Calls what was registered for an event, in order; a listener that fails is logged, and alone."""

    _log = Logger()

    def __init__(self) -> None:
        self._listeners: dict[str, list[tuple[Listener, bool]]] = {}

    def on(self, event: str, listener: Listener | None = None) -> Any:
        """Call ``listener`` at each ``event``; without one, a decorator that does.

        :returns: the listener, so that it can be removed later.
        """
        return self._register(event, listener, once=False)

    def once(self, event: str, listener: Listener | None = None) -> Any:
        """As :meth:`on`, for the next ``event`` only."""
        return self._register(event, listener, once=True)

    def remove_listener(self, event: str, listener: Listener) -> None:
        """Forget a listener.

        :raises KeyError: when it was not registered for this event.
        """
        kept = [entry for entry in self._listeners.get(event, []) if entry[0] != listener]
        if len(kept) == len(self._listeners.get(event, [])):
            raise KeyError(f"no such listener for {event!r}")
        self._listeners[event] = kept

    def emit(self, event: str, *args: Any) -> None:
        """Call the listeners of ``event`` with ``args``."""
        for entry in tuple(self._listeners.get(event, ())):
            listener, once = entry
            if entry not in self._listeners[event]:
                continue  # an earlier one removed it
            if once:
                self._listeners[event].remove(entry)
            try:
                listener(*args)
            except Exception:
                self._log.failure("a listener of {event} failed", event=event)

    def has_listeners(self, event: str) -> bool:
        """Whether anybody listens to ``event``."""
        return bool(self._listeners.get(event))

    def _register(self, event: str, listener: Listener | None, once: bool) -> Any:
        if listener is None:
            return lambda decorated: self._register(event, decorated, once)
        if not callable(listener):
            raise TypeError(f"a listener is called with the event's arguments; {listener!r} cannot be")
        self._listeners.setdefault(event, []).append((listener, once))
        return listener
