"""Random walks break nothing; and what watches them does see what is broken."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chordtx.group.configuration import Configuration, Member
from chordtx.group.operations import ABSENT, COMPARE_AND_SET, CONFLICT, DONE, GET, INCREMENT, SET
from chordtx.group.rank import Epoch
from chordtx.sim.group_history import Call, explains
from chordtx.sim.group_search import Walk, walks
from chordtx.sim.group_watch import Violation
from tests.group.schedules import A, B, C, D, E, Play

#: That broke something once, before what they found was mended.
FAILED_ONCE = (18, 1828, 55, 144, 168, 219, 230, 284, 941, 2544, 12533, 22773, 202102, 304156, 410413)


@pytest.mark.parametrize("seed", FAILED_ONCE)
def test_a_walk_that_failed_once(seed: int) -> None:
    Walk(seed).run()


@pytest.mark.parametrize("seed", range(100_000, 104_000, 500))
def test_walks_break_nothing(seed: int) -> None:
    walked = walks(500, seed)
    assert (walked.seed, walked.violation) == (None, "")
    assert min(walked.totals[name] for name in ("leaders", "epochs", "answers")) > 300


def test_the_same_seed_is_the_same_walk() -> None:
    told: list[list[str]] = []
    for _ in range(2):
        lines: list[str] = []
        walk = Walk(7, trace=lambda *what, lines=lines: lines.append(repr(what)))
        walk.run()
        told.append(lines)
    assert told[0] == told[1]
    assert len(told[0]) > 100


def broken_state(play: Play) -> None:
    """A replica has forgotten an operation."""
    replica = play.group(B).replica
    assert replica.state is not None
    replica.state.clients.clear()


def broken_configuration(play: Play) -> None:
    """A replica has other members than its epoch says."""
    replica = play.group(B).replica
    assert replica.state is not None
    replica.state.configuration = Configuration(Epoch(0), (Member(B),))


def broken_record(play: Play) -> None:
    """A replica has a record that nobody wrote."""
    replica = play.group(B).replica
    assert replica.state is not None
    replica.state.records[b"never"] = next(iter(replica.state.records.values()))


@pytest.mark.parametrize(
    ("break_it", "what"), [(broken_state, "S1"), (broken_configuration, "S3"), (broken_record, "S1")]
)
def test_what_is_broken_is_seen(break_it: Callable[[Play], None], what: str) -> None:
    play = Play()
    play.leads(A)
    play.set(b"A", A)
    play.run(A, B, C)
    break_it(play)
    play.set(b"B", A)
    with pytest.raises(Violation, match=what):
        play.run(A, B, C)


def test_a_state_dropped_too_soon_is_seen() -> None:
    play = Play(spares=(D, E))
    play.leads(A)
    left = Configuration(Epoch(1), (Member(A), Member(D), Member(E)))
    with pytest.raises(Violation, match="S2 b'2' drops"):
        play.world.on_group(B, lambda group: group.replica.gone(left) or None)


def test_a_lease_that_is_counted_too_long_is_seen() -> None:
    play = Play()
    play.leads(A)
    play.world.must_hold_leases()
    assert play.world.watch.lease_margin >= 0
    leader = play.group(A).leader
    assert leader is not None
    leader._held_lease.granted(B, 10_000.0)
    with pytest.raises(Violation, match="too long"):
        play.world.must_hold_leases()


def call(
    number: int, kind: int, arguments: tuple[object, ...], began: int, ended: int | None, result: object
) -> Call:
    return Call((b"c", number), kind, b"k", arguments, began, ended, result)


SET_1 = call(1, SET, (b"\x01", None), 1, 2, (DONE, None))


@pytest.mark.parametrize(
    ("calls", "is_explained"),
    [
        ([SET_1, call(2, GET, (), 3, 4, (b"\x01", (b"c", 1)))], True),
        ([SET_1, call(2, GET, (), 3, 4, (ABSENT, None))], False),
        ([call(1, SET, (b"\x01", None), 1, None, None), call(2, GET, (), 3, 4, (ABSENT, None))], True),
        ([call(1, SET, (b"\x01", 5), 1, 2, (DONE, None)), call(2, GET, (), 3, 4, (ABSENT, None))], True),
        (
            [SET_1, call(2, INCREMENT, (1,), 3, 4, (DONE, 2)), call(3, INCREMENT, (1,), 3, 5, (DONE, 2))],
            False,
        ),
        ([SET_1, call(2, INCREMENT, (1,), 3, 4, (DONE, 3)), call(3, INCREMENT, (1,), 3, 5, (DONE, 2))], True),
        ([SET_1, call(2, COMPARE_AND_SET, (None, b"\x02", None), 3, 4, (DONE, None))], False),
        ([SET_1, call(2, COMPARE_AND_SET, (None, b"\x02", None), 3, 4, (CONFLICT, (b"c", 1)))], True),
        ([SET_1, call(2, GET, (), 1, 4, (ABSENT, None)), call(3, GET, (), 1, 2, (b"\x01", (b"c", 1)))], True),
        (
            [SET_1, call(2, GET, (), 5, 6, (ABSENT, None)), call(3, GET, (), 3, 4, (b"\x01", (b"c", 1)))],
            False,
        ),
    ],
)
def test_histories_are_judged(calls: list[Call], is_explained: bool) -> None:
    assert explains(calls) == is_explained
