"""What listeners hear of keys that come and go, and whether that may be.

Nobody hears of a change that was not made, nor of one twice. And who is not cut off for long hears of all
that was announced by those who live on: once for each key, whether it came or went, and second, for such
announcements are one and the same message to all who relay them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from attrs import define, field, frozen

from chordtx.sim.history import Operation

#: A key, and whether it went.
Change = tuple[bytes, bool]

# Who links up is told what was announced within the last minute. Some of it is needed to find together again.
_MADE_GOOD_SECONDS = 50.0
# Peers know after this long that somebody listens.
_KNOWN_SECONDS = 10.0


@define(eq=False)
class Listener:
    """A process on which somebody listens.

    :ivar name: of its host. :ivar since: when it began. :ivar heard: in order.
    """

    name: str
    service: Any
    since: float
    heard: list[Change] = field(factory=list)


@frozen
class _Announced:
    """One key in an announcement. :ivar second: the time that the message has."""

    by: Any
    second: int
    change: Change
    at: float


class News:
    """Of one run. :param seconds: true time. :param log: notes what is heard."""

    def __init__(self, seconds: Callable[[], float], log: Callable[[str], None]) -> None:
        self.listeners: list[Listener] = []
        self._announced: list[_Announced] = []
        self._seconds = seconds
        self._log = log

    def listen(self, name: str, service: Any) -> None:
        """Somebody listens on a node from now on."""
        listener = Listener(name, service, self._seconds())
        self.listeners.append(listener)

        def hear(key: bytes, is_gone: bool) -> None:
            listener.heard.append((key, is_gone))
            self._log(f"{name} hears {'-' if is_gone else '+'}{key.decode()}")

        service.on("add", lambda _, key: hear(key, False))
        service.on("delete", lambda _, key: hear(key, True))

    def announced(self, by: Any, second: int, entries: Iterable[list[Any]]) -> None:
        """A node announces."""
        now = self._seconds()
        self._announced += [_Announced(by, second, (key, bool(gone)), now) for key, gone in entries]

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
                gone_max = deleted[key] if key in judged else 1
                if count > (gone_max if is_gone else gone_max + (key in judged)):
                    what = "went" if is_gone else "came"
                    wrong.append(f"{listener.name} hears {count} times that {key!r} {what}")
        return wrong

    def missed(self, is_alive: Callable[[Any], bool]) -> list[str]:
        """What was announced, and ought to have been heard.

        :param is_alive: whether a service's process still runs.
        """
        known: dict[Change, set[tuple[int, int]]]
        wrong, now = [], self._seconds()
        for listener in self.listeners:
            if not is_alive(listener.service):
                continue
            known = defaultdict(set)
            for told in self._announced:
                is_early = told.at < listener.since + _KNOWN_SECONDS
                if not is_early and told.at < now - _MADE_GOOD_SECONDS and is_alive(told.by):
                    known[told.change].add((id(told.by), told.second))
            heard = Counter(listener.heard)
            for (key, is_gone), times in known.items():
                if heard[key, is_gone] < len(times):
                    what = "went" if is_gone else "came"
                    wrong.append(
                        f"{listener.name} hears {heard[key, is_gone]} times that {key!r} {what}, "
                        f"which was announced {len(times)} times"
                    )
        return wrong
