"""Asks the leaders of groups: operations on keys, each sent until it has its answer or its time is over.

An operation goes to the leader as far as it is known. A node that does not lead names who does. It may be
sent again, to anybody, under its own id: so it is done once, however often it arrives. What goes to one node
in one turn travels in one frame (:mod:`chordtx.mesh.calls`).

Only so many operations are under way at once, and so many bytes of changes: what is on its way has to fit
into the send buffers of this node, and of the leader that sends it to the other members. Others wait their
turn, in order, and the time that an operation has begins with its turn.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Coroutine
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from chordtx.chord.hosting import Hosting
from chordtx.chord.leaders import Leaders
from chordtx.errors import (
    ChordError,
    NoMajority,
    NoMajorityTimeout,
    NotJoined,
    ProtocolError,
    Stopped,
    StorageFull,
    ValueTooLarge,
)
from chordtx.group.frames import answer_from_wire, operation_to_wire
from chordtx.group.messages import BUSY, FULL, NOT_LEADER, TOO_OLD, UNKNOWN, Answer, Operation
from chordtx.group.operations import READS, WATCH
from chordtx.group.rank import NO_RANK, Rank
from chordtx.group.watchers import arguments_of
from chordtx.mesh.calls import Asker
from chordtx.ring import Contact

#: With these it is certain that what was sent was not done, and will not be.
_NOT_DONE = frozenset({NOT_LEADER, BUSY, TOO_OLD, FULL})
_PAUSE_SECONDS_MIN = 0.02
_PAUSE_SECONDS_MAX = 0.4
_CLIENT_ID_BYTES = 16
#: Under way at once: enough to keep all leaders busy, and less than any of them takes of one client.
READS_MAX = 4000
CHANGES_MAX = 1000
CHANGES_BYTES_MAX = 4 << 20


class Node(Protocol):
    """What an operation needs of a node."""

    def ask(
        self,
        asker: Asker,
        contact: Contact,
        method: str,
        arguments: tuple[object, ...],
        more_seconds: float = 0.0,
    ) -> None:
        """Call a method of another node; ``asker`` is told what came of it.

        :param more_seconds: for how much longer than usual the answer may be kept back.
        """

    def hosting(self) -> Hosting | None:
        """The groups that the node itself is in."""

    def own_id(self) -> int:
        """Its id."""

    def seconds(self) -> float:
        """A clock that only runs forward."""

    def sleep(self, seconds: float) -> Deferred[None]:
        """Fires after a while."""

    def background(self, work: Coroutine[object, object, object]) -> Deferred[object]:
        """Run a coroutine until it ends or the node stops."""

    def random(self) -> float:
        """From 0 to 1."""


class _Changes:
    """What this client has under way in one partition.

    :ivar number: of its newest change. :ivar under_way: numbers without an answer, in order.
    :ivar stamp: the greatest committed rank that it was told.
    """

    __slots__ = ("number", "stamp", "under_way")

    def __init__(self) -> None:
        self.number = 0
        self.under_way: dict[int, None] = {}
        self.stamp = NO_RANK

    def begin(self) -> int:
        self.number += 1
        self.under_way[self.number] = None
        return self.number

    @property
    def answered(self) -> int:
        """Up to which number it has its answers."""
        return next(iter(self.under_way)) - 1 if self.under_way else self.number


class GroupClient:
    """One node's operations.

    :param id: random bytes that no other client has.
    :param timeout_seconds: for an operation, all of its tries together.
    """

    def __init__(
        self, node: Node, leaders: Leaders, id: bytes, timeout_seconds: float, value_bytes_max: int
    ) -> None:
        assert len(id) == _CLIENT_ID_BYTES
        self.id = id
        self.node = node
        self.leaders = leaders
        self.timeout_seconds = timeout_seconds
        self.value_bytes_max = value_bytes_max
        self._changes: dict[int, _Changes] = {}
        self._under_way: dict[_Asking, None] = {}
        self._watching: dict[_Asking, None] = {}
        # What waits for its turn: reads do not wait for changes, which may be large.
        self._waiting_reads: OrderedDict[_Asking, None] = OrderedDict()
        self._waiting_changes: OrderedDict[_Asking, None] = OrderedDict()
        self._changes_count = 0
        self._changes_bytes = 0
        self._is_going_on = False

    def do(self, partition: int, kind: int, key: bytes, arguments: tuple[object, ...]) -> Deferred[Answer]:
        """Carry out one operation.

        :returns: fires with the answer of a leader: what became of the operation is in its status. Fails
            with :class:`~chordtx.errors.NoMajority` when there was none in time: then it may have been done,
            or may still be, or not. Cancelling it changes nothing of that.
        """
        asking = _Asking(self, partition, kind, key, arguments)
        if kind == WATCH:  # which waits for most of its time, and keeps nobody from working
            self._watching[asking] = None
            asking.begin()
        elif kind in READS:
            if len(self._under_way) < READS_MAX and not self._waiting_reads:
                self._under_way[asking] = None
                asking.begin()
            else:
                self._waiting_reads[asking] = None
        else:
            self._waiting_changes[asking] = None
            self._go_on()
        return asking.done

    def changes(self, partition: int) -> _Changes:
        """What is under way in a partition."""
        changes = self._changes.get(partition)
        if changes is None:
            changes = self._changes[partition] = _Changes()
        return changes

    def ended(self, asking: _Asking) -> None:
        """An operation is over; nothing happens when that was told before."""
        if asking not in self._under_way:
            self._watching.pop(asking, None)
            self._waiting_reads.pop(asking, None)
            self._waiting_changes.pop(asking, None)
            return
        del self._under_way[asking]
        if asking.size_bytes:
            self._changes_count -= 1
            self._changes_bytes -= asking.size_bytes
        if self._waiting_changes or self._waiting_reads:
            self._go_on()

    def _go_on(self) -> None:
        """Begin what has its turn. What ends at once does not begin the next within itself: there may be
        thousands."""
        if self._is_going_on:
            return
        self._is_going_on = True
        try:
            while asking := self._next():
                self._under_way[asking] = None
                asking.begin()
        finally:
            self._is_going_on = False

    def _next(self) -> _Asking | None:
        """What has its turn now, which is taken out of those that wait."""
        if self._waiting_changes:
            asking = next(iter(self._waiting_changes))
            bytes_after = self._changes_bytes + asking.size_bytes
            has_room = self._changes_count < CHANGES_MAX and bytes_after <= CHANGES_BYTES_MAX
            if has_room or not self._changes_count:  # alone, it may be as large as it likes
                del self._waiting_changes[asking]
                self._changes_count += 1
                self._changes_bytes = bytes_after
                return asking
        if self._waiting_reads and len(self._under_way) < READS_MAX:
            return self._waiting_reads.popitem(last=False)[0]
        return None

    def stop(self) -> None:
        """Nobody waits any more."""
        waiting = [*self._under_way, *self._watching, *self._waiting_changes, *self._waiting_reads]
        self._waiting_changes.clear()
        self._waiting_reads.clear()
        for asking in waiting:
            asking.fail(Stopped("the service was stopped"))


class _Asking:
    """One operation under way. It is the asker of its own calls (:class:`~chordtx.mesh.calls.Asker`)."""

    __slots__ = (
        "_arguments",
        "_asked",
        "_client",
        "_deadline",
        "_has_begun",
        "_key",
        "_kind",
        "_last",
        "_operation",
        "_partition",
        "_pause_seconds",
        "_uncertain",
        "done",
        "size_bytes",
    )

    _operation: Operation

    def __init__(
        self, client: GroupClient, partition: int, kind: int, key: bytes, arguments: tuple[object, ...]
    ) -> None:
        self._client = client
        self._partition = partition
        self._kind = kind
        self._key = key
        self._arguments = arguments
        self.size_bytes = 0 if kind in READS else _size_bytes(key, arguments)
        self._deadline = 0.0
        self._has_begun = False
        self._asked: set[int] = set()
        self._last: Exception | None = None
        self._pause_seconds = _PAUSE_SECONDS_MIN
        self._uncertain = 0  # how often it was sent and may have been done
        self.done: Deferred[Answer] = Deferred(self._cancelled)

    def begin(self) -> None:
        """It has its turn."""
        self._has_begun = True
        self._deadline = self._client.node.seconds() + self._client.timeout_seconds
        self._identify()
        self._send()

    def _identify(self) -> None:
        """Take an id."""
        client = self._client
        if self._kind in READS:
            self._operation = Operation(client.id, 0, 0, NO_RANK, self._kind, self._key, self._arguments)
        else:
            changes = client.changes(self._partition)
            number = changes.begin()
            self._operation = Operation(
                client.id, number, changes.answered, changes.stamp, self._kind, self._key, self._arguments
            )

    # Asking

    def _send(self) -> None:
        leader = self._client.leaders.known(self._partition)
        if leader is not None:
            self._send_to(leader)
        else:
            self._client.node.background(self._find_and_send())

    async def _find_and_send(self) -> None:
        try:
            leader = await self._client.leaders.find(self._partition, self._asked)
        except ChordError as error:  # nobody, or nobody more: from the beginning, after a pause
            self._last = error
            self._asked.clear()
            await self._send_later()
            return
        if not self.done.called:
            self._send_to(leader)

    async def _send_later(self) -> None:
        client = self._client
        pause_seconds = self._pause_seconds * (0.5 + client.node.random())
        self._pause_seconds = min(2 * self._pause_seconds, _PAUSE_SECONDS_MAX)
        if client.node.seconds() + pause_seconds >= self._deadline:
            self._give_up()
            return
        await client.node.sleep(pause_seconds)
        if not self.done.called:
            self._send()

    def _send_to(self, leader: Contact) -> None:
        node = self._client.node
        self._asked.add(leader.id)
        self._uncertain += 1
        if leader.id != node.own_id():
            arguments = (self._partition, *operation_to_wire(self._operation))
            if self._kind == WATCH:
                node.ask(self, leader, "do", arguments, arguments_of(self._operation)[3] / 1000)
            else:
                node.ask(self, leader, "do", arguments)
            return
        hosting = node.hosting()
        if hosting is None:
            self.failed(leader, Failure(NotJoined("this node keeps nothing")))
            return
        answer = hosting.do(lambda answer: self._told(leader, answer), self._partition, self._operation)
        if answer is not None:
            self._told(leader, answer)

    # Being answered

    def answered(self, peer: Contact, results: list[object]) -> None:
        """See :class:`~chordtx.mesh.calls.Asker`."""
        if self.done.called:
            return
        client, number, *_ = self._operation
        try:
            answer = answer_from_wire(results, client, number, self._client.value_bytes_max)
        except ProtocolError as error:
            self._try_again(peer, error)
        else:
            self._told(peer, answer)

    def failed(self, peer: Contact, failure: Failure) -> None:
        """See :class:`~chordtx.mesh.calls.Asker`."""
        if self.done.called:
            return
        error = failure.value
        if isinstance(error, ValueTooLarge | ProtocolError | Stopped) or not isinstance(error, ChordError):
            self.fail(error if isinstance(error, Exception) else ChordError(str(error)))
        else:
            self._try_again(peer, error)

    def _told(self, peer: Contact, answer: Answer) -> None:
        if self.done.called:
            return
        status = answer.status
        if status in _NOT_DONE:
            self._uncertain -= 1
        if status < NOT_LEADER:
            self._client.leaders.learned(self._partition, peer)
            self._end(answer)
        elif status == NOT_LEADER:
            self._redirected(peer, answer.detail)
        elif status == TOO_OLD:
            self._too_old(answer.stamp)
        elif status == FULL:
            self.fail(StorageFull("a member that keeps this key holds as much as its store_bytes_max allows"))
        elif status in (UNKNOWN, BUSY):
            self._client.node.background(self._send_later())
        else:
            self.fail(ProtocolError("an answer that nobody knows"))

    def _redirected(self, peer: Contact, leader: object) -> None:
        self._client.leaders.forget(self._partition, peer)
        if isinstance(leader, bytes) and int.from_bytes(leader, "big") not in self._asked:
            self._client.node.background(self._follow(leader))
        else:
            self._client.node.background(self._find_and_send())

    async def _follow(self, named: bytes) -> None:
        """Somebody was named as the leader who was not asked yet."""
        client = self._client
        try:
            leader = await client.leaders.contact(named)
        except ChordError as error:
            self._last = error
            leader = None
        if leader is None or leader.id in self._asked:
            await self._find_and_send()
            return
        client.leaders.learned(self._partition, leader)
        if not self.done.called:
            self._send_to(leader)

    def _too_old(self, stamp: Rank) -> None:
        """Too long ago: this one was not done. If no other is in question, it may be asked anew."""
        changes = self._client.changes(self._partition)
        changes.stamp = max(changes.stamp, stamp)
        if self._uncertain:
            self.fail(NoMajority("whether this was done is not known: it was answered too late"))
            return
        changes.under_way.pop(self._operation.number, None)
        self._identify()
        self._send()

    def _try_again(self, peer: Contact, error: Exception) -> None:
        self._last = error
        self._client.leaders.forget(self._partition, peer)
        if self._client.node.seconds() >= self._deadline:
            self._give_up()
        else:
            self._client.node.background(self._find_and_send())

    # The end

    def _end(self, answer: Answer) -> None:
        if self._kind not in READS:
            changes = self._client.changes(self._partition)
            changes.under_way.pop(self._operation.number, None)
            if answer.stamp > changes.stamp:
                changes.stamp = answer.stamp
        self._client.ended(self)
        self.done.callback(answer)

    def _give_up(self) -> None:
        reason = "" if self._last is None else f": {self._last}"
        self.fail(NoMajorityTimeout(f"no leader of this key's group answered in time{reason}"))

    def fail(self, error: Exception) -> None:
        """There will be no answer."""
        self._forget()
        if not self.done.called:
            self.done.errback(error)

    def _forget(self) -> None:
        """Nobody waits for its answer any more: no leader has to keep it."""
        if self._has_begun and self._kind not in READS:
            self._client.changes(self._partition).under_way.pop(self._operation.number, None)
        self._client.ended(self)

    def _cancelled(self, _: Deferred[Answer]) -> None:
        self._forget()


def _size_bytes(key: bytes, arguments: tuple[object, ...]) -> int:
    """About what a change takes on its way; never 0."""
    return 1 + len(key) + sum([len(each) for each in arguments if type(each) is bytes])
