"""Copies of a :class:`~chordtx.sim.group_world.Host`, and a value that tells two hosts apart.

A search goes back to states that it has left, and has to know those that it has met. So hosts are copied
whole, with what their objects share; and a *key* holds all that a host's future depends on: not what follows
from the rest, and not where the code only looks when somebody ticks, if nobody will.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Mapping
from random import Random
from types import FunctionType
from typing import Any

from chordtx.config import GroupSettings
from chordtx.group.configuration import Configuration
from chordtx.group.digest import Digests
from chordtx.group.messages import Accept, GiveClients
from chordtx.group.replica import Aside, Save, Stored
from chordtx.group.state import State, Touched
from chordtx.sim.group_world import Host


class Still(Random):
    """Gives the same again and again: moments are what a search chooses, and not chance.

    :param number: what it gives for a mark, so that no two nodes begin the same history.
    """

    def __init__(self, number: int) -> None:
        super().__init__(0)
        self._number = number

    def random(self) -> float:
        """The least."""
        return 0.0

    def getrandbits(self, k: int, /) -> int:
        """The node's own number."""
        return self._number


_PLAIN = frozenset({int, float, str, bytes, bool, type(None)})
#: What nobody changes.
_VALUES = (Configuration, Digests, GroupSettings, Random, Stored)
#: Named tuples with something in them that can be changed.
_TUPLES_TO_COPY = (Aside, GiveClients, Save, Touched)
#: Who comes first in these counts.
_IN_ORDER = frozenset({("Candidate", "answers"), ("Replica", "asides"), ("Replica", "_sources")})
_REFERENCES = frozenset(
    {"_turn", "_pairs", "_settings", "_rng", "_lead", "partition", "_partition", "me", "_me"}
)
#: What follows from the rest, or is of no consequence between turns.
_FOLLOWS: dict[str, frozenset[str]] = {
    "Host": frozenset({"settings", "rate", "found"}),
    "Groups": frozenset({"settings", "bytes_used"}),
    "Turn": frozenset({"now", "wall_ms", "is_sending", "is_leaving", "unsaved", "to_confirm", "unflushed"}),
    "Group": frozenset({"_heard"}),
    "Replica": frozenset({"_missed_bytes", "touched"}),
    "Leader": frozenset(
        {
            "_replica",
            "_epoch",
            "_ids",
            "_majority",
            "others",
            "_keys",
            "_batch",
            "_batch_bytes",
            "_batch_now_ms",
            "_walls",
            "watchers",  # nobody watches in these searches
        }
    ),
    "PartitionTime": frozenset({"_members", "_walls"}),
    "Held": frozenset({"_others", "_is_member"}),
    "Copy": frozenset({"_digests"}),
    "Source": frozenset({"_made", "_header"}),
    "Learning": frozenset({"_leader"}),
    "_List": frozenset({"digest"}),
    "ChangeLog": frozenset({"_bytes", "_bytes_max"}),
}
#: What is looked at only when somebody ticks.
_FOR_TICKS: dict[str, frozenset[str]] = {
    "Confirming": frozenset({"_asked_at", "_read_at"}),
    "Groups": frozenset({"_active", "_soon", "_wakes", "_wake_at", "_next_tick"}),
    "Group": frozenset({"tries", "_survivors"}),
    "Replica": frozenset({"_copy_asked"}),
    "Leader": frozenset({"_progress", "_resend", "_marks", "_expiries"}),
    "Candidate": frozenset({"since"}),
    "Learning": frozenset({"_since", "_told"}),
    "Move": frozenset({"_asked"}),
}


def attributes_of(kind: type) -> tuple[str, ...]:
    """The names of an object's attributes, for a class with slots; empty for others."""
    slots = [name for each in kind.__mro__ for name in getattr(each, "__slots__", ())]
    return tuple(name for name in slots if name not in ("__weakref__", "__dict__"))


# Copies

Memo = dict[int, Any]


def copied(value: Any, memo: Memo | None = None) -> Any:
    """The same, for somebody who changes it. What was one object twice is one object twice."""
    memo = {} if memo is None else memo
    way = _WAYS.get(type(value))
    if way is None:
        way = _WAYS[type(value)] = _way_to_copy(type(value))
    return way(value, memo)


def _way_to_copy(kind: type) -> Callable[[Any, Memo], Any]:
    if issubclass(kind, _VALUES) or kind in (*_PLAIN, frozenset, range, FunctionType):
        return _itself
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return _copied_tuple if kind in _TUPLES_TO_COPY else _itself
    names = attributes_of(kind)
    return _copied_slots(kind, names) if names else _copied_object


def _itself(value: Any, _: Memo) -> Any:
    return value


def _copied_tuple(value: Any, memo: Memo) -> Any:
    return tuple.__new__(type(value), [copied(each, memo) for each in value])


def _copied_dict(value: dict[Any, Any], memo: Memo) -> dict[Any, Any]:
    known: dict[Any, Any] | None = memo.get(id(value))
    if known is None:
        known = memo[id(value)] = {}
        for key, each in value.items():
            known[key] = copied(each, memo)
    return known


def _copied_defaults(value: defaultdict[Any, Any], memo: Memo) -> defaultdict[Any, Any]:
    return defaultdict(value.default_factory, {key: copied(each, memo) for key, each in value.items()})


def _copied_slots(kind: type, names: tuple[str, ...]) -> Callable[[Any, Memo], Any]:
    def copy(value: Any, memo: Memo) -> Any:
        known = memo.get(id(value))
        if known is None:
            known = memo[id(value)] = object.__new__(kind)
            for name in names:
                setattr(known, name, copied(getattr(value, name), memo))
        return known

    return copy


def _copied_object(value: Any, memo: Memo) -> Any:
    known = memo.get(id(value))
    if known is None:
        kind: type = type(value)
        known = memo[id(value)] = object.__new__(kind)
        known.__dict__.update({name: copied(each, memo) for name, each in value.__dict__.items()})
    return known


_WAYS: dict[type, Callable[[Any, Memo], Any]] = {
    dict: _copied_dict,
    defaultdict: _copied_defaults,
    list: lambda value, memo: [copied(each, memo) for each in value],
    deque: lambda value, memo: deque([copied(each, memo) for each in value]),
    tuple: _copied_tuple,
    set: lambda value, memo: set(value),
}


# Keys


class Keys:
    """Tells hosts apart.

    :param ticks: whether somebody may tick yet.
    """

    def __init__(self, *, ticks: bool) -> None:
        self._ignored: dict[str, frozenset[str]] = dict(_FOLLOWS)
        for name, more in () if ticks else _FOR_TICKS.items():
            self._ignored[name] = self._ignored.get(name, frozenset()) | more
        self._names: dict[type, tuple[str, ...]] = {}

    def of(self, host: Host) -> Hashable:
        """Equal for two hosts that will do the same."""
        return self._key(host, {})

    def of_message(self, message: object) -> Hashable:
        """Equal for messages of the same words."""
        return self._key(message, {})

    def _key(self, value: Any, met: dict[int, int]) -> Hashable:
        kind = type(value)
        if kind in _PLAIN:
            return value  # type: ignore[no-any-return]
        if isinstance(value, tuple):
            try:
                hash(value)
            except TypeError:
                return (kind.__name__, *[self._key(each, met) for each in value])
            return value if kind is tuple else (kind.__name__, value)
        if kind is dict:
            return self._of_dict(value, met, is_ordered=False)
        if kind in (list, deque):
            return tuple([self._key(each, met) for each in value])
        if kind in (set, frozenset):
            return frozenset(value)
        if isinstance(value, _VALUES):
            return value
        return self._of_object(kind, value, met)

    def _of_dict(self, value: Mapping[Any, Any], met: dict[int, int], *, is_ordered: bool) -> Hashable:
        items = [(key, self._key(each, met)) for key, each in value.items()]
        return tuple(items) if is_ordered else frozenset(items)

    def _of_object(self, kind: type, value: Any, met: dict[int, int]) -> Hashable:
        if kind is State:
            if id(value) in met:
                return met[id(value)]
            met[id(value)] = len(met)
        names = self._names.get(kind)
        if names is None:
            names = self._names[kind] = self._names_of(kind, value)
        parts: list[Hashable] = [kind.__name__]
        for name in names:
            if name == "_missed":
                parts.append(_use_of(value._missed))
            elif (kind.__name__, name) in _IN_ORDER:
                parts.append(self._of_dict(getattr(value, name), met, is_ordered=True))
            else:
                parts.append(self._key(getattr(value, name), met))
        return tuple(parts)

    def _names_of(self, kind: type, value: Any) -> tuple[str, ...]:
        names = attributes_of(kind) or tuple(value.__dict__)
        ignored = self._ignored.get(kind.__name__, frozenset()) | _REFERENCES
        return tuple(name for name in names if name not in ignored)


def _use_of(missed: list[Accept]) -> Hashable:
    """What is gone through once, in order, each taken that follows on what is there: what comes of it from
    wherever one begins. So it does not matter how often one of them came."""
    chains = []
    for first in {told.after for told in missed}:
        at, chain = first, []
        for told in missed:
            if told.after == at:
                at += len(told.changes)
                chain.append(told)
        chains.append(tuple(chain))
    return frozenset(chains)
