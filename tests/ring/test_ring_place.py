"""Where a node is to join: found when the members before and after the place agree, and not otherwise.

The ring is walked toward smaller ids: 90 is followed by 80, then 70. The joiner is 50.
"""

from __future__ import annotations

from chordtx.ring import SIZE, Contact, PlaceSearch


def c(id: int) -> Contact:
    return Contact(id % SIZE, "127.0.0.1", 1)


def cs(*ids: int) -> tuple[Contact, ...]:
    return tuple(map(c, ids))


def test_the_owner_gives_its_list_and_the_member_before_confirms_it() -> None:
    search = PlaceSearch(50)
    assert search.answered(c(40), c(60), cs(30, 20)) == c(60)
    assert search.found is None
    assert search.answered(c(60), c(70), cs(40, 30)) is None
    assert search.found == (c(40), cs(30, 20))


def test_a_ring_of_one_has_nobody_to_confirm_it() -> None:
    search = PlaceSearch(50)
    assert search.answered(c(40), None, ()) is None
    assert search.found == (c(40), ())


def test_who_came_between_is_not_skipped_though_the_owner_has_not_heard_of_it() -> None:
    """45 is listed by all who ought to list it. Only 40, which it has not notified yet, takes itself for the
    owner of 50: its list, taken at its word, would make 50 the one member that skips 45."""
    search = PlaceSearch(50)
    assert search.answered(c(40), c(60), cs(30, 20)) == c(60)
    assert search.answered(c(60), c(70), cs(45, 40)) == c(45)
    assert search.found is None
    assert search.answered(c(45), None, cs(40, 30)) is None
    assert search.found == (c(45), cs(40, 30))


def test_who_came_between_and_is_known_to_the_owner_is_asked_instead() -> None:
    search = PlaceSearch(50)
    assert search.answered(c(40), c(45), cs(30, 20)) == c(45)
    assert search.answered(c(45), c(60), cs(40, 30)) == c(60)
    assert search.answered(c(60), c(70), cs(45, 40)) is None
    assert search.found == (c(45), cs(40, 30))


def test_a_predecessor_of_old_leads_on_to_the_member_before() -> None:
    search = PlaceSearch(50)
    assert search.answered(c(40), c(70), cs(30, 20)) == c(70)
    assert search.answered(c(70), c(80), cs(60, 40)) == c(60)
    assert search.answered(c(60), c(70), cs(40, 30)) is None
    assert search.found == (c(40), cs(30, 20))


def test_an_owner_that_knows_of_nobody_before_it_is_no_sure_place() -> None:
    for predecessor in (None, c(50)):
        search = PlaceSearch(50)
        assert search.answered(c(40), predecessor, cs(30, 20)) is None
        assert search.found is None


def test_a_node_that_comes_back_to_its_place_is_listed_there_yet() -> None:
    search = PlaceSearch(50)
    assert search.answered(c(40), c(60), cs(30, 60)) == c(60)
    assert search.answered(c(60), c(70), cs(50, 40)) is None
    assert search.found == (c(40), cs(30, 60))


def test_who_lists_only_what_we_were_before_does_not_confirm_anything() -> None:
    search = PlaceSearch(50)
    assert search.answered(c(40), c(50), cs(50)) is None
    assert search.found is None
