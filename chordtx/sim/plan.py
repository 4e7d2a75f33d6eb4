"""What goes wrong in one run: data, drawn from the seed before anything runs.

A run is a row of episodes. After each there is time for the ring to be whole again, since two nodes that are
gone at once are as many as a group of five can lose before others have taken their places.

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


#: After these nodes may have been taken for dead that live, which Zave's proof leaves out.
FALSE_ALARMS = frozenset(
    {Fault.SPLIT, Fault.ONE_WAY, Fault.NON_TRANSITIVE, Fault.PAUSE, Fault.SLOW, Fault.BREAK}
)


@frozen
class Episode:
    """One fault. Hosts are chosen when it begins, among those that are up then, by ``draw``.

    :ivar at: seconds from the start of the run. :ivar seconds: how long it lasts.
    :ivar count: how many hosts, or links, it hits. :ivar draw: a number for what is decided meanwhile.
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
    Fault.SPLIT: (1, 1.0, 12.0, 1),
    Fault.CLOCK: (2, 0.0, 0.0, 3),
}


def draw_episodes(
    rng: Random, seconds: float, settle_seconds: float, without: frozenset[Fault]
) -> list[Episode]:
    """The episodes of a run.

    :param seconds: how long the run is. :param settle_seconds: from the end of one episode to the next.
    :param without: kinds to leave out.
    """
    kinds = [fault for fault in Fault if fault not in without]
    weights = [_SHAPES[fault][0] for fault in kinds]
    episodes: list[Episode] = []
    at = 5.0
    while kinds:
        fault = rng.choices(kinds, weights)[0]
        _, shortest, longest, most = _SHAPES[fault]
        lasts = rng.uniform(shortest, longest)
        if at + lasts + settle_seconds > seconds:
            break
        episodes.append(Episode(fault, at, lasts, rng.randint(1, most), rng.getrandbits(32)))
        at += lasts + settle_seconds * rng.uniform(1.0, 1.5)
    return episodes
