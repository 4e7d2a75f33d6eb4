"""The real groups, stepped beside the executable specification: the same happens to both, and both do alike.

An event happens to a node of the model (:mod:`tests.group.model_nodes`) and to the same node here; then the
messages that either sent are matched, what clients are told too, and every node is compared. A message that
arrives later is the matching one of each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any
from unittest import mock

import msgpack
from attrs import evolve

from chordtx.group.configuration import Member
from chordtx.group.messages import (
    BUSY,
    NOT_LEADER,
    UNKNOWN,
    Answer,
    Install,
    Learn,
    Operation,
)
from chordtx.group.operations import DELETE, GET, INCREMENT, SET
from chordtx.group.rank import NodeId, Rank
from chordtx.group.replica import Replica
from chordtx.group.state import State
from chordtx.sim.group_world import SETTINGS, GroupWorld, Sent, evict
from tests.group.model_nodes import MEMBERS, NODES, SPARES, World, model, node_id
from tests.group.model_words import answered, model_node, real_node, real_rank, said_by_model, said_by_real

#: Nothing waits in a leader: in the model, what cannot be done now is not done at all.
HOLDS_NOTHING = evolve(SETTINGS, held_operations_max=0)
NET_MAX = 60
KINDS = {"get": GET, "set": SET, "inc": INCREMENT, "del": DELETE}


class Difference(AssertionError):
    """The real groups and the model do not do the same."""


# Both


class _Answers:
    """In place of the real world's clients."""

    def __init__(self) -> None:
        self.new: list[Answer] = []

    def answered(self, who: object, partition: int, answer: Answer) -> None:
        """What was refused for the moment is nothing to the model."""
        if answer.status not in (NOT_LEADER, UNKNOWN, BUSY):
            self.new.append(answer)


@contextmanager
def copies_at_once(seen: dict[Rank, State]) -> Iterator[None]:
    """States move in one step, as in the model: a copy is what had that rank when it was last seen.

    :param seen: all states that were seen, by rank.
    """

    class AtOnce(Replica):
        def copied(self, rank: Rank) -> State | None:
            return seen[rank].copy()

        def offer(self, rank: Rank, state: State, base: Rank) -> None:
            seen[rank] = state.copy()

        def _begin_copy(self, by: NodeId, pending: Install | Learn) -> None:
            assert isinstance(pending, Install)
            state = seen.get(pending.rank) or seen[pending.base]
            self._take_copy(by, state.copy(), pending)

    with mock.patch("chordtx.group.group.Replica", AtOnce):
        yield


class Both:
    """The two worlds.

    :ivar net: what is under way: of each, the message of the model and the real one (None, for an answer).
    """

    def __init__(self, rates: dict[int, int], keys: int) -> None:
        self.model = World(rates, keys)
        real_rates = {node_id(i): rate for i, rate in rates.items()}
        members, spares = map(node_id, MEMBERS), map(node_id, SPARES)
        self.real = GroupWorld(members, spares, settings=HOLDS_NOTHING, rates=real_rates)
        self.seen_states = self.real.watch._parts[0].states
        self.net: list[tuple[Any, Sent | None]] = []
        self._answers = _Answers()
        self.real.clients = self._answers  # type: ignore[assignment]

    def tick(self, time: int) -> None:
        """Time passes."""
        self.model.t += time
        self.real.time += time

    def node(self, i: int, what: Any, same: Any) -> None:
        """Something happens to a node of the model, and the same to the real group, if the node is up."""
        n = self.model.nodes[i]
        if n.up:
            what(n)
            self.real.on_group(node_id(i), same)

    def do(self, i: int, op: Any) -> None:
        """A client's operation arrives at a node."""
        (client, number), kind, k, args, stamp = op
        arguments = {"set": (msgpack.packb(args[0]), None) if args else (), "inc": (msgpack.packb(1),)}
        arguments["del"] = (None,)
        self.model.deliver(("do", "c", i, op))
        # No client says here which answers it has: the model forgets nothing for that.
        operation = Operation(
            client.encode(), number, 0, real_rank(stamp), KINDS[kind], b"%d" % k, arguments.get(kind, ())
        )
        self.real.do(node_id(i), operation)

    def deliver(self, place: int, *, again: bool) -> None:
        """A message arrives."""
        m, sent = self.net[place]
        if not again:
            del self.net[place]
        if sent is None:
            self.model.deliver(m)
        elif m[0] != "gone" or self.real.group(sent.to) is not None:  # who never took part cannot be gone
            self.model.deliver(m)
            self.real.deliver(sent)

    def crash(self, i: int) -> None:
        """A node's process ends."""
        n = self.model.nodes[i]
        n.up, n.lease = False, None
        n.forget()
        self.real.crash(node_id(i))

    def restart(self, i: int) -> None:
        """It is started again."""
        self.model.nodes[i].restart(self.model)
        self.real.restart(node_id(i))

    def must_agree(self) -> None:
        """After each event. :raises Difference: when they do not."""
        self._match_messages()
        for i, n in self.model.nodes.items():
            host = self.real.hosts[node_id(i)]
            if n.up != host.is_up:
                raise Difference(f"{i}: is up: {host.is_up}, in the model: {n.up}")
            if host.groups is not None:
                host.groups.begin(*self.real.clocks(host))
            group = self.real.group(node_id(i))
            if group is None:
                continue
            if group.leader is not None:
                group.leader._held.clear()  # reads that waited go on to the next epoch; not so in the model
            mine, theirs = real_node(group), model_node(n, self.model)
            if mine != theirs:
                unlike = {name for name in mine | theirs if mine.get(name) != theirs.get(name)}
                told = [
                    f"{name} {mine.get(name)}, in the model {theirs.get(name)}" for name in sorted(unlike)
                ]
                raise Difference(f"{i}: " + "; ".join(told))

    def _match_messages(self) -> None:
        mine: dict[Any, list[Sent | None]] = {}
        for sent in self.real.net:
            if sent.by != sent.to:  # a node that carried out a change tells everybody, itself too
                mine.setdefault(said_by_real(sent), []).append(sent)
        for answer in self._answers.new:
            op = self.model.hist[(answer.client.decode(), answer.number)][0]
            mine.setdefault(answered(answer, op[1]), []).append(None)
        for m in self.model.net:
            said = ("res", "c", *m[3:]) if m[0] == "res" else said_by_model(m)
            if not mine.get(said):
                raise Difference(f"only the model says {said}; the real one: {Counter(mine)}")
            self.net.append((m, mine[said].pop()))
        left = [said for said, each in mine.items() if each]
        if left:
            raise Difference(f"only the real one says {left}")
        self.model.net, self.real.net, self._answers.new = [], [], []


# Walks

PLANS = ((1, 2, 3), (2, 3, 4), (3, 4, 5), (1, 2, 3, 4, 5), (1, 2), (4, 5, 1))


class Walk:
    """One random walk of both.

    :ivar steps: events.
    """

    def __init__(self, seed: int) -> None:
        rng = self.rng = Random(seed)
        self.keys = rng.choice((1, 1, 2))
        self.both = Both({i: rng.choice((9, 10, 11)) for i in NODES}, self.keys)
        self.weights = {
            "deliver": rng.choice((60, 120, 240)),
            "call": rng.choice((4, 10)),
            "again": rng.choice((4, 10)),
            "abandon": rng.choice((0, 1)),
            "stand": rng.choice((2, 4, 8)),
            "tick": rng.choice((1, 5, 10)),
            "crash": rng.choice((0, 1, 3)),
            "restart": rng.choice((1, 3)),
            "seal": rng.choice((0, 0, 2, 4)),
            "evict": rng.choice((0, 0, 1, 3)),
            "cut": rng.choice((0, 1, 3)),
            "resend": rng.choice((1, 4)),
            "confirm": rng.choice((1, 4)),
            "hand": rng.choice((0, 0, 1, 2)),
        }
        self.twice, self.lost = rng.choice((0, 0.1, 0.3)), rng.choice((0, 0, 0.05, 0.3))
        self.in_order = rng.random() < 0.6
        self.calls_max = rng.choice((4, 8, 11))
        self.cut: set[tuple[int, int]] = set()
        self.steps = self.calls = self.left = 0
        self.is_calm = False
        self.trace: Any = None

    def run(self) -> None:
        """Until it is over. :raises Difference: when the two do not do the same."""
        rng, both = self.rng, self.both
        names, weights = list(self.weights), list(self.weights.values())
        with copies_at_once(both.seen_states):
            for host in both.real.hosts.values():
                host.start(*both.real.clocks(host))
            if rng.random() < 0.5:
                self._begin()
            for _ in range(rng.choice((100, 250, 500))):
                self.steps += 1
                self._change_mood()
                self._happen(rng.choices(names, weights)[0])
            both.model.linear()

    def _begin(self) -> None:
        """The first one leads, and may be about to end its epoch."""
        self._happen("stand", 1)
        self._run(1000)
        if self.rng.random() < 0.6:
            self._happen("seal", 1)
            self._run(self.rng.randrange(25))

    def _run(self, steps: int) -> None:
        for _ in range(steps):
            if self.both.net:
                self.both.deliver(0, again=False)
                self.both.must_agree()

    def _change_mood(self) -> None:
        """It is calm for a while, then not: or nothing would ever be decided."""
        self.left -= 1
        if self.left < 0:
            self.left, self.is_calm = self.rng.choice((15, 30, 60)), self.rng.random() < 0.5
            self.cut = set()
            if self.is_calm:
                self._happen("restart")
                del self.both.net[12:]

    def _happen(self, what: str, i: int = 0) -> None:
        rng, nodes = self.rng, self.both.model.nodes
        leading = [n.id for n in nodes.values() if n.role in ("lead", "move") and n.up]
        i = i or (rng.choice(leading) if leading and rng.random() < 0.5 else rng.choice(NODES))
        if self.is_calm and what in ("crash", "cut"):
            return
        if self.is_calm and not leading and rng.random() < 0.1:
            self.both.tick(6)
            confs = self.both.model.confs
            what, i = "stand", rng.choice(confs[max(confs)])
        if self.trace is not None:
            self.trace(self.steps, what, i)
        getattr(self, f"_{what}")(i)
        self.both.must_agree()

    def _deliver(self, _: int) -> None:
        rng, net = self.rng, self.both.net
        if not net:
            return
        for _ in range(4):
            place = 0 if (self.in_order or self.is_calm) and rng.random() < 0.85 else rng.randrange(len(net))
            m = net[place][0]
            if (m[1], m[2]) not in self.cut:
                break
        else:
            return
        if m[2] != "c" and not self.is_calm and rng.random() < self.lost:
            del net[place]
            return
        if self.trace is not None:
            self.trace("   ", m)
        self.both.deliver(place, again=rng.random() < self.twice)
        while len(net) > NET_MAX:
            del net[rng.randrange(len(net))]

    def _call(self, i: int) -> None:
        w, rng = self.both.model, self.rng
        client = rng.choice("ABC")
        if client in w.ops or len(w.hist) >= self.calls_max:
            return
        self.calls += 1
        kind, k = rng.choice(("get", "get", "set", "inc", "inc", "del")), rng.randrange(self.keys)
        args = (10 * self.calls,) if kind == "set" else ()
        op = ((client, self.calls), kind, k, args, w.stamps.get(client, model.NONE))
        w.call(op)
        self.both.do(i, op)

    def _again(self, i: int) -> None:
        ops = list(self.both.model.ops.values())
        if ops:
            self.both.do(i, self.rng.choice(ops))

    def _abandon(self, _: int) -> None:
        w = self.both.model
        if w.ops and self.rng.random() < 0.3:
            del w.ops[self.rng.choice(list(w.ops))]

    def _tick(self, _: int) -> None:
        self.both.tick(self.rng.choice((1, 3, 10)))

    def _crash(self, i: int) -> None:
        if self.both.model.nodes[i].up:
            self.both.crash(i)

    def _restart(self, _: int) -> None:
        for n in self.both.model.nodes.values():
            if not n.up and self.rng.random() < 0.7:
                self.both.restart(n.id)

    def _cut(self, _: int) -> None:
        rng = self.rng
        if self.cut and rng.random() < 0.5:
            self.cut = set()
        else:
            side = set(rng.sample(NODES, rng.choice((1, 2))))
            pairs = [(x, y) for x in NODES for y in NODES if (x in side) != (y in side)]
            self.cut = {pair for pair in pairs if rng.random() < 0.9}

    def _stand(self, i: int) -> None:
        w = self.both.model
        if w.nodes[i].role != "lead":
            self.both.node(i, lambda n: n.stand(w), lambda group: group.stand(trial=False))

    def _lead(self, i: int, what: Any, same: Any) -> None:
        n = self.both.model.nodes[i]
        if n.cur and n.role != "cand":
            self.both.node(i, what, same)

    def _resend(self, i: int) -> None:
        w = self.both.model
        others = [m for m in (w.nodes[i].cur or ((), ()))[1] if m != i]
        if others:
            to = self.rng.choice(others)
            self._lead(i, lambda n: n.install(w, to), lambda group: group.leader.install(node_id(to)))

    def _confirm(self, i: int) -> None:
        w = self.both.model
        if w.nodes[i].up and w.nodes[i].role in ("lead", "move"):
            w.nodes[i].confirm(w)
            others = [node_id(m) for m in NODES if m != i]
            self.both.real.event(node_id(i), lambda groups: groups.turn.to_confirm.update(others))

    def _seal(self, i: int) -> None:
        w, plan = self.both.model, self.rng.choice(PLANS)
        members = [Member(node_id(m)) for m in plan]
        self._lead(i, lambda n: n.seal(w, plan), lambda group: group.seal(members))

    def _evict(self, i: int) -> None:
        w = self.both.model
        self._lead(i, lambda n: n.evict(w), evict)

    def _hand(self, i: int) -> None:
        w = self.both.model
        members = (w.nodes[i].cur or ((), ()))[1]
        if members:
            to = self.rng.choice(members)
            self._lead(i, lambda n: n.hand(w, to), lambda group: group.hand_over(node_id(to)))
