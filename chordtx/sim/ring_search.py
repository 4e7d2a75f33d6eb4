"""Searches at random for an order of events that breaks Zave's invariants.

Drives a :class:`~chordtx.sim.ring_model.RingModel`, and looks at the whole ring after every step for

- OneLiveSuccessor, SufficientPrincipals, one ordered ring that all members reach (see
  :mod:`chordtx.sim.invariants`), and what a node can see of itself;
- a principal that is none any more, though it is a member yet.

Faults stop now and then. After a bounded number of rounds of stabilization there must be the one true ring,
and Zave's measure of progress must not rise on the way. :mod:`chordtx.sim.ring_states` goes through every
order of events of smaller rings.
"""

from __future__ import annotations

from attrs import define, field

from chordtx.ring import SIZE, PlaceSearch, RingNode
from chordtx.sim.invariants import name_of, not_one_ring, rank_errors, violations
from chordtx.sim.ring_model import JOINED, Message, RingModel

_FAULT_RATE = 0.05
_TICK_RATE = 0.1
_TWICE_RATE = 0.02
_CALM_EVERY_STEPS = 2_500


class Watch:
    """Looks at a ring after each step; thoroughly when something changed.

    :param principals_min: how many principals the ring has, and must keep.
    :ivar changes: how often something did.
    """

    def __init__(self, model: RingModel, principals_min: int) -> None:
        self.model = model
        self.principals_min = principals_min
        self.changes = 0
        self._lists: dict[int, object] = {}
        self._skipped: dict[int, int] = {}
        self._members = 0
        for id in model.nodes:
            self._is_changed(id)

    def deliver(self, message: Message) -> list[str]:
        """Deliver a message. :returns: what is wrong then."""
        under_way = self.model.skipped_in(message)
        if message.kind == JOINED:
            under_way |= self.model.skipped_under_way()  # a search may end
        self.model.deliver(message)
        return self.wrong(message.node, under_way)

    def wrong(self, id: int, was_under_way: int = 0) -> list[str]:
        """What is wrong after something happened to one node.

        :param was_under_way: those whom something that arrived with it would lead nodes to skip.
        """
        before, members = self._skipped_by_lists() | was_under_way, self._members
        if not self._is_changed(id):
            return []
        self.changes += 1
        model, under_way = self.model, self.model.skipped_under_way()
        principals = self._members & ~self._skipped_by_lists() & ~under_way
        lost = members & ~before & ~under_way & self._members & ~principals
        found = [f"{name_of(each)}: is a principal no more" for each in model.walk.ids(lost)]
        places = model.places()
        if principals.bit_count() < self.principals_min:
            found += violations(places, model.list_length, self.principals_min)
        return [*model.broken, *found, *not_one_ring(places)]

    def _is_changed(self, id: int) -> bool:
        """Whether its list or its membership is not what it was."""
        node, bit = self.model.nodes.get(id), self.model.walk.bit(id)
        seen: object = None
        if node is None:
            self._skipped.pop(id, None)
            self._members &= ~bit
        else:
            seen = (node.is_member, node.complete, node.successors)
            self._skipped[id] = self.model.skipped_by(node)
            self._members = self._members | bit if node.is_member else self._members & ~bit
        is_changed = self._lists.get(id) != seen
        self._lists[id] = seen
        return is_changed

    def _skipped_by_lists(self) -> int:
        skipped = 0
        for each in self._skipped.values():
            skipped |= each
        return skipped


# At random


@define
class Report:
    """What a random search did.

    :ivar violations: of the first step that had any; none, for a ring that works.
    :ivar rounds: of stabilization that the worst calm took until the true ring stood.
    """

    steps: int = 0
    changes: int = 0
    joins: int = 0
    crashes: int = 0
    leaves: int = 0
    calms: int = 0
    rounds: int = 0
    violations: list[str] = field(factory=list)


class RandomSearch:
    """One random run.

    :param base: how many nodes the ring has at first; principals, all of them.
    :param ids: how many different nodes there may be; those that ended come back.
    :param principals_min: how many principals the environment leaves. The paper's number is one more than
        the list is long.
    """

    def __init__(
        self,
        seed: int,
        list_length: int,
        *,
        base: int,
        ids: int,
        principals_min: int,
        node_type: type[RingNode] = RingNode,
        search_type: type[PlaceSearch] = PlaceSearch,
    ) -> None:
        model = self.model = RingModel(seed, list_length, node_type, search_type)
        self.ids = [SIZE // ids * number + 1 for number in range(ids)]
        model.random.shuffle(self.ids)
        grow(model, self.ids[:base])
        model.twice_rate = _TWICE_RATE
        self.principals_min = principals_min
        self.watch = Watch(model, principals_min)
        self.report = Report()

    def run(self, steps: int) -> Report:
        """Take this many steps, or stop at the first that breaks something."""
        report = self.report
        for report.steps in range(1, steps + 1):
            report.violations = self._step()
            if not report.violations and report.steps % _CALM_EVERY_STEPS == 0:
                report.violations = self._calm()
            if report.violations:
                break
        report.changes += self.watch.changes
        return report

    def _step(self) -> list[str]:
        model = self.model
        chance = model.random.random()
        if chance < _FAULT_RATE:
            return self._come_or_go()
        if chance < _FAULT_RATE + _TICK_RATE or not model.pending:
            model.tick(model.random.choice(list(model.nodes)))
            return []
        return self.watch.deliver(model.take())

    def _come_or_go(self) -> list[str]:
        model, rng, report = self.model, self.model.random, self.report
        id, members = rng.choice(self.ids), list(model.members)
        if id not in model.nodes:
            report.joins += 1
            model.join(model.add(id), model.nodes[rng.choice(members)])
        elif id not in members or not model.may_end(id, self.principals_min):
            return []
        elif rng.random() < 0.5:
            report.crashes += 1
            model.crash(id)
        else:
            report.leaves += 1
            model.leave(id)
        return self.watch.wrong(id)

    def _calm(self) -> list[str]:
        """No more faults for a while: the true ring stands after a few rounds."""
        model, report = self.model, self.report
        report.calms += 1
        rounds, wrong = calm_down(model)
        report.rounds = max(report.rounds, rounds)
        report.changes += self.watch.changes
        self.watch = Watch(model, self.principals_min)
        return wrong


def grow(model: RingModel, ids: list[int]) -> None:
    """A true ring of these nodes."""
    first = model.create(ids[0])
    for id in ids[1:]:
        model.join(model.add(id), first)
        model.round()
    model.settle()


def rounds_max(list_length: int) -> int:
    """How many rounds of stabilization a ring may take to be the true one: a node that failed and came back
    is not believed in for as many as the list is long."""
    return list_length + 4


def calm_down(model: RingModel) -> tuple[int, list[str]]:
    """Lets all that is pending come, and then all nodes stabilize until the ring is the true one.

    :returns: how many rounds that took, and what was wrong: that it took too many, or that the pointers
        were more wrong after a round than before.
    """
    twice_rate, model.twice_rate = model.twice_rate, 0.0
    model.drain()
    rounds, found = 0, list[str]()
    while (errors := model.errors()) and not found:
        rounds += 1
        if rounds > rounds_max(model.list_length):
            found = [f"no true ring: {error}" for error in errors]
        else:
            found = _round(model)
    model.twice_rate = twice_rate
    return rounds, found


def _round(model: RingModel) -> list[str]:
    """One round. Zave's measure of progress must not rise in it, unless somebody joined, or a node that came
    back was taken for dead by somebody: that is outside of the proof."""
    members = model.members
    is_measured = not any(node._failed.keys() & members.keys() for node in members.values())
    wrong = rank_errors(model.places(), model.list_length)
    model.round()
    has_grown = len(model.members) > len(members)
    is_worse = rank_errors(model.places(), model.list_length) > wrong
    return ["the pointers are more wrong after a round"] if is_measured and is_worse and not has_grown else []
