"""Whoever lies about the greatest numbers that there are has nobody else say what others refuse."""

from __future__ import annotations

from random import Random

import pytest

from chordtx.config import GroupSettings, Limits
from chordtx.errors import ProtocolError
from chordtx.group.configuration import Member
from chordtx.group.frames import from_wire, to_wire
from chordtx.group.groups import Groups
from chordtx.group.messages import Accept, Operation, Prepare
from chordtx.group.operations import DONE, SET, TOUCH
from chordtx.group.partition_time import PartitionTime, WallClocks
from chordtx.group.rank import COUNT_MAX, NO_RANK, Ballot, Epoch
from chordtx.group.replica import Stored
from chordtx.group.state import KEEP, Change, Header, State
from chordtx.group.turn import Turn
from tests.store.group_turns import CONFIGURATION, rank

WALL_MS = 1_700_000_000_000
CHANGE = Change(TOUCH, b"key", KEEP, b"", 0, b"client", 1, 0, (DONE, None))


def checked(groups: Groups) -> None:
    """The end of a turn: all that is said can be read."""
    ended = groups.end()
    for outgoing in (ended.at_once, ended.lazily, ended.when_synced):
        for entries in outgoing.values():
            assert from_wire(to_wire(entries), Limits(), 1000) == entries
    for save in ended.saves.values():
        assert save.stored.promised.number <= COUNT_MAX


def test_time_ends() -> None:
    turn = Turn()
    turn.now, turn.wall_ms = 5.0, WALL_MS
    time = PartitionTime(COUNT_MAX, frozenset(), WallClocks(b"me", turn), turn)
    turn.now = 6.0
    assert time.now_ms() == COUNT_MAX


@pytest.mark.parametrize(("after", "is_right"), [(COUNT_MAX - 2, True), (COUNT_MAX - 1, False)])
def test_a_change_has_a_sequence(after: int, is_right: bool) -> None:
    told = Accept(Ballot(1, b"a"), Epoch(0), after, 0, (CHANGE, CHANGE), 0.0)
    data = to_wire([(1, told)])
    if is_right:
        assert from_wire(data, Limits(), 1000) == [(1, told)]
    else:
        with pytest.raises(ProtocolError, match="no sequence any more"):
            from_wire(data, Limits(), 1000)


@pytest.mark.parametrize("number", [COUNT_MAX - 1, COUNT_MAX])
def test_nobody_stands_above_the_greatest_ballot(number: int) -> None:
    me, other = Member(b"leader"), Member(b"other")
    groups = Groups(me, GroupSettings(), Random(1))
    state = State(Header(CONFIGURATION, now_ms=WALL_MS))
    stored = Stored(Ballot(1, other.id), rank=rank(1), header=state.header)
    now = 100.0
    groups.begin(now, WALL_MS)
    groups.load(0, stored, state)
    checked(groups)
    groups.begin(now := now + 5, WALL_MS)
    groups.received(other.id, [(0, Prepare(Ballot(number, other.id), Epoch(1), None, False))])
    groups.lost(other.id)
    groups.do("who", 0, Operation(b"client", 1, 0, NO_RANK, SET, b"key", (b"\x01", None)))
    checked(groups)
    for _ in range(100):
        groups.begin(now := now + 0.1, WALL_MS)
        groups.tick()
        checked(groups)
    has_stood = groups.groups[0].candidate is not None or groups.groups[0].tries.at is not None
    assert has_stood == (number < COUNT_MAX)
