"""One turn of the loop that a node's groups run in: when it is, and what is to be done at its end.

Events of many groups may come in one turn. What they want is gathered here: frames to other nodes, answers to
clients, and what has to be on disk. The order is the promise that all safety rests on:

- what must not be said before it is on disk waits until this turn's saves, and all earlier ones, are synced;
- what promises nothing (a leader's changes on their way, a request to be told) goes at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from chordtx.group.messages import Answer, Message
from chordtx.group.rank import NodeId

_FULL_SECONDS = 5.0


class Randomness(Protocol):
    """Where groups have their random moments and marks from: a :class:`random.Random`, or the like."""

    def random(self) -> float:
        """From 0 to 1."""

    def getrandbits(self, k: int, /) -> int:
        """A random number of that many bits."""


Outgoing = dict[NodeId, list[tuple[int, Message]]]


class Turn:
    """See the module. One object serves a node for as long as it runs.

    :ivar now: by the lease clock, in seconds. :ivar wall_ms: by the wall clock.
    :ivar is_full: whether the node is to hold no more than it does.
    :ivar full: when other nodes have said the same, and this one too.
    :ivar at_once: messages by receiver, each with its partition.
    :ivar lazily: the same, of those that nobody waits for: they may be gathered for some milliseconds, but
        nothing that is sent to the same node later may overtake them.
    :ivar when_synced: those that wait until what was saved is on disk; to the node itself too.
    :ivar answers: (who asked, partition, answer).
    :ivar news: (key, whether it went) of keys that came or went where this node leads, in order for each key.
    :ivar is_watched: whether those that were changed are wanted too, as (key, None).
    :ivar unsaved: the partitions of which something has to be saved.
    :ivar to_confirm: the nodes whose leases are wanted anew.
    :ivar reading: the partitions with reads that wait for that.
    :ivar telling: the partitions whose watchers are to be told more in the next turn.
    :ivar is_sending: tells whether what was sent to a node has not left yet: then nothing is sent again.
    :ivar is_leaving: tells whether the node is about to leave its groups: then it comes to no other ones.
    :ivar unflushed: called when the turn ends: what was gathered becomes a message.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.wall_ms = 0
        self.is_full = False
        self.full: dict[NodeId, float] = {}
        self.at_once: Outgoing = {}
        self.lazily: Outgoing = {}
        self.when_synced: Outgoing = {}
        self.answers: list[tuple[object, int, Answer]] = []
        self.news: list[tuple[bytes, bool | None]] = []
        self.is_watched = False
        self.unsaved: set[int] = set()
        self.to_confirm: set[NodeId] = set()
        self.reading: set[int] = set()
        self.telling: set[int] = set()
        self.is_sending: Callable[[NodeId], bool] = _never
        self.is_leaving: Callable[[], bool] = _not_now
        self.unflushed: list[Callable[[], None]] = []

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be done at its end."""
        return not (
            self.unflushed
            or self.when_synced
            or self.at_once
            or self.lazily
            or self.answers
            or self.news
            or self.unsaved
            or self.to_confirm
        )

    def heard_full(self, node: NodeId, is_full: bool) -> None:
        """A node says whether it is full."""
        if is_full:
            self.full[node] = self.now
        else:
            self.full.pop(node, None)

    def is_any_full(self, nodes: Iterable[NodeId]) -> bool:
        """Whether one of these has said so of late. After a while a write finds out how it is now."""
        since = self.now - _FULL_SECONDS
        return any(self.full.get(node, since) > since for node in nodes)

    def send(self, to: NodeId, partition: int, message: Message) -> None:
        """Send a message once all that was saved so far is on disk."""
        entries = self.when_synced.get(to)
        if entries is None:
            self.when_synced[to] = [(partition, message)]
        else:
            entries.append((partition, message))

    def send_at_once(self, to: Iterable[NodeId], partition: int, message: Message) -> None:
        """Send the same message to each, without waiting."""
        _put(self.at_once, to, (partition, message))

    def send_lazily(self, to: Iterable[NodeId], partition: int, message: Message) -> None:
        """Send the same message to each, some milliseconds later."""
        _put(self.lazily, to, (partition, message))

    def answer(self, who: object, partition: int, answer: Answer) -> None:
        """Answer a client's operation."""
        self.answers.append((who, partition, answer))


def _never(_: NodeId) -> bool:
    return False


def _not_now() -> bool:
    return False


def _put(outgoing: Outgoing, to: Iterable[NodeId], entry: tuple[int, Message]) -> None:
    for each in to:
        entries = outgoing.get(each)
        if entries is None:
            outgoing[each] = [entry]
        else:
            entries.append(entry)
