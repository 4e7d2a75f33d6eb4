"""The dict's own methods, over reads and writes that a majority of replicas answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred, DeferredList, FirstError

from chordtx.errors import ValueTooLarge
from chordtx.records import Record, Version
from chordtx.wire import pack_value, unpack_value

if TYPE_CHECKING:
    from chordtx.chord.announcements import Announcements
    from chordtx.chord.coordinator import Coordinator
    from chordtx.chord.listing import Listing
    from chordtx.config import ChordSettings

T = TypeVar("T")
_WINDOW = 64
_NOTHING = object()
_NEVER_WRITTEN = Version(0, b"")


class DictMixin:
    """What of :class:`~chordtx.ChordService` is like a dict.

    Keys are bytes; str is taken as its UTF-8. Values are what msgpack carries: None, bool, int, float,
    str, bytes, list, dict; a tuple comes back as a list. Every Deferred fails with
    :class:`~chordtx.errors.NoMajority` when a majority of the key's replicas does not answer in time, and
    may be cancelled.
    """

    if TYPE_CHECKING:
        chord_settings: ChordSettings
        _coordinator: Coordinator
        _announcements: Announcements
        _listing: Listing

        def run(self, work: Coroutine[Any, Any, T]) -> Deferred[T]: ...
        def wall_ms(self) -> int: ...

    _started: list[Deferred[Any]]

    def get(self, key: bytes | str, default: Any = None) -> Deferred[Any]:
        """The value of ``key``, or ``default`` when there is none."""
        return self.run(self._get(as_dict_key(key, self.chord_settings), default))

    def __getitem__(self, key: bytes | str) -> Deferred[Any]:
        """The value of ``key``; fails with KeyError when there is none."""
        return self.run(self._get(as_dict_key(key, self.chord_settings), _NOTHING))

    def contains(self, key: bytes | str) -> Deferred[bool]:
        """Whether ``key`` has a value."""
        return self.run(self._contains(as_dict_key(key, self.chord_settings)))

    def set(self, key: bytes | str, value: Any, ttl: float | None = None) -> Deferred[None]:
        """Store ``value``; fires when a majority has it. None deletes.

        :param ttl: seconds after which the value is gone.
        :raises TypeError: when msgpack cannot carry the value.
        :raises ValueError: when ``ttl`` is not above 0.
        :raises chordtx.errors.ValueTooLarge: when it is past ``value_bytes_max``.
        """
        if ttl is not None and not ttl > 0:
            raise ValueError("a ttl is seconds, and above 0")
        return self.run(self._set(*self._item(key, value), ttl))

    def delete(self, key: bytes | str) -> Deferred[None]:
        """Delete ``key``; fails with KeyError when it has no value."""
        return self.run(self._delete(as_dict_key(key, self.chord_settings), must_exist=True))

    def pop(self, key: bytes | str, *default: Any) -> Deferred[Any]:
        """The value of ``key``, which is deleted; without a value, ``default``, or KeyError when not given.

        Two callers at once may both see the value: reading and deleting are two steps.
        """
        if len(default) > 1:
            raise TypeError("pop takes one default at most")
        return self.run(self._pop(as_dict_key(key, self.chord_settings), default))

    def popitem(self) -> Deferred[tuple[bytes, Any]]:
        """Some key and its value, which is deleted; fails with KeyError when there is none at all.

        As with :meth:`pop`, two callers at once may see the same item.
        """
        return self.run(self._popitem())

    def apply_delta(self, key: bytes | str, mapping: Mapping[Any, Any]) -> Deferred[dict[Any, Any]]:
        """Write the fields of ``mapping`` into the map stored under ``key``, an empty one when there is none.

        Fields written by others at the same time stay. Fires with the resulting map; fails with TypeError
        when the value is no map.
        """
        if not isinstance(mapping, Mapping):
            raise TypeError("a delta is a mapping")
        fields = {self._pack(name): self._pack(value) for name, value in mapping.items()}
        return self.run(self.write_delta(as_dict_key(key, self.chord_settings), fields))

    def update(self, mapping: Mapping[Any, Any]) -> Deferred[None]:
        """Set every item of ``mapping`` (None deletes); fails with the first failure."""
        items = [self._item(key, value) for key, value in mapping.items()]
        return self.run(_in_parallel(lambda item: self._set(item[0], item[1], None), items))

    def get_many(self, keys: Iterable[bytes | str]) -> Deferred[dict[bytes, Any]]:
        """The values of those of ``keys`` that have one."""
        return self.run(self._get_many([as_dict_key(key, self.chord_settings) for key in keys]))

    def count(self) -> Deferred[int]:
        """How many keys there are: all are walked through."""
        return self.run(self._count())

    def copy(self) -> Deferred[dict[bytes, Any]]:
        """Everything, as a plain dict: mind its size."""
        return self.run(self._copy())

    async def keys(self) -> AsyncIterator[bytes]:
        """Every key, page by page from the nodes that own them, in the order of the ring.

        A key that is added or deleted meanwhile may be among them or not; all others are, once.
        """
        async for page in self._listing.pages():
            for key in page:
                yield key

    async def items(self) -> AsyncIterator[tuple[bytes, Any]]:
        """Every key with its value, read a page at a time."""
        async for page in self._listing.pages():
            for item in (await self._get_many(page)).items():
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
        return Deferred.fromCoroutine(_all_of(started))

    # The work

    async def _get(self, key: bytes, default: Any) -> Any:
        record = await self._coordinator.read(key)
        packed = None if record is None else record.packed_value(self.wall_ms())
        if packed is None:
            if default is _NOTHING:
                raise KeyError(key)
            return default
        return unpack_value(packed, self.chord_settings.mesh.limits)

    async def _contains(self, key: bytes) -> bool:
        record = await self._coordinator.read(key)
        return record is not None and record.alive(self.wall_ms())

    def _item(self, key: bytes | str, value: Any) -> tuple[bytes, bytes | None]:
        known = as_dict_key(key, self.chord_settings)
        return known, None if value is None else self._pack(value)

    async def _set(self, key: bytes, blob: bytes | None, ttl: float | None) -> None:
        if blob is None:
            await self._delete(key, must_exist=False)
            return
        expiry_ms = None if ttl is None else self.wall_ms() + int(ttl * 1000)
        existed, _ = await self._coordinator.write(key, lambda _, version: Record(version, blob, expiry_ms))
        if not existed:
            self._announcements.announce(key, deleted=False)

    async def _delete(self, key: bytes, must_exist: bool) -> None:
        if must_exist and not await self._contains(key):
            raise KeyError(key)
        existed, _ = await self._coordinator.write(key, lambda _, version: Record(version, None))
        if existed:
            self._announcements.announce(key, deleted=True)

    async def _pop(self, key: bytes, default: tuple[Any, ...]) -> Any:
        value = await self._get(key, _NOTHING if not default else _ABSENT)
        if value is _ABSENT:
            return default[0]
        await self._delete(key, must_exist=False)
        return value

    async def _popitem(self) -> tuple[bytes, Any]:
        async for key in self.keys():
            try:
                return key, await self._pop(key, ())
            except KeyError:
                continue  # somebody else was faster
        raise KeyError("popitem(): there are no keys")

    async def write_delta(
        self, key: bytes, fields: dict[bytes, bytes], ask_old: bool = True
    ) -> dict[Any, Any]:
        """:meth:`apply_delta` for packed fields; ``ask_old`` as for :meth:`Coordinator.write`."""

        def change(present: Record | None, version: Version) -> Record:
            base = present or Record(_NEVER_WRITTEN, None)
            self._must_be_map(base)
            written = {name: (version, blob) for name, blob in fields.items()}
            changed = Record(base.version, base.value, base.expiry_ms, {**base.fields, **written})
            self._must_fit(changed)
            return changed

        existed, record = await self._coordinator.write(key, change, whole=True, ask_old=ask_old)
        if not existed:
            self._announcements.announce(key, deleted=False)
        packed = record.packed_value(self.wall_ms())
        value: dict[Any, Any] = (
            {} if packed is None else unpack_value(packed, self.chord_settings.mesh.limits)
        )
        return value

    def _must_fit(self, record: Record) -> None:
        size_bytes, limit_bytes = (
            len(record.packed_value(self.wall_ms()) or b""),
            self.chord_settings.value_bytes_max,
        )
        if size_bytes > limit_bytes:
            raise ValueTooLarge(f"a value may take {limit_bytes} bytes", size_bytes, limit_bytes)

    def _must_be_map(self, record: Record) -> None:
        packed = record.packed_value(self.wall_ms())
        if packed is not None and not isinstance(unpack_value(packed, self.chord_settings.mesh.limits), dict):
            raise TypeError("a delta can only be applied to a map")

    async def _get_many(self, keys: list[bytes]) -> dict[bytes, Any]:
        found: dict[bytes, Any] = {}

        async def get(key: bytes) -> None:
            value = await self._get(key, _ABSENT)
            if value is not _ABSENT:
                found[key] = value

        await _in_parallel(get, keys)
        return found

    async def _count(self) -> int:
        count = 0
        async for page in self._listing.pages():
            count += len(page)
        return count

    async def _copy(self) -> dict[bytes, Any]:
        everything: dict[bytes, Any] = {}
        async for page in self._listing.pages():
            everything.update(await self._get_many(page))
        return everything

    def _pack(self, value: Any) -> bytes:
        return pack_value(value, self.chord_settings.value_bytes_max, self.chord_settings.mesh.limits)

    def _begin(self, work: Deferred[Any]) -> None:
        self._started = [each for each in self._started if not _succeeded(each)]
        self._started.append(work)


_ABSENT = object()


def as_dict_key(key: bytes | str, settings: ChordSettings) -> bytes:
    """A key as users give it.

    :raises TypeError: when it is neither bytes nor str. :raises ValueTooLarge: past ``key_bytes_max``.
    """
    if isinstance(key, str):
        key = key.encode("utf-8")
    elif not isinstance(key, bytes):
        raise TypeError(f"a key is bytes or str, not {type(key).__name__}")
    if len(key) > settings.key_bytes_max:
        raise ValueTooLarge(
            f"a key may take {settings.key_bytes_max} bytes", len(key), settings.key_bytes_max
        )
    return key


async def _in_parallel(work: Callable[[Any], Awaitable[Any]], items: Iterable[Any]) -> None:
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
