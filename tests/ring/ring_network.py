"""A ring of bare RingNodes: every message waits in one bag, and a seed says which comes next.

No time, no sockets. Whatever is pending may come in any order, so a run is one random interleaving.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from chordtx.errors import NotJoined
from chordtx.ring import SIZE, Ask, Contact, Effect, Notify, Nudge, RingNode, distance

Event = Callable[[], None]


class Network:
    """Nodes by id, the pending messages, and who is cut off from whom.

    :param seed: of everything that is random here.
    :param list_length: of the nodes' successor lists.
    """

    def __init__(self, seed: int, list_length: int = 8) -> None:
        self.random = random.Random(seed)
        self.list_length = list_length
        self.nodes: dict[int, RingNode] = {}
        self.pending: list[Event] = []
        self.after_a_tick: list[Event] = []
        self.side: dict[int, int] = {}
        self.false_timeout_rate = 0.0

    # What happens to nodes

    def add(self, id: int | None = None) -> RingNode:
        """A node that is in no ring yet."""
        contact = Contact(self.random.randrange(SIZE) if id is None else id, "127.0.0.1", len(self.nodes) + 1)
        self.nodes[contact.id] = RingNode(contact, self.list_length)
        return self.nodes[contact.id]

    def create(self, id: int | None = None) -> RingNode:
        """A ring of one."""
        node = self.add(id)
        self.do(node, node.create())
        return node

    def join(self, node: RingNode, through: RingNode) -> None:
        """Looks the own id up, then queries whoever was found: two messages, with anything in between."""

        def look_up() -> None:
            chosen = self.find_successor(through, node.me.id)
            if chosen is None:
                self.after_a_tick.append(look_up)
            else:
                self.pending.append(lambda: query(chosen))

        def query(chosen: Contact) -> None:
            if not self.reachable(node.me.id, chosen.id):
                self.after_a_tick.append(look_up)
                return
            successors = self.nodes[chosen.id].successors
            self.pending.append(lambda: self.do(node, node.join_answered(chosen, successors)))

        self.pending.append(look_up)

    def crash(self, id: int) -> None:
        """Gone, without a word."""
        del self.nodes[id]

    # What messages do

    def reachable(self, a: int, b: int) -> bool:
        return b in self.nodes and self.nodes[b].is_member and self.side.get(a) == self.side.get(b)

    def do(self, node: RingNode, effects: list[Effect]) -> None:
        """Carry out what ``node`` wants done."""
        assert node.check() == []
        for effect in effects:
            if isinstance(effect, Ask):
                self.pending.append(lambda to=effect.contact: self.ask(node, to))  # type: ignore[misc]
            elif isinstance(effect, Notify):
                self.pending.append(lambda to=effect.contact: self.notify(node, to))  # type: ignore[misc]
            elif isinstance(effect, Nudge):
                self.pending.append(lambda to=effect.contact: self.stabilize(to.id))  # type: ignore[misc]

    def ask(self, node: RingNode, to: Contact) -> None:
        late = self.random.random() < self.false_timeout_rate
        if late or not self.reachable(node.me.id, to.id):
            self.pending.append(lambda: self.do(node, node.failed(to.id)))
            return
        by = self.nodes[to.id]
        predecessor, successors = by.predecessor, by.successors
        self.pending.append(lambda: self.do(node, node.neighbours_answered(by.me, predecessor, successors)))

    def notify(self, node: RingNode, to: Contact) -> None:
        if self.reachable(node.me.id, to.id):
            self.do(self.nodes[to.id], self.nodes[to.id].notified(node.me))

    def stabilize(self, id: int) -> None:
        if id in self.nodes:
            self.do(self.nodes[id], self.nodes[id].stabilize())

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
            index = self.random.randrange(len(self.pending))
            self.pending[index], self.pending[-1] = self.pending[-1], self.pending[index]
            self.pending.pop()()

    def run(self, steps: int) -> None:
        """So many messages, with rounds of stabilization among them."""
        for _ in range(steps):
            if not self.pending or self.random.random() < 0.1:
                self.tick(self.random.choice(list(self.nodes)))
            self.step()

    def tick(self, id: int) -> None:
        """A node's timer: it stabilizes, and finds out whether its predecessor's link still lives."""
        node = self.nodes[id]
        predecessor = node.predecessor
        if predecessor is not None and not self.reachable(id, predecessor.id):
            self.pending.append(lambda: self.do(node, node.failed(predecessor.id)))
        self.pending += [lambda: self.stabilize(id), *self.after_a_tick]
        self.after_a_tick.clear()

    def round(self) -> None:
        """Every node's timer once, and all that comes of it."""
        ids = list(self.nodes)
        self.random.shuffle(ids)
        for id in ids:
            self.tick(id)
        steps = 0
        while self.pending:
            self.step()
            steps += 1
            assert steps < 3_000 * (1 + len(self.nodes)), "the messages of one round never end"

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
        return [error for node in self.nodes.values() for error in self._errors_of(node)]

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
