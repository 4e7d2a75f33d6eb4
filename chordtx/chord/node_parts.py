"""What the parts of a :class:`~chordtx.ChordService` need of it: its clocks, its state, its links."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TypeVar

from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.error import ConnectionRefusedError
from twisted.python.failure import Failure

from chordtx.chord.client import GroupClient
from chordtx.chord.hosting import Hosting
from chordtx.chord.leaders import node_id_of
from chordtx.chord.ring_identity import RingIdentity, Standing
from chordtx.chord.routing import contact_of
from chordtx.chord.service_protocol import Service
from chordtx.chord.watching import Watch
from chordtx.errors import ChordError, NotJoined
from chordtx.group.messages import Answer
from chordtx.group.operations import WATCH
from chordtx.group.rank import NodeId
from chordtx.legacy import LEGACY_CLIENT
from chordtx.mesh import Address, MeshConnection
from chordtx.mesh.calls import Asker
from chordtx.mesh.deferreds import within
from chordtx.mesh.first_link import all_refused, why_not_joined
from chordtx.mesh.life import Phase
from chordtx.mesh.limited_log import LimitedLog
from chordtx.mesh.loop import Loop, Pause, Round
from chordtx.mesh.unreachable import Unreachable
from chordtx.ring import Contact
from chordtx.ring.partitions import partition_of
from chordtx.ring.space import apart
from chordtx.values import Value
from chordtx.wire import Message, encode_id

_BOOK_MAX = 4096
_CLIENT_ID_BYTES = 16
_HOLDER_BYTES = 8

T = TypeVar("T")


class NodeParts:
    """See the module. Each part says in a Protocol class which of these it needs."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._for_legacy: LegacyParts | None = None

    # Clocks

    def seconds(self) -> float:
        """A clock that only runs forward."""
        return self._service.reactor.seconds()

    def lease_seconds(self) -> float:
        """The clock of leases."""
        return self._service._lease_clock()

    def wall_ms(self) -> int:
        """Unix time in milliseconds."""
        return self._service._wall_ms()

    def sleep(self, seconds: float) -> Deferred[None]:
        """Fires after a while."""
        return self._service.sleep(seconds)

    def within(self, seconds: float, work: Deferred[T]) -> Deferred[T]:
        """Cancel ``work`` when it takes longer, and fail with TimeoutError then."""
        return within(seconds, self._service.reactor, work, TimeoutError)

    def random(self) -> float:
        """From 0 to 1."""
        return self._service._rng.random()

    def background(self, work: Coroutine[object, object, object]) -> Deferred[object]:
        """Run a coroutine until it ends or the node stops."""
        return self._service._background(work)

    # The node

    def own_id(self) -> int:
        """The node's id."""
        return self._service.id_10

    def hosting(self) -> Hosting | None:
        """The groups that it is in."""
        return self._service._hosting

    def identity(self) -> RingIdentity | None:
        """Of its ring."""
        return self._service._identity

    def is_leaving(self) -> bool:
        """Whether it is about to leave its groups."""
        return self._service._leaving

    def has_place(self, caller: MeshConnection) -> bool:
        """Whether this is the link to the caller's id."""
        return self._service._rpc.has_place(caller)

    def standing_of(self, id: int) -> Standing | None:
        """What another node has told of itself; None while there is no link to it."""
        return self._service._standings.of(id)

    def own_standing(self) -> Standing:
        """What it tells of itself."""
        service, hosting = self._service, self._service._hosting
        is_alone = service._ring.is_member and not service._ring.successors
        is_empty = is_alone and hosting is not None and not hosting.groups.bytes_used
        has_disk = hosting is not None and hosting.me.has_disk
        return Standing(
            service._identity,
            has_disk,
            service._leaving,
            is_empty,
            service._kept.starts,
            self._hears(),
            service._stopping,
        )

    def _hears(self) -> bool:
        """Whether there is a legacy peer beside this node, or beside a peer that may have no other link.

        Only a member hears for others: each node has a link to one. Two who both hear because the other one
        does would never agree.
        """
        service = self._service
        hears_for_others = service._ring.is_member and not service._leaving and not service._stopping
        return any(
            not link.ours or (hears_for_others and link.leeching and link.hears) for link in self.links()
        )

    def met_starts(self) -> dict[int, int]:
        """The greatest counts of starts that were met, by node."""
        return self._service._kept.met_starts

    def is_fellow(self, id: int) -> bool:
        """Whether a node is a member of one of its groups."""
        hosting = self._service._hosting
        return hosting is not None and hosting.is_fellow(node_id_of(id))

    def fellows(self) -> frozenset[int]:
        """Those that were, some seconds ago."""
        return self._service._placement.fellows

    def standing_changed(self, link: MeshConnection, standing: Standing, before: Standing | None) -> None:
        """A node of our ring, or of none, has told of itself, and what it told ``before``."""
        is_new = before is None or before.ring != standing.ring
        if is_new and self._service._hosting is not None:
            self._service._hosting.reached(node_id_of(link.id_10))
        self._service._placement.standing_told(link.id_10, standing)

    def member_changed(self, link: MeshConnection) -> None:
        """A peer is a member of our ring, or is none any more."""
        service = self._service
        if service._legacy.state_told(link):
            return
        if link.leeching:
            service._routing.forget(link.id_10)
            return
        service._exchange.greeted(link)  # a member may be reached by a name
        service._routing.met(contact_of(link))
        if service._ring.is_member:
            service._membership.link_opened(link)

    def give_ring_up(self, for_ring: RingIdentity) -> None:
        """Leave our own ring, which is nothing yet, for another."""
        self._service._give_ring_up(for_ring)

    def refused(self, reason: str) -> None:
        """A member of the ring refuses us."""
        service = self._service
        if not service._joining.is_joined and service._life.phase is Phase.UP:
            service._life.joined.failed(NotJoined(reason))
            service.reactor.callLater(0, service.stopService)

    def leave_for_good(self) -> Deferred[None]:
        """Have others keep what this node kept, and stop."""
        service = self._service
        return service.unjoin().addCallback(lambda _: service._left_for_good())

    def own_address(self) -> Address:
        """Where others reach it."""
        return self._service._own_address()

    def is_leeching(self) -> bool:
        """Whether it only uses the ring."""
        return self._service.leeching

    def keep(self, name: str, round: Round, pause: Pause) -> Loop:
        """Do something again and again until the node stops."""
        return self._service._keep(name, round, pause)

    def limited_log(self) -> LimitedLog:
        """For lines that peers can cause."""
        return self._service._limited_log

    # Others

    def members(self) -> list[MeshConnection]:
        """Links to nodes of ours that are in a ring that this node may be in."""
        return self._service._rpc.members()

    def is_near(self, id: int) -> bool:
        """Whether a node is a neighbour, or keeps something with this one."""
        return self._service._placement.is_near(id)

    def links(self) -> list[MeshConnection]:
        """All links."""
        return list(self._service.routing_table.values())

    def why_not_reached(self, address: Address) -> str | None:
        """Why the last attempt to connect there failed; None when it did not, or there was none."""
        return self._service._why_not_reached(address)

    def nobody_is_there(self, address: Address) -> bool:
        """Whether the last attempt showed that no node of this network listens there."""
        return self._service._nobody_is_there(address)

    def why_not_joined(self, peers: list[Address]) -> Exception:
        """What kept the node out of a ring."""
        return why_not_joined(self._service, peers, "no ring")

    def all_refused(self, peers: list[Address]) -> bool:
        """Whether every peer turned out to be of another network."""
        return all_refused(self._service, peers)

    def everyone(self) -> tuple[Contact, ...] | None:
        """All nodes of the ring, by id; None while they are not known."""
        return self._service._routing.arcs.everyone()

    def following(self, contact: Contact) -> Contact | None:
        """The node that follows another one on the walk, if that is known."""
        return self._service._routing.arcs.following(contact.id)

    # Whom it tells of keys

    def is_ring_known(self) -> bool:
        """Whether the node knows which ring it is in."""
        return self._service._identity is not None

    def watch_all(self) -> Watch:
        """Begin a watch of all keys, without their values."""
        return self._service._watches.watch(b"", is_prefix=True, with_values=False)

    def own_name(self) -> str:
        """The id of the node, as its peers write it."""
        return self._service.id

    def is_linked_to_everyone(self) -> bool:
        """Whether it knows all members of the ring, and has links to all."""
        everyone, me = self._service._routing.arcs.everyone(), self.own_id()
        return everyone is not None and all(
            contact.id == me or self._service._rpc.is_linked(contact.id) for contact in everyone
        )

    def has_listeners(self) -> bool:
        """Whether somebody here listens to keys."""
        return any(map(self._service._has_listeners, ("add", "delete", "reset")))

    def tell(self, key: bytes, deleted: bool) -> None:
        """Call those who do."""
        self._service._emit("delete" if deleted else "add", self._service, key)

    def tell_reset(self) -> None:
        """Tell those who do that they may have missed something."""
        self._service._emit("reset", self._service)

    def tell_everyone(self, *payload: object) -> Message:
        """Begin a broadcast."""
        return self._service._broadcast(*payload)

    def is_met_before(self, message: Message) -> bool:
        """Whether this broadcast was met before; it counts as met from now on."""
        return not self._service._broadcasts.first_time(message, message.id)

    def has_link(self, peer: str) -> bool:
        """Whether there is a link to a node, by its id."""
        return peer in self._service.routing_table

    def is_in_ring(self) -> bool:
        """Whether the node is a member."""
        return self._service._ring.is_member

    def ring_size(self) -> float:
        """About how many members the ring has, as far as is known."""
        return self._service._routing.arcs.size()

    def is_finger(self, id: int) -> bool:
        """Whether lookups go by a node."""
        return self._service._routing.fingers.has(id)

    def dial(self, address: Address) -> None:
        """Connect in the background."""
        self._service._connect_quietly(address)

    def ask(
        self,
        asker: Asker,
        contact: Contact,
        method: str,
        arguments: tuple[object, ...],
        more_seconds: float = 0.0,
    ) -> None:
        """Call a method of another node; ``asker`` is told what came of it.

        In a ring larger than our links another node that we are linked to passes it on: the one nearest on
        the ring, for neighbours have links.
        """
        contacts, service = self._service._rpc, self._service
        if contacts.is_linked(contact.id) or service._link_policy.calls_make_links:
            contacts.ask(asker, contact, method, arguments, more_seconds)
            return
        members = contacts.members()
        if not members:
            contacts.ask(asker, contact, method, arguments, more_seconds)
            return
        by = contact_of(min(members, key=lambda link: apart(link.id_10, contact.id)))
        contacts.ask(_PassedOn(asker, contact), by, "pass_on", (node_id_of(contact.id), *arguments))

    def partition_count(self) -> Deferred[int]:
        """How many there are, once the ring is known."""
        return self._service._ring_known().addCallback(lambda identity: identity.partitions)

    def partition_of(self, key: bytes) -> Deferred[int]:
        """Where a key is kept, once the ring is known."""
        return self._service._ring_known().addCallback(
            lambda identity: partition_of(key, identity.partition_bits)
        )

    # Locks

    def do_for_user(self, kind: int, key: bytes, *arguments: object) -> Deferred[Answer]:
        """An operation, at the leader of the key's group, once the ring is known."""
        return self._service._ask(kind, key, *arguments)

    def watch_key(self, key: bytes) -> Watch:
        """Begin a watch of a key."""
        return self._service.watch(key)

    def sure_seconds(self, seconds: float) -> float:
        """Which part of a time on this clock is over before that time is, on any clock of another node."""
        return seconds * (1 - self._service._chord_settings.groups.drift_allowance)

    def holder_name(self) -> str:
        """A name for who holds a lock: another one each time, and such that people know whose it is."""
        return f"{self.own_address()}/{self._service._rng.randbytes(_HOLDER_BYTES).hex()}"

    def watch(self, partition: int, arguments: tuple[object, ...]) -> Deferred[Answer]:
        """Carry out a WATCH."""
        return self._service._client.do(partition, WATCH, b"", arguments)

    def unpacked(self, packed: bytes) -> Value:
        """A value."""
        return self._service._unpacked(packed)

    def call(self, contact: Contact, method: str, *arguments: object) -> Deferred[list[object]]:
        """Ask another node."""
        return self._service._rpc.call(contact, method, *arguments)

    def met(self, contact: Contact) -> None:
        """Remember where a node is reached."""
        book = self._service._book
        book.pop(contact.id, None)
        book[contact.id] = contact
        if len(book) > _BOOK_MAX:
            del book[next(iter(book))]

    def contact_of(self, id: int) -> Contact | None:
        """Where a node is reached, if that is known."""
        service = self._service
        link = service._rpc.link(id)
        if link is not None and link.address is not None and link.address.reachable:
            return contact_of(link)
        return service._routing.arcs.contact(id) or service._book.get(id)

    def member(self, caller: MeshConnection) -> Contact:
        """The member of the ring that calls. :raises NotJoined: when it is none."""
        return self._service._rpc.member(caller)

    def connect(self, contact: Contact) -> None:
        """Make a link to a node, in the background."""
        if contact.id not in self._service._connecting and not self._service._rpc.is_linked(contact.id):
            self._service._background(self._connect(contact))

    async def _connect(self, contact: Contact) -> None:
        service, has_ended = self._service, False
        service._connecting.add(contact.id)
        try:
            link = await service._link_to(Address(contact.host, contact.port), encode_id(contact.id))
            has_ended = link.id_10 != contact.id  # another process is there by now
        except Unreachable as error:
            has_ended = isinstance(error.reason, ConnectionRefusedError)
        except ChordError:
            pass  # it is tried again with the next word for it
        finally:
            service._connecting.discard(contact.id)
        if has_ended and not service._rpc.is_linked(contact.id):
            service._placement.ended(contact.id)
            if service._hosting is not None:
                service._hosting.lost(node_id_of(contact.id), has_ended=True)

    def for_legacy(self) -> LegacyParts:
        """What legacy peers need of the node, in the ring that it is in from now on."""
        if self._for_legacy is not None:
            self._for_legacy.end()
        self._for_legacy = LegacyParts(self._service)
        return self._for_legacy

    def is_linked(self, id: NodeId) -> bool:
        """Whether a node can be reached at this moment."""
        return self._service._rpc.is_linked(int.from_bytes(id, "big"))

    def may_lead(self, id: NodeId) -> bool:
        """Whether a node can be reached, and stays for now."""
        standing = self.standing_of(int.from_bytes(id, "big"))
        return standing is not None and not standing.is_leaving and not standing.is_stopping

    def is_sending(self, id: NodeId) -> bool:
        """Whether what was sent to a node has not left yet."""
        link = self._service._rpc.link(int.from_bytes(id, "big"))
        return link is not None and link.has_unsent

    def are_working(self) -> bool:
        """Whether what has come over some link is being handled."""
        return self._service._bounds.turns.is_working

    def send_frame(self, to: NodeId, frame: bytes) -> None:
        """Send a frame of groups to a node, if there is a link; else make one."""
        number = int.from_bytes(to, "big")
        link = self._service._rpc.link(number)
        if link is not None and not link.closed:
            link.light.send_groups(frame)
            return
        contact = self.contact_of(number)
        if contact is not None:
            self.connect(contact)


class _PassedOn:
    """The asker of a call that another node passes on: it is told as if it had asked itself."""

    __slots__ = ("_asked", "_asker")

    def __init__(self, asker: Asker, asked: Contact) -> None:
        self._asker = asker
        self._asked = asked

    def answered(self, peer: Contact, results: list[object]) -> None:
        """See :class:`~chordtx.mesh.calls.Asker`."""
        self._asker.answered(self._asked, results)

    def failed(self, peer: Contact, failure: Failure) -> None:
        """See :class:`~chordtx.mesh.calls.Asker`."""
        self._asker.failed(self._asked, failure)


class LegacyParts(NodeParts):
    """What legacy peers need of a node, beside."""

    def __init__(self, service: Service) -> None:
        NodeParts.__init__(self, service)
        settings = service._chord_settings
        self.reactor = service.reactor
        self._is_over = False
        self._client = GroupClient(
            self,
            service._leaders,
            LEGACY_CLIENT + service._rng.randbytes(_CLIENT_ID_BYTES - len(LEGACY_CLIENT)),
            settings.operation_timeout_seconds,
            settings.value_bytes_max,
        )

    def end(self) -> None:
        """The node is about to be in another ring."""
        self._is_over = True

    def is_over(self) -> bool:
        """Whether it is in another ring since."""
        return self._is_over

    # The ring

    def owns(self, position: int) -> bool:
        """Whether a position is in the node's arc."""
        return self._service._ring.owns(position)

    def owner(self, position: int) -> Contact | None:
        """The node of ours that owns a position, if that is known."""
        return self._service._routing.arcs.owner(position)

    async def find_owner(self, position: int) -> Contact:
        """The node of ours that owns a position. :raises NotJoined: when no member of the ring is reached."""
        return self.owner(position) or (await self._service._routing.lookup(position)).chain[0]

    def own_arc_start(self) -> bytes | None:
        """Where the node's arc starts, 48 bytes; None while that is not known."""
        return self._service._routing.own_arc_start()

    def members_count(self) -> int:
        """How many nodes of the ring are known."""
        return len(self._service._routing.arcs)

    # Records

    def partitions(self) -> int:
        """How many partitions the ring has; 0 while none is known."""
        identity = self.identity()
        return 0 if identity is None else identity.partitions

    def leads(self) -> list[int]:
        """The partitions that the node leads."""
        hosting = self.hosting()
        return [] if hosting is None else hosting.leads

    def keys_of(self, partition: int) -> list[bytes]:
        """The keys with a record in a partition that the node keeps."""
        hosting = self.hosting()
        group = None if hosting is None else hosting.groups.groups.get(partition)
        state = None if group is None else group.replica.state
        return [] if state is None else list(state.records)

    def do_for_legacy(self, kind: int, key: bytes, *arguments: object) -> Deferred[Answer]:
        """An operation, at the leader of the key's group, by the client that asks for legacy peers."""
        identity = self.identity()
        if identity is None:
            return fail(NotJoined("no ring is known yet"))
        return self._client.do(partition_of(key, identity.partition_bits), kind, key, arguments)

    # Others

    def call_any(self, contact: Contact, method: str, *arguments: object) -> Deferred[list[object]]:
        """Ask a node, which may be this one."""
        if contact.id == self.own_id():
            return maybeDeferred(self._service._methods[method], None, *arguments)
        return self.call(contact, method, *arguments).addErrback(self._call_failed, contact)

    def _call_failed(self, failure: Failure, contact: Contact) -> Failure:
        self._service._routing.call_failed(contact.id, failure.value)
        return failure

    def link_to(self, address: Address) -> Deferred[MeshConnection]:
        """A link to whoever is reached there. Fails with a ChordError."""
        return self._service._link_to(address)
