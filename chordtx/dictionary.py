"""The dict API that services share, over a few operations that each service implements."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from twisted.internet.defer import Deferred, DeferredList, FirstError

from chordtx.config import Limits
from chordtx.errors import ValueTooLarge
from chordtx.wire import pack_value, unpack_value

T = TypeVar("T")
_WINDOW = 64
_SHOWN_MAX = 40  # characters of a key in an error
_NOTHING = object()
_ABSENT = object()


class DictMixin:
    """The dict methods of a service.

    Keys are bytes; str is taken as its UTF-8. Values are what msgpack carries: None, bool, int, float,
    str, bytes, list, dict; a tuple comes back as a list. Every Deferred may be cancelled.

    :ivar key_bytes_max: the longest key. :ivar value_bytes_max: the largest value, packed.
    :ivar value_limits: of nesting and of elements in a value. :ivar record_limits: of what is kept of it.
    """

    _key_bytes_max: int
    _value_bytes_max: int
    _value_limits: Limits
    _read_limits: Limits
    _started: list[Deferred[Any]]

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

    def _key_pages(self) -> AsyncGenerator[list[bytes], None]:
        """All keys, some at a time."""
        raise NotImplementedError

    # The dict

    def get(self, key: bytes | str, default: Any = None) -> Deferred[Any]:
        """The value of ``key``, or ``default`` when there is none."""
        return self._run(self._get(self._as_key(key), default))

    def __getitem__(self, key: bytes | str) -> Deferred[Any]:
        """The value of ``key``; fails with KeyError when there is none."""
        return self._run(self._get(self._as_key(key), _NOTHING))

    def contains(self, key: bytes | str) -> Deferred[bool]:
        """Whether ``key`` has a value."""
        return self._run(self._contains(self._as_key(key)))

    def set(self, key: bytes | str, value: Any, ttl: float | None = None) -> Deferred[None]:
        """Store ``value``; fires when it is safe. None deletes.

        :param ttl: seconds after which the value is gone.
        :raises TypeError: when msgpack cannot carry the value.
        :raises ValueError: when ``ttl`` is not above 0.
        :raises chordtx.errors.ValueTooLarge: when it is past ``value_bytes_max``.
        """
        if ttl is not None and not ttl > 0:
            raise ValueError("a ttl is seconds, and above 0")
        return self._run(self._set(*self._item(key, value), ttl))

    def delete(self, key: bytes | str) -> Deferred[None]:
        """Delete ``key``; fails with KeyError when it has no value."""
        return self._run(self._delete(self._as_key(key)))

    def pop(self, key: bytes | str, *default: Any) -> Deferred[Any]:
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

    def apply_delta(self, key: bytes | str, mapping: Mapping[Any, Any]) -> Deferred[dict[Any, Any]]:
        """Write the fields of ``mapping`` into the map stored under ``key``, an empty one when there is none.

        Fields written by others at the same time stay. Fires with the resulting map; fails with TypeError
        when the value is no map.
        """
        if not isinstance(mapping, Mapping):
            raise TypeError("a delta is a mapping")
        fields = {self._pack(name): self._pack(value) for name, value in mapping.items()}
        return self._run(self._apply_delta(self._as_key(key), fields))

    def update(self, mapping: Mapping[Any, Any]) -> Deferred[None]:
        """Set every item of ``mapping`` (None deletes); fails with the first failure."""
        items = [self._item(key, value) for key, value in mapping.items()]
        return self._run(in_parallel(lambda item: self._set(item[0], item[1], None), items))

    def get_many(self, keys: Iterable[bytes | str]) -> Deferred[dict[bytes, Any]]:
        """The values of those of ``keys`` that have one."""
        return self._run(self._get_many([self._as_key(key) for key in keys]))

    def count(self) -> Deferred[int]:
        """How many keys there are: all are walked through."""
        return self._run(self._count())

    def copy(self) -> Deferred[dict[bytes, Any]]:
        """Everything, as a plain dict: mind its size."""
        return self._run(self._copy())

    async def keys(self) -> AsyncIterator[bytes]:
        """Every key, page by page.

        A key that is added or deleted meanwhile may be among them or not; all others are, once.
        """
        async for page in self._pages():
            for key in page:
                yield key

    async def items(self) -> AsyncIterator[tuple[bytes, Any]]:
        """Every key with its value, read a page at a time."""
        async for page in self._pages():
            for item in (await self.get_many(page)).items():
                yield item

    async def values(self) -> AsyncIterator[Any]:
        """Every value, read a page at a time."""
        async for _, value in self.items():
            yield value

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.keys()

    def __setitem__(self, key: bytes | str, value: Any) -> None:
        """Start a :meth:`set`; :meth:`flush` waits for it."""
        self._begin(self.set(key, value))

    def __delitem__(self, key: bytes | str) -> None:
        """Start a :meth:`delete`; :meth:`flush` waits for it."""
        self._begin(self.delete(key))

    def flush(self) -> Deferred[None]:
        """Wait for all that was started with ``service[key] = value`` and ``del service[key]``.

        Fails with the first failure among them, each of which is told once.
        """
        started, self._started = self._started, []
        if not started:
            return self._run(_all_of(started))  # fails when the service does not run
        return Deferred.fromCoroutine(_all_of(started))

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

    def _as_key(self, key: bytes | str) -> bytes:
        """A key as users give it.

        :raises TypeError: when it is neither bytes nor str. :raises ValueTooLarge: past ``key_bytes_max``.
        """
        if isinstance(key, str):
            key = key.encode("utf-8")
        elif not isinstance(key, bytes):
            raise TypeError(f"a key is bytes or str, not {type(key).__name__}")
        if len(key) > self._key_bytes_max:
            raise ValueTooLarge(f"a key may take {self._key_bytes_max} bytes", len(key), self._key_bytes_max)
        return key

    def _unpacked(self, blob: bytes) -> Any:
        """The value that was packed. :raises ProtocolError: when it is none."""
        return unpack_value(blob, self._read_limits)

    def _pack(self, value: Any) -> bytes:
        return pack_value(value, self._value_bytes_max, self._value_limits)

    def _item(self, key: bytes | str, value: Any) -> tuple[bytes, bytes | None]:
        known = self._as_key(key)
        return known, None if value is None else self._pack(value)

    # The work

    async def _pages(self) -> AsyncIterator[list[bytes]]:
        """:meth:`_key_pages`, each of which ends when the service does."""
        source = self._key_pages()
        try:
            while (page := await self._run(_next(source))) is not None:
                yield page
        finally:
            with suppress(RuntimeError):  # it is in the middle of a page, for which nobody waits any more
                await source.aclose()

    async def _get(self, key: bytes, default: Any) -> Any:
        packed = await self._read_packed(key)
        if packed is None:
            if default is _NOTHING:
                raise KeyError(key)
            return default
        return self._unpacked(packed)

    async def _contains(self, key: bytes) -> bool:
        return await self._read_packed(key) is not None

    async def _set(self, key: bytes, blob: bytes | None, ttl: float | None) -> None:
        if blob is None:
            await self._delete_key(key)
        else:
            await self._write_packed(key, blob, ttl)

    async def _delete(self, key: bytes) -> None:
        if not await self._contains(key):
            raise KeyError(key)
        await self._delete_key(key)

    async def _pop(self, key: bytes, default: tuple[Any, ...]) -> Any:
        value = await self._get(key, _ABSENT if default else _NOTHING)
        if value is _ABSENT:
            return default[0]
        await self._delete_key(key)
        return value

    async def _popitem(self) -> tuple[bytes, Any]:
        async for key in self.keys():
            try:
                return key, await self._pop(key, ())
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
                found[key] = value

        await in_parallel(get, keys)
        return found

    async def _count(self) -> int:
        count = 0
        async for page in self._pages():
            count += len(page)
        return count

    async def _copy(self) -> dict[bytes, Any]:
        everything: dict[bytes, Any] = {}
        async for page in self._pages():
            everything.update(await self._get_many(page))
        return everything

    def _begin(self, work: Deferred[Any]) -> None:
        self._started = [each for each in self._started if not _succeeded(each)]
        self._started.append(work)


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


async def _all_of(started: list[Deferred[Any]]) -> None:
    failure = None
    for succeeded, result in await DeferredList(started, consumeErrors=True):
        if not succeeded and failure is None:
            failure = result
    if failure is not None:
        failure.raiseException()


def _succeeded(work: Deferred[Any]) -> bool:
    return bool(work.called) and not hasattr(work.result, "raiseException")
