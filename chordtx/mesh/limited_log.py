"""The log for lines that strangers can cause: a limited number of each kind, and the rest counted.

Whoever connects, sends nonsense or lets handlers fail in a flood must not fill the disk with lines about it,
nor hide other lines among them.
"""

from __future__ import annotations

from typing import Any

from attrs import define
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger, formatEvent
from twisted.python.failure import Failure

from chordtx.escaping import escaped

NAMESPACE = "chordtx.peers"
LINES_AT_ONCE = 10  # enough for the links of a node that all break at once to be told of
LINES_PER_SECOND = 1.0
TELL_SECONDS = 10.0
DROPPED = "... and {count} more like it in {seconds} s: {sample}"
_FIELD_CHARACTERS_MAX = 1000
_SAMPLE_CHARACTERS_MAX = 300


@define
class _Kind:
    """Lines of one level, format and, with a traceback, type of error.

    A token bucket. :ivar left: lines that may be written at once. :ivar counted_at: when that was so.
    :ivar dropped: lines that were not written since they were last told of. :ivar sample: the first of them.
    """

    level: Any
    left: float
    counted_at: float
    dropped: int = 0
    dropped_since: float = 0.0
    sample: str = ""

    def may_pass(self, now: float) -> bool:
        # A clock that was set back counts as one that stood still.
        gained = max(0.0, now - self.counted_at) * LINES_PER_SECOND
        self.left, self.counted_at = min(LINES_AT_ONCE, self.left + gained), now
        if self.left < 1.0:
            return False
        self.left -= 1.0
        return True


class LimitedLog(Logger):
    """A :class:`twisted.logger.Logger` that lets through ten lines of each kind at once, then one a second.

    What is dropped is counted, and told in one line of the same level within ten seconds. Fields are numbers
    or escaped texts. One belongs to each service, and is given to its links.

    :param clock: seconds that pass, and timers: the reactor.
    """

    def __init__(self, clock: Any) -> None:
        super().__init__(NAMESPACE)
        self._clock = clock
        self._kinds: dict[Any, _Kind] = {}
        self._telling: IDelayedCall | None = None

    def __get__(self, instance: object, owner: type | None = None) -> LimitedLog:
        """As an attribute of a class it stays the same one, with its counts; Twisted's makes copies."""
        return self

    def emit(self, level: Any, format: str | None = None, **fields: Any) -> None:
        """See :class:`twisted.logger.Logger`, whose other methods all lead here."""
        failure = fields.get("log_failure")
        name = (level, format, failure.type if isinstance(failure, Failure) else None)
        now = self._clock.seconds()
        kind = self._kinds.get(name)
        if kind is None:
            kind = self._kinds[name] = _Kind(level, LINES_AT_ONCE, now)
        if kind.may_pass(now):
            super().emit(level, format, **{field: _fit(value) for field, value in fields.items()})
        else:
            self._drop(kind, now, {"log_format": format, **fields})

    def _drop(self, kind: _Kind, now: float, event: dict[str, Any]) -> None:
        if not kind.dropped:
            kind.dropped_since, kind.sample = now, escaped(formatEvent(event), _SAMPLE_CHARACTERS_MAX)
        kind.dropped += 1
        if self._telling is None:
            self._telling = self._clock.callLater(TELL_SECONDS, self.tell_dropped)

    def tell_dropped(self) -> None:
        """Tell now how many lines were dropped, and which; to be called at the end, too."""
        telling, self._telling = self._telling, None
        if telling is not None and telling.active():
            telling.cancel()
        now = self._clock.seconds()
        for kind in tuple(self._kinds.values()):  # what observes the log may log
            count, kind.dropped = kind.dropped, 0
            if count:
                seconds = round(max(0.0, now - kind.dropped_since))
                super().emit(kind.level, DROPPED, count=count, seconds=seconds, sample=kind.sample)


def _fit(value: Any) -> Any:
    """A field as it is logged: an observer may keep it for long, and is to keep no link with it."""
    if value is None or isinstance(value, int | float | bytes):
        return value
    if isinstance(value, Failure):
        value.cleanFailure()
        return value
    return escaped(str(value), _FIELD_CHARACTERS_MAX)
