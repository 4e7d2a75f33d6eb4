"""The methods of a ring's dict for asyncio, which a node and its namespaces have: each is one line."""

from __future__ import annotations

from collections.abc import Callable

from chordtx.aio.bridge import Node, awaited, iterated, made
from chordtx.aio.dictionary import DictMethods
from chordtx.aio.lock import Lock
from chordtx.aio.watch import Watch
from chordtx.chord import namespace
from chordtx.chord.namespace import RingNamespaces


def _namespace(node: Node, names: namespace.Namespace) -> Namespace:
    return Namespace(node, names)


class RingMethods(DictMethods):
    """What the dict of a ring has beside the methods that all services share."""

    entry = awaited(RingNamespaces.entry)
    compare_and_set = awaited(RingNamespaces.compare_and_set)
    delete = awaited(RingNamespaces.delete)
    modify = awaited(RingNamespaces.modify)
    increment = awaited(RingNamespaces.increment)
    touch = awaited(RingNamespaces.touch)
    lock = made(Lock, RingNamespaces.lock)
    entries = iterated(RingNamespaces.entries)
    watch = made(Watch, RingNamespaces.watch)
    namespace = made(_namespace, RingNamespaces.namespace)


class Namespace(RingMethods):
    """The keys of a ring with a prefix of their own, as a dict: what ``node.namespace("users")`` gives.

    It has the dict methods of :class:`ChordService`. What it promises is as with :class:`chordtx.Namespace`.
    """

    _service: namespace.Namespace

    def __init__(self, node: Node, names: namespace.Namespace) -> None:
        self._node = node
        self._service = names

    @property
    def prefix(self) -> bytes:
        """With what its keys begin in the ring, such as ``b"users/"``."""
        return self._service.prefix

    def __repr__(self) -> str:
        return repr(self._service)

    def _must_be_on_loop(self) -> None:
        self._node._must_be_on_loop()

    def _call_soon(self, work: Callable[[], object]) -> None:
        self._node._call_soon(work)
