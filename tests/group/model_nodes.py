"""The executable specification, made to do as the real groups do where those differ from it on purpose.

Each difference says why the real one is as it is. ``tests/data/group_model.py`` is the specification.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any
from unittest import mock

from chordtx.group.configuration import by_preference
from chordtx.group.rank import NodeId

_spec = importlib.util.spec_from_file_location(
    "group_model", Path(__file__).parents[1] / "data" / "group_model.py"
)
assert _spec is not None
assert _spec.loader is not None
model: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(model)

MEMBERS, SPARES = (1, 2, 3), (4, 5)
NODES = (*MEMBERS, *SPARES)
#: Confirms to one node that have no answer yet.
UNDER_WAY_MAX = 8


def node_id(number: int) -> NodeId:
    """The real id of a node of the model; of none, too."""
    return b"%d" % number if number else b""


class Node(model.Node):  # type: ignore[misc,name-defined]
    """One node of the model.

    :ivar seen: the greatest ballot number that it was refused for.
    :ivar told: a configuration that it was told of. :ivar leaving: who is known to have been in the group.
    :ivar to_nodes: leases by confirms, by node.
    :ivar number: of its latest confirm. :ivar asked_lease: confirms under way, by node, in order.
    :ivar wanted: who is to be asked once it has answered. :ivar given: the latest answered ones.
    :ivar until: of the lease, as it was last reckoned.
    """

    def __init__(n, id: int, rate: int) -> None:
        n.started()
        super().__init__(id, rate)

    def started(n) -> None:
        """What a process does not know when it begins. Confirms are of nodes, and not of their leads: their
        numbers go on as long as the process runs."""
        n.seen, n.to_nodes, n.number, n.asked_lease, n.wanted, n.given = 0, {}, 0, {}, set(), {}

    def forget(n) -> None:
        super().forget()
        n.told, n.leaving, n.until = (-1, ()), set(), -999

    def restart(n, w: Any) -> None:
        n.started()
        super().restart(w)

    # A candidate's number is above those that it was refused for, too: or it would be refused again.

    def on_nack(n, w: Any, src: int, promised: Any) -> None:
        n.seen = max(n.seen, promised[0])
        super().on_nack(w, src, promised)

    def stand(n, w: Any, released: Any = None) -> None:
        b = (max(n.promised[0], n.seen) + 1, n.id)
        if (n.st is None and n.conf[0] < 0) or n.held(w, b, released):
            return
        n.forget()
        n.role, n.b, n.released, n.promised = "cand", b, released, b
        n.proms[n.id] = n.report()
        n.evaluate(w)

    # A leader tells a candidate of an epoch that is over, and that is no member any more, so: it would only
    # depose a good leader.

    def on_prep(n, w: Any, src: int, b: Any, released: Any, epoch: int) -> None:
        st = n.log[-1][1] if n.log else None
        if n.role == "lead" and not st.next and epoch <= n.cur[0] and src not in n.cur[1]:
            w.send("gone", n.id, src, n.cur[0], n.cur[1])
        else:
            super().on_prep(w, src, b, released)

    def ask(n, w: Any, ids: Any) -> None:
        for i in ids:
            if i != n.id and i not in n.asked:
                n.asked += (i,)
                w.send("prep", n.id, i, n.b, n.released, n.latest()[0])

    def latest(n) -> Any:
        """The latest configuration that it knows."""
        if n.role in ("move", "pass"):
            return n.cur
        return max((n.told, *(p[2] for p in n.proms.values())), key=lambda c: c[0])

    # To know of a later configuration is no promise in it; and who has told of one does not know less, though
    # what it said before comes late.

    def on_prom(n, w: Any, src: int, b: Any, rep: Any) -> None:
        if src not in n.proms or rep[2][0] >= n.proms[src][2][0]:
            super().on_prom(w, src, b, rep)

    def on_newer(n, w: Any, src: int, conf: Any) -> None:
        if n.role == "cand":
            n.told = max(n.told, conf, key=lambda c: c[0])
            n.ask(w, conf[1])
            n.evaluate(w)

    def evaluate(n, w: Any) -> None:
        last = max((n.told, *(p[2] for p in n.proms.values())), key=lambda c: c[0])
        best = max(n.proms.values(), key=lambda p: p[0])
        if n.role in ("move", "pass") and last[0] <= n.cur[0]:
            st = n.log[-1][1]
            if model.maj(n.proms, st.next):
                n.leaving |= set(n.cur[1])
                n.adopt(w, st._replace(epoch=st.epoch + 1, members=st.next, next=None))
            return
        if n.role in ("move", "pass"):
            n.leaving |= set(n.cur[1])
            n.role, n.commit, n.asked = "cand", -1, ()  # who was asked as of the epoch before is asked again
        n.ask(w, last[1] + ((best[1].next or ()) if best[1] else ()))
        if best[1] is None or best[1].epoch < last[0] or not model.maj(n.proms, best[1].members):
            return
        if n.id not in best[1].members and not best[1].next:
            n.forget()
            return
        n.leaving |= {i for i, p in n.proms.items() if p[1] is not None}
        n.adopt(w, best[1])

    def adopt(n, w: Any, st: Any) -> None:
        n.until = -999
        super().adopt(w, st)

    # Confirms stand for all partitions between two nodes: they promise nothing, and the receiver says in what
    # it follows the sender. Its lease is one to the node, for whatever it follows it in, and nothing else.

    def held(n, w: Any, b: Any, released: Any) -> bool:
        if super().held(w, b, released):
            return True
        by_confirm = n.rank[1] == n.promised and n.to_nodes.get(n.promised[1], -1) > n.now(w)
        return by_confirm and n.promised[1] != b[1] and n.promised != released

    def confirm(n, w: Any) -> None:
        """To who has acknowledged. The leader's own lease to itself is not renewed: it needs none, for it
        knows at once when it promises another one."""
        for m in sorted(n.cur[1]):
            n.confirm_by(w, m)

    def confirm_by(n, w: Any, m: int) -> None:
        """Some at a time: then one that is answered has the next one sent."""
        if not n.cur or n.role == "cand" or m == n.id or n.acks.get(m, -1) < 0:
            return
        under_way = [asked for asked in n.asked_lease.get(m, ()) if asked[1] + model.LEASE >= n.now(w)]
        if len(under_way) >= UNDER_WAY_MAX:
            n.wanted.add(m)
        else:
            n.number += 1
            under_way.append((n.number, n.now(w), (n.cur[0], n.b)))
            w.send("conf", n.id, m, n.number)
        n.asked_lease[m] = under_way

    def on_conf(n, w: Any, src: int, number: int) -> None:
        n.to_nodes[src] = n.now(w) + model.LEASE
        follows = n.rank[1] == n.promised and n.promised[1] == src
        w.send("cack", n.id, src, number, n.rank[:2] if follows else None)

    def on_cack(n, w: Any, src: int, number: int, follows: Any) -> None:
        under_way = n.asked_lease.get(src, ())
        asked = next((asked for asked in under_way if asked[0] == number), None)
        n.asked_lease[src] = [each for each in under_way if each[0] > number]  # it answers those before, too
        if asked is not None:
            n.given[src] = asked if asked[2] == follows else (number, asked[1], None)
            if asked[2] != follows and n.cur and asked[2] == (n.cur[0], n.b):
                n.acks.pop(src, None)  # it does not follow: it has to tell how far it is
        n.read_on(w)
        if asked is not None and src in n.wanted:
            n.wanted.discard(src)
            n.confirm_by(w, src)

    def confirmed(n, m: int) -> Any:
        """The number of the latest confirm that a member has answered, and when that was sent."""
        given = n.given.get(m)
        counts = given is not None and n.acks.get(m, -1) >= 0 and given[2] == (n.cur[0], n.b)
        return given[:2] if counts else (-1, -999)

    def read_on(n, w: Any) -> None:
        """Reads that came before a confirm that a majority has answered."""
        if not n.reads or n.role not in ("lead", "move"):
            return
        numbers = sorted((n.confirmed(m)[0] for m in n.cur[1] if m != n.id), reverse=True)
        newest = numbers[len(n.cur[1]) // 2 - (n.id in n.cur[1])]
        reads, n.reads = n.reads, tuple(read for read in n.reads if read[0] >= newest)
        for above, op, _ in reads:
            if above < newest:
                w.got(n, op, n.log[0][1].recs[op[2]][1], (n.cur[0], n.b, n.commit))

    def leased(n, w: Any) -> bool:
        if n.role not in ("lead", "move"):
            return False
        if n.now(w) >= n.until:
            sent = [max(n.lacks.get(m, -999), n.confirmed(m)[1]) for m in n.cur[1] if m != n.id]
            sent += [n.now(w)] * (n.id in n.cur[1])
            n.until = sorted(sent, reverse=True)[len(sent) // 2] + model.COUNTED
        return bool(n.now(w) < n.until)

    # In a sealed epoch all changes wait for the next one, known ones too.

    def on_do(n, w: Any, src: Any, op: Any) -> None:
        is_sealed = n.role == "move" or (n.log and n.log[-1][1].next)
        if op[1] == "get" or not is_sealed:
            n.nonce = n.number - 1  # the model counts it up for a read, which waits for a greater number
            super().on_do(w, src, op)

    # Nothing is forgotten anew that is forgotten already; and who ends its epoch does not hand it over.

    def evict(n, w: Any) -> None:
        if n.log[-1][1].evicted < (n.cur[0], n.b, n.commit):
            super().evict(w)

    def hand(n, w: Any, to: int) -> None:
        if not n.log[-1][1].next:
            super().hand(w, to)


class World(model.World):  # type: ignore[misc,name-defined]
    """The model's world."""

    def __init__(w, rates: dict[int, int], keys: int) -> None:
        with mock.patch.object(model, "Node", Node):
            super().__init__(MEMBERS, SPARES, keys, rates)

    def retire(w, n: Any, st: Any) -> None:
        """Only who is known to have been there is told; and who carried out the change without being in the
        next epoch has somebody stand there, for nobody leads it then."""
        if st.next:
            return  # who finds the epoch sealed tells them when the next one is active
        told = sorted(n.leaving - set(st.members) - {n.id})
        n.leaving = set()
        active = [x.id for x in w.nodes.values() if max(x.rank[0], x.conf[0]) >= st.epoch]
        if not model.maj(active, st.members):
            raise model.Bad(f"S2 old members drop, epoch {st.epoch} is not active at a majority")
        for i in told:
            w.send("gone", n.id, i, st.epoch, st.members)
        if n.id not in st.members:
            # Of those who have the state: another one could not stand.
            have_it = [i for i in st.members if n.acks.get(i, -1) >= n.log[0][0]]
            preferred = by_preference(0, [node_id(i) for i in have_it])[0]
            w.send("yours", n.id, int(preferred), n.b)
            n.on_gone(w, n.id, st.epoch, st.members)
            n.forget()
