"""What other nodes have to do with the groups of this one: members tell, and clients ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from twisted.internet.defer import Deferred

from chordtx.chord.hosting import Hosting, LateAnswer
from chordtx.chord.leaders import Leaders, node_id_of
from chordtx.chord.ring_identity import RingIdentity, Standing
from chordtx.config import Limits
from chordtx.errors import NotJoined, ProtocolError
from chordtx.group.frames import answer_to_wire, from_wire, operation_from_wire
from chordtx.group.messages import NOT_LEADER, Answer
from chordtx.group.rank import NODE_ID_BYTES_MAX, NodeId
from chordtx.mesh import MeshConnection
from chordtx.ring import Contact


class Node(Protocol):
    """What serving others needs of a node."""

    def hosting(self) -> Hosting | None:
        """The groups that it is in."""

    def identity(self) -> RingIdentity | None:
        """Of its ring."""

    def standing_of(self, id: int) -> Standing | None:
        """What another node has told of itself; None while there is no link to it."""

    def has_place(self, caller: MeshConnection) -> bool:
        """Whether this is the link to the caller's id."""

    def own_id(self) -> int:
        """Its id."""

    def call(self, contact: Contact, method: str, *arguments: object) -> Deferred[list[object]]:
        """Ask another node."""


class Serving:
    """See the module. One for each node."""

    def __init__(self, node: Node, leaders: Leaders, limits: Limits, value_bytes_max: int) -> None:
        self._node = node
        self._leaders = leaders
        self._limits = limits
        self._value_bytes_max = value_bytes_max

    def groups_received(self, link: MeshConnection, *frame: object) -> None:
        """``groups [0x45, frame]``: what members of groups tell one another.

        :raises ProtocolError: when it is nothing like that.
        """
        if not link.ours or len(frame) != 1 or type(frame[0]) is not bytes:
            raise ProtocolError("what groups tell comes from nodes of ours, as bytes")
        node = self._node
        hosting, identity, standing = node.hosting(), node.identity(), node.standing_of(link.id_10)
        if hosting is None or identity is None or standing is None or not node.has_place(link):
            return
        if standing.ring == identity:
            entries = from_wire(frame[0], self._limits, self._value_bytes_max, identity.partitions)
            hosting.received(node_id_of(link.id_10), entries)

    def pass_on(self, caller: MeshConnection, to: object, *told: object) -> Deferred[list[object]]:
        """``pass_on(id, partition, *operation)``: ``do`` of another node, for who has no link to it.

        Where that node is reached we know ourselves: a stranger is not to make us connect to anybody.
        """
        if type(to) is not bytes or len(to) != NODE_ID_BYTES_MAX or to == node_id_of(self._node.own_id()):
            raise ProtocolError("what is passed on goes to another node")
        operation_from_wire(told[1:], self._value_bytes_max)
        return Deferred.fromCoroutine(self._pass_on(to, told))

    async def _pass_on(self, to: NodeId, told: Sequence[object]) -> list[object]:
        contact = await self._leaders.contact(to)
        if contact is None:
            raise NotJoined("there is no such node in the ring")
        return await self._node.call(contact, "do", *told)

    def do(
        self, caller: MeshConnection, partition: object, *told: object
    ) -> list[object] | Deferred[list[object]]:
        """``do(partition, *operation)`` -> ``[status, detail, rank]``."""
        hosting, identity = self._node.hosting(), self._node.identity()
        if hosting is None or identity is None:
            raise NotJoined("this node keeps nothing")
        if type(partition) is not int or not 0 <= partition < identity.partitions:
            raise ProtocolError("there is no such partition")
        operation = operation_from_wire(told, self._value_bytes_max)
        late = LateAnswer()
        answer = hosting.do(late, partition, operation)
        if answer is None:
            return late.waiting().addCallback(_told)
        if answer.status == NOT_LEADER and answer.detail is None:
            leader = self._leaders.known(partition)
            if leader is not None and leader.id != self._node.own_id():
                answer = answer._replace(detail=node_id_of(leader.id))
        return _told(answer)


def _told(answer: Answer) -> list[object]:
    return [*answer_to_wire(answer)]
