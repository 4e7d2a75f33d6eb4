"""The arc table: certain only of what it was told, and never certain of what is false."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from chordtx.ring import SIZE, ArcTable, Contact, between, distance, in_arc

IDS = st.one_of(st.integers(0, 12), st.integers(SIZE - 3, SIZE - 1))
RINGS = st.sets(IDS, min_size=1, max_size=10).map(lambda ids: sorted(ids, reverse=True))
POSITIONS = [*range(15), *range(SIZE - 5, SIZE)]


def contact(id: int) -> Contact:
    return Contact(id, "127.0.0.1", 1)


def contacts(*ids: int) -> list[Contact]:
    return [contact(id) for id in ids]


def true_owner(ring: list[int], position: int) -> int:
    return min(ring, key=lambda id: distance(position, id))


def true_arcs(ring: list[int]) -> list[tuple[int, int]]:
    """(member, its predecessor) for each, ``ring`` being in the order of the walk."""
    return [(id, ring[index - 1]) for index, id in enumerate(ring)]


class NaiveArcs:
    """The same rules with no sorted list: slow and plain."""

    def __init__(self) -> None:
        self.starts: dict[int, int | None] = {}
        self.doubted: set[int] = set()

    def name(self, id: int) -> None:
        if id not in self.starts:
            for member, start in self.starts.items():
                if start is not None and between(start, id, member):
                    self.starts[member] = id
            self.starts[id] = None
        self.doubted.discard(id)

    def learn_arc(self, id: int, predecessor: int) -> None:
        self.name(id)
        inside = [other for other in self.starts if between(predecessor, other, id) and other != id]
        self.starts[id] = predecessor
        for other in sorted(inside, key=lambda other: distance(predecessor, other)):
            if other in self.doubted:
                self.forget(other)
            else:
                self.doubted.add(other)
                self.starts[other] = None
                self.starts[id] = other

    def learn_chain(self, ids: list[int]) -> None:
        for id in ids[:1]:
            self.name(id)
        for before, id in pairwise(ids):
            if before != id:
                self.learn_arc(id, before)

    def forget(self, id: int) -> None:
        self.starts.pop(id, None)
        self.doubted.discard(id)

    def owner(self, position: int) -> int | None:
        if not self.starts:
            return None
        nearest = true_owner(list(self.starts), position)
        start = self.starts[nearest]
        return nearest if start is not None and in_arc(position, start, nearest) else None

    def following(self, id: int) -> int | None:
        if not self.starts:
            return None
        after = min(self.starts, key=lambda other: distance(id, other) or SIZE)
        return after if self.starts[after] == id else None


WORDS = st.lists(
    st.one_of(
        st.tuples(st.just("chain"), st.lists(IDS, max_size=5)),
        st.tuples(st.just("arc"), st.tuples(IDS, IDS)),
        st.tuples(st.just("forget"), IDS),
    ),
    max_size=25,
)


@given(WORDS)
def test_it_does_what_a_naive_table_does(words: list[tuple[str, object]]) -> None:
    """True or false, in whatever order the words come."""
    table, naive = ArcTable(1_000), NaiveArcs()
    for kind, word in words:
        before = (table.epoch, [(c, table.start(c.id)) for c in table.contacts()])
        if kind == "chain" and isinstance(word, list):
            table.learn_chain(contacts(*word))
            naive.learn_chain(word)
        elif kind == "arc" and isinstance(word, tuple):
            table.learn_arc(contact(word[0]), word[1])
            naive.learn_arc(*word)
        elif isinstance(word, int):
            table.forget(word)
            naive.forget(word)
        after = (table.epoch, [(c, table.start(c.id)) for c in table.contacts()])
        assert after[0] > before[0] or after[1] == before[1], "a change that the epoch does not show"
    assert [c.id for c in table.contacts()] == sorted(naive.starts)
    for position in POSITIONS:
        owner, following = table.owner(position), table.following(position)
        assert (owner and owner.id) == naive.owner(position)
        assert (following and following.id) == naive.following(position)


@given(RINGS, st.data())
def test_true_words_make_no_false_certainty(ring: list[int], data: st.DataObject) -> None:
    table = ArcTable(1_000)
    for _ in range(data.draw(st.integers(0, 8))):
        if data.draw(st.booleans()):
            table.learn_arc(*_arc(data.draw(st.sampled_from(true_arcs(ring)))))
        else:
            start, length = data.draw(st.integers(0, 9)), data.draw(st.integers(0, len(ring)))
            table.learn_chain(contacts(*[ring[(start + step) % len(ring)] for step in range(length)]))
        _assert_nothing_false(table, ring)


@given(RINGS)
def test_everybody_heard_makes_everything_certain(ring: list[int]) -> None:
    table = ArcTable(1_000)
    for arc in true_arcs(ring):
        table.learn_arc(*_arc(arc))
    _assert_all_known(table, ring)


@given(RINGS)
def test_the_chain_once_round_makes_everything_certain(ring: list[int]) -> None:
    table = ArcTable(1_000)
    table.learn_chain(contacts(*ring, ring[0]))
    if len(ring) == 1:
        table.learn_arc(contact(ring[0]), ring[0])
    _assert_all_known(table, ring)


@given(RINGS, RINGS)
def test_another_ring_is_known_once_all_its_members_were_heard_twice(
    ring: list[int], later: list[int]
) -> None:
    """Whatever was believed before: the newest word wins, and nobody need say who is gone."""
    table = ArcTable(1_000)
    for arc in true_arcs(ring):
        table.learn_arc(*_arc(arc))
    for arc in true_arcs(later) * 2:
        table.learn_arc(*_arc(arc))
    _assert_all_known(table, later)


def _arc(arc: tuple[int, int]) -> tuple[Contact, int]:
    return contact(arc[0]), arc[1]


def _assert_nothing_false(table: ArcTable, ring: list[int]) -> None:
    following = {predecessor: id for id, predecessor in true_arcs(ring)}
    for position in POSITIONS:
        assert table.owner(position) in (None, contact(true_owner(ring, position)))
    for id in ring:
        assert table.following(id) in (None, contact(following[id]))


def _assert_all_known(table: ArcTable, ring: list[int]) -> None:
    assert {c.id for c in table.contacts()} == set(ring)
    for position in POSITIONS:
        assert table.owner(position) == contact(true_owner(ring, position))
    for id, predecessor in true_arcs(ring):
        assert table.following(predecessor) == contact(id)


def test_of_a_chains_first_only_its_existence_is_learned() -> None:
    table = ArcTable(10)
    table.learn_chain(contacts(9, 5, 1))
    assert table.owner(9) is None
    assert table.owner(10) is None
    assert table.owner(8) == contact(5)
    assert table.owner(5) == contact(5)
    assert table.owner(4) == contact(1)
    assert table.owner(0) is None
    assert table.following(9) == contact(5)
    assert table.following(1) is None


def test_a_member_learned_inside_anothers_arc_cuts_it() -> None:
    table = ArcTable(10)
    table.learn_arc(contact(2), 9)
    table.learn_chain(contacts(5))
    assert table.owner(7) is None
    assert table.owner(4) == contact(2)
    assert table.following(5) == contact(2)
    assert table.following(9) is None


def test_an_arc_that_reaches_past_a_member_puts_it_in_doubt_and_a_second_removes_it() -> None:
    table = ArcTable(10)
    table.learn_chain(contacts(9, 5, 2))
    table.learn_arc(contact(2), 9)
    assert table.owner(7) is None
    assert table.owner(3) == contact(2)
    table.learn_arc(contact(2), 9)
    assert table.owner(7) == contact(2)
    assert contact(5) not in table.contacts()


def test_whoever_is_named_again_is_in_doubt_no_longer() -> None:
    table = ArcTable(10)
    table.learn_chain(contacts(9, 5, 2))
    table.learn_arc(contact(2), 9)
    table.learn_chain(contacts(5))
    table.learn_arc(contact(2), 9)
    assert contact(5) in table.contacts()
    assert table.owner(7) is None


def test_nobody_inherits_from_the_forgotten_until_somebody_says_so() -> None:
    table = ArcTable(10)
    table.learn_chain(contacts(9, 5, 2))
    table.forget(5)
    assert table.owner(7) is None
    assert table.owner(4) == contact(2)
    assert table.following(9) is None
    table.learn_chain(contacts(9, 2))
    assert table.owner(7) == contact(2)


def test_a_ring_of_one_owns_all_and_follows_itself() -> None:
    table = ArcTable(10)
    table.learn_arc(contact(5), 5)
    assert table.owner(4) == table.owner(5) == table.owner(6) == table.following(5) == contact(5)


def test_the_epoch_stands_still_while_nothing_new_is_said() -> None:
    table = ArcTable(10)
    table.learn_chain(contacts(9, 5, 2))
    epoch = table.epoch
    table.learn_chain(contacts(9, 5, 2))
    table.learn_arc(contact(5), 9)
    table.forget(77)
    assert table.epoch == epoch
    table.learn_chain([Contact(5, "moved", 2)])
    assert table.epoch > epoch
    assert table.owner(7) == Contact(5, "moved", 2)


def test_past_its_capacity_it_forgets_whoever_was_not_heard_of_for_longest() -> None:
    table = ArcTable(3)
    table.learn_chain(contacts(9, 7, 5))
    table.learn_chain(contacts(9))
    table.learn_arc(contact(3), 5)
    assert {c.id for c in table.contacts()} == {9, 5, 3}
    assert table.owner(8) is None
    assert table.owner(4) == contact(3)


def test_it_knows_nothing_at_first() -> None:
    table = ArcTable(1)
    assert table.owner(0) is None
    assert table.following(0) is None
    table.forget(0)
    table.learn_chain([])
    assert table.epoch == len(table) == 0
