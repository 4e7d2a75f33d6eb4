"""The dict methods of a blocking socket."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from itertools import chain, islice
from typing import Any, Self

from chordtx.blocking import bridge
from chordtx.blocking.mesh import MeshSocket
from chordtx.values import Key, key_bytes

_AT_ONCE = 256  # items that one trip to the reactor's thread stores


class DictSocket(MeshSocket, MutableMapping[Any, Any]):
    """A dict that many machines share. Keys are bytes-like; str is taken as its UTF-8, and keys come back as
    bytes. Values are what msgpack carries, and None deletes. What comes back is a copy of what was stored.

    It has all methods of :class:`collections.abc.MutableMapping`, with these differences from a dict:
    ``keys``, ``values`` and ``items`` are iterators, in no order of insertion; an empty socket is true; and
    what others change meanwhile is no error.

    Every call raises :class:`chordtx.Stopped` once the socket is closed, :class:`TypeError` for a key that is
    neither bytes-like nor str. Mappings and iterables that are handed over are walked in the caller's thread.
    """

    def get(self, key: Key, ifError: Any = None) -> Any:
        """The value of ``key``; ``ifError`` when nothing is there."""
        return bridge.call(self._service.get, key_bytes(key), ifError)

    def __getitem__(self, key: Key) -> Any:
        """The value of ``key``.

        :raises KeyError: when nothing is there.
        """
        known = key_bytes(key)
        return bridge.call(lambda: self._service[known])

    def set(self, key: Key, value: Any, ttl: float | None = None) -> None:
        """Store ``value``; for ``ttl`` seconds when given.

        :raises TypeError: when msgpack cannot carry it. :raises chordtx.ValueTooLarge: past the limits.
        """
        bridge.call(self._service.set, key_bytes(key), value, ttl)

    def __setitem__(self, key: Key, value: Any) -> None:
        self.set(key, value)

    def __delitem__(self, key: Key) -> None:
        """Delete ``key``.

        :raises KeyError: when nothing is there.
        """
        bridge.call(self._service.delete, key_bytes(key))

    def __contains__(self, key: object) -> bool:
        return bool(bridge.call(self._service.contains, key_bytes(key)))

    def __len__(self) -> int:
        """How many keys there are: the whole ring is asked."""
        return int(bridge.call(self._service.count))

    def __bool__(self) -> bool:
        return True  # and not whether there are any keys, which would ask the whole ring

    def __iter__(self) -> Iterator[bytes]:
        return self.keys()

    def __eq__(self, other: object) -> bool:
        """Whether ``other`` is a mapping with the same items: all are fetched, unless it is this socket."""
        return self is other or super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]  # as of all mappings that change

    def keys(self, prefix: Key = b"") -> Iterator[bytes]:  # type: ignore[override]  # as the old library had it
        """Every key that begins with ``prefix``, page by page from the nodes that own them."""
        start = key_bytes(prefix)
        return bridge.iterate(lambda: self._service.keys(start))

    def values(self, prefix: Key = b"") -> Iterator[Any]:  # type: ignore[override]
        """Every value whose key begins with ``prefix``."""
        start = key_bytes(prefix)
        return bridge.iterate(lambda: self._service.values(start))

    def items(self, prefix: Key = b"") -> Iterator[tuple[bytes, Any]]:  # type: ignore[override]
        """Every key that begins with ``prefix``, with its value."""
        start = key_bytes(prefix)
        return bridge.iterate(lambda: self._service.items(start))

    def setdefault(self, key: Key, default: Any = None, ttl: float | None = None) -> Any:
        """The value of ``key``; ``default``, which is stored then, when there is none.

        In a ring one of several callers stores theirs, and all get that one.
        """
        return bridge.call(self._service.setdefault, key_bytes(key), default, ttl)

    def pop(self, key: Key, *default: Any) -> Any:
        """Delete ``key`` and give back its value; see :meth:`chordtx.ChordService.pop`.

        :raises KeyError: when nothing is there and no default was given.
        """
        return bridge.call(self._service.pop, key_bytes(key), *default)

    def popitem(self) -> tuple[bytes, Any]:
        """Delete some key, and give it back with its value; see :meth:`chordtx.ChordService.popitem`.

        :raises KeyError: when there are no keys.
        """
        key, value = bridge.call(self._service.popitem)
        return key, value

    def update(self, other: Any = (), /, *, ttl: float | None = None, **named: Any) -> None:
        """Set every item of ``other``, a mapping or an iterable of pairs, and of ``named``; for ``ttl``
        seconds when given. (An item with this name is given in ``other``.)

        They are stored some hundred at a time. So when it fails, or reading ``other`` does, some may be
        stored.
        """
        items = chain(_items(other), named.items())
        while some := {key_bytes(key): value for key, value in islice(items, _AT_ONCE)}:
            bridge.call(self._service.update, some, ttl=ttl)

    def clear(self) -> None:
        """Delete every key, page by page. A key that somebody sets meanwhile may stay.

        :raises KeyError: when another node has leased one of them.
        """
        keys = self.keys()
        while some := dict.fromkeys(islice(keys, _AT_ONCE)):
            self.update(some)

    def apply_delta(self, key: Key, mapping: Mapping[Any, Any]) -> dict[Any, Any]:
        """Merge ``mapping`` into the map at ``key``, field by field.

        :returns: the map as it is then. :raises TypeError: when something else than a map is there.
        """
        if not isinstance(mapping, Mapping):
            raise TypeError(f"a delta is a mapping, and not {type(mapping).__name__}")
        return dict(bridge.call(self._service.apply_delta, key_bytes(key), dict(mapping.items())))

    def get_many(self, keys: Iterable[Key]) -> dict[bytes, Any]:
        """The values of those of ``keys`` that have one."""
        return dict(bridge.call(self._service.get_many, [key_bytes(key) for key in keys]))

    def copy(self) -> dict[bytes, Any]:
        """Everything, as a plain dict: mind its size."""
        return dict(bridge.call(self._service.copy))

    __copy__ = copy

    def __deepcopy__(self, _: Any) -> dict[bytes, Any]:
        return self.copy()

    def __or__(self, other: Any) -> dict[Any, Any]:
        """Everything, and the items of ``other``, as a plain dict."""
        return self.copy() | dict(other.items()) if isinstance(other, Mapping) else NotImplemented

    def __ror__(self, other: Any) -> dict[Any, Any]:
        return dict(other.items()) | self.copy() if isinstance(other, Mapping) else NotImplemented

    def __ior__(self, other: Any) -> Self:
        self.update(other)
        return self


def _items(other: Any) -> Iterable[tuple[Any, Any]]:
    """The items of what ``dict.update`` takes, read as they are asked for."""
    if isinstance(other, Mapping):
        return other.items()
    if hasattr(other, "keys"):
        return ((key, other[key]) for key in other.keys())
    pairs: Iterable[tuple[Any, Any]] = iter(other)
    return pairs
