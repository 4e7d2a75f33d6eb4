"""Namespaces: the dict API over the keys with a prefix of their own, so that several programs in one ring do
not meet.

The prefix of a namespace is its name and a slash: key ``alice`` of namespace ``users`` is stored under
``users/alice``. A name holds no slash. So no prefix of one name begins with that of another name, and what is
stored can be read by people.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, TypeVar

from twisted.internet.defer import Deferred

from chordtx.assignments import Assignments
from chordtx.chord.dictionary import RingDict
from chordtx.chord.watching import Watch
from chordtx.group.messages import Answer
from chordtx.group.rank import Rank
from chordtx.values import Key, key_bytes

if TYPE_CHECKING:
    from chordtx.chord.ring_identity import RingIdentity

T = TypeVar("T")

_SEPARATOR = b"/"


class RingNamespaces(RingDict):
    """What a node and its namespaces have in common: the dict API, and namespaces within it."""

    def namespace(self, name: Key) -> Namespace:
        """The dict API over keys of its own. See :class:`chordtx.Namespace`.

        :param name: bytes-like or str, not empty, and without a slash. In a namespace, it is within that one.
        :raises ValueError: for another name. :raises ValueTooLarge: when it leaves no room for a key.
        """
        known = key_bytes(name)
        if not known or _SEPARATOR in known:
            raise ValueError("the name of a namespace is not empty, and has no slash")
        return Namespace(self, known + _SEPARATOR)


class Namespace(RingNamespaces):
    """The keys of a ring with a prefix of their own, as a dict: what ``node.namespace("users")`` gives.

    It has the dict methods of :class:`chordtx.ChordService`, and promises the same. Keys are given and come
    back without the prefix, in entries, in events and in errors too. Nobody has to make a namespace before it
    is used, and several objects may stand for one.

    Each is apart from all others, but one that was made of a namespace is a part of it: ``clear()`` of
    ``users`` deletes what is in ``users/old`` as well. Whoever uses the node itself sees all keys, with their
    prefixes.

    ``flush()`` waits for what was assigned through this very object.

    :ivar prefix: with what its keys begin in the ring, such as ``b"users/"``.
    """

    def __init__(self, whole: RingNamespaces, prefix: bytes) -> None:
        self.prefix = whole._as_key(prefix)
        self._whole = whole
        self._node = whole._node
        self._key_bytes_max = whole._key_bytes_max - len(prefix)
        self._value_bytes_max = whole._value_bytes_max
        self._value_limits = whole._value_limits
        self._read_limits = whole._read_limits
        self._assignments = Assignments()

    def __repr__(self) -> str:
        return f"<Namespace {self.prefix!r}>"

    # Keys

    def _as_key(self, key: Key) -> bytes:
        """See :class:`~chordtx.dictionary.DictMixin`."""
        return self.prefix + super()._as_key(key)

    def _as_given(self, key: bytes) -> bytes:
        """See :class:`~chordtx.dictionary.DictMixin`."""
        return key[len(self.prefix) :]

    # What the node does. It is asked each time, for it has other parts after each start.

    def _run(self, work: Coroutine[Deferred[object], object, T]) -> Deferred[T]:
        return self._whole._run(work)

    def _ring_known(self) -> Deferred[RingIdentity]:
        return self._whole._ring_known()

    def _ask(self, kind: int, key: bytes, *arguments: object) -> Deferred[Answer]:
        return self._whole._ask(kind, key, *arguments)

    def _ask_partition(self, partition: int, kind: int, *arguments: object) -> Deferred[Answer]:
        return self._whole._ask_partition(partition, kind, *arguments)

    def _watch(
        self, watched: bytes, is_prefix: bool, since: Rank | None, as_given: Callable[[bytes], bytes]
    ) -> Watch:
        return self._whole._watch(watched, is_prefix, since, as_given)
