"""A ring of bare RingNodes: every message waits in one bag, and a seed, or a search, says which comes next.

No time, no sockets, no services. Whatever is pending may come in any order, so a run is one interleaving of
what may happen. A message may come twice (``twice_rate``), and an answer may come late.

The environment is the paper's: a node may end only when the ring can bear it (:meth:`RingModel.may_end`).
It can when afterwards

- enough principals are left (``principals_min``), and
- of each answer that a member took its list from, and of each that is still under way to one, somebody lives.

The environment goes by what nodes were *told*, not by what they made of it: a node that keeps less than it
was told does so at its own risk. Nodes may come back under their old ids; as long as somebody takes such a
node for dead, or is about to, the environment does not count on it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from chordtx.errors import NotJoined
from chordtx.ring import SIZE, Ask, Contact, Effect, Notify, Nudge, PlaceSearch, RingNode, distance
from chordtx.ring.successors import chain
from chordtx.sim.invariants import Ids, Place, Walk, extended, place_of

ASKED, ANSWERED, FAILED, LEFT = "asked", "answered", "failed", "left"
NOTIFIED, NUDGED = "notified", "nudged"
LOOKING_UP, QUERIED, JOINED = "looking up", "queried", "joined"


class Message(NamedTuple):
    """Something on its way.

    :ivar node: id of the one that it comes to. :ivar about: id of the one that it comes from, or tells of.
    :ivar predecessor: that ``about`` has. :ivar successors: that ``about`` has.
    """

    kind: str
    node: int
    about: int
    predecessor: int | None = None
    successors: Ids = ()


class RingModel:
    """Nodes by id, the pending messages, and who is cut off from whom.

    :param seed: of everything that is random here.
    :param list_length: of the nodes' successor lists.
    :param node_type: makes the nodes; a broken version, say. :param search_type: finds a joiner's place.
    :ivar searches: those of the nodes that are about to join.
    :ivar told: the list that a member could have by the answer it took its first successor from.
    :ivar broken: what nodes found wrong with themselves.
    """

    def __init__(
        self,
        seed: int,
        list_length: int = 8,
        node_type: type[RingNode] = RingNode,
        search_type: type[PlaceSearch] = PlaceSearch,
    ) -> None:
        self.random = random.Random(seed)
        self.list_length = list_length
        self.node_type = node_type
        self.search_type = search_type
        self.searches: dict[int, PlaceSearch] = {}
        self.nodes: dict[int, RingNode] = {}
        self.contacts: dict[int, Contact] = {}
        self.pending: list[Message] = []
        self.after_a_tick: list[Message] = []
        self.side: dict[int, int] = {}
        self.false_timeout_rate = 0.0
        self.twice_rate = 0.0
        self.told: dict[int, Ids] = {}
        self.broken: list[str] = []
        self.walk = Walk()
        self._deliver = {
            ASKED: self._asked,
            ANSWERED: self._answered,
            FAILED: self._failed,
            LEFT: self._left,
            NOTIFIED: self._notified,
            NUDGED: self._nudged,
            LOOKING_UP: self._looking_up,
            QUERIED: self._queried,
            JOINED: self._joined,
        }

    # What happens to nodes

    def add(self, id: int | None = None) -> RingNode:
        """A node that is in no ring yet."""
        id = self.random.randrange(SIZE) if id is None else id
        contact = self.contacts.get(id)
        if contact is None:
            contact = self.contacts[id] = Contact(id, "127.0.0.1", len(self.contacts) + 1)
        self.walk.bit(id)
        node = self.nodes[id] = self.node_type(contact, self.list_length)
        return node

    def create(self, id: int | None = None) -> RingNode:
        """A ring of one."""
        node = self.add(id)
        self.do(node, node.create())
        return node

    def join(self, node: RingNode, through: RingNode) -> None:
        """Looks the own id up, then queries whoever was found: several messages, with anything in between."""
        self.pending.append(Message(LOOKING_UP, node.me.id, through.me.id))

    def crash(self, id: int) -> None:
        """Gone, without a word."""
        del self.nodes[id]
        self.told.pop(id, None)
        self.searches.pop(id, None)

    def leave(self, id: int) -> None:
        """Gone, and the neighbours are told."""
        node = self.nodes[id]
        told = {contact.id for contact in (*node.successors, node.predecessor) if contact is not None}
        self.do(node, node.leave())
        self.crash(id)
        self.pending += [Message(LEFT, neighbour, id) for neighbour in sorted(told)]

    def absorb(self, other: RingModel) -> None:
        """Another ring's nodes can be reached from now on."""
        self.nodes.update(other.nodes)
        self.contacts.update(other.contacts)
        self.told.update(other.told)
        self.walk.bits(other.contacts)

    # What the environment may do

    @property
    def members(self) -> dict[int, RingNode]:
        """All live members of the ring."""
        return {id: node for id, node in self.nodes.items() if node.is_member}

    def places(self) -> dict[int, Place]:
        """What each of them knows of its place."""
        return {id: place_of(node) for id, node in self.members.items()}

    def principals(self) -> int:
        """The bits of the members that no list skips, held or under way, and that nobody takes for dead."""
        walk = self.walk
        members, skipped = walk.bits(self.members), self.skipped_under_way()
        for node in self.nodes.values():
            skipped |= self.skipped_by(node)
        return members & ~skipped

    def skipped_by(self, node: RingNode) -> int:
        """The bits of those that a node's list skips, or that it takes for dead."""
        walk = self.walk
        skipped = walk.skipped(extended(node.me.id, place_of(node))) if node.is_member else 0
        return skipped | walk.bits(node._failed) if node._failed else skipped

    def skipped_in(self, message: Message) -> int:
        """The bits of those that a message will lead its node to skip."""
        if message.kind == ANSWERED or message.kind == JOINED:
            return self.walk.skipped(_extended_under_way(message.about, message.successors))
        if message.kind == FAILED or message.kind == LEFT:
            return self.walk.bit(message.about)
        return 0

    def skipped_under_way(self) -> int:
        """The bits of those that something under way will lead its node to skip."""
        skipped = 0
        for message in self.pending:
            skipped |= self.skipped_in(message)
        return skipped | self.skipped_by_searches()

    def skipped_by_searches(self) -> int:
        """The bits of those that a list skips which a joiner was told."""
        skipped = 0
        for search in self.searches.values():
            for by, successors in search.heard.values():
                ids = tuple(contact.id for contact in successors)
                skipped |= self.walk.skipped(_extended_under_way(by.id, ids))
        return skipped

    def may_end(self, id: int, principals_min: int) -> bool:
        """Whether the ring can bear that this member ends now."""
        if (self.principals() & ~self.walk.bit(id)).bit_count() < principals_min:
            return False
        live = self.members
        live.pop(id, None)
        if len(live) == 1 and all(node.complete for node in live.values()):
            lists = self._lists_under_way()  # what is left may be a ring of one
        else:
            lists = [*self._lists_under_way(), *(told for told in self.told.items() if told[0] in live)]
        gone = {(message.node, message.about) for message in self.pending if message.kind in (FAILED, LEFT)}
        return all(
            any(
                each in live and each not in self.nodes[owner]._failed and (owner, each) not in gone
                for each in ids
            )
            for owner, ids in lists
            if owner != id
        )

    def _lists_under_way(self) -> list[tuple[int, Ids]]:
        """Who is about to have which list."""
        lists = [
            (message.node, (message.about, *message.successors))
            for message in self.pending
            if message.kind in (ANSWERED, JOINED) and message.node in self.nodes
        ]
        for joiner, search in self.searches.items():
            for by, successors in search.heard.values():
                lists.append((joiner, (by.id, *(contact.id for contact in successors))))
        return [(owner, self._list_from(owner, ids)) for owner, ids in lists]

    def _list_from(self, id: int, named: Ids) -> Ids:
        """The list that a node has when it believes all that was named."""
        return tuple(contact.id for contact in chain(id, self._rpc(named), self.list_length)[0])

    # What messages do

    def reachable(self, a: int, b: int) -> bool:
        """Whether ``b`` is a member that ``a`` can talk to."""
        return b in self.nodes and self.nodes[b].is_member and self.side.get(a) == self.side.get(b)

    def deliver(self, message: Message) -> None:
        """Let a message come to its node."""
        self._deliver[message.kind](message)

    def do(self, node: RingNode, effects: Iterable[Effect]) -> None:
        """Carry out what ``node`` wants done."""
        id, pending = node.me.id, self.pending
        for effect in effects:
            if isinstance(effect, Ask):
                pending.append(Message(ASKED, effect.contact.id, id))
            elif isinstance(effect, Notify):
                pending.append(Message(NOTIFIED, effect.contact.id, id))
            elif isinstance(effect, Nudge):
                pending.append(Message(NUDGED, effect.contact.id, id))
            else:
                self.broken += node.check()

    def _rpc(self, ids: Sequence[int]) -> tuple[Contact, ...]:
        return tuple([self.contacts[id] for id in ids])

    def _asked(self, message: Message) -> None:
        to, by = message.node, message.about
        late = self.false_timeout_rate and self.random.random() < self.false_timeout_rate
        if late or not self.reachable(by, to):
            self.pending.append(Message(FAILED, by, to))
            return
        place = place_of(self.nodes[to])
        self.pending.append(Message(ANSWERED, by, to, place.predecessor, place.successors))

    def _answered(self, message: Message) -> None:
        node = self.nodes.get(message.node)
        if node is None:
            return
        predecessor = None if message.predecessor is None else self.contacts[message.predecessor]
        by, successors = self.contacts[message.about], self._rpc(message.successors)
        effects = node.neighbours_answered(by, predecessor, successors)
        self._note_told(node, message)
        self.do(node, effects)

    def _note_told(self, node: RingNode, message: Message) -> None:
        if node.successors and node.successors[0].id == message.about:
            id, failed = node.me.id, node._failed
            believed = tuple(each for each in message.successors if each not in failed)
            self.told[id] = self._list_from(id, (message.about, *believed))

    def _failed(self, message: Message) -> None:
        node = self.nodes.get(message.node)
        if node is not None:
            self._no_longer_told(message)
            self.do(node, node.failed(message.about))

    def _left(self, message: Message) -> None:
        node = self.nodes.get(message.node)
        if node is not None:
            self._no_longer_told(message)
            self.do(node, node.left(message.about))

    def _no_longer_told(self, message: Message) -> None:
        told = self.told.get(message.node, ())
        if message.about in told:
            self.told[message.node] = tuple(id for id in told if id != message.about)

    def _notified(self, message: Message) -> None:
        if self.reachable(message.about, message.node):
            node = self.nodes[message.node]
            self.do(node, node.notified(self.contacts[message.about]))

    def _nudged(self, message: Message) -> None:
        node = self.nodes.get(message.node)
        if node is not None:
            self.do(node, node.stabilize())

    def _looking_up(self, message: Message) -> None:
        node, through = self.nodes.get(message.node), self.nodes.get(message.about)
        if node is None or node.is_member:
            return
        chosen = None if through is None else self.find_successor(through, node.me.id)
        if chosen is None or chosen.id == node.me.id:
            self._look_up_later(node.me.id)
        else:
            self.search(node.me.id, chosen.id)

    def search(self, joiner: int, chosen: int) -> None:
        """A joiner begins to ask around, at the member that is said to own its id."""
        self.searches[joiner] = self.search_type(joiner)
        self.pending.append(Message(QUERIED, chosen, joiner))

    def _look_up_later(self, joiner: int) -> None:
        self.searches.pop(joiner, None)
        members = list(self.members)
        if joiner in self.nodes and members:
            self.after_a_tick.append(Message(LOOKING_UP, joiner, self.random.choice(members)))

    def _queried(self, message: Message) -> None:
        joiner, chosen = message.about, message.node
        if not self.reachable(joiner, chosen):
            self._look_up_later(joiner)
            return
        place = place_of(self.nodes[chosen])
        self.pending.append(Message(JOINED, joiner, chosen, place.predecessor, place.successors))

    def _joined(self, message: Message) -> None:
        node, search = self.nodes.get(message.node), self.searches.get(message.node)
        if node is None or search is None:
            return
        predecessor = None if message.predecessor is None else self.contacts[message.predecessor]
        by, successors = self.contacts[message.about], self._rpc(message.successors)
        named = search.answered(by, predecessor, successors)
        if search.found is not None:
            self._place_found(node, *search.found)
        elif named is not None:
            self.pending.append(Message(QUERIED, named.id, node.me.id))
        else:
            self._look_up_later(node.me.id)

    def _place_found(self, node: RingNode, owner: Contact, successors: Sequence[Contact]) -> None:
        del self.searches[node.me.id]
        effects = node.join_answered(owner, successors)
        ids = tuple(contact.id for contact in successors)
        self._note_told(node, Message(JOINED, node.me.id, owner.id, None, ids))
        self.do(node, effects)

    def find_successor(self, start: RingNode, position: int) -> Contact | None:
        """A lookup in one step; None when it got nowhere just now."""
        node = start
        for _ in range(2 * len(self.nodes) + 2):
            if node.me.id not in self.nodes:
                return None
            answer = node.answer(position)
            if answer is not None:
                return answer[0]
            try:
                hop = node.next_hop(position, ()).id
            except NotJoined:
                return None
            if not self.reachable(node.me.id, hop):
                return None
            node = self.nodes[hop]
        return None

    # How it goes on

    def step(self) -> None:
        """One pending message, whichever."""
        if self.pending:
            self.deliver(self.take())

    def take(self) -> Message:
        """A pending message, whichever, to be delivered now; at times it stays pending too."""
        pending = self.pending
        index = int(self.random.random() * len(pending))
        message = pending[index]
        if not self.twice_rate or self.random.random() >= self.twice_rate:
            last = pending.pop()
            if index < len(pending):
                pending[index] = last
        return message

    def run(self, steps: int) -> None:
        """Deliver this many messages, with rounds of stabilization among them."""
        for _ in range(steps):
            if not self.pending or self.random.random() < 0.1:
                self.tick(self.random.choice(list(self.nodes)))
            self.step()

    def tick(self, id: int) -> None:
        """A node's timer: it stabilizes, and finds out whether its predecessor's link still lives."""
        predecessor = self.nodes[id].predecessor
        if predecessor is not None and not self.reachable(id, predecessor.id):
            self.pending.append(Message(FAILED, id, predecessor.id))
        self.pending += [Message(NUDGED, id, id), *self.after_a_tick]
        self.after_a_tick.clear()

    def round(self) -> None:
        """Every node's timer once, and all that comes of it."""
        ids = list(self.nodes)
        self.random.shuffle(ids)
        for id in ids:
            self.tick(id)
        self.drain()

    def drain(self) -> None:
        """All that is pending, and all that comes of it."""
        for _ in range(3_000 * (1 + len(self.nodes))):
            if not self.pending:
                return
            self.step()
        raise AssertionError("the messages of one round never end")

    def settle(self, rounds_max: int = 60) -> int:
        """Round after round until the ring is right. :returns: how many it took."""
        for rounds in range(rounds_max):
            if not self.errors():
                return rounds
            self.round()
        assert self.errors() == []
        return rounds_max

    # What is true

    def errors(self) -> list[str]:
        """What is not as it ought to be, of the true ring (of each side, where there are two)."""
        return [*self.broken, *(error for node in self.nodes.values() for error in self._errors_of(node))]

    def _errors_of(self, node: RingNode) -> list[str]:
        others = [n.me for n in self.nodes.values() if self.side.get(n.me.id) == self.side.get(node.me.id)]
        others = sorted((c for c in others if c != node.me), key=lambda c: distance(node.me.id, c.id))
        errors = []
        if not node.is_member:
            errors.append("not a member")
        if node.successors != tuple(others[: self.list_length]):
            errors.append(f"{node.me.port}: wrong successors")
        if node.predecessor != (others[-1] if others else None):
            errors.append(f"{node.me.port}: wrong predecessor")
        if node.complete and len(others) > len(node.successors):
            errors.append(f"{node.me.port}: takes a part for the whole ring")
        if len(others) < self.list_length and not node.complete:
            errors.append(f"{node.me.port}: does not know that this is the whole ring")
        return errors


def _extended_under_way(by: int, successors: Ids) -> Ids:
    """The extended list that an answer tells of: closed, when ``by`` is alone."""
    return (by, *successors) if successors else (by, by)
