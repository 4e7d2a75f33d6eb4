"""Searches at random for an order of events that breaks what must hold of a group.

A :class:`Walk` is drawn from its seed whole: how often what happens, how many keys there are, how clocks run.
Events come in moods that last a while, for what breaks protocols is not noise but a leader that is cut off
while another one stands, answers that come late, a change of members that stops in the middle. When it is
over, faults end, and somebody must serve soon (L1).
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from random import Random
from typing import Any

import msgpack
from attrs import define, field

from chordtx.group import operations
from chordtx.group.configuration import Member
from chordtx.group.group import Group
from chordtx.group.messages import Accepted, Confirm, ConfirmAnswer
from chordtx.group.rank import NodeId, Rank
from chordtx.sim.group_disk import StoredOnDisk
from chordtx.sim.group_watch import Violation
from chordtx.sim.group_world import GroupWorld, Sent, evict

MEMBERS = (b"1", b"2", b"3")
SPARES = (b"4", b"5")
NODES = MEMBERS + SPARES
#: Whom changes of members lead to.
PLANS = ((b"1", b"2", b"3"), (b"2", b"3", b"4"), (b"3", b"4", b"5"), NODES, (b"1", b"2"), (b"4", b"5", b"1"))
CLIENTS = (b"A", b"B", b"C")
CALLS_MAX = (4, 8, 11)
NET_MAX = 80
#: A lease of 100 ticks takes at least 9 of these, by the fastest clock, and at most 12, by the slowest.
LEASE_TIME = 12


@define
class Walked:
    """What walks did.

    :ivar walks: how many. :ivar steps: events in all. :ivar totals: leaders, epochs, answers, by name.
    :ivar seed: of the walk that broke something. :ivar violation: what it was.
    """

    walks: int = 0
    steps: int = 0
    totals: Counter[str] = field(factory=Counter)
    seed: int | None = None
    violation: str = ""


class Walk:
    """One random walk.

    :param trace: is told of every event.
    :param disk: see :class:`~chordtx.sim.group_world.GroupWorld`.
    """

    def __init__(
        self,
        seed: int,
        trace: Callable[..., None] | None = None,
        disk: Callable[[NodeId], StoredOnDisk] | None = None,
    ) -> None:
        rng = self.rng = Random(seed)
        self.trace = trace
        self.syncs = rng.random() < 0.7
        rates = {id: rng.choice((9, 10, 11)) for id in NODES}
        self.partitions = rng.choice((1, 1, 1, 2))
        self.keys = [b"k%d" % number for number in range(rng.choice((1, 1, 1, 2)))]
        self.world = GroupWorld(
            MEMBERS, SPARES, rates=rates, syncs=self.syncs, partitions=self.partitions, disk=disk
        )
        self.weights: dict[str, float] = {
            "deliver": rng.choice((60, 120, 240)),
            "call": rng.choice((4, 10)),
            "again": rng.choice((4, 10)),
            "give_up": rng.choice((0, 1)),
            "stand": rng.choice((2, 4, 8)),
            "ask": rng.choice((0, 2, 4)),
            "wait": rng.choice((1, 5, 10)),
            "tick": rng.choice((0, 2, 10)),
            "sync": 0 if self.syncs else rng.choice((10, 40, 100)),
            "crash": rng.choice((0, 1, 3)),
            "restart": rng.choice((1, 3)),
            "seal": rng.choice((0, 0, 2, 4)),
            "change": rng.choice((0, 0, 2)),
            "evict": rng.choice((0, 0, 1, 3)),
            "cut": rng.choice((0, 1, 3)),
            "install": rng.choice((1, 4)),
            "confirm": rng.choice((1, 4)),
            "hand": rng.choice((0, 0, 1, 2)),
            "clock": rng.choice((0, 0, 1)),
            "force": rng.choice((0, 0, 0, 0, 0, 0, 0, 1)),
        }
        self.twice, self.lost = rng.choice((0, 0.1, 0.3)), rng.choice((0, 0, 0.05, 0.3))
        self.in_order = rng.random() < 0.4
        self.calls_max = rng.choice(CALLS_MAX)
        self.cut: set[tuple[NodeId, NodeId]] = set()
        self.mood, self.left, self.driver, self.old = "storm", 0, b"", b""
        self.is_fast = False
        self.unique = 0
        self.steps = 0

    def run(self) -> None:
        """Until it is over. :raises Violation: when something does not hold."""
        rng = self.rng
        if rng.random() < 0.4:
            self._begin_in_a_move()
        names, weights = list(self.weights), list(self.weights.values())
        for _ in range(rng.choice((100, 250, 500))):
            self.steps += 1
            self.left -= 1
            if self.left < 0:
                self._change_mood()
            self._step(rng.choices(names, weights)[0])
            if rng.random() < 0.2:
                self.world.must_hold_leases()
                self.world.clients.must_be_linearizable()
        self.world.clients.must_be_linearizable()
        heal(self.world)

    def _force(self, id: NodeId) -> None:
        """By an operator's word. What clients are told by two histories has no common explanation."""
        self.world.clients.histories += 1
        partition = self.rng.randrange(self.partitions)
        self.world.on_group(id, lambda group: group.force(), partition)
        for _ in range(self.rng.randrange(8)):
            self._deliver(id)
        self.world.on_group(id, lambda group: group.force_now(), partition)

    # Moods

    def _begin_in_a_move(self) -> None:
        world, rng = self.world, self.rng
        world.on_group(b"1", lambda group: group.stand(trial=False))
        self._sync_all()
        world.settle()
        self._seal(b"1", rng.choice(PLANS[1:]))
        for _ in range(rng.randrange(25)):
            if world.net:
                world.deliver(world.net.pop(0 if rng.random() < 0.5 else rng.randrange(len(world.net))))
            self._sync_all()
        self.mood, self.left, self.driver = "move", rng.choice((0, 0, 5)), b"1"

    def _sync_all(self) -> None:
        for id in NODES:
            while self.world.hosts[id].unsynced:
                self.world.sync(id, 100)

    def _change_mood(self) -> None:
        rng, world = self.rng, self.world
        leading = [id for id in world.leading() if world.hosts[id].is_up]
        self.left, self.cut = rng.choice((15, 30, 60)), set()
        if self.mood in ("alone", "late"):
            self._ask_old_leader()
        if self.mood == "move":
            self.mood = rng.choice(("alone", "alone", "late", "calm"))
        elif leading:
            moods = ("calm", "calm", "storm", "alone", "alone", "late", "late", "move", "move")
            self.mood = rng.choice(moods)
        else:
            self.mood = rng.choice(("calm", "calm", "storm"))
        if self.mood in ("alone", "late"):
            self._cut_off(self.driver or rng.choice(leading or list(NODES)))
        self.driver = b""
        if self.mood == "move":
            id = rng.choice(leading)
            self._seal(id, rng.choice(PLANS))
            self.driver = id if rng.random() < 0.8 else b""
            self.left = rng.choice((8, 15, 25, 40))
        if self.mood == "calm":
            for id in NODES:
                world.restart(id)
            while len(world.net) > 12:
                del world.net[rng.randrange(len(world.net))]

    def _ask_old_leader(self) -> None:
        """Whoever was cut off is asked now, with what came late or without."""
        world, rng, old = self.world, self.rng, self.old
        if not old or not world.hosts[old].is_up or rng.random() > 0.7:
            return
        late = [sent for sent in world.net if sent.to == old and _grants(sent)]
        if rng.random() < 0.4:
            self._deliver_all(late)
        client = self._idle_client()
        if client is not None and world.clients.count < self.calls_max + 3:
            kind, key = rng.choice((operations.GET, operations.LIST)), rng.choice(self.keys)
            world.do(old, world.clients.call(client, kind, key, self._arguments(client, kind, 0, key)))
            self._deliver_all(late)

    def _deliver_all(self, some: list[Sent]) -> None:
        for sent in some:
            if sent in self.world.net:
                self.world.net.remove(sent)
                self.world.deliver(sent)

    def _cut_off(self, id: NodeId) -> None:
        """A leader hears nobody (or is not heard) while another one stands."""
        world, rng = self.world, self.rng
        self.old = id
        if self.mood == "late" and id in world.leading():
            self._confirm(id)
            self._deliver_all([sent for sent in world.net if _asks(sent) and rng.random() < 0.8])
            if rng.random() < 0.5:
                self._deliver_all([sent for sent in world.net if _grants(sent) and rng.random() < 0.7])
            world.time += rng.choice((0, 5, 8, 9, 10, 11, 12))
        self.cut = {(other, id) for other in NODES}
        if rng.random() < 0.6:
            self.cut |= {(id, other) for other in NODES}
        if rng.random() < 0.3:
            spared = rng.choice(NODES)
            self.cut -= {(id, spared), (spared, id)}
        for other in NODES:
            if other != id and world.hosts[other].is_up and rng.random() < 0.5 and self.weights["crash"]:
                world.crash(other)
                world.restart(other)
        another = rng.choice([each for each in NODES if each != id])
        if world.hosts[another].is_up and another not in world.leading():
            world.on_group(another, lambda group: group.stand(trial=False))
        self.is_fast = rng.random() < 0.6

    # Steps

    def _step(self, what: str) -> None:
        world, rng, mood = self.world, self.rng, self.mood
        leading = world.leading()
        if mood == "calm" and not leading and rng.random() < 0.07:
            world.time += 6
            self._stand(rng.choice(NODES))
        if mood == "calm" and what in ("crash", "cut"):
            return
        if mood in ("alone", "late"):
            if what in ("cut", "wait") and rng.random() < 0.7:
                return
            if self.is_fast and rng.random() < 0.5 and world.net:
                what = "deliver"
        if self.trace is not None:
            self.trace(self.steps, mood, what)
        id = rng.choice(leading) if leading and rng.random() < 0.5 else rng.choice(NODES)
        getattr(self, f"_{what}")(id)

    def _deliver(self, id: NodeId) -> None:
        world, rng, net = self.world, self.rng, self.world.net
        if not net:
            return
        is_ordered = (
            self.in_order
            or self.mood in ("calm", "move")
            or (self.mood in ("alone", "late") and self.is_fast)
        )
        for _ in range(4):
            place = 0 if is_ordered and rng.random() < 0.85 else rng.randrange(len(net))
            sent = net[place]
            if (sent.by, sent.to) not in self.cut:
                break
        else:
            return
        if rng.random() >= self.twice:
            net.pop(place)
        if self.mood != "calm" and rng.random() < self.lost:
            return
        if self.trace is not None:
            self.trace("   ", sent)
        world.deliver(sent)
        while len(net) > NET_MAX:
            del net[rng.randrange(len(net))]

    def _idle_client(self) -> bytes | None:
        idle = [client for client in CLIENTS if client not in self.world.clients.pending]
        return self.rng.choice(idle) if idle else None

    def _call(self, id: NodeId) -> None:
        client, world, rng = self._idle_client(), self.world, self.rng
        if client is None or world.clients.count >= self.calls_max:
            return
        kind = rng.choice(_KINDS)
        partition, key = rng.randrange(self.partitions), rng.choice(self.keys)
        arguments = self._arguments(client, kind, partition, key)
        operation = world.clients.call(client, kind, key, arguments, partition)
        world.do(id, operation, partition)

    def _arguments(self, client: bytes, kind: int, partition: int, key: bytes) -> tuple[Any, ...]:
        rng = self.rng
        self.unique += 10
        value = msgpack.packb(self.unique)
        ttl = rng.choice((None, None, None, 200_000))
        if kind == operations.SET:
            return (value if rng.random() < 0.9 else None, ttl)
        if kind == operations.COMPARE_AND_SET:
            return (self._some_version(partition, key), value, ttl)
        if kind == operations.DELETE:
            return (None,)
        if kind == operations.LIST:
            return (b"", None, _LISTED_MAX, True)
        if kind == operations.WATCH:
            position = self.world.clients.position(client, partition)
            return (b"", True, position, rng.choice((0, 1000, 20_000)))
        if kind == operations.INCREMENT:
            return (msgpack.packb(1),)
        return (ttl,) if kind == operations.TOUCH else ()

    def _some_version(self, partition: int, key: bytes) -> Rank | None:
        """None, or a version that the key had, most likely one of the last."""
        versions = self.world.watch.committed_versions(partition, key)[-3:]
        return self.rng.choice(versions or [None]) if self.rng.random() < 0.8 else None

    def _again(self, id: NodeId) -> None:
        pending = self.world.clients.pending
        if pending:
            partition, operation = pending[self.rng.choice(sorted(pending))]
            leading = self.world.leading(partition)
            to = self.rng.choice(leading) if leading and self.rng.random() < 0.8 else id
            self.world.do(to, operation, partition)

    def _give_up(self, _: NodeId) -> None:
        pending = self.world.clients.pending
        if pending and self.rng.random() < 0.3:
            self.world.clients.give_up(self.rng.choice(sorted(pending)))

    def _wait(self, _: NodeId) -> None:
        self.world.time += self.rng.choice((1, 3, 10))

    def _tick(self, id: NodeId) -> None:
        self.world.event(id, lambda groups: groups.tick())

    def _sync(self, id: NodeId) -> None:
        self.world.sync(id, self.rng.randint(1, 4))

    def _crash(self, id: NodeId) -> None:
        if self.world.hosts[id].is_up:
            self.world.crash(id)

    def _restart(self, _: NodeId) -> None:
        for id in NODES:
            if self.rng.random() < 0.7:
                self.world.restart(id)

    def _cut(self, _: NodeId) -> None:
        rng = self.rng
        if self.cut and rng.random() < 0.5:
            self.cut = set()
        else:
            side = set(rng.sample(NODES, rng.choice((1, 2))))
            pairs = [(one, other) for one in NODES for other in NODES if (one in side) != (other in side)]
            self.cut = {pair for pair in pairs if rng.random() < 0.9}

    def _on_leaders_group(self, id: NodeId, what: Callable[[Group], None]) -> None:
        partition = self.rng.randrange(self.partitions)
        group = self.world.group(id, partition)
        if group is not None and group.leader is not None:
            self.world.on_group(id, what, partition)

    def _stand(self, id: NodeId) -> None:
        if id not in self.world.leading():
            partition = self.rng.randrange(self.partitions)
            self.world.on_group(id, lambda group: group.stand(trial=False), partition)

    def _ask(self, id: NodeId) -> None:
        if id not in self.world.leading():
            self.world.on_group(id, lambda group: group.stand(), self.rng.randrange(self.partitions))

    def _seal(self, id: NodeId, plan: tuple[NodeId, ...] | None = None) -> None:
        members = tuple(sorted(Member(each) for each in plan or self.rng.choice(PLANS)))
        self._on_leaders_group(id, lambda group: group.seal(members))

    def _change(self, id: NodeId) -> None:
        members = tuple(Member(each) for each in self.rng.choice(PLANS))
        self._on_leaders_group(id, lambda group: group.change_members(members))

    def _evict(self, id: NodeId) -> None:
        self._on_leaders_group(id, evict)

    def _install(self, id: NodeId) -> None:
        def install(group: Group) -> None:
            if group.leader is not None and group.leader.others:
                group.leader.install(self.rng.choice(group.leader.others))

        self._on_leaders_group(id, install)

    def _confirm(self, id: NodeId) -> None:
        others = [other for other in NODES if other != id]
        self.world.event(id, lambda groups: groups.turn.to_confirm.update(others))

    def _hand(self, id: NodeId) -> None:
        self._on_leaders_group(id, lambda group: group.hand_over(self.rng.choice(NODES)))

    def _clock(self, id: NodeId) -> None:
        self.world.hosts[id].wall_offset_ms = self.rng.choice((0, -(10**7), 10**7, 10**5))


_KINDS = (
    operations.GET,
    operations.GET,
    operations.GET,
    operations.SET,
    operations.SET,
    operations.INCREMENT,
    operations.INCREMENT,
    operations.COMPARE_AND_SET,
    operations.COMPARE_AND_SET,
    operations.DELETE,
    operations.TAKE,
    operations.TOUCH,
    operations.LIST,
    operations.WATCH,
    operations.WATCH,
)
#: Entries of one listing: all.
_LISTED_MAX = 1000


def _asks(sent: Sent) -> bool:
    return isinstance(sent.message, Confirm)


def _grants(sent: Sent) -> bool:
    return isinstance(sent.message, ConfirmAnswer | Accepted)


def heal(world: GroupWorld) -> None:
    """Faults end: somebody serves each partition after a few tries.

    :raises Violation: when nobody does.
    """
    world.net.clear()
    world.syncs = True
    for id in NODES:
        while world.hosts[id].unsynced:
            world.sync(id, 100)
        world.restart(id)
    for partition in world.partitions:
        _heal(world, partition)


def _heal(world: GroupWorld, partition: int) -> None:
    clients = world.clients
    clients.give_up(b"Z")
    operation = clients.call(b"Z", operations.GET, b"k0", (), partition)
    for id in NODES * 4:
        world.time += LEASE_TIME
        world.on_group(id, lambda group: group.stand(trial=False), partition)
        world.settle()
        if id in world.leading(partition):
            world.do(id, operation, partition)
            world.settle()
            if b"Z" not in clients.pending:
                clients.must_be_linearizable()
                return
    groups = [(id, world.group(id, partition)) for id in NODES]
    told = [(id, g.replica.promised, g.replica.rank, g.configuration) for id, g in groups if g is not None]
    raise Violation(f"L1 nobody serves: {told}")


def walks(count: int, seed: int = 0, *, steps_max: int | None = None) -> Walked:
    """Walk this many times or steps, or up to the first walk that breaks something."""
    walked = Walked()
    for each in range(seed, seed + count):
        walk = Walk(each)
        try:
            walk.run()
        except Violation as violation:
            walked.seed, walked.violation = each, str(violation)
        watch = walk.world.watch
        walked.walks += 1
        walked.steps += walk.steps
        walked.totals.update(leaders=watch.leaders, epochs=watch.epochs, answers=watch.answers)
        if walked.violation or (steps_max is not None and walked.steps >= steps_max):
            break
    return walked


def main() -> None:
    """``python -m chordtx.sim.group_search [--walks N] [--seed N] [--jobs N]``."""
    parser = argparse.ArgumentParser(prog="python -m chordtx.sim.group_search", description=__doc__)
    parser.add_argument("--walks", type=int, default=25_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first walk")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    began, total = time.monotonic(), Walked()
    chunks = range(options.seed, options.seed + options.walks, _CHUNK)
    with ProcessPoolExecutor(options.jobs) as pool:
        for walked in pool.map(walks, [_CHUNK] * len(chunks), chunks):
            total.walks += walked.walks
            total.steps += walked.steps
            total.totals.update(walked.totals)
            if walked.violation:
                sys.exit(f"walk {walked.seed}: {walked.violation}")
    told = ", ".join(f"{count} {name}" for name, count in total.totals.items())
    seconds = time.monotonic() - began
    sys.stdout.write(f"{total.walks} walks, {total.steps} steps, {told}, in {seconds:.0f} s: nothing broke\n")


_CHUNK = 250

if __name__ == "__main__":
    main()
