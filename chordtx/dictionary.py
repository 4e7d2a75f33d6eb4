"""The dict API that services share, over a few operations that each service implements."""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol, TypeVar

from twisted.internet.defer import Deferred, DeferredList, FirstError

from chordtx.assignments import Assignments
from chordtx.config import Limits
from chordtx.errors import ValueTooLarge
from chordtx.values import Key, check_limit, check_ttl, key_bytes
from chordtx.wire import pack_value, unpack_value

T = TypeVar("T")
Items = Mapping[Any, Any] | Iterable[Any]
_WINDOW = 64
_SHOWN_MAX = 40  # characters of a key in an error
_NOTHING = object()
_ABSENT = object()


class HasKeys(Protocol):
    """What ``update`` takes beside mappings, as ``dict.update`` does."""

    def keys(self) -> Iterable[Any]:
        """Its keys."""

    def __getitem__(self, key: Any, /) -> Any:
        """The value of a key."""


class Span(NamedTuple):
    """What a listing is about.

    :ivar prefix: with what the keys begin. :ivar after: begin behind this key in the order; None for all.
    :ivar limit: the most that are wanted; None for all.
    """

    prefix: bytes
    after: bytes | None
    limit: int | None


class DictMixin:
    """The dict methods of a service.

    Keys are bytes-like; str is taken as its UTF-8, and keys come back as bytes. Values are what msgpack
    carries: None, bool, int, float, str, bytes, list, dict; a tuple comes back as a list. Every Deferred may
    be cancelled.

    :ivar key_bytes_max: the longest key. :ivar value_bytes_max: the largest value, packed.
    :ivar value_limits: of nesting and of elements in a value. :ivar record_limits: of what is kept of it.
    """

    _key_bytes_max: int
    _value_bytes_max: int
    _value_limits: Limits
    _read_limits: Limits
    _assignments: Assignments

    if TYPE_CHECKING:

        def _run(self, work: Coroutine[Any, Any, T]) -> Deferred[T]: ...

    # What each service has in its own way

    async def _read_packed(self, key: bytes) -> bytes | None:
        """The packed value of ``key``, None when there is none."""
        raise NotImplementedError

    async def _write_packed(self, key: bytes, blob: bytes, ttl: float | None) -> None:
        """Store a packed value, for ``ttl`` seconds when given."""
        raise NotImplementedError

    async def _delete_key(self, key: bytes) -> None:
        """Delete ``key``, whether it has a value or not."""
        raise NotImplementedError

    async def _write_fields(self, key: bytes, fields: dict[bytes, bytes]) -> bytes | None:
        """Write packed fields into the map under ``key``.

        :returns: the packed map. :raises TypeError: when the value is no map.
        """
        raise NotImplementedError

    async def _write_if_absent(self, key: bytes, blob: bytes, ttl: float | None) -> bool:
        """Store a packed value where there is none. :returns: whether there was none."""
        raise NotImplementedError

    def _key_pages(self, span: Span) -> AsyncGenerator[list[bytes], None]:
        """All keys of a span in their order, some at a time. There may be more of them than the limit."""
        raise NotImplementedError

    def _item_pages(self, span: Span) -> AsyncGenerator[list[tuple[bytes, bytes]], None]:
        """The same with their packed values: a page has a bounded size."""
        raise NotImplementedError

    # The dict

    def get(self, key: Key, default: Any = None) -> Deferred[Any]:
        """The value of ``key``, or ``default`` when there is none."""
        return self._run(self._get(self._as_key(key), default))

    def __getitem__(self, key: Key) -> Deferred[Any]:
        """The value of ``key``; fails with KeyError when there is none."""
        return self._run(self._get(self._as_key(key), _NOTHING))

    def contains(self, key: Key) -> Deferred[bool]:
        """Whether ``key`` has a value."""
        return self._run(self._contains(self._as_key(key)))

    def set(self, key: Key, value: Any, ttl: float | None = None) -> Deferred[None]:
        """Store ``value``; fires when it is safe. None deletes.

        :param ttl: seconds after which the value is gone.
        :raises TypeError: when msgpack cannot carry the value.
        :raises ValueError: when ``ttl`` is not above 0, not finite, or longer than some 3,000 years.
        :raises chordtx.errors.ValueTooLarge: when it is past ``value_bytes_max``.
        """
        seconds = check_ttl(ttl)
        return self._run(self._set(*self._item(key, value), seconds))

    def setdefault(self, key: Key, default: Any = None, ttl: float | None = None) -> Deferred[Any]:
        """The value of ``key``; ``default``, which is stored then, when there is none.

        In a ring one of several callers stores theirs, and all get that one. In a dict that everybody has a
        copy of, those who call at the same moment may each get their own, and everybody settles on one.

        :param default: None stores nothing. :param ttl: as for :meth:`set`.
        """
        seconds = check_ttl(ttl)
        return self._run(self._setdefault(*self._item(key, default), seconds))

    def delete(self, key: Key) -> Deferred[None]:
        """Delete ``key``; fails with KeyError when it has no value."""
        return self._delete_item(self._as_key(key))

    def pop(self, key: Key, *default: Any) -> Deferred[Any]:
        """The value of ``key``, which is deleted; without a value, ``default``, or KeyError when not given.

        In a dict that everybody has a copy of, two callers at once may both see the value: reading and
        deleting are two steps there.
        """
        if len(default) > 1:
            raise TypeError("pop takes one default at most")
        return self._run(self._pop(self._as_key(key), default))

    def popitem(self) -> Deferred[tuple[bytes, Any]]:
        """Some key and its value, which is deleted; fails with KeyError when there is none at all.

        Whether two callers at once may see the same item is as with :meth:`pop`.
        """
        return self._run(self._popitem())

    def apply_delta(self, key: Key, mapping: Mapping[Any, Any]) -> Deferred[dict[Any, Any]]:
        """Write the fields of ``mapping`` into the map stored under ``key``, an empty one when there is none.

        Fields written by others at the same time stay. Fires with the resulting map; fails with TypeError
        when the value is no map.
        """
        if not isinstance(mapping, Mapping):
            raise TypeError("a delta is a mapping")
        fields = {self._pack(name): self._pack(value) for name, value in mapping.items()}
        return self._run(self._apply_delta(self._as_key(key), fields))

    def update(
        self, mapping: Items | HasKeys = (), /, *, ttl: float | None = None, **items: Any
    ) -> Deferred[None]:
        """Set every item (None deletes); fails with the first failure.

        :param mapping: a mapping, what has ``keys()``, or pairs. Of two items with one key the later counts.
        :param ttl: for all of them, as for :meth:`set`; an item with this name is given in ``mapping``.
        :param items: more of them. :raises ValueError: for something in the place of a pair that is none.
        """
        seconds = check_ttl(ttl)
        packed = dict(self._item(key, value) for key, value in _pairs(mapping))
        packed.update(self._item(key, value) for key, value in items.items())
        return self._run(in_parallel(lambda item: self._set(item[0], item[1], seconds), packed.items()))

    def get_many(self, keys: Iterable[Key]) -> Deferred[dict[bytes, Any]]:
        """The values of those of ``keys`` that have one."""
        if isinstance(keys, Key):
            raise TypeError("get_many takes several keys: `get` is for one")
        return self._run(self._get_many([self._as_key(key) for key in keys]))

    def count(self, prefix: Key = b"") -> Deferred[int]:
        """How many keys there are, or begin with ``prefix``."""
        return self._run(self._count(self._as_key(prefix)))

    def copy(self) -> Deferred[dict[bytes, Any]]:
        """Everything, as a plain dict: mind its size."""
        return self._run(self._copy())

    def clear(self) -> Deferred[None]:
        """Delete every key that is there. Not at one moment: what is stored meanwhile may stay."""
        return self._run(self._clear())

    def keys(
        self, prefix: Key = b"", *, after: Key | None = None, limit: int | None = None
    ) -> AsyncIterator[bytes]:
        """Every key, or those that begin with ``prefix``.

        A key that is added or deleted meanwhile may be among them or not; all others are, once. So it is when
        a listing is taken up again: give the last key of one part as the ``after`` of the next one. The order
        stays the same: in a ring by partition, and by key within each; in a dict that everybody has a copy
        of, by key.

        :param after: begin behind this key in the order, whether it is still there or not.
        :param limit: the most that are given.
        :raises TypeError: for a limit that is no int. :raises ValueError: for one below 0.
        """
        return self._keys(self._span(prefix, after, limit))

    def items(
        self, prefix: Key = b"", *, after: Key | None = None, limit: int | None = None
    ) -> AsyncIterator[tuple[bytes, Any]]:
        """Every key with its value, or those that begin with ``prefix``; see :meth:`keys`."""
        return self._items(self._span(prefix, after, limit))

    def values(
        self, prefix: Key = b"", *, after: Key | None = None, limit: int | None = None
    ) -> AsyncIterator[Any]:
        """Every value, or those whose keys begin with ``prefix``; see :meth:`keys`."""
        return self._values(self._span(prefix, after, limit))

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.keys()

    def __setitem__(self, key: Key, value: Any) -> None:
        """Start a :meth:`set`; :meth:`flush` waits for it.

        Some are under way at once. Others wait for them, so a loop that assigns holds the packed values that
        it is ahead: who has many awaits ``flush()`` now and then, or uses :meth:`update`. What is done to one
        key is done in order.
        """
        known, blob = self._item(key, value)
        size_bytes = len(known) + (0 if blob is None else len(blob))
        self._assignments.add(known, size_bytes, partial(self._set_item, known, blob, None))

    def __delitem__(self, key: Key) -> None:
        """Start a :meth:`delete`; :meth:`flush` waits for it. See ``service[key] = value``."""
        known = self._as_key(key)
        self._assignments.add(known, len(known), partial(self._delete_item, known))

    def flush(self) -> Deferred[None]:
        """Wait for all that was started with ``service[key] = value`` and ``del service[key]``.

        Fails with the first failure among them, each of which is told once. Cancelling it ends the waiting,
        and not the work.
        """
        outcome = self._assignments.flush()
        if outcome is None:
            return self._run(_nothing())  # fails when the service does not run
        return outcome

    # What is like a dict, and cannot be, since the network is to be asked

    def __contains__(self, key: object) -> NoReturn:
        raise TypeError(f"the network is to be asked: `await node.contains({_shown(key)})`")

    def __len__(self) -> NoReturn:
        raise TypeError("the network is to be asked: `await node.count()`")

    def __iter__(self) -> NoReturn:
        raise TypeError(
            "the network is to be asked: `async for key in node`, `async for key, value in node.items()`,"
            " or `await node.copy()` for everything as a dict"
        )

    def __bool__(self) -> bool:
        """True: whether there are any keys is for :meth:`count` to say."""
        return True

    # Keys and values

    def _as_key(self, key: Key) -> bytes:
        """A key as users give it.

        :raises TypeError: when it is neither bytes-like nor str. :raises ValueTooLarge: past
            ``key_bytes_max``.
        """
        if type(key) is not bytes:
            key = key_bytes(key)
        if len(key) > self._key_bytes_max:
            raise ValueTooLarge(f"a key may take {self._key_bytes_max} bytes", len(key), self._key_bytes_max)
        return key

    def _as_given(self, key: bytes) -> bytes:
        """A key as users know it, of what :meth:`_as_key` has made of it."""
        return key

    def _span(self, prefix: Key = b"", after: Key | None = None, limit: int | None = None) -> Span:
        """What a listing is about, as users say it."""
        behind = None if after is None else self._as_key(after)
        return Span(self._as_key(prefix), behind, check_limit(limit))

    def _unpacked(self, blob: bytes) -> Any:
        """The value that was packed. :raises ProtocolError: when it is none."""
        return unpack_value(blob, self._read_limits)

    def _pack(self, value: Any) -> bytes:
        return pack_value(value, self._value_bytes_max, self._value_limits)

    def _item(self, key: Key, value: Any) -> tuple[bytes, bytes | None]:
        known = self._as_key(key)
        return known, None if value is None else self._pack(value)

    # The work

    async def _pages(
        self, source: AsyncGenerator[list[T], None], limit: int | None = None
    ) -> AsyncIterator[list[T]]:
        """Pages, of which each ends when the service does; with a limit, so many entries in all at most."""
        left = limit
        try:
            while left != 0 and (page := await self._run(_next(source))) is not None:
                if left is not None:
                    page = page[:left]
                    left -= len(page)
                yield page
        finally:
            with suppress(RuntimeError):  # it is in the middle of a page, for which nobody waits any more
                await source.aclose()

    async def _keys(self, span: Span) -> AsyncIterator[bytes]:
        async for page in self._pages(self._key_pages(span), span.limit):
            for key in page:
                yield self._as_given(key)

    async def _items(self, span: Span) -> AsyncIterator[tuple[bytes, Any]]:
        async for page in self._pages(self._item_pages(span), span.limit):
            for key, blob in page:
                yield self._as_given(key), self._unpacked(blob)

    async def _values(self, span: Span) -> AsyncIterator[Any]:
        async for page in self._pages(self._item_pages(span), span.limit):
            for _, blob in page:
                yield self._unpacked(blob)

    async def _get(self, key: bytes, default: Any) -> Any:
        packed = await self._read_packed(key)
        if packed is None:
            if default is _NOTHING:
                raise KeyError(self._as_given(key))
            return default
        return self._unpacked(packed)

    async def _contains(self, key: bytes) -> bool:
        return await self._read_packed(key) is not None

    async def _set(self, key: bytes, blob: bytes | None, ttl: float | None) -> None:
        if blob is None:
            await self._delete_key(key)
        else:
            await self._write_packed(key, blob, ttl)

    def _set_item(self, key: bytes, blob: bytes | None, ttl: float | None) -> Deferred[None]:
        return self._run(self._set(key, blob, ttl))

    async def _setdefault(self, key: bytes, blob: bytes | None, ttl: float | None) -> Any:
        while True:
            present = await self._read_packed(key)
            if present is not None:
                return self._unpacked(present)
            if blob is None:
                return None
            if await self._write_if_absent(key, blob, ttl):
                return self._unpacked(blob)

    def _delete_item(self, key: bytes) -> Deferred[None]:
        return self._run(self._delete(key))

    async def _delete(self, key: bytes) -> None:
        if not await self._contains(key):
            raise KeyError(self._as_given(key))
        await self._delete_key(key)

    async def _pop(self, key: bytes, default: tuple[Any, ...]) -> Any:
        value = await self._get(key, _ABSENT if default else _NOTHING)
        if value is _ABSENT:
            return default[0]
        await self._delete_key(key)
        return value

    async def _popitem(self) -> tuple[bytes, Any]:
        async for page in self._pages(self._key_pages(self._span())):
            for key in page:
                try:
                    return self._as_given(key), await self._pop(key, ())
                except KeyError:
                    continue  # somebody else was faster
        raise KeyError("popitem(): there are no keys")

    async def _apply_delta(self, key: bytes, fields: dict[bytes, bytes]) -> dict[Any, Any]:
        packed = await self._write_fields(key, fields)
        value: dict[Any, Any] = {} if packed is None else self._unpacked(packed)
        return value

    async def _get_many(self, keys: list[bytes]) -> dict[bytes, Any]:
        found: dict[bytes, Any] = {}

        async def get(key: bytes) -> None:
            value = await self._get(key, _ABSENT)
            if value is not _ABSENT:
                found[self._as_given(key)] = value

        await in_parallel(get, keys)
        return found

    async def _count(self, prefix: bytes) -> int:
        count = 0
        async for page in self._pages(self._key_pages(Span(prefix, None, None))):
            count += len(page)
        return count

    async def _copy(self) -> dict[bytes, Any]:
        return {key: value async for key, value in self._items(self._span())}

    async def _clear(self) -> None:
        async for page in self._pages(self._key_pages(self._span())):
            await in_parallel(self._delete_key, page)


def _shown(key: object) -> str:
    """A key as it is written in a program, if it is short."""
    return repr(key) if isinstance(key, str | bytes) and len(key) <= _SHOWN_MAX else "key"


async def _next(source: AsyncGenerator[T, None]) -> T | None:
    try:
        return (
            await source.__anext__()
        )  # not anext(source, None): in CPython 3.11 it unpacks tuples sent to it
    except StopAsyncIteration:
        return None


async def in_parallel(work: Callable[[Any], Awaitable[Any]], items: Iterable[Any]) -> None:
    """Do ``work`` for each item, some at a time; the first failure ends it."""
    waiting = iter(items)

    async def one_after_another() -> None:
        for item in waiting:
            await work(item)

    workers = [Deferred.fromCoroutine(one_after_another()) for _ in range(_WINDOW)]
    everyone: Deferred[Any] = DeferredList(workers, fireOnOneErrback=True, consumeErrors=True)
    try:
        await everyone
    except FirstError as error:
        for worker in workers:
            worker.cancel()
        error.subFailure.raiseException()


async def _nothing() -> None:
    """There is nothing to wait for."""


def _pairs(mapping: Any) -> Iterator[tuple[Any, Any]]:
    """Keys and values of whatever ``dict.update`` takes.

    :raises TypeError: when it is neither a mapping nor pairs. :raises ValueError: for what is no pair.
    """
    if isinstance(mapping, Mapping):
        yield from mapping.items()
        return
    if hasattr(mapping, "keys"):
        if isinstance(mapping, DictMixin):
            raise TypeError("the network is to be asked: `await node.update(await other.copy())`")
        yield from ((key, mapping[key]) for key in mapping.keys())
        return
    for number, item in enumerate(mapping):
        try:
            pair = tuple(item)
        except TypeError:
            raise TypeError(f"update takes pairs, and item {number} is {type(item).__name__}") from None
        if len(pair) != 2:
            raise ValueError(f"update takes pairs, and item {number} has {len(pair)} parts")
        yield pair
