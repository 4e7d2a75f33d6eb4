"""Who leads which partition, as far as this node knows, and how it finds out.

The ring says where to look: a partition ought to be kept by the node that owns its lowest position, and by
the next ones along the walk. Any of them names the leader. What was learned is kept until it proves wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Container

from chordtx.chord.ring_identity import RingIdentity
from chordtx.chord.routing import Routing
from chordtx.errors import NotJoined
from chordtx.group.configuration import by_preference
from chordtx.group.rank import NodeId
from chordtx.ring import Contact
from chordtx.ring.partitions import lowest_position


def node_id_of(id: int) -> NodeId:
    """A node's id as groups write it."""
    return id.to_bytes(48, "big")


class Leaders:
    """See the module.

    :param identity: the ring's, once it is known.
    :param contact_of: where a node is reached, if that is known.
    :param chain_length: how many nodes that follow one another on the walk are asked at most.
    """

    def __init__(
        self,
        routing: Routing,
        identity: Callable[[], RingIdentity | None],
        contact_of: Callable[[int], Contact | None],
        chain_length: int,
    ) -> None:
        self._routing = routing
        self._identity = identity
        self._contact_of = contact_of
        self._chain_length = chain_length
        self._known: dict[int, Contact] = {}
        self._chains: dict[Contact, tuple[Contact, ...]] = {}  # of this epoch of the arcs
        self._chains_epoch = -1

    def known(self, partition: int) -> Contact | None:
        """Who leads, as far as it is known here."""
        return self._known.get(partition)

    def learned(self, partition: int, leader: Contact) -> None:
        """A node has answered as the leader, or was named as that."""
        self._known[partition] = leader

    def forget(self, partition: int, leader: Contact) -> None:
        """A node does not lead, or does not answer."""
        if self._known.get(partition) == leader:
            del self._known[partition]

    def lost(self, id: int) -> None:
        """A node is gone."""
        self._known = {partition: leader for partition, leader in self._known.items() if leader.id != id}

    async def contact(self, id: NodeId) -> Contact | None:
        """Where a node is reached; None when it is in the ring no more.

        :raises NotJoined: when no member of the ring can be reached.
        """
        number = int.from_bytes(id, "big")
        contact = self._contact_of(number)
        if contact is None:
            owner = (await self._routing.lookup(number)).chain[0]
            contact = owner if owner.id == number else None
        return contact

    async def find(self, partition: int, without: Container[int]) -> Contact:
        """Whom to ask: the most preferred of those who ought to keep the partition, then those that follow
        them on the walk, who may have kept it before others came.

        :param without: ids of those that were asked already.
        :raises NotJoined: when no member of the ring can be reached, or all were asked.
        """
        identity = self._known_identity()
        chain = await self._chain(partition, identity)
        row = {node_id_of(contact.id): contact for contact in chain[: identity.replicas]}
        preferred = [row[id] for id in by_preference(partition, row)]
        for contact in (*preferred, *chain[identity.replicas :]):
            if contact.id not in without:
                return contact
        raise NotJoined("nobody of those who ought to keep this part of the ring leads it")

    @property
    def ring_epoch(self) -> int:
        """Another number whenever more, or something else, is known of the ring."""
        return self._routing.arcs.epoch

    async def row(self, partition: int) -> tuple[Contact, ...]:
        """Who ought to keep a partition, as far as the ring is known.

        :raises NotJoined: when no member of the ring can be reached.
        """
        identity = self._known_identity()
        return (await self._chain(partition, identity))[: identity.replicas]

    def _known_identity(self) -> RingIdentity:
        identity = self._identity()
        if identity is None:
            raise NotJoined("no ring is known yet")
        return identity

    async def _chain(self, partition: int, identity: RingIdentity) -> tuple[Contact, ...]:
        """Who owns a partition's lowest position, and those that follow on the walk."""
        position = lowest_position(partition, identity.partition_bits)
        return self._known_chain(position) or (await self._routing.lookup(position)).chain

    def _known_chain(self, position: int) -> tuple[Contact, ...]:
        """The same without asking anybody; empty when too little is known."""
        arcs = self._routing.arcs
        owner = arcs.owner(position)
        if owner is None:
            return ()
        if self._chains_epoch != arcs.epoch:
            self._chains_epoch = arcs.epoch
            self._chains.clear()
        known = self._chains.get(owner)
        if known is None:
            known = self._chains[owner] = self._followed(owner)
        return known

    def _followed(self, owner: Contact) -> tuple[Contact, ...]:
        arcs, contact = self._routing.arcs, owner
        chain: dict[Contact, None] = {}
        while contact not in chain and len(chain) < self._chain_length:
            chain[contact] = None
            following = arcs.following(contact.id)
            if following is None:
                return ()
            contact = following
        return tuple(chain)
