"""Who decides: majorities, the order of preference, and what is no configuration."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given

from chordtx.errors import ProtocolError
from chordtx.group.configuration import (
    MEMBERS_MAX,
    Configuration,
    Member,
    by_preference,
    configuration_from_wire,
    members_from_wire,
)
from chordtx.group.rank import Epoch
from tests.group.values import A, B, C, configurations

EVERYBODY = b"abcdefg"


@pytest.mark.parametrize("size", range(1, 8))
def test_any_two_majorities_share_a_member(size: int) -> None:
    ids = [bytes([each]) for each in EVERYBODY[:size]]
    configuration = Configuration(Epoch(0), tuple(map(Member, ids)))
    for many in range(size + 1):
        for some in combinations(ids, many):
            assert configuration.has_majority(some) == (2 * many > size)
    assert configuration.majority == size // 2 + 1


def test_others_do_not_count_for_a_majority() -> None:
    assert not Configuration(Epoch(0), (A, B, C)).has_majority({b"a", b"x", b"y", b"z"})


def test_the_order_of_members_does_not_matter() -> None:
    assert Configuration(Epoch(0), (C, A, B)) == Configuration(Epoch(0), (A, B, C))
    assert Configuration(Epoch(0), (C, A, B)).members == (A, B, C)


@given(configurations)
def test_a_configuration_comes_back_from_the_wire(configuration: Configuration) -> None:
    back = configuration_from_wire(configuration.to_wire())
    assert back == configuration
    assert back.ids == configuration.ids


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        {},
        [b"a"],
        [[b"a"]],
        [[b"a", 1]],
        [["a", True]],
        [[bytes(49), True]],
        [[b"a", True, 0]],
        [[b"b", True], [b"a", True]],
        [[b"a", True], [b"a", False]],
        [[bytes([each]), True] for each in range(MEMBERS_MAX + 1)],
    ],
)
def test_what_are_no_members_is_refused(wrong: object) -> None:
    with pytest.raises(ProtocolError):
        members_from_wire(wrong)
    with pytest.raises(ProtocolError):
        configuration_from_wire([[0, 0], wrong, [[0, 0], [0, b""], 0]])


def test_everybody_is_preferred_about_as_often_and_a_join_moves_few() -> None:
    ids = [bytes([each]) for each in EVERYBODY[:5]]
    first = {partition: by_preference(partition, ids)[0] for partition in range(1000)}
    assert all(120 < list(first.values()).count(id) < 280 for id in ids)
    after = {partition: by_preference(partition, [*ids, b"x"])[0] for partition in range(1000)}
    assert {after[each] for each in first if after[each] != first[each]} == {b"x"}
    assert sorted(by_preference(3, ids)) == ids
