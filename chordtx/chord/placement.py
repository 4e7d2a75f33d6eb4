"""Compares groups with the ring: each partition ought to be kept by a row of neighbours.

The node that owns a partition's lowest position knows the row, itself and the next ones along the walk, and
tells the partition's leader when its group is another one. The group itself decides. A mistake here costs
time, and never a record.
"""

from __future__ import annotations

from collections.abc import Container, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from math import inf
from operator import is_
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from chordtx.chord.hosting import Hosting
from chordtx.chord.leaders import Leaders, node_id_of
from chordtx.chord.ring_identity import RingIdentity, Standing
from chordtx.errors import ChordError, NotJoined, ProtocolError
from chordtx.group.configuration import MEMBERS_MAX, Member
from chordtx.group.rank import NodeId
from chordtx.mesh import Address, MeshConnection
from chordtx.ring import Contact, RingNode, distance, usable_contacts
from chordtx.ring.partitions import owned_partitions

ROUND_SECONDS = 1.0
#: Groups that are as they ought to be are looked at again this often.
_CHECK_SECONDS = 5.0
#: A leader that is in no row looks up the owner this often.
OWNER_SECONDS = 5.0
#: How many successors count as neighbours.
_NEAR_MAX = 4
_FAR_PATIENCE = 60.0
#: How many of those that have left are known. Others may name one of them for some rounds.
_LEFT_MAX = 1024
#: How many nodes are asked for the leader of a partition, one after another, before the next look.
_LEADERS_ASKED_MAX = 10


class Node(Protocol):
    """What its placement needs of a node."""

    def hosting(self) -> Hosting | None:
        """The groups that it is in."""

    def identity(self) -> RingIdentity | None:
        """Of its ring."""

    def standing_of(self, id: int) -> Standing | None:
        """What another node has told of itself; None while there is no link to it."""

    def is_leaving(self) -> bool:
        """Whether the node itself is about to leave its groups."""

    def member(self, caller: MeshConnection) -> Contact:
        """The member of the ring that calls. :raises NotJoined: when it is none."""

    def members(self) -> list[MeshConnection]:
        """Links to nodes of the ring."""

    def everyone(self) -> tuple[Contact, ...] | None:
        """All nodes of the ring; None while they are not known."""

    def connect(self, contact: Contact) -> None:
        """Make a link to a node, in the background."""

    def call(self, contact: Contact, method: str, *arguments: object) -> Deferred[list[object]]:
        """Ask another node."""

    def following(self, contact: Contact) -> Contact | None:
        """The node that follows another one on the walk, if that is known."""

    def met(self, contact: Contact) -> None:
        """A node was named that groups will have to do with."""

    def seconds(self) -> float:
        """A clock that only runs forward."""

    def background(self, work: Coroutine[object, object, object]) -> Deferred[object]:
        """Run a coroutine until it ends or the node stops."""


class Placement:
    """See the module. One for each node.

    :param settle_seconds: a row stands still for this long before it counts.
    :param grace_seconds: a member with a disk that vanished is waited for this long.
    :ivar fellows: the members of this node's groups, when it looked last.
    """

    _log = Logger()

    def __init__(
        self, node: Node, ring: RingNode, leaders: Leaders, settle_seconds: float, grace_seconds: float
    ) -> None:
        self._node = node
        self._ring = ring
        self._leaders = leaders
        self._settle_seconds = settle_seconds
        self._grace_seconds = grace_seconds
        self._row: tuple[Contact, ...] = ()
        self._row_since = -inf
        self._next_check = -inf
        self._has_disk: dict[int, bool] = {}
        self._absent: dict[int, tuple[Contact, float]] = {}
        self._left: dict[int, None] = {}
        self._led_elsewhere: dict[int, Contact] = {}
        self.fellows: frozenset[int] = frozenset()
        self._said: tuple[Contact, ...] = ()
        self._near: frozenset[int] = frozenset()
        self._near_by: tuple[object, object, object] = (None, None, None)
        self._told_epoch = -1
        self._next_tell = -inf
        self._telling: Deferred[object] | None = None

    # The row

    def is_near(self, id: int) -> bool:
        """Whether a node keeps something with this one, or is its neighbour on the ring."""
        ring = self._ring
        by = (ring.successors, ring.predecessor, self.fellows)
        # It is asked for each link again and again, and these are the same objects until something changes.
        if not all(map(is_, by, self._near_by)):
            self._near_by = by
            neighbours = (*ring.successors[:_NEAR_MAX], *filter(None, (ring.predecessor,)))
            self._near = self.fellows.union(contact.id for contact in neighbours)
        return id in self._near

    def patience_with(self, id: int) -> float:
        """How many times longer than usual a node may be silent: long, unless it is near.

        (A call that waits is reason to ask anybody.)
        """
        return 1.0 if self.is_near(id) else _FAR_PATIENCE

    def standing_told(self, id: int, standing: Standing) -> None:
        """A node has told of itself: it leaves, or stays."""
        self._left.pop(id, None)
        if standing.is_leaving:
            self._left[id] = None
            self._absent.pop(id, None)
            if len(self._left) > _LEFT_MAX:
                del self._left[next(iter(self._left))]
            self.look(at_once=True)

    def ended(self, id: int) -> None:
        """A node's process has ended: one without a disk will not be back."""
        if not self._has_disk.get(id, True):
            self._absent.pop(id, None)

    def row(self) -> tuple[Contact, ...]:
        """Who ought to keep what this node owns, itself first."""
        identity = self._node.identity()
        if identity is None or not self._ring.is_member:
            return ()
        now = self._node.seconds()
        chain = {contact.id: contact for contact in (self._ring.me, *self._ring.successors)}
        self._reach_beyond(chain, identity.replicas)
        self._notice_absent(chain, now)
        for id, (contact, until) in list(self._absent.items()):
            if until <= now or id in chain:
                del self._absent[id]
            else:
                chain[id] = contact
        me = self._ring.me.id
        staying = [contact for contact in chain.values() if not self._is_leaving(contact)]
        staying.sort(key=lambda contact: distance(me, contact.id))
        return tuple(staying[: identity.replicas])

    def _reach_beyond(self, chain: dict[int, Contact], replicas: int) -> None:
        """Where too many whom the list of successors names are about to leave, those behind it count too: who
        leaves waits until others have its records, so that until then the list would not change."""
        contact = None if self._ring.complete else next(reversed(self._ring.successors), None)
        count = sum(not self._is_leaving(each) for each in chain.values())
        while contact is not None and count < replicas:
            contact = self._node.following(contact)
            if contact is None or contact.id in chain:
                break
            chain[contact.id] = contact
            count += not self._is_leaving(contact)

    def is_anybody_staying(self) -> bool:
        """Whether there is another node that could keep what this one keeps."""
        # Who has just joined is linked sooner than anybody else knows of it.
        known = {contact.id for contact in self._ring.successors} | {
            each.id_10 for each in self._node.members()
        }
        if known - self._left.keys() or self._lasting_fellows() - self._left.keys():
            return True
        if self._ring.complete:
            return False
        everyone = self._node.everyone()  # all whom the list names leave, but there are more
        return everyone is None or any(
            not self._is_leaving(contact) for contact in everyone if contact.id != self._ring.me.id
        )

    def _lasting_fellows(self) -> set[int]:
        """Those with a disk: one who is silent, or away, comes back with what it keeps."""
        hosting = self._node.hosting()
        fellows = set() if hosting is None else hosting.fellows()
        return {int.from_bytes(member.id, "big") for member in fellows if member.has_disk}

    def _notice_absent(self, chain: dict[int, Contact], now: float) -> None:
        for contact in self._row:
            id = contact.id
            if id not in chain and id not in self._absent and self._has_disk.get(id):
                self._absent[id] = (contact, now + self._grace_seconds)

    def _is_leaving(self, contact: Contact) -> bool:
        if contact.id == self._ring.me.id:
            return self._node.is_leaving()
        return contact.id in self._left

    def _members(self, row: Sequence[Contact]) -> tuple[Member, ...] | None:
        """The row as members; None while it is not known of all whether they have a disk."""
        hosting = self._node.hosting()
        assert hosting is not None
        members = []
        for contact in row:
            if contact.id == self._ring.me.id:
                members.append(hosting.me)
                continue
            standing = self._node.standing_of(contact.id)
            if standing is not None:
                self._has_disk[contact.id] = standing.has_disk
            elif contact.id not in self._has_disk:
                self._node.connect(contact)
                return None
            members.append(Member(node_id_of(contact.id), self._has_disk[contact.id]))
        return tuple(sorted(members))

    # Telling leaders

    def look(self, *, at_once: bool = False) -> None:
        """Compare the row with what the groups are, and tell leaders.

        :param at_once: whether the row counts as it is: somebody is about to leave.
        """
        hosting, identity = self._node.hosting(), self._node.identity()
        if hosting is None or identity is None or not self._ring.is_member:
            return
        now, row = self._node.seconds(), self.row()
        if row != self._row:
            self._row, self._row_since, self._next_check = row, now, -inf
        is_settled = at_once or now - self._row_since >= self._settle_seconds
        if not row or not is_settled or now < self._next_check or not self._knows_what_it_owns():
            return
        members = self._members(row)
        if members is None:
            return
        owned = owned_partitions(self._ring.me, self._ring.predecessor, identity.partition_bits)
        wrong = [each for each in owned if not self._is_right(hosting, each, members)]
        led_by, self._led_elsewhere = self._led_elsewhere, {}
        self._next_check = now + (ROUND_SECONDS if wrong else _CHECK_SECONDS)
        if wrong:
            self._say(len(wrong), row)
            self._node.background(self._tell(hosting, wrong, members, row, led_by))

    def _say(self, count: int, row: tuple[Contact, ...]) -> None:
        """Once for each row: most of its partitions change together."""
        if row != self._said:
            self._said = row
            kept_by = ", ".join(str(Address(contact.host, contact.port)) for contact in row)
            self._log.info("partitions are to be kept by {kept_by}: {count}", count=count, kept_by=kept_by)

    def _knows_what_it_owns(self) -> bool:
        ring = self._ring
        return ring.predecessor is not None or (ring.complete and not ring.successors)

    def _is_right(self, hosting: Hosting, partition: int, members: tuple[Member, ...]) -> bool:
        group = hosting.group(partition)
        if group is None or partition in self._led_elsewhere:
            return False
        return group.replica.state is not None and group.configuration.members == members

    async def _tell(
        self,
        hosting: Hosting,
        wrong: list[int],
        members: tuple[Member, ...],
        row: Sequence[Contact],
        led_by: Mapping[int, Contact],
    ) -> None:
        has_disk = {member.id: member.has_disk for member in members}
        told = [[contact.to_wire(), has_disk[node_id_of(contact.id)]] for contact in row]
        asked: dict[int, set[int]] = {partition: {self._ring.me.id} for partition in wrong}
        for _ in range(_LEADERS_ASKED_MAX):
            by_leader: dict[Contact, list[int]] = {}
            for partition in [each for each in asked if not hosting.place(each, members)]:
                leader = await self._leader_of(hosting, partition, asked[partition], led_by.get(partition))
                if leader is not None:
                    asked[partition].add(leader.id)
                    by_leader.setdefault(leader, []).append(partition)
            elsewhere: set[int] = set()
            for leader, partitions in by_leader.items():
                elsewhere |= await self._tell_leader(leader, partitions, told)
            asked = {partition: whom for partition, whom in asked.items() if partition in elsewhere}
            if not asked:
                break

    async def _leader_of(
        self, hosting: Hosting, partition: int, asked: Container[int], said_so: Contact | None
    ) -> Contact | None:
        """Whom to tell, of those who were not told yet. :param said_so: who says that it leads."""
        if said_so is not None and said_so.id not in asked:
            return said_so
        group = hosting.group(partition)
        named = None if group is None else group.who_leads()
        try:
            if named is not None:
                contact = await self._leaders.contact(named)
                if contact is not None and contact.id not in asked:
                    return contact
            known = self._leaders.known(partition)
            if known is not None and known.id not in asked:
                return known
            return await self._leaders.find(partition, asked)
        except ChordError as error:
            self._log.debug("nobody leads partition {number}: {error}", number=partition, error=str(error))
            return None

    async def _tell_leader(self, leader: Contact, partitions: list[int], told: Sequence[object]) -> set[int]:
        """:returns: the partitions that it does not lead."""
        try:
            answer = list(placed_elsewhere(await self._node.call(leader, "place", told, partitions)))
        except ChordError:
            self._leaders.lost(leader.id)
            return set(partitions)
        for partition, named in answer:
            self._leaders.forget(partition, leader)
            contact = None if named is None else await self._leaders.contact(named)
            if contact is not None and contact != leader:
                self._leaders.learned(partition, contact)
        return {partition for partition, _ in answer}

    # Being a leader

    async def seek_owners(self) -> None:
        """Look for groups that are not what the ring says, as far as this node knows it.

        If this node leads such a group, it tells the owner so, for nobody in the row may know it. If not, it
        asks whether it is still a member; and before it leaves, whether it is to be one.
        """
        hosting = self._node.hosting()
        if hosting is None or not self._ring.is_member:
            return
        self.fellows = frozenset(int.from_bytes(member.id, "big") for member in hosting.fellows())
        by_owner: dict[Contact, list[int]] = {}
        ids_of: dict[Contact, frozenset[NodeId]] = {}  # there are few rows, and many partitions
        is_leaving = self._node.is_leaving()
        for partition in hosting.kept + (hosting.learning if is_leaving else []):
            try:
                row = await self._leaders.row(partition)
            except ChordError:
                return
            group = hosting.group(partition)
            ids = ids_of.get(row[0])
            if ids is None:
                ids = ids_of[row[0]] = frozenset(node_id_of(contact.id) for contact in row)
            if group is None or (group.configuration.ids == ids and not is_leaving):
                continue
            if not group.is_leading:
                if hosting.me.id not in ids or is_leaving:
                    hosting.ask_whether_gone(partition, ids)
            elif row[0].id != self._ring.me.id:
                by_owner.setdefault(row[0], []).append(partition)
        await self._tell_owners(by_owner)

    def tell_owners(self) -> None:
        """When the ring has changed, tell the owners of groups that this node leads and is not to be in. When
        many join at once nobody in the row knows who leads, and :meth:`seek_owners` comes seldom.
        """
        hosting, now, epoch = self._node.hosting(), self._node.seconds(), self._leaders.ring_epoch
        is_due = epoch != self._told_epoch and now >= self._next_tell
        if hosting is None or not self._ring.is_member or not is_due:
            return
        if self._telling is not None and not self._telling.called:
            return
        self._next_tell = now + ROUND_SECONDS
        leads = hosting.leads
        if leads:
            self._told_epoch = epoch
            self._telling = self._node.background(self._tell_owners_of(leads))

    async def _tell_owners_of(self, leads: Iterable[int]) -> None:
        by_owner: dict[Contact, list[int]] = {}
        for partition in leads:
            try:
                row = await self._leaders.row(partition)
            except ChordError:  # the ring is not to be asked again and again while it is broken
                self._next_tell = self._node.seconds() + OWNER_SECONDS
                return
            if all(contact.id != self._ring.me.id for contact in row):
                by_owner.setdefault(row[0], []).append(partition)
        await self._tell_owners(by_owner)

    async def _tell_owners(self, by_owner: Mapping[Contact, list[int]]) -> None:
        for owner, partitions in by_owner.items():
            with suppress(ChordError):
                await self._node.call(owner, "leads", partitions)

    def led(self, caller: MeshConnection, partitions: object) -> list[object]:
        """``leads(partitions)``: the caller leads these, and is not in the row that ought to keep them."""
        leader = self._node.member(caller)
        for partition in self._partitions_from_wire(partitions):
            self._leaders.learned(partition, leader)
            self._led_elsewhere[partition] = leader  # what is known here may be of an epoch that is over
        self._next_check = -inf
        return []

    # What others ask

    def placed(self, caller: MeshConnection, told: object, partitions: object) -> list[object]:
        """``place([[contact, has_disk], ...], partitions)`` -> ``[[partition, who leads or nil], ...]``.

        Those are named that this node does not lead. The caller owns their lowest positions.
        """
        self._node.member(caller)
        hosting = self._node.hosting()
        if hosting is None:
            raise NotJoined("this node keeps nothing")
        members = self._members_from_wire(told)
        elsewhere = []
        for partition in self._partitions_from_wire(partitions):
            if not hosting.place(partition, members):
                group = hosting.group(partition)
                elsewhere.append([partition, None if group is None else group.who_leads()])
        return [elsewhere]

    def _partitions_from_wire(self, partitions: object) -> list[int]:
        identity = self._node.identity()
        if identity is None:
            raise NotJoined("this node is in no ring")
        if not isinstance(partitions, list) or len(partitions) > identity.partitions:
            raise ProtocolError("partitions are a list")
        if any(type(each) is not int or not 0 <= each < identity.partitions for each in partitions):
            raise ProtocolError("there is no such partition")
        return partitions

    def _members_from_wire(self, told: object) -> tuple[Member, ...]:
        if not isinstance(told, list) or not 0 < len(told) <= MEMBERS_MAX:
            raise ProtocolError(f"a row has 1 to {MEMBERS_MAX} members")
        members = []
        for each in told:
            if not isinstance(each, list) or len(each) != 2 or type(each[1]) is not bool:
                raise ProtocolError("a member of a row is [contact, whether it has a disk]")
            for contact in usable_contacts(each[:1]):
                self._node.met(contact)
                members.append(Member(node_id_of(contact.id), each[1]))
        if len(members) != len({member.id for member in members}) or not members:
            raise ProtocolError("a row has members that can be reached, each once")
        return tuple(sorted(members))


def placed_elsewhere(answer: list[object]) -> Iterable[tuple[int, bytes | None]]:
    """What ``place`` has answered. :raises ProtocolError: when it is nothing like that."""
    if len(answer) != 1 or not isinstance(answer[0], list):
        raise ProtocolError("place answers with a list")
    for each in answer[0]:
        if not isinstance(each, list) or len(each) != 2 or type(each[0]) is not int:
            raise ProtocolError("place answers with [partition, who leads]")
        if each[1] is not None and (type(each[1]) is not bytes or len(each[1]) != 48):
            raise ProtocolError("a node's id is 48 bytes")
        yield each[0], each[1]
