"""The real groups do what the specification does, step by step; and a mistake in them shows."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from chordtx.group.configuration import Member
from tests.group.beside_model import Both, Walk, copies_at_once
from tests.group.model_nodes import NODES, node_id
from tests.group.planted import said_with

WALKS = 200
HUNT = """
from tests.group.beside_model import Difference, Walk
for seed in range(60):
    try:
        Walk(seed).run()
    except Difference as difference:
        print(difference)
        break
"""


def test_both_do_the_same() -> None:
    seen: Counter[str] = Counter()
    for seed in range(WALKS):
        walk = Walk(seed)
        walk.run()
        seen.update(walk.both.model.stat)
    assert seen["leaders"] > WALKS
    assert seen["epochs"] > WALKS / 4
    assert seen["answers"] > WALKS


class _Schedule:
    """One order of events, in both."""

    def __init__(self) -> None:
        self.both = Both(dict.fromkeys(NODES, 10), 1)

    def start(self) -> None:
        """Replicas begin, of the present class."""
        for host in self.both.real.hosts.values():
            host.start(*self.both.real.clocks(host))

    def stand(self, i: int) -> None:
        """A node stands."""
        world = self.both.model
        self.both.node(i, lambda n: n.stand(world), lambda group: group.stand(trial=False))
        self.both.must_agree()

    def seal(self, i: int, members: tuple[int, ...]) -> None:
        """The leader ends its epoch."""
        world, wanted = self.both.model, [Member(node_id(each)) for each in members]
        self.both.node(i, lambda n: n.seal(world, members), lambda group: group.seal(wanted))
        self.both.must_agree()

    def run(self, *among: int, kinds: tuple[str, ...] = ()) -> None:
        """All that is under way between some nodes arrives, in order, and what comes of it."""
        net = self.both.net
        while places := [
            place
            for place, (m, _) in enumerate(net)
            if m[1] in among and m[2] in among and (not kinds or m[0] in kinds)
        ]:
            self.both.deliver(places[0], again=False)
            self.both.must_agree()

    def lose(self) -> None:
        """What is under way is lost, and leases are over."""
        self.both.net.clear()
        self.both.tick(12)


def test_who_carries_on_a_change_learns_that_the_next_epoch_has_begun() -> None:
    schedule = _Schedule()
    with copies_at_once(schedule.both.seen_states):
        schedule.start()
        schedule.stand(1)
        schedule.run(1, 2, 3)
        schedule.seal(1, (2, 3, 4))
        schedule.run(1, 2, 3, kinds=("acc", "ack"))
        schedule.run(1, 2, 3, 4, kinds=("prep", "prom"))
        schedule.run(1, 2, 4, kinds=("acc",))
        schedule.lose()
        schedule.stand(2)
        schedule.run(2, 4)
        schedule.lose()
        schedule.stand(3)
        schedule.run(1, 3)
        schedule.run(2, 3, 4)
        assert schedule.both.model.nodes[3].role == "lead"


@pytest.mark.parametrize(
    ("fault", "shows_in"),
    [
        ("prepare_ignores_lease", "nack"),
        ("read_uncommitted", "res"),
        ("rank_by_sequence", "evicted"),
        ("promise_not_synced", "promised"),
        ("confirm_lease_from_answer", "conf"),
    ],
)
def test_fault_shows(fault: str, shows_in: str, tmp_path: Path) -> None:
    assert shows_in in said_with(fault, HUNT, tmp_path)
