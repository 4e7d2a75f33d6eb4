"""Reads and writes that hold: each asks a majority of the key's replica set.

The register of Attiya, Bar-Noy and Dolev ("Sharing memory robustly in message-passing systems", JACM
1995), with several writers (Lynch and Shvartsman 1997): a write learns the newest version that a
majority knows, and stores above it at a majority; a read returns the newest that a majority has, and
writes it back first when they did not agree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from chordtx.chord.poll import Ask, Poll
from chordtx.chord.replica import Replica
from chordtx.chord.routing import Routing
from chordtx.config import ChordSettings
from chordtx.errors import (
    ChordError,
    NoMajority,
    NoMajorityTimeout,
    NotJoined,
    ProtocolError,
    StorageFull,
    ValueTooLarge,
)
from chordtx.mesh import CallTimeout
from chordtx.mesh.calls import tell
from chordtx.records import HybridClock, Record, RecordLimits, Version, majority, merge
from chordtx.ring import Contact

_PAUSE_SECONDS = 0.1
_FINISH_CHECK_SECONDS = 0.01
Change = Callable[[Record | None, Version], Record]


class Coordinator:
    """Carries out one node's reads and writes.

    :param node: the service: ``reactor``, ``_ask_contact``, ``_round_trip_seconds``, ``sleep``.
    :param own_id: our id when we are a replica ourselves; such calls need no network.
    """

    _log = Logger()

    def __init__(
        self,
        node: Any,
        own_id: int,
        routing: Routing,
        replica: Replica,
        clock: HybridClock,
        settings: ChordSettings,
        wall_ms: Callable[[], int],
        record_limits: RecordLimits,
    ) -> None:
        self._node = node
        self._own_id = own_id
        self._routing = routing
        self._replica = replica
        self._clock = clock
        self._settings = settings
        self._wall_ms = wall_ms
        self._record_limits = record_limits
        self._writes_under_way = 0
        self._local: dict[str, Callable[..., Any]] = {
            "read": replica.read,
            "version": replica.version,
            "write": replica.write,
        }

    async def read(self, key: bytes, ask_old: bool = True) -> Record | None:
        """The newest record that a majority of the replicas has, tombstones too; None when there is none.

        :param ask_old: whether an old peer that may have overwritten the key without a word is asked first.
        :raises NoMajority: when a majority cannot be had within the time-out.
        """
        deadline = self._deadline()
        while True:
            members = await self._members(key, deadline)
            poll = await self._poll(members, "read", key, deadline=deadline)
            if poll is None or not await self._is_current(key, members, deadline):
                continue
            if ask_old and _is_in_doubt(poll):
                await self._ask_old(key)
                ask_old = False
                continue
            newest, agree = self._newest(poll)
            if not agree and newest is not None:
                await self._write_back(key, newest, members, deadline)
            return newest

    async def _write_back(
        self, key: bytes, record: Record, members: Sequence[Contact], deadline: float
    ) -> None:
        try:
            await self._store(key, record, members, deadline)
        except ValueTooLarge as error:
            # Several wrote to one map at once, and no replica takes it all. What they acknowledged is here.
            self._log.warn(
                "{key} cannot be stored as it is read: {error}", key=repr(key[:80]), error=str(error)
            )

    async def write(
        self, key: bytes, change: Change, whole: bool = False, ask_old: bool = True
    ) -> tuple[bool, Record]:
        """Store a new record above everything that a majority knows.

        :param change: makes the record from the one that is there and the version to write.
        :param whole: whether ``change`` needs the record that is there; else it is given None.
        :param ask_old: as for :meth:`read`, when ``whole``.
        :returns: whether there was a value before, and what was stored.
        :raises NoMajority: when a majority cannot be had within the time-out. The write may still come
            to stand then, or not: nobody can know.
        """
        deadline = self._deadline()
        while True:
            members = await self._members(key, deadline)
            poll = await self._poll(members, "read" if whole else "version", key, deadline=deadline)
            if poll is not None and await self._is_current(key, members, deadline):
                if not whole or not ask_old or not _is_in_doubt(poll):
                    break
                await self._ask_old(key)
                ask_old = False
        present = self._newest(poll)[0] if whole else None
        newest, alive = _newest_version(poll, present, whole, self._wall_ms())
        version = self._next_version(newest)
        record = change(present, version)
        await self._store(key, record, members, deadline)
        return alive, record

    async def _ask_old(self, key: bytes) -> None:
        """Have it looked into whether an old peer has overwritten the key without a word.

        One that does not answer has told nobody of any such write: then the record stands.
        """
        try:
            await self._node._refresh_from_old(key)
        except ChordError as error:
            self._node._limited_log.info("an old peer could not be asked: {error}", error=str(error))

    def _next_version(self, newest: Version | None) -> Version:
        now = self._wall_ms()
        return self._clock.tick(now) if newest is None else self._clock.tick_above(newest, now)

    async def _store(self, key: bytes, record: Record, members: Sequence[Contact], deadline: float) -> None:
        """Store at all members, until a majority has it; at those that came in between too.

        :raises ValueTooLarge: when it cannot be sent to them.
        """
        self._record_limits.must_travel(key, record)
        wire = record.to_wire()
        while True:
            poll = await self._poll(members, "write", key, wire, deadline=deadline)
            if poll is not None and await self._is_current(key, members, deadline):
                self._store_where_it_shows_late(poll, key, record, members)
                return
            members = await self._members(key, deadline)

    def _store_where_it_shows_late(
        self, poll: Poll, key: bytes, record: Record, members: Sequence[Contact]
    ) -> None:
        """When an answer after the majority's shows that the set was another: store there too."""
        epoch = self._routing.arcs.epoch

        def answered_late() -> None:
            if self._routing.arcs.epoch != epoch:
                poll.when_late(None)
                self._node._background(self._store_if_other(key, record, members))

        poll.when_late(answered_late)

    async def _store_if_other(self, key: bytes, record: Record, members: Sequence[Contact]) -> None:
        deadline = self._deadline()
        if not await self._is_current(key, members, deadline):
            await self._store(key, record, await self._members(key, deadline), deadline)

    def _newest(self, poll: Poll) -> tuple[Record | None, bool]:
        """The newest record of all answers, and whether a majority has it already."""
        told = [answer[0] for answer in poll.answers.values()]
        if told.count(told[0]) == len(told):
            del told[1:]  # they agree, as they nearly always do: so one is enough to look at
        records = [None if wire is None else Record.from_wire(wire) for wire in told]
        newest: Record | None = None
        for record in records:
            newest = merge(newest, record)
        if newest is not None:
            self._clock.observe(newest.newest, self._wall_ms())
        return newest, all(record == newest for record in records)

    async def _is_current(self, key: bytes, members: Sequence[Contact], deadline: float) -> bool:
        """Whether the set that was asked is still the key's, after what the answers told of the ring."""
        known = self._routing.known_replica_set(key)
        if known is members:
            return True
        if set(await self._members(key, deadline)) == set(members):
            return True
        if self._node.reactor.seconds() >= deadline:
            raise NoMajorityTimeout("the key's replicas changed faster than they could be asked")
        return False

    async def _members(self, key: bytes, deadline: float) -> tuple[Contact, ...]:
        while True:
            try:
                members = await self._routing.replica_set(key)
                if members:
                    return members
            except NotJoined as error:
                if self._node.reactor.seconds() >= deadline:
                    raise NoMajorityTimeout(f"no ring could be asked in time: {error}") from error
            await self._node.sleep(_PAUSE_SECONDS)

    async def _poll(
        self, members: Sequence[Contact], method: str, *arguments: Any, deadline: float
    ) -> Poll | None:
        """Ask the members.

        :returns: None when too few answered and it is worth another try.
        :raises NoMajority: when it is not.
        """
        needed = majority(len(members))
        is_write = method == "write"
        ask = self._asker(method, (*arguments, self._routing.tag(arguments[0], members)))
        ordered = members if is_write else self._nearest_first(members)
        first = len(members) if is_write else needed
        is_vote, wants_all = _COUNTED_BY[method]
        finished = None
        if is_write:
            self._writes_under_way += 1
            finished = self._write_ended
        poll = Poll(ask, ordered, needed, first, is_vote, wants_all, finished)
        if not poll.done.called:
            poll.hedge(self._node.reactor, self._settings.hedge_seconds)
        await poll.done
        if poll.decided:
            return poll
        self._look_into(poll)
        if self._node.reactor.seconds() < deadline:
            await self._node.sleep(_PAUSE_SECONDS)
            if poll.votes < len(poll.answers):
                await self._look_again(arguments[0])
            return None
        raise _no_majority(poll, needed, len(members))

    async def _look_again(self, key: bytes) -> None:
        try:
            await self._routing.look_again(key)
        except ChordError as error:
            self._log.debug("a replica set could not be looked up: {error}", error=str(error))

    async def finish_writes(self, seconds: float) -> None:
        """Wait until the replicas beyond the majority have answered too, but no longer than this.

        To be awaited before the links are closed: else what a node wrote last would lack copies.
        """
        until = self._node.reactor.seconds() + seconds
        while self._writes_under_way and self._node.reactor.seconds() < until:
            await self._node.sleep(_FINISH_CHECK_SECONDS)

    def _asker(self, method: str, arguments: tuple[Any, ...]) -> Ask:
        local, own_id, ask_contact = self._local[method], self._own_id, self._node._ask_contact

        def ask(poll: Poll, contact: Contact) -> None:
            if contact.id == own_id:
                _ask_self(local, arguments, poll, contact)
            else:
                ask_contact(poll, contact, method, arguments)

        return ask

    def _write_ended(self) -> None:
        self._writes_under_way -= 1

    def _nearest_first(self, members: Sequence[Contact]) -> list[Contact]:
        own_id, seconds = self._own_id, self._node._round_trip_seconds
        return sorted(members, key=lambda contact: 0.0 if contact.id == own_id else seconds(contact.id))

    def _look_into(self, poll: Poll) -> None:
        """Give up what the failures refute: what a retry cannot mend, and nodes that are not there."""
        for contact, failure in poll.failures.items():
            if failure.check(ValueTooLarge, StorageFull, ProtocolError, TypeError):
                failure.raiseException()
            if not failure.check(ChordError):
                failure.raiseException()
            self._routing.call_failed(contact.id, failure.value)

    def _deadline(self) -> float:
        seconds: float = self._node.reactor.seconds() + self._settings.operation_timeout_seconds
        return seconds


def _ask_self(local: Callable[..., Any], arguments: tuple[Any, ...], poll: Poll, me: Contact) -> None:
    try:
        answer = local(None, *arguments)
    except Exception:
        poll.failed(me, Failure())
        return
    if isinstance(answer, Deferred):
        tell(poll, me, answer)
    else:
        poll.answered(me, answer)


def _read_votes(answer: list[Any]) -> bool:
    _expect_parts(answer, 3)
    return bool(answer[2])


def _version_votes(answer: list[Any]) -> bool:
    _expect_parts(answer, 4)
    return bool(answer[3])


def _expect_parts(answer: list[Any], count: int) -> None:
    if len(answer) != count:
        raise ProtocolError(f"an answer of {count} parts was expected")


def _is_in_doubt(poll: Poll) -> bool:
    return any(answer[1] for answer in poll.answers.values())


def _write_counts(answer: list[Any]) -> bool:
    _expect_parts(answer, 2)
    return bool(answer[1])


def _wants_all(answer: list[Any]) -> bool:
    return bool(answer and answer[0])


def _newest_version(
    poll: Poll, present: Record | None, whole: bool, now_ms: int
) -> tuple[Version | None, bool]:
    if whole:
        return (None, False) if present is None else (present.newest, present.alive(now_ms))
    newest: Version | None = None
    alive = False
    for clock, writer, is_alive, _ in poll.answers.values():
        if type(clock) is int and isinstance(writer, bytes):
            version = Version(clock, writer)
            if newest is None or version > newest:
                newest, alive = version, bool(is_alive)
    return newest, alive


# Method -> which answers count, and which want everyone else's too.
_COUNTED_BY: dict[str, tuple[Any, Any]] = {
    "read": (_read_votes, None),
    "version": (_version_votes, None),
    "write": (_write_counts, _wants_all),
}


def _no_majority(poll: Poll, needed: int, asked: int) -> NoMajority:
    text = f"{poll.votes} of {asked} replicas answered, and {needed} are needed"
    late = any(failure.check(CallTimeout) for failure in poll.failures.values())
    kind = NoMajorityTimeout if late or not poll.failures else NoMajority
    return kind(text, needed=needed, got=poll.votes)
