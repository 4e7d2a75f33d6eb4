"""Small groups, searched whole or as far as it takes a second; and planted faults are found by that."""

from __future__ import annotations

from pathlib import Path

import pytest

from chordtx.group.configuration import Member
from chordtx.group.messages import (
    Accept,
    Accepted,
    Compare,
    Differs,
    Fetch,
    FetchClients,
    Give,
    GiveClients,
    Gone,
    Install,
    Learn,
    Learned,
    Prepare,
    Promise,
)
from chordtx.sim.group_copies import Keys, copied
from chordtx.sim.group_plans import PLANS, TWO, Plan
from chordtx.sim.group_states import GroupStates
from chordtx.sim.group_world import GroupWorld
from tests.group.planted import said_with
from tests.group.schedules import A, B, C, Play

#: Of these, all states are looked at here.
WHOLE = ("tiny", "swap", "newcomer", "pairs", "reread", "expired", "handmove")
STATES = 8_000

SEARCH = """
from chordtx.sim.group_plans import PLANS
from chordtx.sim.group_states import GroupStates
report = GroupStates({name!r}, PLANS[{name!r}]).run(20_000)
assert len(report.path) >= report.depth
print(report.violation)
"""


@pytest.mark.parametrize("name", WHOLE)
def test_all_of_a_small_plan(name: str) -> None:
    report = GroupStates(name, PLANS[name]).run()
    assert report.violation == ""
    assert report.is_whole
    assert report.states > 2_000


@pytest.mark.parametrize("name", [name for name in PLANS if name not in WHOLE])
def test_the_first_states_of_a_larger_plan(name: str) -> None:
    report = GroupStates(name, PLANS[name]).run(STATES)
    assert report.violation == ""
    assert report.states >= STATES
    assert not report.is_whole


@pytest.mark.parametrize(
    ("fault", "name", "violation"),
    [
        ("forget_lease", "bounced", "S4"),
        ("confirm_grants_nothing", "bounced", "S4"),
        ("read_uncommitted", "reread", "S4"),
        ("install_union", "tiny", "S1"),
        ("activate_at_one", "swap", "S2"),
        ("sequence_restarts", "swap", "S1"),
        ("copy_of_what_moves", "newcomer", "S1"),
    ],
)
def test_fault_is_found(fault: str, name: str, violation: str, tmp_path: Path) -> None:
    assert said_with(fault, SEARCH.format(name=name), tmp_path).startswith(violation)


def test_whoever_leads_alone_needs_nobody() -> None:
    report = GroupStates("alone", Plan(members=(TWO,), stand=(TWO,), jumps=(1,))).run()
    assert (report.states, report.steps, report.is_whole) == (5, 4, True)


def test_forced_while_a_copy_ends() -> None:
    """B is to go on alone, and has asked; then the copy of C's state is finished, and B goes on with that."""
    play = Play()
    play.leads(A)
    play.add(b"A", A)
    play.run(A, C, kinds=(Accept,))
    play.wait()
    play.leads(C, among=(A, C))
    play.run(B, C, kinds=(Install, Compare, Differs, Fetch, Give, FetchClients))
    play.world.on_group(B, lambda group: group.force())
    play.run(B, C, kinds=(GiveClients,))
    play.world.on_group(B, lambda group: group.force_now())
    play.end()


def test_an_old_promise_comes_again() -> None:
    """B carries on a change of members, learns that the next epoch has begun, and then hears an old promise
    of A's once more: it must not go back into the epoch that is over."""
    play = Play(A, B, spares=(C,))
    play.leads(A)
    play.seal(A, C)
    play.run(A, B, kinds=(Accept, Accepted))
    asked = [sent for sent in play.world.net if sent.to == C]
    play.run(A, C, kinds=(Prepare, Promise, Install, Compare, Differs))
    play.lose()
    play.wait()
    play.world.on_group(B, lambda group: group.stand(trial=False))
    prepares = list(play.world.net)
    play.run(A, B, kinds=(Prepare,))
    promises = list(play.world.net)
    play.run(A, B)
    play.lose()
    play.leads(C)
    for sent in asked:
        play.world.deliver(sent)
    play.run(A, C, kinds=(Gone,))
    for sent in prepares:
        play.world.deliver(sent)
    play.run(A, B, kinds=(Promise,))
    for sent in promises:
        play.world.deliver(sent)
    play.end()


COPYING = (Learn, Compare, Differs, Fetch, Give, FetchClients, GiveClients)


def test_a_comparison_with_what_is_there_no_more() -> None:
    """C compares a copy that has all clients with A's state, and begins again before it is told that they are
    alike; when it is, what it has is another copy, in which they are lacking."""
    play = Play(A, B, spares=(C,))
    net = play.world.net
    play.leads(A)
    play.add(b"A", A)
    play.run(A, B)
    play.world.on_group(A, lambda group: group.change_members(map(Member, (A, B, C))))
    again = list(net)
    play.run(A, C, kinds=(Learn, Compare))
    again += net
    play.run(A, C, kinds=(*COPYING, Learned))
    play.run(A, B, kinds=(Accept, Accepted, Prepare, Promise))
    install = next(sent for sent in net if isinstance(sent.message, Install) and sent.to == C)
    play.lose()
    play.world.deliver(install)
    play.run(A, C, kinds=(Compare,))
    late = list(net)
    for sent in (*again, install, *late):
        play.world.deliver(sent)


# Copies


def _worlds_of_a_move() -> Play:
    play = Play(spares=(b"4",))
    play.leads(A)
    play.add(b"A", A)
    play.run(A, B, C)
    play.add(b"B", A)
    play.world.on_group(A, lambda group: group.change_members([Member(A), Member(B), Member(b"4")]))
    for _ in range(6):
        play.world.deliver(play.world.net.pop(0))
    return play


def _keys_of(world: GroupWorld) -> list[object]:
    return [Keys(ticks=True).of(host) for host in world.hosts.values()]


def test_copies_are_the_same_and_go_their_own_ways() -> None:
    play = _worlds_of_a_move()
    before = _keys_of(play.world)
    copy: GroupWorld = copied(play.world)
    assert _keys_of(copy) == before
    copy.settle()
    assert _keys_of(copy) != before
    assert _keys_of(play.world) == before
    play.run(A, B, C, b"4")
    assert _keys_of(play.world) == _keys_of(copy)


def test_copies_share_what_was_shared() -> None:
    host = copied(_worlds_of_a_move().world.hosts[A])
    group = host.groups.groups[0]
    assert group.leader.state is group.replica.state
    assert group._turn is group.replica._turn is group.leader._turn is host.groups.turn
    assert group._pairs is group.leader._pairs is host.groups.confirming


def test_keys_without_ticks_leave_out_what_only_ticks_look_at() -> None:
    world = GroupWorld((A,))
    host = world.hosts[A]
    group = world.group(A)
    assert group is not None
    assert group.tries.at is not None
    before = Keys(ticks=False).of(host), Keys(ticks=True).of(host)
    group.tries.at = None
    after = Keys(ticks=False).of(host), Keys(ticks=True).of(host)
    assert (before[0] == after[0], before[1] == after[1]) == (True, False)
