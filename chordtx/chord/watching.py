"""Watches: who is told what becomes of keys, as their leaders tell it.

For each partition concerned somebody asks its leader, again and again, for what has changed since a position;
the leader answers when something has, or after a while. So a watch goes on over everything that operations go
on over: lost links, other leaders, other members. All watches of one node that are about the same share one
such asking.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import NamedTuple, Protocol, Self

from twisted.internet.defer import Deferred

from chordtx.errors import ChordError, NoMajority, ProtocolError, Stopped
from chordtx.group import operations
from chordtx.group.messages import Answer
from chordtx.group.operations import DONE, NAMES_OF_EVENTS
from chordtx.group.rank import Rank, version_of
from chordtx.values import Value

#: How many keys a watch may be behind, and about how many bytes of packed values.
_KEYS_MAX = 10_000
_BYTES_MAX = 16 << 20
_PAUSE_SECONDS = 0.2
RESET = "reset"


class Event(NamedTuple):
    """What became of a key.

    :ivar kind: ``add``, ``update``, ``delete`` or ``expire``; or ``reset``: of some keys it is not known what
        became of them, so begin anew with a listing.
    :ivar key: None for a reset. :ivar value: None for a key that went, and for a reset.
    :ivar version: opaque text, as of :class:`chordtx.Entry`; None for a reset.
    """

    kind: str
    key: bytes | None = None
    value: Value = None
    version: str | None = None


class Node(Protocol):
    """What watches need of a node."""

    def partition_count(self) -> Deferred[int]:
        """How many there are, once the ring is known."""

    def partition_of(self, key: bytes) -> Deferred[int]:
        """Where a key is kept, once the ring is known."""

    def watch(self, partition: int, arguments: tuple[object, ...]) -> Deferred[Answer]:
        """Carry out a WATCH."""

    def unpacked(self, packed: bytes) -> Value:
        """A value."""

    def sleep(self, seconds: float) -> Deferred[None]:
        """Fires after a while."""

    def background(self, work: Coroutine[object, object, object]) -> Deferred[object]:
        """Run a coroutine until it ends or the node stops."""


class Watch(AsyncIterator[Event]):
    """One watch: ``async for event in watch``. It begins when it is made, and ends with :meth:`aclose`.

    Of each key each change is told at most once, in order, and the newest at last. What another change of the
    same key has overtaken, before it was read here, is left out.
    """

    def __init__(
        self,
        leave: Callable[[Watch], None],
        unpacked: Callable[[bytes], Value],
        as_given: Callable[[bytes], bytes],
    ) -> None:
        self._leave = leave
        self._unpacked = unpacked
        self._as_given = as_given
        self._events: OrderedDict[bytes, tuple[int, bytes | None, Rank]] = OrderedDict()
        self._bytes = 0
        self._is_reset = False
        self._waiting: Deferred[None] | None = None
        self._ended: Exception | None = None
        self._is_closed = False
        self._ready: list[Deferred[Watch]] | None = []

    def when_ready(self) -> Deferred[Watch]:
        """Fires with this watch once no change that begins later is missed."""
        ready: Deferred[Watch] = Deferred()
        if self._ended is not None:
            ready.errback(self._ended)
        elif self._ready is None:
            ready.callback(self)
        else:
            self._ready.append(ready)
        return ready

    def became_ready(self) -> None:
        """See :meth:`when_ready`."""
        waiting, self._ready = self._ready, None
        for ready in waiting or ():
            if not ready.called:
                ready.callback(self)

    def told(self, events: Iterable[operations.Event]) -> None:
        """Something became of keys."""
        for kind, key, packed, rank in events:
            before = self._events.pop(key, None)
            if before is not None:
                self._bytes -= len(before[1] or b"")
                if before[0] == operations.ADDED and kind == operations.UPDATED:
                    kind = operations.ADDED  # that it came was not read yet
            self._events[key] = (kind, packed, rank)
            self._bytes += len(packed or b"")
        if len(self._events) > _KEYS_MAX or self._bytes > _BYTES_MAX:
            self.reset()
        elif self._events:
            self._wake()

    def reset(self) -> None:
        """What became of some keys is not known."""
        self._events.clear()
        self._bytes = 0
        self._is_reset = True
        self._wake()

    def end(self, error: Exception) -> None:
        """Nothing is told any more."""
        self._ended = error
        for ready in self._ready or ():
            if not ready.called:
                ready.errback(error)
        self._ready = None
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.callback(None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._is_closed:
            if self._is_reset:
                self._is_reset = False
                return Event(RESET)
            if self._events:
                key, (kind, packed, rank) = self._events.popitem(last=False)
                self._bytes -= len(packed or b"")
                value = None if packed is None else self._unpacked(packed)
                return Event(NAMES_OF_EVENTS[kind], self._as_given(key), value, version_of(rank))
            if self._ended is not None:
                raise self._ended
            if self._waiting is not None:
                raise RuntimeError("a watch is read by one at a time")
            self._waiting = Deferred(lambda _: setattr(self, "_waiting", None))
            await self._waiting
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End it. Who still waits for it to be ready waits in vain, and is told so."""
        if not self._is_closed:
            self._is_closed = True
            self._leave(self)
            self.end(Stopped("the watch was closed"))


class _Subscription:
    """What all watches about the same share.

    :param about: a key, or a prefix and True.
    :param since: the position to go on from, in the partition of a key; None from now on.
    :ivar has_ended: whether it has failed: who watches from now on needs another one.
    """

    def __init__(self, node: Node, about: tuple[bytes, bool], wait_ms: int, since: Rank | None) -> None:
        self.about = about
        self.watches: dict[Watch, None] = {}
        self.has_ended = False
        self._node = node
        self._wait_ms = wait_ms
        self._since = since
        self._not_ready = 1
        self._is_over = False
        self._following: list[Deferred[object]] = []

    def begin(self) -> None:
        """To be called once somebody watches: answers may come at once."""
        self._following.append(self._node.background(self._begin()))

    @property
    def is_ready(self) -> bool:
        """Whether no change that begins later is missed."""
        return not self._not_ready

    async def _begin(self) -> None:
        try:
            if self.about[1]:
                partitions = list(range(await self._node.partition_count()))
            else:
                partitions = [await self._node.partition_of(self.about[0])]
        except ChordError as error:
            self._end(error)
            return
        self._not_ready = len(partitions)
        for partition in partitions:
            self._following.append(self._node.background(self._follow(partition)))

    async def _follow(self, partition: int) -> None:
        watched, is_prefix = self.about
        position, is_first = self._since, True
        while not self._is_over:  # what is told may end this
            try:
                answer = await self._node.watch(partition, (watched, is_prefix, position, self._wait_ms))
                told, is_reset, events, _ = _found(answer)
            except NoMajority:
                await self._node.sleep(_PAUSE_SECONDS)
                continue
            except ChordError as error:
                self._end(error)
                return
            if is_reset or position is None or told.epoch.mark != position.epoch.mark or told > position:
                position = told
            for watch in list(self.watches):
                if is_reset:
                    watch.reset()
                watch.told(events)
            if is_first:
                is_first = False
                self._not_ready -= 1
                if self.is_ready:
                    for watch in list(self.watches):  # who is told may end it at once
                        watch.became_ready()

    def _end(self, error: Exception) -> None:
        self.has_ended = True
        for watch in list(self.watches):
            watch.end(error)

    def stop(self) -> None:
        """Nobody watches any more."""
        self._is_over = True
        for following in self._following:
            following.cancel()


def _found(answer: Answer) -> tuple[Rank, bool, list[operations.Event], bool]:
    if answer.status != DONE or not isinstance(answer.detail, tuple) or len(answer.detail) != 4:
        raise ProtocolError("an answer of another kind was expected")
    return answer.detail


class Watches:
    """The watches of one node. :param wait_seconds: for how long a leader may keep the answer back."""

    def __init__(self, node: Node, wait_seconds: float) -> None:
        self._node = node
        self._wait_ms = round(1000 * wait_seconds)
        self._shared: dict[tuple[bytes, bool], _Subscription] = {}
        self._all: dict[Watch, _Subscription] = {}
        self._has_stopped = False

    def watch(
        self,
        watched: bytes,
        *,
        is_prefix: bool,
        since: Rank | None = None,
        with_values: bool = True,
        as_given: Callable[[bytes], bytes] = bytes,
    ) -> Watch:
        """Begin a watch.

        :param watched: a key, or a prefix of keys. :param since: a version of the key; None from now on.
        :param with_values: else all values are None, which saves unpacking them.
        :param as_given: makes the caller's key of one that is stored.
        """
        watch = Watch(self._left, self._node.unpacked if with_values else _nothing, as_given)
        if self._has_stopped:
            watch.end(_stopped())
            return watch
        about = (watched, is_prefix)
        shared = self._shared.get(about) if since is None else None
        if shared is not None and shared.has_ended:
            shared = None
        subscription = shared or _Subscription(self._node, about, self._wait_ms, since)
        subscription.watches[watch] = None
        self._all[watch] = subscription
        if subscription.is_ready:
            watch.became_ready()
        if shared is None:
            if since is None:
                self._shared[about] = subscription
            subscription.begin()
        return watch

    def start(self) -> None:
        """The node starts, perhaps again."""
        self._has_stopped = False

    def _left(self, watch: Watch) -> None:
        subscription = self._all.pop(watch, None)
        if subscription is None:
            return
        del subscription.watches[watch]
        if not subscription.watches:
            subscription.stop()
            if self._shared.get(subscription.about) is subscription:
                del self._shared[subscription.about]

    def stop(self) -> None:
        """The node stops."""
        self._has_stopped = True
        for watch in list(self._all):
            watch.end(_stopped())
            self._left(watch)


def _nothing(_: bytes) -> Value:
    return None


def _stopped() -> Stopped:
    return Stopped("the service was stopped")
