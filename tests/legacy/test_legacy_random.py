"""Random writes and deletes on both sides while the ring changes: in the end all say the same."""

from __future__ import annotations

from random import Random

import pytest

from chordtx.ring import SIZE
from tests.legacy.test_legacy_scripted import Ring

KEYS = [b"k%d" % number for number in range(6)]
#: Those that have found something are kept.
SEEDS = [32, 64, 81, 138, 205, 220, 233, 237]


@pytest.mark.parametrize("seed", SEEDS)
def test_all_say_the_same_in_the_end(seed: int) -> None:
    rng = Random(seed)
    ring = Ring(rng.choice([2, 3, 4]), seed=seed)
    if rng.random() < 0.4:  # one that owns nearly all, or half of what a node of ours had
        ring.peer.number = (ring.ours[0].id_10 + rng.choice([1, 1 << 380])) % SIZE
    peer = ring.link()
    for step in range(60):
        change(ring, rng, step)
        peer.run(rng.choice([0, 0.05, 0.5, 2]))
    peer.run(15)
    for key in KEYS:
        found = [ring.get(key, node) for node in range(len(ring.ours))]
        assert [*found, peer.get(key)] == [found[0]] * (len(found) + 1), key
    for number, key in enumerate(KEYS):  # and what each says last counts
        if number % 2:
            peer.set(key, "last")
        else:
            ring.done(ring.ours[0].set(key, "last"))
    peer.run(5)
    for key in KEYS:
        assert (ring.get(key), peer.get(key)) == ("last", "last")


def change(ring: Ring, rng: Random, step: int) -> None:
    """Something happens."""
    key, chance = rng.choice(KEYS), rng.random()
    if chance < 0.35:
        ring.done(rng.choice(ring.ours).set(key, ("ours", step)))
    elif chance < 0.65:
        ring.peer.set(key, ["theirs", step])
    elif chance < 0.72:
        ring.done(rng.choice(ring.ours).pop(key, None))
    elif chance < 0.79:
        ring.peer.set(key, None)
    elif chance < 0.85 and len(ring.ours) < 5:
        ring.peer.link(ring.add())
    elif chance < 0.88 and len(ring.ours) > 2:
        node = ring.ours.pop(rng.randrange(len(ring.ours)))
        ring.done(node.stopService())
        ring.peer.drop(node)
    elif chance < 0.90 and len(ring.ours) > 3:
        node = ring.ours.pop(rng.randrange(len(ring.ours)))
        ring.kill(node)
        ring.peer.drop(node)
