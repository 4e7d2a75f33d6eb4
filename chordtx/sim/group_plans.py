"""What may happen to a small group that is searched whole, or as far as there is time."""

from __future__ import annotations

from typing import Any

import msgpack
from attrs import frozen

from chordtx.group.messages import Newer, Refused, Yours
from chordtx.group.operations import GET, INCREMENT, SET
from chordtx.group.rank import NodeId

ONE, TWO, THREE, FOUR = b"1", b"2", b"3", b"4"

ADD = (0, INCREMENT, (msgpack.packb(1),))
WRITE = (0, SET, (msgpack.packb(7), None))
WRITE_FOR_A_WHILE = (0, SET, (msgpack.packb(7), 90_000))
READ = (0, GET, ())
READ_THE_OTHER = (1, GET, ())
#: More than a lease by all clocks, which run alike here.
OVER = 11


@frozen(kw_only=True)
class Plan:
    """See the module. Each happens at any moment, once, unless it is said otherwise.

    :ivar begun: whether the first member leads already.
    :ivar stand: who may stand. :ivar ask: who may ask first, and then stand.
    :ivar operations: of one client each: (partition, kind, arguments); each is sent ``tries`` times at most.
    :ivar seal: who is to be in the next epoch. :ivar change: the same, where newcomers learn first.
    :ivar evict: forgets what was done. :ivar hand: to whom a leader hands over.
    :ivar confirm: whether a leader asks for leases though nobody reads.
    :ivar crash: who may crash, and is started again at once. :ivar crashes: how often, all together.
    :ivar syncs: whether disks are synced at once; otherwise at any moment, or never.
    :ivar force: who goes on alone, with those who have answered.
    :ivar jumps: of time, in this order. :ivar ticks: how many timers may go off.
    :ivar unheard: messages that never arrive. Without them there are fewer states; they promise nothing.
    """

    members: tuple[NodeId, ...] = (ONE, TWO, THREE)
    spares: tuple[NodeId, ...] = ()
    partitions: int = 1
    begun: bool = False
    stand: tuple[NodeId, ...] = ()
    ask: tuple[NodeId, ...] = ()
    operations: tuple[tuple[int, int, tuple[Any, ...]], ...] = ()
    tries: int = 1
    seal: tuple[NodeId, ...] = ()
    change: tuple[NodeId, ...] = ()
    evict: bool = False
    hand: NodeId | None = None
    confirm: bool = False
    crash: tuple[NodeId, ...] = ()
    crashes: int = 0
    syncs: bool = True
    force: tuple[NodeId, ...] = ()
    jumps: tuple[int, ...] = ()
    ticks: int = 0
    unheard: tuple[type, ...] = (Newer, Refused, Yours)


_ALL = (ONE, TWO, THREE)
_MOVED = (TWO, THREE, FOUR)

PLANS: dict[str, Plan] = {
    # As in the protocol's model
    "two": Plan(stand=(ONE, TWO), operations=(ADD, READ), tries=2),
    "tiny": Plan(begun=True, stand=(TWO,), operations=(ADD,), jumps=(OVER,)),
    "tiny2": Plan(begun=True, stand=(TWO,), operations=(ADD, READ), jumps=(OVER,)),
    "tinyc": Plan(begun=True, stand=(TWO,), operations=(ADD,), tries=2, crash=_ALL, crashes=1, jumps=(OVER,)),
    "tinym": Plan(begun=True, spares=(FOUR,), stand=(TWO,), operations=(ADD,), seal=_MOVED, jumps=(OVER,)),
    "tiny3": Plan(begun=True, stand=(TWO, THREE), operations=(ADD,), jumps=(OVER,)),
    "crash": Plan(stand=(ONE, TWO), operations=(WRITE, READ), tries=2, crash=_ALL, crashes=1, jumps=(OVER,)),
    "lease": Plan(stand=(ONE, TWO), operations=(WRITE, READ), tries=2, jumps=(9, 2)),
    "move": Plan(stand=(ONE, THREE), spares=(FOUR,), operations=(ADD,), tries=2, seal=_MOVED, jumps=(OVER,)),
    "moved": Plan(
        begun=True,
        stand=(THREE,),
        spares=(FOUR,),
        operations=(ADD, READ),
        tries=2,
        seal=_MOVED,
        jumps=(OVER,),
    ),
    "purge": Plan(begun=True, stand=(TWO,), operations=(ADD,), tries=2, evict=True, jumps=(OVER,)),
    # Changes of members
    "swap": Plan(
        members=(ONE, TWO), spares=(THREE,), begun=True, stand=(TWO,), seal=(TWO, THREE), jumps=(OVER,)
    ),
    "swapped": Plan(
        members=(ONE, TWO),
        spares=(THREE,),
        begun=True,
        stand=(TWO,),
        operations=(ADD,),
        seal=(TWO, THREE),
        jumps=(OVER,),
        unheard=(Refused,),
    ),
    "driver": Plan(
        members=(ONE, TWO),
        spares=(THREE,),
        begun=True,
        stand=(ONE, TWO),
        seal=(TWO, THREE),
        crash=(ONE,),
        crashes=1,
        jumps=(OVER,),
    ),
    "newcomer": Plan(
        members=(ONE, TWO), spares=(THREE,), begun=True, operations=(ADD,), change=(ONE, TWO, THREE)
    ),
    "grow": Plan(
        members=(ONE,),
        spares=(TWO,),
        begun=True,
        operations=(ADD, READ),
        change=(ONE, TWO),
        stand=(TWO,),
        jumps=(OVER,),
    ),
    "cross": Plan(
        members=(ONE, TWO),
        spares=(THREE,),
        begun=True,
        seal=(THREE,),
        stand=(TWO, THREE),
        operations=(READ, WRITE),
        jumps=(OVER,),
        unheard=(Refused,),
    ),
    "handmove": Plan(
        members=(ONE, TWO),
        spares=(THREE,),
        begun=True,
        operations=(ADD,),
        seal=(TWO, THREE),
        hand=TWO,
        unheard=(Newer, Refused),
    ),
    "learner": Plan(
        members=(ONE, TWO),
        spares=(THREE,),
        begun=True,
        operations=(ADD,),
        change=(ONE, TWO, THREE),
        crash=(ONE, THREE),
        crashes=1,
        stand=(ONE,),
        unheard=(),
    ),
    "tornmove": Plan(
        members=(ONE, TWO),
        spares=(THREE,),
        begun=True,
        seal=(TWO, THREE),
        crash=(ONE, TWO, THREE),
        crashes=1,
        syncs=False,
    ),
    # Others
    "expired": Plan(
        members=(ONE, TWO),
        begun=True,
        operations=(WRITE_FOR_A_WHILE, READ, READ),
        stand=(TWO,),
        jumps=(OVER,),
    ),
    "bounced": Plan(begun=True, stand=(THREE,), confirm=True, crash=(TWO, THREE), crashes=1, jumps=(9, 2)),
    "reread": Plan(
        members=(ONE, TWO), begun=True, stand=(TWO,), operations=(WRITE, READ), confirm=True, jumps=(9, 2)
    ),
    "expiry": Plan(
        begun=True, operations=(WRITE_FOR_A_WHILE, READ), tries=2, stand=(TWO,), jumps=(OVER,), ticks=1
    ),
    "pairs": Plan(
        members=(ONE, TWO),
        partitions=2,
        begun=True,
        stand=(TWO,),
        operations=(READ, READ_THE_OTHER),
        jumps=(OVER,),
    ),
    "trial": Plan(begun=True, ask=(TWO,), stand=(THREE,), operations=(ADD,), jumps=(OVER,)),
    "hand": Plan(begun=True, hand=TWO, operations=(ADD, READ), jumps=(5,), unheard=(Newer, Refused)),
    "torn": Plan(
        members=(ONE, TWO),
        begun=True,
        stand=(TWO,),
        operations=(ADD,),
        crash=(ONE, TWO),
        crashes=1,
        syncs=False,
        jumps=(OVER,),
    ),
    "forced": Plan(
        begun=True, force=(TWO,), stand=(THREE,), operations=(ADD,), jumps=(OVER,), unheard=(Refused, Yours)
    ),
}
