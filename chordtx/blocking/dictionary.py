"""The dict methods of a blocking socket."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from chordtx.blocking import bridge
from chordtx.blocking.mesh import MeshSocket


class DictSocket(MeshSocket):
    """A dict that many machines share. Keys are bytes; str is taken as its UTF-8. Values are what msgpack
    carries, and None deletes.

    Every call raises :class:`chordtx.Stopped` once the socket is closed, :class:`TypeError` for a key that is
    neither bytes nor str.
    """

    def get(self, key: bytes | str, ifError: Any = None) -> Any:
        """The value of ``key``; ``ifError`` when nothing is there."""
        return bridge.call(self._service.get, key, ifError)

    def __getitem__(self, key: bytes | str) -> Any:
        """The value of ``key``.

        :raises KeyError: when nothing is there.
        """
        return bridge.call(lambda: self._service[key])

    def set(self, key: bytes | str, value: Any, ttl: float | None = None) -> None:
        """Store ``value``; for ``ttl`` seconds when given.

        :raises TypeError: when msgpack cannot carry it. :raises chordtx.ValueTooLarge: past the limits.
        """
        bridge.call(self._service.set, key, value, ttl)

    def __setitem__(self, key: bytes | str, value: Any) -> None:
        self.set(key, value)

    def __delitem__(self, key: bytes | str) -> None:
        """Delete ``key``.

        :raises KeyError: when nothing is there.
        """
        bridge.call(self._service.delete, key)

    def __contains__(self, key: bytes | str) -> bool:
        return bool(bridge.call(self._service.contains, key))

    def __len__(self) -> int:
        """How many keys there are: all are walked through."""
        return int(bridge.call(self._service.count))

    def __bool__(self) -> bool:
        return True  # and not whether there are any keys, which would ask the whole ring

    def __iter__(self) -> Iterator[bytes]:
        return self.keys()

    def keys(self) -> Iterator[bytes]:
        """Every key, page by page from the nodes that own them."""
        return bridge.iterate(lambda: self._service.keys())

    def values(self) -> Iterator[Any]:
        """Every value."""
        return bridge.iterate(lambda: self._service.values())

    def items(self) -> Iterator[tuple[bytes, Any]]:
        """Every key with its value."""
        return bridge.iterate(lambda: self._service.items())

    def pop(self, key: bytes | str, *default: Any) -> Any:
        """Delete ``key`` and give back its value; see :meth:`chordtx.ChordService.pop`.

        :raises KeyError: when nothing is there and no default was given.
        """
        return bridge.call(self._service.pop, key, *default)

    def popitem(self) -> tuple[bytes, Any]:
        """Delete some key, and give it back with its value; see :meth:`chordtx.ChordService.popitem`.

        :raises KeyError: when there are no keys.
        """
        key, value = bridge.call(self._service.popitem)
        return key, value

    def update(self, mapping: Mapping[Any, Any]) -> None:
        """Set every item of ``mapping``."""
        bridge.call(self._service.update, mapping)

    def apply_delta(self, key: bytes | str, mapping: Mapping[Any, Any]) -> dict[Any, Any]:
        """Merge ``mapping`` into the map at ``key``, field by field.

        :returns: the map as it is then. :raises TypeError: when something else than a map is there.
        """
        return dict(bridge.call(self._service.apply_delta, key, mapping))

    def get_many(self, keys: Iterable[bytes | str]) -> dict[bytes, Any]:
        """The values of those of ``keys`` that have one."""
        return dict(bridge.call(self._service.get_many, keys))

    def copy(self) -> dict[bytes, Any]:
        """Everything, as a plain dict: mind its size."""
        return dict(bridge.call(self._service.copy))
