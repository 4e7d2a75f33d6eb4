"""What one member can tell of its keys from those before it alone, beside the definition of replica sets."""

from __future__ import annotations

from random import Random

import pytest

from chordtx.records import Neighbourhood, replica_set
from chordtx.ring import SIZE, Contact, distance

REPLICAS = 5


class Ring:
    """Members at given ids."""

    def __init__(self, ids: list[int]) -> None:
        self.walk = [Contact(id, "host", 1) for id in sorted(ids, reverse=True)]

    def owner(self, position: int) -> Contact:
        return min(self.walk, key=lambda contact: distance(position, contact.id))

    def following(self, id: int) -> Contact:
        place = next(place for place, contact in enumerate(self.walk) if contact.id == id)
        return self.walk[(place + 1) % len(self.walk)]

    def neighbourhood(self, contact: Contact) -> Neighbourhood:
        place = self.walk.index(contact)
        if len(self.walk) <= REPLICAS:
            ids = [self.walk[(place + 1 + step) % len(self.walk)].id for step in range(len(self.walk))]
            return Neighbourhood(tuple(ids), True)
        return Neighbourhood(tuple(self.walk[place - back].id for back in range(REPLICAS, -1, -1)), False)

    def keepers(self, positions: list[int]) -> set[int]:
        found = replica_set(positions, self.owner, self.following, REPLICAS)
        assert isinstance(found, tuple)
        return {contact.id for contact in found}


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6, 7, 8, 12, 30])
def test_a_member_keeps_what_the_definition_gives_it(size: int) -> None:
    rng = Random(size)
    for _ in range(60):
        # Ids close to one another, so that positions fall upon one arc, and upon few.
        span = rng.choice([SIZE, 64, 1000])
        ids = rng.sample(range(span if span < SIZE else 1 << 40), size)
        ring = Ring(ids)
        for _ in range(10):
            positions = [rng.randrange(max(ids) + 2) for _ in range(REPLICAS)]
            keepers = ring.keepers(positions)
            for contact in ring.walk:
                assert ring.neighbourhood(contact).keeps(positions) == (contact.id in keepers)


def test_who_joins_gives_the_others_nothing_new_to_keep() -> None:
    rng = Random(3)
    for _ in range(100):
        ids = rng.sample(range(500), 10)
        before, after = Ring(ids[:-1]), Ring(ids)
        for contact in before.walk:
            old, new = before.neighbourhood(contact), after.neighbourhood(contact)
            assert not old.has_lost(new)
            for _ in range(10):
                positions = [rng.randrange(501) for _ in range(REPLICAS)]
                assert old.keeps(positions) or not new.keeps(positions)


def test_who_keeps_more_after_somebody_left_has_lost_somebody() -> None:
    rng = Random(4)
    gained = 0
    for _ in range(200):
        ids = rng.sample(range(500), rng.randint(2, 12))
        before, after = Ring(ids), Ring(ids[:-1])
        for contact in after.walk:
            old, new = before.neighbourhood(contact), after.neighbourhood(contact)
            for _ in range(10):
                positions = [rng.randrange(501) for _ in range(REPLICAS)]
                if new.keeps(positions) and not old.keeps(positions):
                    gained += 1
                    assert old.has_lost(new)
    assert gained > 100


def test_who_has_lost_nobody_keeps_nothing_more_whatever_happened_between() -> None:
    """Several have gone and others come, or come back: between any two rings, the rule is right."""
    rng = Random(5)
    none_lost = 0
    for _ in range(300):
        everyone = rng.sample(range(500), rng.randint(7, 14))
        me = everyone[0]
        rings = [
            Ring([me, *rng.sample(everyone[1:], rng.randint(REPLICAS, len(everyone) - 1))]) for _ in range(4)
        ]
        views = [ring.neighbourhood(next(each for each in ring.walk if each.id == me)) for ring in rings]
        for old in views:
            for new in views:
                if old.has_lost(new):
                    continue
                none_lost += old != new
                for _ in range(20):
                    positions = [rng.randrange(501) for _ in range(REPLICAS)]
                    assert old.keeps(positions) or not new.keeps(positions)
    assert none_lost > 300


def test_sets_that_become_smaller_are_a_loss() -> None:
    assert Neighbourhood((3, 2, 1), True).has_lost(Neighbourhood((3, 1), True))
    assert not Neighbourhood((3, 1), True).has_lost(Neighbourhood((3, 2, 1), True))
