"""The tables that legacy peers keep: reading them, and writing them with a confirmation.

A legacy peer acknowledges nothing. So what is stored there is asked back over the same link: links keep
order, and the answer shows that the store was read before it.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable
from math import inf
from typing import Any
from weakref import WeakKeyDictionary

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, fail

from chordtx.errors import ChordError, ProtocolError
from chordtx.mesh import CallTimeout, MeshConnection, PeerLost
from chordtx.mesh.deferreds import within
from chordtx.mesh.handshake import as_text
from chordtx.ring import HASHES, SIZE, table_positions
from chordtx.wire import Message, decode_id, encode_id, flags

_ANSWER_SECONDS = 1.0
#: One that has not answered in time is asked again after this, or once it has said something.
_SILENT_SECONDS = 5.0
#: Questions to one legacy peer that it has not answered: each is kept until it does, or its link is down.
_UNANSWERED_MAX = 2000
_POSITION_BITS = 512
#: The table whose position names a key: the host of that position counts.
NAMING_TABLE = HASHES.index("sha384")
_NO_ANSWER = object()
_METHODS = {name: index for index, name in enumerate(HASHES)}


@frozen
class Place:
    """A place in legacy peers' tables.

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
    def from_legacy(cls, method: Any, position: Any) -> Place:
        """As legacy peers write it: a method's name, and base58.

        :raises ProtocolError: when it is anything else.
        """
        table = _METHODS.get(as_text(method))
        if table is None:
            raise ProtocolError("unknown hash table")
        return cls(table, decode_id(as_text(position), bits_max=_POSITION_BITS))

    def to_legacy(self, link: MeshConnection) -> tuple[Any, Any]:
        """In the peer's dialect."""
        return link.encode_ids(HASHES[self.table]), link.encode_ids(encode_id(self.number))


@define
class _Known:
    """What is known of one legacy peer's tables.

    :ivar asked: who waits for its answers, in the order asked. :ivar unanswered: how many do.
    :ivar asked_at: when it was asked last. :ivar is_silent: whether it was late, and has said nothing since:
        then it is asked no more than once in a while.
    :ivar passed_on: answers to come that say nothing.
    :ivar held: what it was last told to have. :ivar seen: what it was last told or seen to have.
    :ivar busy: the writes under way; each fires as it ends.
    """

    asked: dict[Place, deque[Deferred[Any]]] = field(factory=lambda: defaultdict(deque))
    unanswered: int = 0
    asked_at: float = -inf
    is_silent: bool = False
    passed_on: Counter[Place] = field(factory=Counter)
    held: dict[Place, Any] = field(factory=dict)
    seen: dict[Place, Any] = field(factory=dict)
    busy: dict[Place, Deferred[None]] = field(factory=dict)


class Tables:
    """Reads and writes of legacy peers' tables, over the links to them.

    :param reactor: for time-outs.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        # By weak links: what is under way when a link goes may note something down of it after that.
        self._known: WeakKeyDictionary[MeshConnection, _Known] = WeakKeyDictionary()

    def _of(self, link: MeshConnection) -> _Known:
        return self._known.setdefault(link, _Known())

    def get(self, link: MeshConnection, place: Place) -> Deferred[Any]:
        """What a legacy peer has at a place that it owns, None when nothing.

        Fails with :class:`~chordtx.mesh.CallTimeout` when it does not answer, or
        :class:`~chordtx.mesh.PeerLost` when the link goes down.
        """
        if link.closed:
            return fail(PeerLost("the link to the legacy peer is down"))
        known = self._of(link)
        now: float = self._reactor.seconds()
        is_hanging = known.is_silent and now < known.asked_at + _SILENT_SECONDS
        if is_hanging or known.unanswered >= _UNANSWERED_MAX:
            return fail(CallTimeout("a legacy peer does not answer"))
        known.asked_at = now
        known.unanswered += 1
        answer: Deferred[Any] = Deferred()
        known.asked[place].append(answer)
        link.send(flags.RETRIEVE, *place.to_legacy(link))

        def late() -> Exception:
            known.is_silent = True
            return CallTimeout("a legacy peer does not answer")

        return within(_ANSWER_SECONDS, self._reactor, answer, late)

    def asked_back(self, link: MeshConnection, place: Place) -> None:
        """A legacy peer asks for a place. When that is what we have asked it, it has passed the question on.

        It is about to cease to store, and has not told us yet. The nil that it answers then says nothing.
        """
        known = self._of(link)
        if place in known.asked:
            known.passed_on[place] += 1

    def retrieved(self, link: MeshConnection, message: Message) -> None:
        """A legacy peer's answer. One that nobody waits for is the second to a question that it passed on."""
        if len(message.payload) != 4:
            raise ProtocolError("a retrieved has a table, a position and a value")
        place, known = Place.from_legacy(message.payload[1], message.payload[2]), self._of(link)
        known.is_silent = False
        waiting = known.asked.get(place)
        if not waiting:
            return
        # In the order asked: one given up for lateness stays in line, or its answer passed for the next's.
        answer = waiting.popleft()
        known.unanswered -= 1
        if not waiting:
            del known.asked[place]
        passed_on = known.passed_on.pop(place, 0)
        if passed_on > 1:
            known.passed_on[place] = passed_on - 1
        if passed_on:
            if not answer.called:
                answer.errback(CallTimeout("a legacy peer has passed the question on"))
            return
        known.seen[place] = message.payload[3]
        if not answer.called:
            answer.callback(message.payload[3])

    def link_closed(self, link: MeshConnection) -> None:
        """Nothing more will come over this link."""
        known = self._known.pop(link, None)
        for asked in () if known is None else known.asked.values():
            for answer in asked:
                if not answer.called:
                    answer.errback(PeerLost("the link to the legacy peer is down"))

    async def put(self, link: MeshConnection, place: Place, value: Any) -> bool:
        """Store ``value`` at a legacy peer, and make sure of it; None deletes.

        There is one write to a place at a time.

        :returns: whether it was confirmed. If not, it was sent all the same: whatever the peer says after it
            over this link, :meth:`was_changed` can tell.
        :raises ChordError: when it could not even be sent.
        """
        busy = self._of(link).busy
        while place in busy:
            await shared_end(busy[place])
        done: Deferred[None] = Deferred()
        busy[place] = done
        try:
            return await self._put(link, place, value)
        finally:
            del busy[place]
            done.callback(None)

    async def _put(self, link: MeshConnection, place: Place, value: Any) -> bool:
        known = self._of(link)
        had = known.seen.get(place, _NO_ANSWER)
        present = await self._get_if_it_answers(link, place)
        if value is None and present is _NO_ANSWER:
            raise ChordError("py2p falls over when told to delete what it does not have")
        known.held[place] = value
        if present == value or (had == value and present is not _NO_ANSWER):
            # Not told again what it has, nor what it had when it was last looked at (as where its own write
            # was adopted): both could undo what it writes there by itself at this moment.
            return True
        for _ in range(2):
            known.seen[place] = value
            link.send(flags.STORE, *place.to_legacy(link), value)
            answer = await self._get_if_it_answers(link, place)
            if answer is _NO_ANSWER:
                return False
            if answer == value:
                return True
        # It cannot hold this value as it is, as js2p great integers: what it made of it counts as unchanged.
        known.held[place] = answer
        return True

    async def _get_if_it_answers(self, link: MeshConnection, place: Place) -> Any:
        try:
            return await self.get(link, place)
        except CallTimeout:
            return _NO_ANSWER

    def keep_only(self, owns: Callable[[int], bool]) -> None:
        """Forget what is at positions of others, who may change it."""
        for known in self._known.values():
            for values in (known.held, known.seen):
                for place in [place for place in values if not owns(place.position)]:
                    del values[place]

    def was_told(self, link: MeshConnection, place: Place) -> bool:
        """Whether a legacy peer was ever told what to have at a place."""
        return place in self._of(link).held

    def was_changed(self, link: MeshConnection, place: Place, value: Any) -> bool:
        """Whether a legacy peer has another value than it was last told to have, over the same link."""
        held = self._of(link).held
        return place in held and bool(held[place] != value)

    def pass_on(self, link: MeshConnection, place: Place, delta: dict[Any, Any]) -> None:
        """Hand a delta to the legacy peer that owns the place."""
        link.send(flags.DELTA, *place.to_legacy(link), delta)


def places_of(key: bytes) -> list[Place]:
    """A key's place in each of the five tables."""
    return [Place(table, number) for table, number in enumerate(table_positions(key))]


def shared_end(work: Deferred[None]) -> Deferred[None]:
    """Fires when ``work`` ends; may be cancelled without harm to it."""
    waiting: Deferred[None] = Deferred()

    def ended(result: Any) -> Any:
        if not waiting.called:
            waiting.callback(None)
        return result

    work.addBoth(ended)
    return waiting
