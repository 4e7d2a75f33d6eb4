"""No order of events breaks Zave's invariants; and versions that are broken on purpose are caught by them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from chordtx.ring import Contact, Effect, Notify, PlaceSearch, RingNode
from chordtx.sim.ring_search import RandomSearch, Report, rounds_max
from chordtx.sim.ring_states import Exploration, Plan

#: The list's length, nodes at first, nodes there may be, principals that the environment leaves: as in the
#: paper, but for the third, where the ring may shrink to a single node.
RINGS = [(2, 3, 11, 3), (3, 4, 12, 4), (3, 1, 10, 1), (8, 9, 16, 9)]
SEEDS = range(5)
STEPS = 50_000

#: What may happen, and how many states that leads to at least.
PLANS = [
    (Plan(2, base=(2, 7, 12), joiners=(5,), crashes=1), 1_500),
    (Plan(2, base=(2, 7, 12), joiners=(5,), ticks=1), 7_000),
    (Plan(2, base=(2, 5, 9, 12), crashes=1, ticks=1), 11_000),
    (Plan(3, base=(2, 5, 9, 12), joiners=(7,), crashes=1), 3_000),
    (Plan(3, base=(2, 5, 9, 12), joiners=(7,), ticks=1), 20_000),
    (Plan(3, base=(2, 5, 8, 11, 14), crashes=1, ticks=1), 30_000),
]


def search(seed: int, ring: tuple[int, int, int, int], steps: int, **broken: Any) -> Report:
    list_length, base, ids, principals_min = ring
    model = RandomSearch(seed, list_length, base=base, ids=ids, principals_min=principals_min, **broken)
    return model.run(steps)


def test_there_are_a_million_random_steps() -> None:
    assert len(RINGS) * len(SEEDS) * STEPS >= 1_000_000


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("ring", RINGS)
def test_no_random_order_of_events_breaks_the_invariants(ring: tuple[int, int, int, int], seed: int) -> None:
    report = search(seed, ring, STEPS)
    assert report.violations == []
    assert report.steps == STEPS
    assert min(report.changes, report.joins, report.crashes, report.leaves) > 100
    assert report.calms >= 10
    assert report.rounds <= rounds_max(ring[0])


@pytest.mark.parametrize(("plan", "states_min"), PLANS)
def test_no_order_of_events_at_all_breaks_the_invariants(plan: Plan, states_min: int) -> None:
    explored = Exploration(plan).run()
    assert explored.violations == []
    assert explored.states >= states_min
    assert explored.events > explored.states
    assert explored.ends > 1


def test_every_order_is_gone_through_the_same_way_each_time() -> None:
    plan, _ = PLANS[0]
    assert Exploration(plan).run() == Exploration(plan).run()


def test_the_same_seed_is_the_same_search() -> None:
    assert search(7, RINGS[1], 5_000) == search(7, RINGS[1], 5_000)


# Broken versions


class JoinOf2001(RingNode):
    """A joiner takes its successor alone: no list."""

    def join_answered(self, chosen: Contact, successors: Sequence[Contact]) -> list[Effect]:
        return super().join_answered(chosen, ())


class AdoptsWhoIsNamed(RingNode):
    """Stabilize as of 2001: the successor's predecessor is adopted without a question."""

    def neighbours_answered(
        self, by: Contact, predecessor: Contact | None, successors: Sequence[Contact]
    ) -> list[Effect]:
        effects = super().neighbours_answered(by, predecessor, successors)
        if (
            self.is_member
            and predecessor is not None
            and predecessor != self.me
            and self._is_nearer(predecessor)
        ):
            self._successors = (predecessor, *self._successors[: self.list_length - 1])
            effects.append(Notify(predecessor))
        return effects


class ChordOf2001(JoinOf2001, AdoptsWhoIsNamed):
    """Both."""


class ForgetsItsList(RingNode):
    """A new first successor replaces the list; its own list is taken a round later."""

    def _copy_list(self, first: Contact, successors: Sequence[Contact]) -> None:
        super()._copy_list(first, successors if self._is_first(first.id) else ())
        if not self._is_first(first.id):
            self._successors = self._successors[:1]


class BelievesTheOwner(PlaceSearch):
    """A joiner takes the owner's word, and asks nobody whether there is somebody between."""

    def answered(
        self, by: Contact, predecessor: Contact | None, successors: Sequence[Contact]
    ) -> Contact | None:
        self.found = (by, tuple(successors))
        return None


BROKEN_NODES = [JoinOf2001, AdoptsWhoIsNamed, ChordOf2001, ForgetsItsList]


@pytest.mark.parametrize("node_type", BROKEN_NODES)
def test_a_broken_node_is_caught_at_random(node_type: type[RingNode]) -> None:
    reports = [search(seed, RINGS[1], 10_000, node_type=node_type) for seed in range(3)]
    assert all(report.violations for report in reports)


@pytest.mark.parametrize("node_type", BROKEN_NODES)
def test_a_broken_node_is_caught_among_all_orders(node_type: type[RingNode]) -> None:
    plan = Plan(2, base=(2, 5, 9, 12), joiners=(7,), crashes=1)
    assert Exploration(plan, node_type=node_type).run(20_000).violations


def test_a_join_on_the_owners_word_is_caught() -> None:
    """It costs a principal now and then, until there are too few."""
    reports = [search(seed, RINGS[1], 5_000, search_type=BelievesTheOwner) for seed in range(6)]
    assert sum(bool(report.violations) for report in reports) >= 3
    found = " ".join(what for report in reports for what in report.violations)
    assert "is a principal no more" in found
    assert "3 principals, and not 4" in found


def test_the_join_of_2001_alone_tears_the_ring_in_two() -> None:
    plan = Plan(2, base=(2, 5, 9, 12), joiners=(7,), crashes=1)
    assert "2 rings" in Exploration(plan, node_type=JoinOf2001).run().violations
