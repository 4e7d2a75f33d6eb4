"""Calls between our own nodes: many of them in one frame, answered in any order.

``call [0x41, [[number, method, *arguments], ...]]``, answered by
``reply [0x42, arc, [[number, status, *results], ...]]``.
What one turn of the reactor brings forth for a peer leaves in one frame: a frame costs a checksum
and a system call, a call in it only its bytes. ``arc`` names where the answering node's arc starts
(48 bytes, or nil when it is in no ring), so that callers learn ownership from normal traffic.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from chordtx.config import Limits
from chordtx.errors import (
    ChordError,
    NoMajority,
    NotJoined,
    ProtocolError,
    Stopped,
    StorageFull,
    ValueTooLarge,
)
from chordtx.escaping import escaped

Method = Callable[..., Any]

OK = 0
_ERRORS: dict[int, type[Exception]] = {
    1: ProtocolError,
    2: NotJoined,
    3: NoMajority,
    4: ValueTooLarge,
    5: Stopped,
    7: StorageFull,
    6: ChordError,
}
_INTERNAL = 6
_TEXT_CHARACTERS_MAX = 500
_BUNDLE_BYTES = 1 << 20
_BUNDLE_CALLS = 1000
_CONTAINER_BYTES = 3 * _BUNDLE_BYTES // Limits().containers_max
#: After this many calls or answers of one frame, what came of them is sent: so the other side works at the
#: same time.
_TOGETHER = 16
#: An answer that is longer may have to wait for room.
LARGE_BYTES = 64 * 1024
#: The slowest link over which a large call is still in time: it is on its way in buffers that we do not see.
_BYTES_PER_SECOND_MIN = 1 << 20
#: Calls that wait to be served may hold this much. (One frame may hold more: then it waits alone.)
_UNSERVED_BYTES_MAX = 4 << 20


class PeerLost(ChordError):
    """The link went down, or fell silent, while the call was under way."""


class CallTimeout(ChordError, TimeoutError):
    """The peer lives, but has not answered this call in time."""


class Asker(Protocol):
    """Gets the answer of a call, and may have asked several peers. Neither method may raise.

    An object instead of a Deferred, or of two functions, for each call: this is a node's busiest loop.
    """

    def answered(self, peer: Any, results: list[Any]) -> None:
        """``peer``, as it was called in asking, has answered."""

    def failed(self, peer: Any, failure: Failure) -> None:
        """There will be no answer of ``peer``."""


def tell(asker: Asker, peer: Any, outcome: Deferred[list[Any]]) -> None:
    """Have ``asker`` told what comes of a Deferred."""
    outcome.addCallbacks(partial(asker.answered, peer), partial(asker.failed, peer))


class _Single:
    """An asker of one call that fires a Deferred."""

    __slots__ = ("_answer",)

    def __init__(self, answer: Deferred[list[Any]]) -> None:
        self._answer = answer

    def answered(self, peer: Any, results: list[Any]) -> None:
        self._answer.callback(results)

    def failed(self, peer: Any, failure: Failure) -> None:
        self._answer.errback(failure)


class Calls:
    """The calls of one link, both ways.

    :param send_calls: sends one frame of calls. :param send_replies: sends one frame of replies.
    :param wants_flush: asks that :meth:`flush` be called at the end of this turn.
    :ivar unserved: calls of the peer that wait to be served. :ivar unserved_bytes: about what they hold.
    :ivar held: large answers that wait for room; see :meth:`send_held`.
    :ivar are_gathering: whether :meth:`flush` is to be called without being asked for.
    :param pending_max: calls of the peer that may be under way here at once; more are refused.
    :param log: for calls of the peer that fail because of a bug of ours.
    :param may_answer: whether an answer of so many bytes is to be sent now. Large ones wait for that. (A
        leader that has waited for its lease answers all reads at once.)
    """

    def __init__(
        self,
        send_calls: Callable[[list[Any]], None],
        send_replies: Callable[[list[Any]], None],
        wants_flush: Callable[[], None],
        pending_max: int,
        log: Logger,
        may_answer: Callable[[int], bool],
    ) -> None:
        self._send_calls = send_calls
        self._send_replies = send_replies
        self._wants_flush = wants_flush
        self._pending_max = pending_max
        self._log = log
        self._may_answer = may_answer
        self._number = 0
        self._waiting: dict[int, tuple[Asker, Any, float, float]] = {}
        self._calls: list[Any] = []
        self._replies: list[Any] = []
        self._bytes = 0
        self.are_gathering = False
        self.unserved: deque[list[Any]] = deque()
        self.unserved_bytes = 0
        self.held: deque[tuple[list[Any], int]] = deque()
        self._serving: dict[int, Deferred[Any]] = {}
        self._served = 0
        self._lost: Exception | None = None

    def call(self, now: float, timeout_seconds: float, method: str, *arguments: Any) -> Deferred[list[Any]]:
        """Ask the peer.

        :returns: fires with the list of results; fails with :class:`PeerLost`, :class:`CallTimeout`,
            or the error that the peer answered with. Cancelling it forgets the call.
        """

        def forget(_: Any) -> None:
            self._waiting.pop(number, None)

        deferred: Deferred[list[Any]] = Deferred(forget)
        number = self.ask(now, timeout_seconds, _Single(deferred), None, method, arguments)
        return deferred

    def ask(
        self,
        now: float,
        timeout_seconds: float,
        asker: Asker,
        peer: Any,
        method: str,
        arguments: Iterable[Any],
    ) -> int:
        """As :meth:`call`, without a Deferred.

        :param timeout_seconds: for the answer; what is large has more time, for it is longer on its way.
        :param asker: is told what came of it; at once when the link is down. :param peer: is given to the
            asker with the answer.
        :returns: the call's number.
        """
        self._number = number = self._number + 1
        if self._lost is not None:
            asker.failed(peer, Failure(PeerLost("the link is down")))
            return number
        self._waiting[number] = (asker, peer, now, now + timeout_seconds)
        size_bytes = self._queue(self._calls, [number, method, *arguments])
        if size_bytes > LARGE_BYTES and number in self._waiting:
            deadline = now + timeout_seconds + size_bytes / _BYTES_PER_SECOND_MIN
            self._waiting[number] = (asker, peer, now, deadline)
        return number

    @property
    def are_waiting(self) -> bool:
        """Whether any call has no answer yet."""
        return bool(self._waiting)

    @property
    def oldest_waiting_at(self) -> float | None:
        """When the oldest call still without an answer was made."""
        for _, _, asked_at, _ in self._waiting.values():
            return asked_at
        return None

    def gather_answers(self) -> None:
        """Several calls are to be served at once, and :meth:`flush` follows: it need not be asked for.

        To ask for it costs a call of the reactor, and most calls come and are answered one at a time.
        """
        self.are_gathering = True

    def flush(self) -> None:
        """Send what has gathered."""
        calls, replies = self._calls.copy(), self._replies.copy()
        self._calls.clear()
        self._replies.clear()
        self._bytes = 0
        self.are_gathering = False
        if self._lost is None:
            if calls:
                _send_all(calls, self._send_calls, self._call_not_sent)
            if replies:
                _send_all(replies, self._send_replies, self._reply_not_sent)

    def _call_not_sent(self, call: list[Any], error: Exception) -> None:
        self._give_up(call[0], error)

    def _reply_not_sent(self, reply: list[Any], error: Exception) -> None:
        if not isinstance(error, ChordError):
            self._log.failure("an answer could not be packed", failure=Failure(error))
        self._send_replies([[reply[0], *_described(error)]])

    def expire(self, now: float) -> None:
        """Fail the calls whose time is over."""
        late = [number for number, (_, _, _, deadline) in self._waiting.items() if deadline <= now]
        for number in late:
            self._give_up(number, CallTimeout("the peer has not answered in time"))

    def _give_up(self, number: int, error: Exception) -> None:
        entry = self._waiting.pop(number, None)
        if entry is not None:
            entry[0].failed(entry[1], Failure(error))

    def replies_received(
        self, replies: Any, now: float, send_calls: Callable[[], None] | None = None
    ) -> float | None:
        """Hand out the answers of one frame.

        :param send_calls: sends what was asked because of answers, to whomever: called now and then, so that
            who is asked does not wait for the last of many.
        :returns: the round trip of the youngest call that was answered, in seconds.
        :raises ProtocolError: when the frame is malformed.
        """
        if not isinstance(replies, list):
            raise ProtocolError("replies are a list")
        asked_last: float | None = None
        for place, reply in enumerate(replies, 1):
            if not isinstance(reply, list) or len(reply) < 2 or type(reply[0]) is not int:
                raise ProtocolError("a reply is [number, status, ...]")
            entry = self._waiting.pop(reply[0], None)
            if entry is None:
                continue  # cancelled, or timed out before
            asked_last = entry[2]
            if reply[1] == OK:
                entry[0].answered(entry[1], reply[2:])
            else:
                entry[0].failed(entry[1], Failure(_error(reply)))
            if not place % _TOGETHER and send_calls is not None:
                send_calls()
        return None if asked_last is None else now - asked_last

    def calls_received(self, calls: Any, size_bytes: int) -> None:
        """Take the calls of one frame, to be served one after another by :meth:`serve_one`.

        :param size_bytes: about what they take.
        :raises ProtocolError: when the frame is malformed.
        """
        if not isinstance(calls, list):
            raise ProtocolError("calls are a list")
        for call in calls:
            if not isinstance(call, list) or len(call) < 2 or type(call[0]) is not int:
                raise ProtocolError("a call is [number, method, ...]")
        under_way = len(self._serving) + len(self.unserved) + len(self.held)
        room = max(0, self._pending_max - under_way)
        if self.unserved and self.unserved_bytes + size_bytes > _UNSERVED_BYTES_MAX:
            room = 0
        if room:
            self.unserved_bytes += size_bytes
            self.unserved.extend(calls[:room])
        for call in calls[room:]:
            self._queue(self._replies, [call[0], *_described(ChordError("too many calls under way"))])

    def serve_one(self, methods: dict[str, Method], caller: Any) -> None:
        """Serve the call that has waited longest.

        :raises ProtocolError: when its number is that of another one under way.
        """
        number, name, *arguments = self.unserved.popleft()
        if not self.unserved:
            self.unserved_bytes = 0
        if number in self._serving:
            raise ProtocolError("a call has the number of another one under way")
        try:
            result = self._begin(name, arguments, methods, caller)
        except Exception as error:
            self._fail(Failure(error), number)
            return
        self._served += 1
        if self._served >= _TOGETHER:
            self._answer_early()
        if type(result) is list:  # as most: asked first, for the other check is a slow one
            self._answer([number, OK, *result])
        elif isinstance(result, Deferred):
            self._serving[number] = result
            result.addCallback(self._succeed, number).addErrback(self._fail, number)
        else:
            self._answer([number, OK, *result])

    def send_held(self) -> bool:
        """Send large answers that wait for room, as far as there is some.

        :returns: whether none is left.
        """
        while self.held and self._may_answer(self.held[0][1]):
            self._queue(self._replies, *self.held.popleft())
        return not self.held

    def _answer_early(self) -> None:
        """A get that came with many sets does not wait for all of them."""
        self._served = 0
        if self._replies and self._serving:
            is_gathering = self.are_gathering
            self.flush()
            self.are_gathering = is_gathering

    def _begin(self, name: Any, arguments: list[Any], methods: dict[str, Method], caller: Any) -> Any:
        method = methods.get(name) if isinstance(name, str) else None
        if method is None:
            raise ProtocolError(f"unknown method {name[:40]!r}" if isinstance(name, str) else "no method")
        try:
            return method(caller, *arguments)
        except TypeError as error:
            if "positional argument" in str(error):
                raise ProtocolError(f"{name} takes other arguments") from error
            raise

    def _succeed(self, result: list[Any], number: int) -> None:
        self._serving.pop(number, None)
        self._answer([number, OK, *result])

    def _answer(self, answer: list[Any]) -> None:
        size_bytes = _size_bytes(answer)
        is_large = size_bytes > LARGE_BYTES and self._lost is None
        if is_large and (self.held or not self._may_answer(size_bytes)):
            self.held.append((answer, size_bytes))
        else:
            self._queue(self._replies, answer, size_bytes)

    def _fail(self, failure: Failure, number: int) -> None:
        self._serving.pop(number, None)
        if self._lost is not None:
            return
        if not failure.check(ChordError, CancelledError):
            self._log.failure("a call could not be served", failure=failure)
        self._queue(self._replies, [number, *_described(failure.value)])

    def _queue(self, queue: list[Any], entry: list[Any], size_bytes: int | None = None) -> int:
        """Have ``entry`` sent with what else there is. :returns: about what it takes."""
        if self._lost is not None:
            return 0
        if size_bytes is None:
            size_bytes = _size_bytes(entry)
        if self._bytes + size_bytes > _BUNDLE_BYTES:
            self.flush()  # what is large goes alone
        if not (self._calls or self._replies or self.are_gathering):
            self._wants_flush()
        queue.append(entry)
        self._bytes += size_bytes
        if self._bytes > _BUNDLE_BYTES or len(queue) >= _BUNDLE_CALLS:
            self.flush()
        return size_bytes

    def lost(self, reason: Exception) -> None:
        """The link is down: fail what waits, stop what is served, and forget what was asked."""
        self._lost = reason
        # Nobody is called any more: so a link that is gone is held by none of its parts.
        self._send_calls = self._send_replies = _to_nobody
        self._wants_flush = _not_at_all
        self._may_answer = _always
        self.unserved.clear()
        self.held.clear()
        self._calls, self._replies = [], []
        serving, self._serving = self._serving, {}
        while self._waiting:  # one by one: who is told may cancel another one
            self._give_up(next(iter(self._waiting)), PeerLost(str(reason)))
        for served in serving.values():
            served.cancel()


def _to_nobody(bundle: list[Any]) -> None:
    """The link is down."""


def _not_at_all() -> None:
    """The link is down."""


def _always(size_bytes: int) -> bool:
    """The link is down: nothing waits for room."""
    return True


def _send_all(
    bundle: list[Any], send: Callable[[list[Any]], None], not_sent: Callable[[list[Any], Exception], None]
) -> None:
    """Send a bundle as one frame; where that cannot be, each entry by itself, so that one fails alone."""
    try:
        send(bundle)
    except (ValueTooLarge, TypeError) as error:
        if len(bundle) == 1:
            not_sent(bundle[0], error)
            return
        for entry in bundle:
            _send_all([entry], send, not_sent)


def _size_bytes(entry: Iterable[Any]) -> int:
    """About what it takes on the wire: what is long is bytes or text.

    An array or map counts for more than it takes, since a message may hold only so many: a bundle has a third
    of them at most.
    """
    # By exact types, for every call passes here; a subclass, which nobody sends, counts as nothing.
    size = _CONTAINER_BYTES
    for part in entry:
        kind = type(part)
        if kind is bytes or kind is str:
            size += len(part)
        elif kind is list or kind is tuple:
            size += _size_bytes(part)
        elif kind is dict:
            size += _size_bytes(part) + _size_bytes(part.values())
    return size


def _described(error: BaseException | None) -> list[Any]:
    """``[status, text]`` of a call that failed; peers are told nothing of errors that are not our own."""
    if not isinstance(error, PeerLost):
        for status, kind in _ERRORS.items():
            if isinstance(error, kind):
                return [status, str(error)[:_TEXT_CHARACTERS_MAX]]
    return [_INTERNAL, "the call failed"]


def _error(reply: list[Any]) -> Exception:
    """The opposite of :func:`_described`, for whatever a peer sent."""
    is_told = len(reply) > 2 and isinstance(reply[2], str)
    text = escaped(reply[2], _TEXT_CHARACTERS_MAX) if is_told else "the peer refused"
    kind = _ERRORS.get(reply[1], ChordError) if type(reply[1]) is int else ChordError
    return kind(text)
