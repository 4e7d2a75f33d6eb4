"""The tables that old peers keep: reading them, and writing them with a confirmation.

An old peer acknowledges nothing. So what is stored there is asked back over the same link: links keep
order, and the answer shows that the store was read before it.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from chordtx.errors import ChordError, ProtocolError
from chordtx.mesh import CallTimeout, MeshConnection, PeerLost
from chordtx.mesh.handshake import as_text
from chordtx.mesh.waiting import within
from chordtx.ring import HASHES, SIZE
from chordtx.wire import Message, decode_id, encode_id, flags

_ANSWER_SECONDS = 1.0
_POSITION_BITS = 512
_NO_ANSWER = object()
_METHODS = {name: index for index, name in enumerate(HASHES)}


@frozen
class Place:
    """A place in old peers' tables.

    :ivar table: index into :data:`~chordtx.ring.HASHES`. :ivar number: the position as the table has it:
        that of sha512 with all its 512 bits.
    """

    table: int
    number: int

    @property
    def position(self) -> int:
        """Where on the ring it is."""
        return self.number % SIZE

    def to_wire(self) -> list[Any]:
        """``[table, 64 bytes]``, among our own nodes."""
        return [self.table, self.number.to_bytes(_POSITION_BITS // 8, "big")]

    @classmethod
    def from_wire(cls, value: Any) -> Place:
        """:raises ProtocolError: when it is anything else."""
        if not isinstance(value, list) or len(value) != 2 or type(value[0]) is not int:
            raise ProtocolError("a place is [table, position]")
        table, number = value
        if (
            not 0 <= table < len(HASHES)
            or not isinstance(number, bytes)
            or len(number) != _POSITION_BITS // 8
        ):
            raise ProtocolError("a place is [table, 64 bytes]")
        return cls(table, int.from_bytes(number, "big"))

    @classmethod
    def from_old(cls, method: Any, position: Any) -> Place:
        """As old peers write it: a method's name, and base58.

        :raises ProtocolError: when it is anything else.
        """
        table = _METHODS.get(as_text(method))
        if table is None:
            raise ProtocolError("unknown hash table")
        return cls(table, decode_id(as_text(position), bits_max=_POSITION_BITS))

    def to_old(self, link: MeshConnection) -> tuple[Any, Any]:
        """In the peer's dialect."""
        return link.encode_ids(HASHES[self.table]), link.encode_ids(encode_id(self.number))


class OldTables:
    """Reads and writes of old peers' tables, over the links to them.

    :param reactor: for time-outs.
    """

    _log = Logger()

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._asked: dict[tuple[MeshConnection, Place], deque[Deferred[Any]]] = defaultdict(deque)
        self._passed_on: Counter[tuple[MeshConnection, Place]] = Counter()  # answers to come that say nothing
        # What each was last told to have, and what it was last told or seen to have.
        self._held: dict[tuple[MeshConnection, Place], Any] = {}
        self._seen: dict[tuple[MeshConnection, Place], Any] = {}
        self._busy: dict[tuple[MeshConnection, Place], Deferred[None]] = {}

    def get(self, link: MeshConnection, place: Place) -> Deferred[Any]:
        """What an old peer has at a place that it owns, None when nothing.

        Fails with :class:`~chordtx.mesh.CallTimeout` when it does not answer, or
        :class:`~chordtx.mesh.PeerLost` when the link goes down.
        """
        answer: Deferred[Any] = Deferred()
        self._asked[link, place].append(answer)
        link.send(flags.RETRIEVE, *place.to_old(link))
        late = CallTimeout("an old peer does not answer")
        return within(_ANSWER_SECONDS, self._reactor, answer, lambda: late)

    def asked_back(self, link: MeshConnection, place: Place) -> None:
        """An old peer asks for a place. When that is what we have asked it, it has passed the question on: it
        is about to cease to store, and has not told us yet. The nil that it answers then says nothing."""
        if (link, place) in self._asked:
            self._passed_on[link, place] += 1

    def retrieved(self, link: MeshConnection, message: Message) -> None:
        """An old peer's answer. One that nobody waits for is the second to a question that it passed on."""
        if len(message.payload) != 4:
            raise ProtocolError("a retrieved has a table, a position and a value")
        place = Place.from_old(message.payload[1], message.payload[2])
        waiting = self._asked.get((link, place))
        if not waiting:
            return
        # In the order asked: one given up for lateness stays in line, or its answer passed for the next's.
        answer = waiting.popleft()
        if not waiting:
            del self._asked[link, place]
        passed_on = self._passed_on.pop((link, place), 0)
        if passed_on > 1:
            self._passed_on[link, place] = passed_on - 1
        if passed_on:
            if not answer.called:
                answer.errback(CallTimeout("an old peer has passed the question on"))
            return
        self._seen[link, place] = message.payload[3]
        if not answer.called:
            answer.callback(message.payload[3])

    def link_closed(self, link: MeshConnection) -> None:
        """Nothing more will come over this link."""
        for known in (self._held, self._seen, self._passed_on):
            for slot in [slot for slot in known if slot[0] is link]:
                del known[slot]
        for asked in [slot for slot in self._asked if slot[0] is link]:
            for answer in self._asked.pop(asked):
                if not answer.called:
                    answer.errback(PeerLost("the link to the old peer is down"))

    async def put(self, link: MeshConnection, place: Place, value: Any) -> bool:
        """Store ``value`` at an old peer, and make sure of it; None deletes. One write to a place at a time.

        :returns: whether it was confirmed. If not, it was sent all the same: whatever the peer says after it
            over this link, :meth:`was_changed` can tell.
        :raises ChordError: when it could not even be sent.
        """
        while (link, place) in self._busy:
            await shared_end(self._busy[link, place])
        done: Deferred[None] = Deferred()
        self._busy[link, place] = done
        try:
            return await self._put(link, place, value)
        finally:
            del self._busy[link, place]
            done.callback(None)

    async def _put(self, link: MeshConnection, place: Place, value: Any) -> bool:
        had = self._seen.get((link, place), _NO_ANSWER)
        present = await self._get_if_it_answers(link, place)
        if value is None and present is _NO_ANSWER:
            raise ChordError("py2p falls over when told to delete what it does not have")
        self._held[link, place] = value
        if present == value or (had == value and present is not _NO_ANSWER):
            # Not told again what it has, nor what it had when it was last looked at (as where its own write
            # was adopted): both could undo what it writes there by itself at this moment.
            return True
        for _ in range(2):
            self._seen[link, place] = value
            link.send(flags.STORE, *place.to_old(link), value)
            answer = await self._get_if_it_answers(link, place)
            if answer is _NO_ANSWER:
                return False
            if answer == value:
                return True
        # It cannot hold this value as it is, as js2p great integers: what it made of it counts as unchanged.
        self._held[link, place] = answer
        return True

    async def _get_if_it_answers(self, link: MeshConnection, place: Place) -> Any:
        try:
            return await self.get(link, place)
        except CallTimeout:
            return _NO_ANSWER

    def was_changed(self, link: MeshConnection, place: Place, value: Any) -> bool:
        """Whether an old peer, asked over the same link, has another value than it was last told to have."""
        return (link, place) in self._held and bool(self._held[link, place] != value)

    def pass_on(self, link: MeshConnection, place: Place, delta: dict[Any, Any]) -> None:
        """Hand a delta to the old peer that owns the place."""
        link.send(flags.DELTA, *place.to_old(link), delta)


def shared_end(work: Deferred[None]) -> Deferred[None]:
    """Fires when ``work`` ends; may be cancelled without harm to it."""
    waiting: Deferred[None] = Deferred()

    def ended(result: Any) -> Any:
        if not waiting.called:
            waiting.callback(None)
        return result

    work.addBoth(ended)
    return waiting
