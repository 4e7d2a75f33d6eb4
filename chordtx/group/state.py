"""A partition's state, named by a rank: it goes on by numbered changes, or is replaced as a whole.

Equal rank, equal state. So nothing here may depend on anything but the changes themselves: a change says
what is stored afterwards, and not what was asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, cast

from chordtx.errors import ProtocolError
from chordtx.group.configuration import Configuration, Member, configuration_from_wire, members_from_wire
from chordtx.group.operations import ADDED, DELETED, EXPIRED, KINDS, WRITTEN, Result, result_from_wire
from chordtx.group.rank import ARRAYS, COUNT_MAX, FIRST_RANK, NO_RANK, Rank, named, rank_from_wire
from chordtx.group.recent_keys import RecentKeys
from chordtx.group.record import Record

#: Kinds of changes that no client asks for, beside those of :mod:`chordtx.group.operations`.
SEAL, EVICT, EXPIRE = 32, 33, 34

#: What a change does to the record of its key.
KEEP, STORE, REMOVE = range(3)

CLIENT_BYTES_MAX = 32


class Change(NamedTuple):
    """One step from a state to the next.

    :ivar kind: of an operation, or SEAL, EVICT, EXPIRE.
    :ivar key: that it concerns; empty where there is none.
    :ivar effect: KEEP, STORE or REMOVE.
    :ivar value: STORE: the new value, packed. :ivar expires_ms: and when it expires, 0 for never.
    :ivar client: whose operation it is; empty for a leader's own.
    :ivar number: of the operation. :ivar answered: up to which number the client has its answers.
    :ivar result: to be answered again to who asks again; WRITTEN stands for ``value``. A leader's own: what
        it is about, which is the members of the next epoch (SEAL), a rank (EVICT) or keys (EXPIRE).
    """

    kind: int
    key: bytes
    effect: int
    value: bytes
    expires_ms: int
    client: bytes
    number: int
    answered: int
    result: tuple[object, ...]


class Done(NamedTuple):
    """An operation that was done: kept so that it is never done twice.

    :ivar rank: of its change.
    """

    rank: Rank
    kind: int
    key: bytes
    result: Result


class Client:
    """What a partition remembers of one client.

    :ivar answered: it has the answers to its operations up to this number: they are forgotten.
    :ivar newest: the rank of its newest change.
    :ivar done: the others, by number.
    """

    __slots__ = ("answered", "done", "newest")

    def __init__(self, answered: int, newest: Rank, done: dict[int, Done]) -> None:
        self.answered = answered
        self.newest = newest
        self.done = done

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Client):
            return NotImplemented
        return (self.answered, self.newest, self.done) == (other.answered, other.newest, other.done)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Client({self.answered}, {self.newest}, {self.done})"

    def copy(self) -> Client:
        """One that may go its own way."""
        return Client(self.answered, self.newest, dict(self.done))


class Header(NamedTuple):
    """All of a state but its records and clients.

    :ivar evicted: operations with changes up to this rank have been forgotten.
    :ivar now_ms: the partition's time; it never goes back.
    :ivar next: the members of the next epoch, once this one is sealed.
    """

    configuration: Configuration
    evicted: Rank = NO_RANK
    now_ms: int = 0
    next: tuple[Member, ...] | None = None

    def to_wire(self) -> tuple[object, ...]:
        """:returns: ``(configuration, evicted, now_ms, next)``."""
        return (self.configuration.to_wire(), self.evicted, self.now_ms, self.next)


class Touched(NamedTuple):
    """What a change did, for those who keep account of it (a disk, digests, timers).

    :ivar records: key, before, after. :ivar clients: operations added (Done) or forgotten (None).
    :ivar keys: which keys came and went.
    """

    records: list[tuple[bytes, Record | None, Record | None]]
    clients: list[tuple[bytes, int, Done | None]]
    keys: RecentKeys


class State:
    """See the module.

    :ivar records: by key. :ivar clients: by id.
    """

    __slots__ = ("clients", "configuration", "evicted", "next", "now_ms", "records")

    def __init__(
        self,
        header: Header,
        records: dict[bytes, Record] | None = None,
        clients: dict[bytes, Client] | None = None,
    ) -> None:
        self.configuration, self.evicted, self.now_ms, self.next = header
        self.records: dict[bytes, Record] = {} if records is None else records
        self.clients: dict[bytes, Client] = {} if clients is None else clients

    @property
    def header(self) -> Header:
        """All but records and clients."""
        return Header(self.configuration, self.evicted, self.now_ms, self.next)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, State):
            return NotImplemented
        return (self.header, self.records, self.clients) == (other.header, other.records, other.clients)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"State({self.header}, {self.records}, {self.clients})"

    def copy(self) -> State:
        """One that may go its own way. Records are shared, for they never change."""
        clients = {id: client.copy() for id, client in self.clients.items()}
        return State(self.header, dict(self.records), clients)

    def succeed(self, configuration: Configuration) -> State:
        """The state that the next epoch begins with."""
        after = self.copy()
        after.configuration, after.next = configuration, None
        return after

    def apply(self, change: Change, rank: Rank, now_ms: int, touched: Touched) -> None:
        """Take one step.

        :param rank: of the change. :param now_ms: its time.
        :param touched: is told what it did.
        """
        self.now_ms = now_ms
        key, effect = change.key, change.effect
        if effect == STORE:
            record = named(Record, (change.value, change.expires_ms, rank, now_ms))
            before = self.records.get(key)
            touched.records.append((key, before, record))
            self.records[key] = record
            if before is None:
                touched.keys.note(rank, key, ADDED)
        elif effect == REMOVE:
            self._remove(key, rank, DELETED, touched)
        if change.client:
            self._remember(change, rank, touched)
        elif change.kind == EXPIRE:
            for each in cast("tuple[bytes, ...]", change.result):
                self._remove(each, rank, EXPIRED, touched)
        elif change.kind == SEAL:
            self.next = cast("tuple[Member, ...]", change.result)
        elif change.kind == EVICT:
            self._evict(cast("Rank", change.result), touched)

    def _remove(self, key: bytes, rank: Rank, kind: int, touched: Touched) -> None:
        before = self.records.pop(key, None)
        if before is not None:
            touched.records.append((key, before, None))
            touched.keys.note(rank, key, kind)

    def _remember(self, change: Change, rank: Rank, touched: Touched) -> None:
        kind, key, _, value, _, id, number, answered, result = change
        client = self.clients.get(id)
        if client is None:
            client = self.clients[id] = Client(0, rank, {})
        client.newest = rank
        told, all_done = touched.clients, client.done
        if answered > client.answered:
            client.answered = answered
            for each in tuple(all_done):
                if each <= answered:
                    del all_done[each]
                    told.append((id, each, None))
        if result[1] is True:
            result = (result[0], value)
        done = all_done[number] = named(Done, (rank, kind, key, result))
        told.append((id, number, done))

    def _evict(self, upto: Rank, touched: Touched) -> None:
        """Forget operations by rank. A client of whom nothing newer is known goes as a whole: whatever it
        may send again has a stamp below ``upto``, and is refused for that."""
        self.evicted = upto
        for id, client in list(self.clients.items()):
            for number in [number for number, done in client.done.items() if done.rank <= upto]:
                del client.done[number]
                touched.clients.append((id, number, None))
            if client.newest <= upto:
                del self.clients[id]


def client_to_wire(client: Client) -> tuple[object, ...]:
    """:returns: ``(answered, newest, ((number, rank, kind, key, result), ...))``."""
    return (
        client.answered,
        client.newest,
        tuple((number, *done) for number, done in sorted(client.done.items())),
    )


def client_from_wire(obj: object) -> Client:
    """:raises ProtocolError: when ``obj`` is not what :func:`client_to_wire` makes."""
    if isinstance(obj, ARRAYS) and len(obj) == 3:
        answered, newest, done = obj
        if type(answered) is int and 0 <= answered <= COUNT_MAX and isinstance(done, ARRAYS):
            return Client(answered, rank_from_wire(newest), dict(map(_done_from_wire, done)))
    raise ProtocolError("a client is [answered, newest rank, operations]")


def _done_from_wire(obj: object) -> tuple[int, Done]:
    if isinstance(obj, ARRAYS) and len(obj) == 5:
        number, rank, kind, key, result = obj
        is_typed = type(number) is int and type(kind) is int and type(key) is bytes
        if is_typed and 0 <= number <= COUNT_MAX and 0 <= kind < KINDS:
            return number, Done(rank_from_wire(rank), kind, key, result_from_wire(result))
    raise ProtocolError("an operation that was done is [number, rank, kind, key, result]")


def changes_from_wire(obj: object) -> tuple[Change, ...]:
    """:raises ProtocolError: when ``obj`` is no list of changes."""
    if not isinstance(obj, ARRAYS):
        raise ProtocolError("changes are an array")
    return tuple(map(_change_from_wire, obj))


def _change_from_wire(obj: object) -> Change:
    if not isinstance(obj, ARRAYS) or len(obj) != 9:
        raise ProtocolError("a change is an array of nine")
    kind, key, effect, value, expires, client, number, answered, result = obj
    if (
        type(kind) is not int
        or type(key) is not bytes
        or type(effect) is not int
        or not KEEP <= effect <= REMOVE
        or type(value) is not bytes
        or type(expires) is not int
        or not 0 <= expires <= COUNT_MAX
        or type(client) is not bytes
        or len(client) > CLIENT_BYTES_MAX
        or type(number) is not int
        or not 0 <= number <= COUNT_MAX
        or type(answered) is not int
        or not 0 <= answered <= COUNT_MAX
    ):
        raise ProtocolError("a field of a change is not what it ought to be")
    if not client:
        result = _own_from_wire(kind, result)
    elif 0 <= kind < KINDS:
        result = WRITTEN if effect == STORE and _is_written(result) else result_from_wire(result)
    else:
        raise ProtocolError("a client's change is one of the operations")
    return named(Change, (kind, key, effect, value, expires, client, number, answered, result))


def _is_written(obj: object) -> bool:
    """Whether it is WRITTEN. (The number 1, which a counter may have become, is equal to True.)"""
    return isinstance(obj, ARRAYS) and len(obj) == 2 and tuple(obj) == WRITTEN and obj[1] is True


def _own_from_wire(kind: int, about: object) -> tuple[object, ...]:
    """What a leader's own change is about."""
    if kind == EXPIRE:
        return _keys_from_wire(about)
    if kind == EVICT:
        return rank_from_wire(about)
    if kind == SEAL:
        return members_from_wire(about)
    raise ProtocolError("a leader's own change is to seal, evict or expire")


def _keys_from_wire(obj: object) -> tuple[bytes, ...]:
    if isinstance(obj, ARRAYS) and all(type(each) is bytes for each in obj):
        return tuple(obj)
    raise ProtocolError("keys are an array of bytes")


def header_from_wire(obj: object) -> Header:
    """:raises ProtocolError: when ``obj`` is no header."""
    if isinstance(obj, ARRAYS) and len(obj) == 4:
        configuration, evicted, now_ms, following = obj
        if type(now_ms) is int and 0 <= now_ms <= COUNT_MAX:
            members = None if following is None else members_from_wire(following)
            return Header(configuration_from_wire(configuration), rank_from_wire(evicted), now_ms, members)
    raise ProtocolError("a header is [configuration, evicted, now, next]")


def done_in(clients: dict[bytes, Client]) -> Iterator[tuple[bytes, int, Done]]:
    """Every operation that is remembered, with whose it is."""
    return ((id, number, done) for id, client in clients.items() for number, done in client.done.items())


def first_state(members: Iterable[Member]) -> State:
    """What a ring's partitions begin with: nothing, kept by these members."""
    return State(Header(Configuration(FIRST_RANK.epoch, tuple(members))))
