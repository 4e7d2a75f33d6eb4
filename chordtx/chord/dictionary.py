"""The ring's records as a dict: each method is one operation at the leader of the key's group."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from chordtx.chord.answers import blob_in, count_in, found_in, page_in, ttl_ms, value_in
from chordtx.chord.entry import Entry
from chordtx.chord.exact import ExactOperations
from chordtx.chord.watching import Watch, Watches
from chordtx.dictionary import Span, in_parallel
from chordtx.errors import ProtocolError, ValueTooLarge
from chordtx.group import operations
from chordtx.group.messages import Answer
from chordtx.group.operations import ABSENT, DONE, LIST_BYTES_MAX, TOO_LARGE, WRONG_TYPE
from chordtx.group.operations import Entry as Listed
from chordtx.group.rank import Rank, rank_of, version_of
from chordtx.mesh.life import Phase
from chordtx.ring.partitions import partition_of
from chordtx.values import Key, Value, check_ttl, key_bytes
from chordtx.wire import check_value

if TYPE_CHECKING:
    from chordtx.chord.client import GroupClient
    from chordtx.chord.ring_identity import RingIdentity
    from chordtx.mesh.life import Life

_PAGE_KEYS = 1000
#: Partitions that are asked for their keys at once.
_PARTITIONS_AT_ONCE = 64
#: What partitions that are asked ahead may bring together, as far as it can be expected.
_AHEAD_BYTES_MAX = 8 << 20


class RingDict(ExactOperations):
    """The dict methods of :class:`~chordtx.ChordService`.

    Every operation on a key is linearizable, whatever fails. Every Deferred fails with
    :class:`~chordtx.errors.NoMajority` when the key's group does not answer in time: then nobody knows
    whether a change was made. Keys come by partition, in order within each.
    """

    if TYPE_CHECKING:
        _client: GroupClient
        _life: Life
        _identity: RingIdentity | None
        _watches: Watches

        def _ring_known(self) -> Deferred[RingIdentity]: ...

    # One operation each, by callbacks: to run a coroutine for each takes a fifth of the time of a get.

    def get(self, key: Key, default: object = None) -> Deferred[Value]:
        """The value of ``key``, or ``default`` when there is none."""
        return self._ask(operations.GET, self._as_key(key)).addCallback(self._value_or, default)

    def __getitem__(self, key: Key) -> Deferred[Value]:
        """The value of ``key``; fails with KeyError when there is none."""
        known = self._as_key(key)
        return self._ask(operations.GET, known).addCallback(self._value_of, known)

    def entry(self, key: Key) -> Deferred[Entry]:
        """The value of ``key``, its version and when it expires; fails with KeyError when there is none."""
        known = self._as_key(key)
        return self._ask(operations.GET, known).addCallback(self._entry_of, known)

    def watch(self, key: Key | None = None, *, prefix: Key = b"", since: str | None = None) -> Watch:
        """What becomes of a key, of keys that begin with ``prefix``, or of all: ``async for event in watch``.

        A change that begins after :meth:`~chordtx.chord.watching.Watch.when_ready` is not missed, whoever
        leads or is cut off meanwhile. See :class:`chordtx.Event`.

        :param since: a version of ``key``: what became of it since then is told too.
        :raises ValueError: when ``since`` is none, or comes without a key; or for a key and a prefix.
        """
        if key is not None and key_bytes(prefix):
            raise ValueError("watch takes a key or a prefix")
        if key is None and since is not None:
            raise ValueError("since is a version of one key: give that key too")
        watched = self._as_key(prefix if key is None else key)
        position = None if since is None else rank_of(since)
        return self._watch(watched, key is None, position, self._as_given)

    def contains(self, key: Key) -> Deferred[bool]:
        """Whether ``key`` has a value."""
        return self._ask(operations.GET, self._as_key(key)).addCallback(lambda answer: answer.status == DONE)

    def set(self, key: Key, value: object, ttl: float | None = None) -> Deferred[None]:
        """Store ``value``; fires when it is safe. None deletes.

        :param ttl: seconds after which the value is gone.
        :raises TypeError: when msgpack cannot carry the value.
        :raises ValueError: when ``ttl`` is not above 0, not finite, or longer than some 3,000 years.
        :raises chordtx.errors.ValueTooLarge: when it is past ``value_bytes_max``.
        """
        seconds = None if ttl is None else check_ttl(ttl)
        return self._set_item(*self._item(key, value), seconds)

    def pop(self, key: Key, *default: object) -> Deferred[Value]:
        """The value of ``key``, which is deleted; without a value, ``default``, or KeyError when not given.

        Of several callers one gets it.
        """
        if len(default) > 1:
            raise TypeError("pop takes one default at most")
        known = self._as_key(key)
        return self._ask(operations.TAKE, known).addCallback(self._taken, known, default)

    def _set_item(self, key: bytes, blob: bytes | None, ttl: float | None) -> Deferred[None]:
        return self._ask(operations.SET, key, blob, ttl_ms(ttl)).addCallback(_nothing)

    def _ask(self, kind: int, key: bytes, *arguments: object) -> Deferred[Answer]:
        """Ask the leader of the key's group."""
        identity = self._identity
        if identity is None or self._life.phase is not Phase.UP or self._life.refusal is not None:
            return self._run(self._do_once_known(kind, key, arguments))
        return self._client.do(partition_of(key, identity.partition_bits), kind, key, arguments)

    def _ask_partition(self, partition: int, kind: int, *arguments: object) -> Deferred[Answer]:
        """Ask the leader of a partition, of a ring that is known."""
        return self._client.do(partition, kind, b"", arguments)

    def _watch(
        self, watched: bytes, is_prefix: bool, since: Rank | None, as_given: Callable[[bytes], bytes]
    ) -> Watch:
        """Begin a watch. :param as_given: makes the caller's key of one that is stored."""
        return self._watches.watch(watched, is_prefix=is_prefix, since=since, as_given=as_given)

    def _value_or(self, answer: Answer, default: object) -> Value:
        return default if answer.status == ABSENT else self._unpacked(value_in(answer))

    def _value_of(self, answer: Answer, key: bytes) -> Value:
        if answer.status == ABSENT:
            raise KeyError(self._as_given(key))
        return self._unpacked(value_in(answer))

    def _entry_of(self, answer: Answer, key: bytes) -> Entry:
        if answer.status == ABSENT:
            raise KeyError(self._as_given(key))
        return self._as_entry(key, *found_in(answer))

    def _as_entry(self, key: bytes, value: bytes, expires_ms: int, rank: Rank) -> Entry:
        expires = expires_ms / 1000 if expires_ms else None
        return Entry(self._as_given(key), self._unpacked(value), version_of(rank), expires)

    def _taken(self, answer: Answer, key: bytes, default: tuple[object, ...]) -> Value:
        if answer.status == DONE:
            return self._unpacked(blob_in(answer))
        if default:
            return default[0]
        raise KeyError(self._as_given(key))

    # What the rest of the dict is made of

    async def _read_packed(self, key: bytes) -> bytes | None:
        """See :class:`~chordtx.dictionary.DictMixin`."""
        answer = await self._ask(operations.GET, key)
        if answer.status == ABSENT:
            return None
        return value_in(answer)

    async def _write_packed(self, key: bytes, blob: bytes, ttl: float | None) -> None:
        """See :class:`~chordtx.dictionary.DictMixin`."""
        await self._ask(operations.SET, key, blob, ttl_ms(ttl))

    async def _write_if_absent(self, key: bytes, blob: bytes, ttl: float | None) -> bool:
        """See :class:`~chordtx.dictionary.DictMixin`."""
        answer = await self._ask(operations.COMPARE_AND_SET, key, None, blob, ttl_ms(ttl))
        return answer.status == DONE

    async def _delete_key(self, key: bytes) -> None:
        """See :class:`~chordtx.dictionary.DictMixin`."""
        await self._ask(operations.DELETE, key, None)

    async def _pop(self, key: bytes, default: tuple[object, ...]) -> Value:
        return self._taken(await self._ask(operations.TAKE, key), key, default)

    async def _write_fields(self, key: bytes, fields: dict[bytes, bytes]) -> bytes | None:
        """See :class:`~chordtx.dictionary.DictMixin`."""
        entries = b"".join(name + value for name, value in fields.items())
        delta = operations.map_header(len(fields)) + entries
        check_value(delta, self._value_bytes_max, self._value_limits)
        answer = await self._ask(operations.DELTA, key, delta)
        if answer.status == WRONG_TYPE:
            raise TypeError("a delta can only be applied to a map")
        if answer.status == TOO_LARGE:
            size_bytes = answer.detail if type(answer.detail) is int else 0
            raise ValueTooLarge("the map would be past the limits", size_bytes, self._value_bytes_max)
        return blob_in(answer)

    async def _do_once_known(self, kind: int, key: bytes, arguments: tuple[object, ...]) -> Answer:
        identity = await self._ring_known()
        return await self._client.do(partition_of(key, identity.partition_bits), kind, key, arguments)

    # Many keys

    async def _key_pages(self, span: Span) -> AsyncGenerator[list[bytes], None]:
        """See :class:`~chordtx.dictionary.DictMixin`: leaders leave out the others."""
        async for entries in self._entry_pages(span, with_values=False):
            yield [entry[0] for entry in entries]

    async def _item_pages(self, span: Span) -> AsyncGenerator[list[tuple[bytes, bytes]], None]:
        """See :class:`~chordtx.dictionary.DictMixin`."""
        async for entries in self._entry_pages(span, with_values=True):
            yield [(key, _value_in_page(value)) for key, value, _, _ in entries]

    def entries(
        self, prefix: Key = b"", *, after: Key | None = None, limit: int | None = None
    ) -> AsyncIterator[Entry]:
        """Every record with its version and expiry, or those whose keys begin so; see :meth:`keys`."""
        return self._entries(self._span(prefix, after, limit))

    async def _entries(self, span: Span) -> AsyncGenerator[Entry, None]:
        async for page in self._pages(self._entry_pages(span, with_values=True), span.limit):
            for key, value, expires_ms, rank in page:
                yield self._as_entry(key, _value_in_page(value), expires_ms, rank)

    async def _count(self, prefix: bytes) -> int:
        """See :class:`~chordtx.dictionary.DictMixin`: groups count for themselves."""
        identity = await self._ring_known()
        count = 0

        async def add(partition: int) -> None:
            nonlocal count
            answer = await self._ask_partition(partition, operations.COUNT, prefix)
            count += count_in(answer)

        await in_parallel(add, range(identity.partitions))
        return count

    async def _entry_pages(self, span: Span, *, with_values: bool) -> AsyncGenerator[list[Listed], None]:
        """All entries of a span, partition by partition; some partitions are asked ahead.

        With values, these are as many as the last pages let expect to bring a few MiB together.
        """
        identity = await self._ring_known()
        after = span.after
        first = 0 if after is None else partition_of(after, identity.partition_bits)
        ahead: deque[tuple[int, Deferred[Answer]]] = deque()
        waiting = iter(range(first, identity.partitions))
        expected_bytes = LIST_BYTES_MAX if with_values else 0

        def ask_ahead() -> None:
            while len(ahead) < min(_PARTITIONS_AT_ONCE, max(1, _AHEAD_BYTES_MAX // max(1, expected_bytes))):
                partition = next(waiting, None)
                if partition is None:
                    break
                begin = after if partition == first else None
                ahead.append((partition, self._list(partition, span, begin, with_values)))

        try:
            ask_ahead()
            while ahead:
                partition, asked = ahead.popleft()
                entries, has_more = page_in(await asked)
                expected_bytes = max(expected_bytes // 2, _size_bytes(entries) if with_values else 0)
                ask_ahead()
                if entries:
                    yield entries
                while has_more:
                    last = entries[-1][0]
                    entries, has_more = page_in(await self._list(partition, span, last, with_values))
                    if entries:
                        yield entries
        finally:
            for _, asked in ahead:
                asked.addErrback(lambda _: None)
                asked.cancel()

    def _list(self, partition: int, span: Span, after: bytes | None, with_values: bool) -> Deferred[Answer]:
        count = _PAGE_KEYS if span.limit is None else min(_PAGE_KEYS, max(1, span.limit))
        return self._ask_partition(partition, operations.LIST, span.prefix, after, count, with_values)


def _nothing(_: Answer) -> None:
    """It is done."""


def _value_in_page(value: bytes | None) -> bytes:
    if value is None:
        raise ProtocolError("values were asked for")
    return value


def _size_bytes(entries: list[Listed]) -> int:
    return sum(len(key) + len(value or b"") for key, value, _, _ in entries)
