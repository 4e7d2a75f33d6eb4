"""The Chord node, one test for each sentence of Zave's operations (quoted), and for ours beside them.

The ring is walked toward smaller ids: 90 is followed by 80, then 70.
"""

from __future__ import annotations

import pytest

from chordtx.errors import NotJoined
from chordtx.ring import SIZE, Ask, Changed, Contact, Notify, Nudge, RingNode


def c(id: int) -> Contact:
    return Contact(id % SIZE, "127.0.0.1", 1)


def cs(*ids: int) -> tuple[Contact, ...]:
    return tuple(map(c, ids))


def member(id: int, successors: tuple[int, ...], predecessor: int | None = None, length: int = 3) -> RingNode:
    """A node that has joined and been notified."""
    node = RingNode(c(id), length)
    node.join_answered(c(successors[0]), cs(*successors[1:]))
    if predecessor is not None:
        node.notified(c(predecessor))
    assert node.successors == cs(*successors)
    return node


# Membership


def test_before_it_joins_a_node_knows_and_does_nothing() -> None:
    node = RingNode(c(50))
    assert not node.is_member
    assert not node.complete
    assert not node.owns(50)
    assert node.answer(50) is None
    assert node.stabilize() == node.notified(c(1)) == node.met(c(1)) == node.failed(1) == []
    assert node.neighbours_answered(c(1), None, ()) == node.place_found(c(1)) == []
    with pytest.raises(NotJoined):
        node.next_hop(1, ())


def test_a_ring_of_one_owns_everything() -> None:
    node = RingNode(c(50))
    assert node.create() == [Changed()]
    assert node.create() == []
    assert node.complete
    assert node.owns(0)
    assert node.answer(7) == cs(50)
    assert node.stabilize() == []
    assert node.successor is None


def test_join_copies_the_chosen_nodes_full_list_in_one_step() -> None:
    """ "Join: find the place, query the chosen node, copy its full list in one step.\""""
    node = RingNode(c(50), 3)
    assert node.join_answered(c(40), cs(30, 20, 10)) == [Changed(), Ask(c(40))]
    assert node.successors == cs(40, 30, 20)
    assert node.is_member
    assert not node.complete


def test_a_list_that_comes_round_to_oneself_is_the_whole_ring() -> None:
    node = RingNode(c(50), 3)
    node.join_answered(c(40), cs(60))
    assert (node.successors, node.complete) == (cs(40, 60), False)
    node.neighbours_answered(c(40), c(50), cs(60, 50))
    assert (node.successors, node.complete) == (cs(40, 60), True)


def test_a_second_answer_to_a_join_is_an_answer_like_any_other() -> None:
    node = member(50, (40, 30, 20))
    assert node.join_answered(c(30), cs(20, 10)) == []
    assert node.join_answered(c(50), ()) == []
    assert node.successors == cs(40, 30, 20)


def test_two_nodes_find_each_other() -> None:
    """The ring of one, which the protocol of 2001 got wrong."""
    first, second = RingNode(c(50)), RingNode(c(40))
    first.create()
    assert second.join_answered(c(50), ()) == [Changed(), Ask(c(50))]
    assert second.neighbours_answered(c(50), None, ()) == [Notify(c(50))]
    assert first.notified(c(40)) == [Changed(), Ask(c(40))]
    assert not first.owns(45)
    assert first.neighbours_answered(c(40), None, cs(50)) == [Changed(), Nudge(c(40)), Notify(c(40))]
    assert second.notified(c(50)) == [Changed()]
    second.neighbours_answered(c(50), c(40), cs(40))
    assert (first.successors, first.predecessor, first.complete) == (cs(40), c(40), True)
    assert (second.successors, second.predecessor, second.complete) == (cs(50), c(50), True)


# Stabilize


def test_stabilize_queries_the_first_successor() -> None:
    """ "Stabilize: query the first successor for its predecessor and list.\""""
    assert member(50, (40, 30, 20)).stabilize() == [Ask(c(40))]


def test_a_live_successors_list_is_taken_over_less_its_last() -> None:
    """ "Live: list = [it] + its list less the last.\""""
    node = member(50, (40, 30, 20), predecessor=60)
    assert node.neighbours_answered(c(40), c(50), cs(35, 25, 15)) == [Changed(), Nudge(c(60)), Notify(c(40))]
    assert node.successors == cs(40, 35, 25)


def test_a_dead_successor_is_dropped_and_the_list_shifts() -> None:
    """ "Dead: drop it and shift.\""""
    node = member(50, (40, 30, 20), predecessor=60)
    assert node.failed(40) == [Changed(), Nudge(c(60)), Ask(c(30))]
    assert node.successors == cs(30, 20)
    assert not node.complete


def test_a_predecessor_that_lies_between_is_queried_and_not_adopted_yet() -> None:
    """ "If its predecessor lies between: query that node ...\""""
    node = member(50, (40, 30, 20))
    assert node.neighbours_answered(c(40), c(45), cs(30, 20, 10)) == [Notify(c(40)), Ask(c(45))]
    assert node.successors == cs(40, 30, 20)


def test_it_is_adopted_with_its_list_when_it_answers() -> None:
    """ "... adopt [it] + its list less the last only when it answers. Then notify.\""""
    node = member(50, (40, 30, 20))
    node.neighbours_answered(c(40), c(45), cs(30, 20, 10))
    assert node.neighbours_answered(c(45), None, cs(40, 30, 20)) == [Changed(), Notify(c(45))]
    assert node.successors == cs(45, 40, 30)


def test_it_is_not_adopted_when_it_is_dead() -> None:
    """ "A live pointer replaced by one to a dead node": a cause of broken rings in 2001."""
    node = member(50, (40, 30, 20))
    node.neighbours_answered(c(40), c(45), cs(30, 20, 10))
    assert node.failed(45) == []
    assert node.successors == cs(40, 30, 20)


def test_the_first_successor_is_notified_whether_anything_changed_or_not() -> None:
    node = member(50, (40, 30, 20), predecessor=60)
    assert node.neighbours_answered(c(40), c(50), cs(30, 20, 10)) == [Notify(c(40))]
    assert node.neighbours_answered(c(40), c(50), cs(30, 20, 10)) == [Notify(c(40))]


def test_an_answer_that_comes_late_changes_nothing() -> None:
    node = member(50, (45, 40, 30))
    assert node.neighbours_answered(c(40), c(45), cs(30, 20, 10)) == []
    assert node.successors == cs(45, 40, 30)


def test_an_answer_out_of_order_or_with_oneself_in_it_is_cut() -> None:
    node = member(50, (40, 30, 20))
    node.neighbours_answered(c(40), c(50), cs(20, 30, 50))
    assert node.successors == cs(40, 20)
    assert node.check() == []


def test_a_small_rings_node_that_comes_first_does_not_cost_the_list() -> None:
    """Or a whole ring would hang on the one node that has come across it."""
    node = member(50, (40, 30, 20))
    node.neighbours_answered(c(45), None, ())
    assert node.successors == cs(45, 40, 30)
    node.neighbours_answered(c(45), c(50), cs(40))
    assert node.successors == cs(45, 40)


def test_a_failed_node_is_not_copied_back_until_it_is_heard_from() -> None:
    node = member(50, (40, 30, 20))
    node.failed(30)
    node.neighbours_answered(c(40), c(50), cs(30, 20, 10))
    assert node.successors == cs(40, 20, 10)
    node.notified(c(30))
    node.neighbours_answered(c(40), c(50), cs(30, 20, 10))
    assert node.successors == cs(40, 30, 20)


def test_nor_is_it_held_dead_for_ever_on_one_nodes_word() -> None:
    """A time-out may have been false; those nearer to it know better."""
    node = member(50, (40, 30, 20))
    node.failed(30)
    for _ in range(node.list_length):
        node.stabilize()
    node.neighbours_answered(c(40), c(50), cs(30, 20, 10))
    assert node.successors == cs(40, 30, 20)


def test_the_last_successor_lost_leaves_the_predecessor_to_ask() -> None:
    node = member(50, (40,), predecessor=60)
    assert node.failed(40) == [Changed(), Nudge(c(60)), Ask(c(60))]
    node.neighbours_answered(c(60), c(70), cs(50, 30))
    assert node.successors == cs(60)


def test_a_node_that_lost_all_of_a_larger_ring_owns_nothing_until_told_to_go_on_alone() -> None:
    node = member(50, (40, 30, 20), predecessor=60)
    for id in (60, 40, 30, 20):
        node.failed(id)
    assert node.is_cut_off
    assert not node.owns(45)
    assert node.answer(45) is None
    assert node.met(c(7)) == [Ask(c(7))]
    assert node.create() == [Changed()]
    assert node.owns(45)
    assert not node.is_cut_off


def test_the_last_of_a_ring_known_whole_owns_everything() -> None:
    node = member(50, (40,), predecessor=40)
    node.neighbours_answered(c(40), c(50), cs(50))
    node.failed(40)
    assert not node.is_cut_off
    assert node.complete
    assert node.owns(45)


# Rectify


def test_a_notifier_that_lies_between_becomes_the_predecessor() -> None:
    """ "Rectify, when notified by x: adopt x as predecessor if it lies between ..." The one before is told
    at once, since it has a new successor."""
    node = member(50, (40, 30, 20), predecessor=60)
    assert node.notified(c(55)) == [Changed(), Nudge(c(60))]
    assert node.predecessor == c(55)


def test_or_when_the_present_one_is_dead() -> None:
    """ "... or if the present one is dead": it is asked, and does not answer."""
    node = member(50, (40, 30, 20), predecessor=55)
    assert node.notified(c(60)) == [Ask(c(55))]
    assert node.predecessor == c(55)
    node.failed(55)
    assert node.predecessor is None
    assert node.notified(c(60)) == [Changed()]
    assert node.predecessor == c(60)


def test_a_predecessor_that_is_silent_for_long_breaks_nothing() -> None:
    node = member(50, (40, 30, 20))
    for _ in range(5):
        assert node.stabilize() == [Ask(c(40))]
        assert node.neighbours_answered(c(40), c(50), cs(30, 20, 10)) == [Notify(c(40))]
    assert node.predecessor is None
    assert node.owns(50)
    assert not node.owns(51)


def test_a_neighbour_that_came_back_at_another_address_is_known_there() -> None:
    node = member(50, (40, 30, 20), predecessor=60)
    node.notified(Contact(60, "moved", 2))
    assert node.predecessor == Contact(60, "moved", 2)
    node.neighbours_answered(Contact(40, "moved", 2), c(50), cs(30, 20))
    assert node.successor == Contact(40, "moved", 2)


# Others come and go


def test_only_who_lies_between_is_asked_when_met() -> None:
    node = member(50, (40, 30, 20))
    assert node.met(c(45)) == [Ask(c(45))]
    assert node.met(c(35)) == node.met(c(40)) == node.met(c(50)) == []
    assert node.successors == cs(40, 30, 20)


def test_a_list_said_to_be_everyone_is_questioned_by_whoever_is_not_in_it() -> None:
    node = member(50, (40,), length=8)
    node.neighbours_answered(c(40), c(50), cs(50))
    assert node.complete
    assert node.met(c(35)) == [Ask(c(35))]


def test_the_own_place_looked_up_elsewhere_shows_another_ring() -> None:
    node = member(50, (40, 30, 20))
    assert node.place_found(c(50)) == node.place_found(c(40)) == []
    assert node.place_found(c(35)) == [Ask(c(35))]
    assert node.neighbours_answered(c(35), c(65), cs(25, 15)) == [Notify(c(35))]
    assert node.neighbours_answered(c(35), None, ()) == [Notify(c(35))]
    assert node.neighbours_answered(c(35), None, cs(25)) == [], "it has only just joined: not our place"
    assert node.successors == cs(40, 30, 20)


def test_who_leaves_politely_is_gone_just_the_same() -> None:
    node = member(50, (40, 30, 20), predecessor=60)
    assert Changed() in node.left(40)
    assert node.successors == cs(30, 20)
    node.left(60)
    assert node.predecessor is None


# Lookups


def test_it_answers_for_its_own_arc_and_for_its_successors() -> None:
    node = member(50, (40, 30, 20), predecessor=60)
    assert node.answer(59) == node.answer(50) == cs(50, 40, 30, 20)
    assert node.answer(49) == node.answer(40) == cs(40, 30, 20)
    assert node.answer(39) is None
    assert node.answer(60) is None


def test_the_next_hop_precedes_the_position_most_closely() -> None:
    node = member(50, (40, 30, 20))
    assert node.next_hop(25, ()) == c(30)
    assert node.next_hop(5, cs(10, 3, 90)) == c(10)
    assert node.next_hop(10, cs(10)) == c(20), "strictly: who looks itself up is not sent to itself"
    assert node.next_hop(35, ()) == c(40)


def test_a_node_in_no_ring_asks_whoever_precedes_most_closely() -> None:
    node = RingNode(c(50))
    assert node.next_hop(50, cs(50, 40, 60)) == c(60)
    assert node.next_hop(50, cs(40)) == c(40)


def test_what_one_node_can_see_of_a_broken_ring_is_told() -> None:
    node = member(50, (40, 30, 20), predecessor=60)
    assert node.check() == []
    node._successors, node._predecessor = cs(30, 40, 40, 50), c(50)
    assert len(node.check()) == 5
    node._is_member = False
    assert len(node.check()) == 6
