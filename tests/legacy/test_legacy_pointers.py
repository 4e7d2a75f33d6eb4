"""Who owns which positions, as leaders work it out."""

from __future__ import annotations

from random import Random

import pytest

from chordtx.legacy.pointers import Arcs
from chordtx.ring import Contact, distance, in_arc, ring_positions


@pytest.mark.parametrize("count", [1, 2, 3, 20])
def test_owners_are_the_nearest_at_or_below(count: int) -> None:
    rng = Random(count)
    contacts = [Contact(rng.getrandbits(384), "10.0.0.1", number + 1) for number in range(count)]
    arcs = Arcs(contacts)
    for number in range(50):
        positions = ring_positions(b"key %d" % number)
        nearest = {min(arcs.contacts, key=lambda id, at=at: distance(at, id)) for at in positions}
        assert arcs.owners(positions) == nearest
        for position in positions:
            assert sum(in_arc(position, start, id) for id, start in arcs.starts.items()) == 1
