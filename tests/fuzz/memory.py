"""What Python objects take, looked at from the collector's list of them: exact, and the same each time.

``tracemalloc`` sees more, and makes everything five times slower.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable
from types import FunctionType, MappingProxyType, ModuleType
from typing import Any

from chordtx.group.configuration import Configuration
from chordtx.group.copying import Copy, Source
from chordtx.group.digest import Digests
from chordtx.group.replica import Stored
from chordtx.group.state import Client, State
from chordtx.legacy.entries import Entry as LegacyEntry
from chordtx.sync.entry import Entry
from chordtx.sync.lease import Lease
from chordtx.sync.record import Record

_PLAIN = (
    *(dict, list, tuple, set, frozenset, bytes, str, int, float, MappingProxyType),
    *(Record, Entry, Lease, LegacyEntry),
    *(State, Stored, Client, Configuration, Copy, Source, Digests),
)


def held_bytes() -> int:
    """About what all objects take that are not set aside (``gc.freeze``), in bytes."""
    for name, module in list(sys.modules.items()):
        if name.startswith("chordtx."):
            _forget_cached(module)
    gc.collect()
    total_bytes = 0
    waiting: list[Any] = gc.get_objects()
    seen = {id(waiting)}  # neither counts itself
    while waiting:
        found = waiting.pop()
        if id(found) in seen or isinstance(found, type | ModuleType | FunctionType):
            continue
        seen.add(id(found))
        total_bytes += sys.getsizeof(found)
        # What has no references of its own (bytes and text, above all) is in no list of the collector.
        waiting += [each for each in gc.get_referents(found) if not gc.is_tracked(each)]
    return total_bytes


def plain_bytes(roots: Iterable[Any]) -> int:
    """What records and other plain values take that are reached from ``roots`` by way of such alone."""
    total_bytes = 0
    seen: set[int] = set()
    waiting = list(roots)
    while waiting:
        found = waiting.pop()
        if id(found) not in seen and isinstance(found, _PLAIN):
            seen.add(id(found))
            total_bytes += sys.getsizeof(found)
            waiting += gc.get_referents(found)
    return total_bytes


def _forget_cached(module: ModuleType) -> None:
    """Empty what is remembered to be fast (``lru_cache``): so many results at most."""
    for cached in vars(module).values():
        if hasattr(cached, "cache_clear"):
            cached.cache_clear()
