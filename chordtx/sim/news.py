"""What listeners hear of keys that come and go, and whether that may be.

Nobody hears of a change that was not made, nor of one twice. And whoever listens hears last of each key
whether it is there, unless it is told that it may have missed something.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from math import inf
from typing import Any

from attrs import define, field

from chordtx.chord.locking import lock_key
from chordtx.sim.history import Operation

#: A key, and whether it went.
Change = tuple[bytes, bool]


@define(eq=False)
class Listener:
    """A process on which somebody listens.

    :ivar name: of its host. :ivar ready_at: since when it misses nothing, unless it is told so.
    :ivar reset_at: when it was told last that it may have missed something.
    :ivar heard: in order. :ivar last: of each key, what it heard last, and when.
    """

    name: str
    service: Any
    ready_at: float = inf
    reset_at: float = -inf
    heard: list[Change] = field(factory=list)
    last: dict[bytes, tuple[float, bool]] = field(factory=dict)


class News:
    """Of one run. :param seconds: true time. :param log: notes what is heard."""

    def __init__(self, seconds: Callable[[], float], log: Callable[[str], None]) -> None:
        self.listeners: list[Listener] = []
        self._seconds = seconds
        self._log = log

    def listen(self, name: str, service: Any) -> None:
        """Somebody listens on a node from now on."""
        listener = Listener(name, service)
        self.listeners.append(listener)

        def hear(key: bytes, is_gone: bool) -> None:
            listener.heard.append((key, is_gone))
            listener.last[key] = (self._seconds(), is_gone)
            self._log(f"{name} hears {'-' if is_gone else '+'}{key.decode()}")

        def reset(_: Any) -> None:
            listener.reset_at = self._seconds()
            self._log(f"{name} may have missed something")

        def ready(_: Any) -> None:
            listener.ready_at = self._seconds()

        service.on("add", lambda _, key: hear(key, False))
        service.on("delete", lambda _, key: hear(key, True))
        service.on("reset", reset)
        service.when_hearing().addCallbacks(ready, lambda _: None)

    # Judging

    def untrue(self, operations: Iterable[Operation]) -> list[str]:
        """What was heard that cannot have been.

        Only what is there can go, and only what is not there can come: so a key comes once more than it was
        deleted, at most. Those that clients' operations say nothing of come once, and go once at most.
        """
        deleted: Counter[bytes] = Counter()
        judged: set[bytes] = set()
        for operation in operations:
            judged.add(operation.key)
            deleted[operation.key] += operation.may_have_deleted
        wrong = []
        for listener in self.listeners:
            for (key, is_gone), count in Counter(listener.heard).items():
                if key.startswith(lock_key(b"")):
                    continue  # a lock that nobody holds is forgotten, and comes again
                gone_max = deleted[key] if key in judged else 1
                if count > (gone_max if is_gone else gone_max + (key in judged)):
                    what = "went" if is_gone else "came"
                    wrong.append(f"{listener.name} hears {count} times that {key!r} {what}")
        return wrong

    def missed(
        self,
        operations: Iterable[Operation],
        present: Collection[bytes],
        is_alive: Callable[[Any], bool],
    ) -> list[str]:
        """What ought to have been heard.

        :param operations: what clients asked for, in order of their calls. :param present: the keys with a
            value at the end. :param is_alive: whether a service's process still runs.
        """
        first: dict[bytes, float] = {}
        stored: set[bytes] = set()
        for operation in operations:
            if operation.may_have_stored:
                first.setdefault(operation.key, operation.began_at)
                if operation.is_answered:
                    stored.add(operation.key)
        wrong = []
        for listener in self.listeners:
            if not is_alive(listener.service):
                continue
            certain_from = max(listener.ready_at, listener.reset_at)
            for key in first:
                heard_at, is_gone = listener.last.get(key, (-inf, True))
                if heard_at > listener.reset_at:
                    if is_gone == (key in present):
                        what = "went" if is_gone else "came"
                        wrong.append(f"{listener.name} hears last that {key!r} {what}, which is not so")
                elif first[key] > certain_from and (key in stored or key in present):
                    wrong.append(f"{listener.name} hears nothing of {key!r}")
        return wrong
