"""Whether every partition has a leader and a full group, and whether it would without one node. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import field, frozen

from chordtx.errors import ProtocolError
from chordtx.group.configuration import MEMBERS_MAX
from chordtx.group.rank import NODE_ID_BYTES_MAX, NodeId
from chordtx.ring import Contact

_NAMED_MAX = 5


@frozen
class LedGroup:
    """One group, as its leader reports it.

    :ivar members: their ids. :ivar ready: of those, who is linked and has all that was committed but just
        now.
    """

    members: frozenset[NodeId]
    ready: frozenset[NodeId]

    def survives_without(self, id: NodeId) -> bool:
        """Whether a majority is left without a node."""
        return 2 * len(self.ready - {id}) > len(self.members)


def led_to_wire(led: Mapping[int, LedGroup]) -> list[object]:
    """:returns: ``[ids, [[partition, members, ready], ...]]``, both by places among the ids."""
    ids = sorted({id for group in led.values() for id in group.members})
    places = {id: place for place, id in enumerate(ids)}

    def placed(some: Iterable[NodeId]) -> list[int]:
        return sorted(places[id] for id in some)

    groups = [[partition, placed(group.members), placed(group.ready)] for partition, group in led.items()]
    return [ids, groups]


def led_from_wire(obj: object, partitions: int) -> dict[int, LedGroup]:
    """The opposite of :func:`led_to_wire`. :raises ProtocolError: when ``obj`` is nothing like that."""
    if not isinstance(obj, list) or len(obj) != 2 or not all(isinstance(each, list) for each in obj):
        raise ProtocolError("groups are [ids, groups]")
    ids, groups = obj
    if any(type(id) is not bytes or len(id) > NODE_ID_BYTES_MAX for id in ids) or len(groups) > partitions:
        raise ProtocolError("groups have ids of nodes")

    def some(places: object) -> frozenset[NodeId]:
        if not isinstance(places, list) or len(places) > MEMBERS_MAX:
            raise ProtocolError("members are a list")
        if any(type(place) is not int or not 0 <= place < len(ids) for place in places):
            raise ProtocolError("there is no such member")
        return frozenset(ids[place] for place in places)

    led = {}
    for each in groups:
        if not isinstance(each, list) or len(each) != 3:
            raise ProtocolError("a group is [partition, members, ready]")
        if type(each[0]) is not int or not 0 <= each[0] < partitions:
            raise ProtocolError("there is no such partition")
        led[each[0]] = LedGroup(some(each[1]), some(each[2]))
    return led


@frozen
class Health:
    """What a look at the whole ring has shown.

    :ivar nodes: that answered. :ivar silent: those that did not, as text.
    :ivar partitions: how many there are.
    :ivar replicas: how many members each ought to have. :ivar without_leader: partitions.
    :ivar short: those whose group has too few members. :ivar behind: those of which some member lacks
        something or cannot be reached. :ivar expected: how many nodes ought to be there; 0 for any number.
    :ivar lost_without: partitions without a majority, were it not for one node; None when nobody asked.
    :ivar set_aside: how many nodes keep records of another history, which is nothing wrong.
    """

    nodes: int
    partitions: int
    replicas: int
    without_leader: list[int]
    short: list[int]
    behind: list[int]
    silent: list[str] = field(factory=list)
    expected: int = 0
    lost_without: list[int] | None = None
    set_aside: int = 0

    @property
    def complaints(self) -> list[str]:
        """What is wrong, in words; nothing when all is well."""
        said = {
            f"{len(self.silent)} nodes do not answer ({', '.join(self.silent[:_NAMED_MAX])})": self.silent,
            f"{self.nodes} nodes of {self.expected} are there": self.nodes < self.expected,
            f"{_counted(self.without_leader)} without a leader": self.without_leader,
            f"{_counted(self.short)} with fewer than {self.replicas} members": self.short,
            f"{_counted(self.behind)} with a member that lacks something": self.behind,
            f"{_counted(self.lost_without or [])} without a majority then": self.lost_without,
        }
        return [text for text, is_so in said.items() if is_so]

    @property
    def text(self) -> str:
        """One line."""
        if self.complaints:
            return "not healthy: " + "; ".join(self.complaints)
        line = f"healthy: {self.nodes} nodes, {self.partitions} partitions of {self.replicas} members each"
        few = {1: "one node: nothing survives its loss", 2: "two nodes: neither can be lost; run three"}
        notes = [few[self.nodes]] if self.nodes in few else []
        if self.set_aside:
            notes.append(f"records of another history are set aside on {self.set_aside}: recover --export")
        return f"{line} ({'; '.join(notes)})" if notes else line


def judge(
    led: Mapping[int, LedGroup],
    partitions: int,
    replicas: int,
    nodes: int,
    silent: list[str],
    expected: int = 0,
    without: Contact | None = None,
) -> Health:
    """What leaders have said, judged.

    :param led: by partition. :param nodes: how many answered. :param without: a node that is about to be
        stopped.
    """
    wanted = min(replicas, nodes)
    gone = None if without is None else without.id.to_bytes(NODE_ID_BYTES_MAX, "big")
    return Health(
        nodes,
        partitions,
        wanted,
        [each for each in range(partitions) if each not in led],
        sorted(each for each, group in led.items() if len(group.members) < wanted),
        sorted(each for each, group in led.items() if group.ready != group.members),
        silent,
        expected,
        None
        if gone is None
        else sorted(each for each, group in led.items() if not group.survives_without(gone)),
    )


def _counted(partitions: list[int]) -> str:
    named = ", ".join(map(str, partitions[:_NAMED_MAX]))
    more = ", ..." if len(partitions) > _NAMED_MAX else ""
    word = "partition" if len(partitions) == 1 else "partitions"
    return f"{len(partitions)} {word} ({named}{more})"
