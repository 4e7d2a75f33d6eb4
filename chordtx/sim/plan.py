"""What goes wrong in one run: data, drawn from the seed before anything runs.

A run is a row of episodes. After each there is time for the ring to be whole again, since two nodes that are
gone at once are as many as a group of five can lose before others have taken their places. But beside many an
episode there is a second one at the same time. Without disks it is never one of those by which nodes go
(:data:`GOING`) beside another one. With disks it is any, but that no node goes for good while others are cut
off for longer than it waits for them (:data:`FOR_GOOD`, :data:`FOR_LONG`): with its disk may go what is
needed of a majority.

Wall clocks are set in one of two ways: a few, to something that is off by up to a day, ahead or behind; or
all of them, ahead by hours. No operation may notice, but for records that expire.
"""

from __future__ import annotations

import enum
from random import Random

from attrs import frozen


class Fault(enum.Enum):
    """A kind of episode."""

    JOIN = "a node joins"
    LEAVE = "a node leaves"
    KILL = "processes are killed, and restarted"
    POWER = "hosts lose power, and come back"
    PAUSE = "processes stand still"
    BREAK = "connections break"
    SLOW = "links are slow"
    ONE_WAY = "one way between hosts is cut"
    NON_TRANSITIVE = "two hosts do not reach each other, but all others"
    SPLIT = "the network falls apart"
    CLOCK = "wall clocks are set"
    SUSPEND = "a process stands still for long"
    OFF = "all processes end, and start again after days"
    UNJOIN = "nodes store nothing any more, and then join again"
    REFUSE = "connections to some hosts are refused, or break in the handshake"
    FULL = "disks are full"
    DEAF = "one part of the network does not hear another"
    CROWD = "many join and leave at once"
    TWICE = "a copy of a data folder runs beside the node"
    PUT_BACK = "an old data folder is put back"
    OTHER_RING = "another ring comes across this one"
    MOST = "all but a few end, and start again"


#: After these nodes may have been taken for dead that live, which Zave's proof leaves out.
FALSE_ALARMS = frozenset(
    {
        Fault.SPLIT,
        Fault.ONE_WAY,
        Fault.NON_TRANSITIVE,
        Fault.PAUSE,
        Fault.SLOW,
        Fault.BREAK,
        Fault.SUSPEND,
        Fault.REFUSE,
        Fault.DEAF,
    }
)
#: After these the ring may have been where Zave's proof does not go: that of each list somebody stays is
#: assumed there, and many who go at once may be all of one.
BEYOND_PROOF = FALSE_ALARMS | {Fault.CROWD, Fault.MOST}
#: By these nodes go, and without a disk take with them what they keep.
GOING = frozenset(
    {
        Fault.LEAVE,
        Fault.KILL,
        Fault.POWER,
        Fault.UNJOIN,
        Fault.SUSPEND,
        Fault.SPLIT,
        Fault.DEAF,
        Fault.CROWD,
        Fault.MOST,
    }
)
#: By these nodes go, with their disks if they have any: they wait until others have what they keep, but not
#: for long.
FOR_GOOD = frozenset({Fault.LEAVE, Fault.UNJOIN, Fault.CROWD})
#: By these nodes are cut off, or down, for longer than that.
FOR_LONG = frozenset({Fault.SPLIT, Fault.DEAF, Fault.SUSPEND, Fault.MOST})
#: These need disks.
ON_DISKS = frozenset({Fault.OFF, Fault.FULL, Fault.TWICE, Fault.PUT_BACK, Fault.MOST})
#: Nothing else goes wrong meanwhile: a copy of a folder is noticed by nodes that have links to the node
#: itself, or that know how often it was started. That they always do is not promised.
ALONE = frozenset({Fault.TWICE, Fault.PUT_BACK})
#: It comes once at most, after all episodes.
_LAST = frozenset({Fault.OFF})
_COMPANION_SHARE = 0.35


@frozen
class Episode:
    """One fault. Hosts are chosen when it begins, among those that are up then, by ``draw``.

    :ivar at: seconds from the start of the run. :ivar seconds: how long it lasts.
    :ivar count: how many hosts, or links, it hits; with MOST, how many it does not hit.
    :ivar draw: a number for what is decided meanwhile.
    """

    fault: Fault
    at: float
    seconds: float
    count: int
    draw: int


#: Fault -> (weight, shortest, longest, most hosts or links).
_SHAPES: dict[Fault, tuple[int, float, float, int]] = {
    Fault.JOIN: (4, 0.0, 0.0, 4),
    Fault.LEAVE: (2, 0.0, 0.0, 2),
    Fault.KILL: (4, 0.2, 8.0, 2),
    Fault.POWER: (3, 1.0, 12.0, 2),
    Fault.PAUSE: (3, 0.1, 8.0, 2),
    Fault.BREAK: (3, 0.0, 0.0, 20),
    Fault.SLOW: (3, 1.0, 8.0, 10),
    Fault.ONE_WAY: (1, 0.5, 8.0, 2),
    Fault.NON_TRANSITIVE: (1, 0.5, 8.0, 2),
    Fault.SPLIT: (2, 1.0, 40.0, 3),
    Fault.CLOCK: (2, 0.0, 0.0, 3),
    Fault.SUSPEND: (1, 8.0, 60.0, 1),
    Fault.UNJOIN: (2, 0.5, 12.0, 2),
    Fault.REFUSE: (1, 1.0, 8.0, 3),
    Fault.FULL: (1, 0.5, 8.0, 2),
    Fault.DEAF: (1, 1.0, 20.0, 1),
    Fault.CROWD: (1, 0.0, 0.0, 10),
    Fault.TWICE: (1, 8.0, 12.0, 1),
    Fault.PUT_BACK: (1, 24.0, 30.0, 1),
    Fault.OTHER_RING: (1, 10.0, 20.0, 3),
    Fault.MOST: (1, 4.0, 20.0, 3),
}


def draw_episodes(
    rng: Random, seconds: float, settle_seconds: float, without: frozenset[Fault], *, has_disks: bool = True
) -> list[Episode]:
    """The episodes of a run, in order of when they begin.

    :param seconds: how long the run is. :param settle_seconds: from the end of one episode to the next, but
        for those beside it.
    :param without: kinds to leave out. :param has_disks: whether hosts have disks.
    """
    left_out = without | _LAST | (frozenset() if has_disks else ON_DISKS)
    kinds = [fault for fault in Fault if fault not in left_out]
    episodes: list[Episode] = []
    at = 5.0
    while kinds:
        some = [_drawn(rng, kinds, at)]
        beside = [fault for fault in kinds if _may_be_together(some[0].fault, fault, has_disks)]
        if beside and rng.random() < _COMPANION_SHARE:
            some.append(_drawn(rng, beside, at + rng.uniform(-1.0, some[0].seconds)))
        ends = max(episode.at + episode.seconds for episode in some)
        if ends + settle_seconds > seconds:
            break
        episodes += sorted(some, key=lambda episode: episode.at)
        at = ends + settle_seconds * rng.uniform(1.0, 1.5)
    return episodes


def _may_be_together(one: Fault, other: Fault, has_disks: bool) -> bool:
    both = {one, other}
    if ALONE & both:
        return False
    return not (FOR_GOOD & both and FOR_LONG & both) if has_disks else not both <= GOING


def _drawn(rng: Random, kinds: list[Fault], at: float) -> Episode:
    fault = rng.choices(kinds, [_SHAPES[fault][0] for fault in kinds])[0]
    _, shortest, longest, most = _SHAPES[fault]
    return Episode(fault, at, rng.uniform(shortest, longest), rng.randint(1, most), rng.getrandbits(32))
