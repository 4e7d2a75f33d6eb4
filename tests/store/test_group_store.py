"""What groups save is told as saved once it is synced, in order, and never when it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThreadPool
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from chordtx.errors import Stopped, StorageFailed
from chordtx.group.operations import DONE, INCREMENT
from chordtx.group.rank import NodeId
from chordtx.group.replica import Aside, Save, Stored
from chordtx.sim.group_disk import GroupDisk, SimulatedThread
from chordtx.store import group_store
from chordtx.store.database import Database
from chordtx.store.group_store import LAZY_SECONDS, GroupStore, InlineGroupStore
from tests.store.disks import IN_MEMORY, Threads, result
from tests.store.group_turns import (
    BALLOT,
    Network,
    asides_from,
    filled,
    held_by,
    loaded_from,
    record,
    save,
    state_of,
    stored,
)
from tests.store.test_store_database import flip


class Saving:
    """One store, its clock and its threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = Clock()
        self.threads = Threads()
        self.database = Database(path)
        self.store = GroupStore(self.database, self.threads, self.clock.callLater)
        self.loaded = list(self.store.load())
        self._commit = self.database.commit

    def fail(self, error: Exception | None = None) -> None:
        """Have commits fail."""

        def commit(*_: Any) -> None:
            raise error or StorageFailed("full", str(self.path), "database or disk is full")

        self.database.commit = commit  # type: ignore[method-assign]

    def mend(self) -> None:
        """Have them succeed again."""
        self.database.commit = self._commit  # type: ignore[method-assign]

    def on_disk(self) -> dict[int, Any]:
        """What a crash at this moment leaves."""
        return loaded_from(self.database)


@pytest.fixture
def path() -> Iterator[Path]:
    with TemporaryDirectory(dir=IN_MEMORY) as name:
        yield Path(name) / "groups.sqlite"


@pytest.fixture
def saving(path: Path) -> Iterator[Saving]:
    opened = Saving(path)
    yield opened
    opened.database.close()


@pytest.fixture
def logged() -> Iterator[list[LogEvent]]:
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


# Saving


def test_saved_is_synced(saving: Saving) -> None:
    told = result(saving.store.save({1: save(1, b"a")}, {"id": b"me"}))
    assert (told, saving.on_disk()) == ([], {})
    saving.threads.run()
    assert told == [None]
    assert saving.on_disk() == {1: (stored(1), state_of(save(1, b"a")))}
    assert saving.store.values() == {"id": b"me"}


def test_what_comes_during_a_commit_goes_with_the_next(saving: Saving) -> None:
    told: list[int] = []
    saves = [save(sequence, b"key %d" % sequence, b"same") for sequence in range(10)]
    saves[6] = save(6, b"key 6", gone=[b"key 0", b"key 5"])
    for sequence, each in enumerate(saves):
        saving.store.save({1: each}).addCallback(lambda _, sequence=sequence: told.append(sequence))
    assert len(saving.threads.waiting) == 1
    saving.threads.run()
    assert told == [0]
    assert len(saving.threads.waiting) == 1  # all the others together
    saving.threads.run()
    assert told == list(range(10))
    assert saving.threads.waiting == []
    assert saving.on_disk() == {1: (stored(9), state_of(*saves))}


def test_partitions_keep_apart(saving: Saving) -> None:
    saving.store.save({1: save(1, b"a")})
    saving.store.save({2: save(2, b"b")}, {"x": b"1"})
    saving.store.save({3: save(3, b"c"), 2: save(4, b"d")}, {"x": b"2", "y": b"3"})
    saving.threads.run()
    saving.threads.run()
    assert saving.on_disk() == {
        1: (stored(1), state_of(save(1, b"a"))),
        2: (stored(4), state_of(save(2, b"b"), save(4, b"d"))),
        3: (stored(3), state_of(save(3, b"c"))),
    }
    assert saving.store.values() == {"x": b"2", "y": b"3"}


def test_what_was_given_is_not_changed(saving: Saving) -> None:
    first, second = save(1, b"a"), save(2, b"b", gone=[b"a"])
    saving.store.save({2: first})  # under way
    saving.store.save({1: first})
    saving.store.save({1: second})
    assert first == save(1, b"a")
    assert second == save(2, b"b", gone=[b"a"])
    first.records.clear()
    saving.threads.run()
    saving.threads.run()
    assert saving.on_disk()[2] == (stored(1), state_of(save(1, b"a")))


def test_nothing_to_save_waits_for_what_is_before(saving: Saving) -> None:
    assert result(saving.store.save({})) == [None]
    assert saving.threads.waiting == []
    saving.store.save({1: save(1, b"a")})
    during = result(saving.store.save({}))
    assert during == []
    later = saving.store.save({1: save(2, b"a")})
    last = result(saving.store.save({}))
    saving.threads.run()
    assert (during, last, later.called) == ([None], [], False)
    saving.threads.run()
    assert (last, later.called) == ([None], True)


def test_who_is_told_may_save_at_once(saving: Saving) -> None:
    told: list[Any] = []
    first = saving.store.save({1: save(1, b"a")})
    first.addCallback(lambda _: saving.store.save({1: save(2, b"b")})).addCallback(told.append)
    saving.threads.run()
    assert told == []
    saving.threads.run()
    assert told == [None]
    assert saving.on_disk() == {1: (stored(2), state_of(save(1, b"a"), save(2, b"b")))}


# Failing


def test_a_failed_commit_is_tried_again_with_what_came_after(saving: Saving, logged: list[LogEvent]) -> None:
    told: list[str] = []

    def give(name: str, saves: dict[int, Save], values: dict[str, bytes]) -> None:
        saving.store.save(saves, values).addCallback(lambda _: told.append(name))

    saving.fail()
    give("first", {1: save(1, b"a", b"old"), 3: save(1, b"z")}, {"x": b"1", "y": b"1"})
    give("second", {1: save(2, b"old", value=b"\xa3new")}, {"x": b"2"})
    saving.threads.run()
    assert saving.store.is_failing
    assert saving.threads.waiting == []
    give("third", {1: save(3, b"c", gone=[b"a"]), 2: save(1, b"b")}, {})
    assert saving.threads.waiting == []  # not before its time
    for _ in range(3):
        saving.clock.advance(LAZY_SECONDS)
        saving.threads.run()
    assert (told, saving.on_disk()) == ([], {})
    saving.mend()
    saving.clock.advance(LAZY_SECONDS / 2)
    assert saving.threads.waiting == []
    saving.clock.advance(LAZY_SECONDS / 2)
    saving.threads.run()
    assert told == ["first", "second", "third"]
    assert not saving.store.is_failing
    whole = state_of(save(1, b"a", b"old"), save(2, b"old", value=b"\xa3new"), save(3, b"c", gone=[b"a"]))
    assert saving.on_disk() == {
        1: (stored(3), whole),
        2: (stored(1), state_of(save(1, b"b"))),
        3: (stored(1), state_of(save(1, b"z"))),
    }
    assert saving.store.values() == {"x": b"2", "y": b"1"}
    assert saving.clock.getDelayedCalls() == []
    said = [formatEvent(event) for event in logged]
    assert len(said) == 2
    assert "cannot store" in said[0]
    assert "works again" in said[1]


def test_a_real_full_file_passes(saving: Saving) -> None:
    """SQLite itself refuses here, as it does when the disk is full."""
    pages = saving.database._writer.execute("PRAGMA page_count").fetchone()[0]
    saving.database._writer.execute(f"PRAGMA max_page_count = {pages + 2}")
    told = result(saving.store.save({1: save(1, b"large", value=bytes(100_000))}))
    saving.threads.run()
    assert (told, saving.store.is_failing) == ([], True)
    again = result(saving.store.save({1: save(2, b"small", gone=[b"large"])}))
    saving.clock.advance(LAZY_SECONDS)
    saving.threads.run()
    assert (told, again) == ([None], [None])
    assert saving.on_disk()[1][1].records == {b"small": record(2)}


def test_what_waits_is_bounded(saving: Saving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_store, "UNSAVED_BYTES_MAX", 10_000)
    large = save(1, b"large", value=bytes(20_000))
    saving.store.save({1: large})
    assert not saving.store.is_full  # it may well work
    saving.threads.run()
    saving.fail()
    for sequence in range(3):
        saving.store.save({1: save(sequence, b"key %d" % sequence, value=bytes(2000))})
        saving.threads.run()
        assert saving.store.is_failing
        assert not saving.store.is_full
    saving.store.save({1: save(1, b"key 5", value=bytes(2000))})
    assert saving.store.is_full
    saving.mend()
    saving.clock.advance(LAZY_SECONDS)
    assert saving.store.is_full  # while it is tried again too
    saving.threads.run()
    assert not saving.store.is_full
    saving.fail()
    saving.store.save({1: save(1, b"small")})
    saving.threads.run()
    assert (saving.store.is_failing, saving.store.is_full) == (True, False)


def test_what_is_written_again_and_again_waits_once(saving: Saving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_store, "UNSAVED_BYTES_MAX", 10_000)
    saving.fail()
    for _ in range(10):
        saving.store.save({1: save(1, b"same", value=bytes(2000))})
        saving.clock.advance(LAZY_SECONDS)
        saving.threads.run()
    assert not saving.store.is_full


def test_a_mistake_of_ours_is_told_and_tried_again(
    saving: Saving, flush_logged_errors: Callable[..., list[Any]]
) -> None:
    saving.fail(ZeroDivisionError("nobody thought of it"))
    told = result(saving.store.save({1: save(1, b"a")}))
    saving.threads.run()
    assert (told, saving.store.is_failing) == ([], True)
    assert len(flush_logged_errors(ZeroDivisionError)) == 1
    saving.mend()
    saving.clock.advance(LAZY_SECONDS)
    saving.threads.run()
    assert told == [None]


def test_no_thread_is_as_good_as_no_disk(
    saving: Saving, flush_logged_errors: Callable[..., list[Any]]
) -> None:
    """When the process is about to end, its threads may have ended already."""
    run = saving.store._run_in_thread

    def refuse(_: Callable[[], None]) -> Deferred[None]:
        raise RuntimeError("there are no threads any more")

    saving.store._run_in_thread = refuse
    told = result(saving.store.save({1: save(1, b"a")}))
    assert saving.store.is_failing
    assert len(flush_logged_errors(RuntimeError)) == 1
    saving.store._run_in_thread = run
    saving.clock.advance(LAZY_SECONDS)
    saving.threads.run()
    assert told == [None]


class Anything:
    """A store to which anything happens, in any order.

    :ivar given: the saves in their order. :ivar told: which of them were told to be on disk, by number.
    """

    def __init__(self, path: Path) -> None:
        self.saving = Saving(path)
        self.given: list[Save] = []
        self.told: list[int] = []

    def save(self, *keys: bytes) -> None:
        number = len(self.given)
        self.given.append(save(number, *keys, value=b"%d" % number))
        self.saving.store.save({1: self.given[-1]}).addCallback(lambda _: self.told.append(number))

    def happens(self, what: str) -> None:
        saving = self.saving
        if what == "wait":
            saving.clock.advance(LAZY_SECONDS)
        elif what == "the disk fails":
            saving.fail()
        elif what == "the disk works":
            saving.mend()
        elif what == "commit":
            saving.threads.run()
        else:
            saving.database.close()
            self.saving = Saving(saving.path)
            found = self.saving.loaded[0][1].rank.sequence + 1 if self.saving.loaded else 0
            assert found >= len(self.told)
            del self.given[found:]
            self.told = list(range(found))

    def check(self) -> None:
        """What was told is on disk, in order, and nothing that was not given."""
        assert self.told == list(range(len(self.told)))
        on_disk = self.saving.on_disk()
        saved = on_disk[1][0].rank.sequence + 1 if on_disk else 0
        assert saved == len(self.told)
        assert not saved or on_disk[1][1] == state_of(*self.given[:saved])


HAPPENS = st.sampled_from(["commit", "commit", "wait", "the disk fails", "the disk works", "crash"])
KEYS = st.lists(st.sampled_from([b"a", b"b", b"c"]), min_size=1, max_size=2, unique=True)


@settings(max_examples=60)
@given(st.lists(HAPPENS | KEYS, max_size=30))
def test_what_is_told_is_on_disk_whatever_happens(happenings: list[Any]) -> None:
    with TemporaryDirectory(dir=IN_MEMORY) as name:
        anything = Anything(Path(name) / "groups.sqlite")
        for each in happenings:
            if isinstance(each, str):
                anything.happens(each)
            else:
                anything.save(*each)
            anything.check()
        anything.saving.mend()
        for _ in range(3):
            anything.happens("wait")
            anything.happens("commit")
        assert len(anything.told) == len(anything.given)
        anything.check()
        anything.saving.database.close()


# Starting


def test_a_lost_state_is_told(saving: Saving, logged: list[LogEvent]) -> None:
    saving.store.save({1: save(1, b"a"), 2: save(1, b"b")})
    saving.threads.run()
    saving.database.close()
    flip(saving.path, "records", "record", "partition = 2")
    again = Saving(saving.path)
    told = [(partition, stored.is_lost, state is None) for partition, stored, state, _ in again.loaded]
    assert told == [(1, False, False), (2, True, True)]
    assert again.store.lost.keys() == {2}
    assert formatEvent(logged[0]).startswith("the state of partition 2 in ")
    again.database.close()


# Other histories

KEPT = Aside(stored(5), state_of(save(5, b"x")))
EMPTY = Aside(Stored(BALLOT), None)


def in_another(sequence: int, asides: dict[int, Aside | None]) -> Save:
    return save(sequence, b"a")._replace(asides=asides)


def test_what_it_was_elsewhere_goes_with_what_takes_it_away(saving: Saving) -> None:
    saving.store.save({1: save(1, b"a")})  # under way
    saving.store.save({1: in_another(2, {0: KEPT, 8: EMPTY})})
    saving.store.save({1: in_another(3, {8: None, 9: EMPTY})})
    saving.store.save({1: in_another(4, {0: EMPTY, 8: None})})
    saving.threads.run()
    assert asides_from(saving.database) == {}
    saving.threads.run()
    assert asides_from(saving.database) == {1: {0: EMPTY, 9: EMPTY}}
    saving.store.save({1: in_another(5, {0: None})})
    saving.threads.run()
    assert asides_from(saving.database) == {1: {9: EMPTY}}


def test_what_it_was_elsewhere_survives_a_commit_that_fails(saving: Saving) -> None:
    first = in_another(1, {0: KEPT, 8: KEPT})
    saving.fail()
    saving.store.save({1: first})
    saving.store.save({1: in_another(2, {0: None, 9: EMPTY})})  # while the other is under way
    saving.threads.run()
    saving.store.save({1: in_another(3, {0: EMPTY})})
    saving.mend()
    saving.clock.advance(LAZY_SECONDS)
    saving.threads.run()
    assert asides_from(saving.database) == {1: {0: EMPTY, 8: KEPT, 9: EMPTY}}
    assert first == in_another(1, {0: KEPT, 8: KEPT})


# The end


def closed(saving: Saving) -> list[Any]:
    """Closes the store. :returns: its outcome."""
    outcome = result(saving.store.close())
    while saving.threads.waiting:
        assert outcome == []
        saving.threads.run()
    return outcome


def test_closing_commits_what_there_is(saving: Saving) -> None:
    first = result(saving.store.save({1: save(1, b"a")}))
    second = result(saving.store.save({1: save(2, b"b")}))
    assert closed(saving) == [None]
    assert (first, second) == ([None], [None])
    assert closed(saving) == [None]
    again = Saving(saving.path)
    assert again.loaded == [(1, stored(2), state_of(save(1, b"a"), save(2, b"b")), {})]
    again.database.close()


def test_closing_what_fails_tries_once_more(saving: Saving) -> None:
    saving.fail()
    waiting = result(saving.store.save({1: save(1, b"a")}))
    saving.threads.run()
    saving.mend()
    assert closed(saving) == [None]
    assert waiting == [None]
    assert saving.clock.getDelayedCalls() == []


def test_closing_tells_what_is_lost(saving: Saving) -> None:
    """But not those who wait: they would say something to others then."""
    saving.fail()
    waiting = result(saving.store.save({1: save(1, b"a")}))
    (error,) = closed(saving)
    assert isinstance(error, StorageFailed)
    assert waiting == []
    assert saving.clock.getDelayedCalls() == []


def test_a_closed_store_takes_nothing(saving: Saving) -> None:
    assert closed(saving) == [None]
    with pytest.raises(Stopped):
        saving.store.save({1: save(1, b"a")})


# In simulations


def test_inline_is_saved_when_it_returns(path: Path) -> None:
    clock = Clock()
    with_disk = GroupDisk(path)
    store = InlineGroupStore(with_disk.opened(), clock.callLater)
    assert list(store.load()) == []
    assert result(store.save({1: save(1, b"a")})) == [None]
    with_disk.crash(Random(1))
    store = InlineGroupStore(with_disk.opened(), clock.callLater)
    assert list(store.load()) == [(1, stored(1), state_of(save(1, b"a")), {})]
    assert result(store.close()) == [None]
    with_disk.closed()


def test_inline_tries_again_too(path: Path) -> None:
    clock = Clock()
    database = Database(path)
    store = InlineGroupStore(database, clock.callLater)
    pages = database._writer.execute("PRAGMA page_count").fetchone()[0]
    database._writer.execute(f"PRAGMA max_page_count = {pages}")
    told = result(store.save({1: save(1, b"a", value=bytes(100_000))}))
    assert told == []
    database._writer.execute("PRAGMA max_page_count = 10000")
    clock.advance(LAZY_SECONDS)
    assert told == [None]
    assert result(store.close()) == [None]


def life(disk: GroupDisk, rng: Random, given: list[Save]) -> int:
    """One process, from its start to its crash: ``given`` is what it finds, and then what it has saved.

    :returns: how many of these were told to be on disk.
    """
    clock = Clock()
    told: list[int] = []
    thread = SimulatedThread(clock.callLater, rng, disk)
    store = GroupStore(disk.opened(), thread, clock.callLater)
    loaded = list(store.load())
    if loaded:
        kept = loaded[0][1].rank.sequence
        del given[kept:]
        assert loaded == [(1, stored(kept), state_of(*given), {})]
    else:
        given.clear()
    found = len(given)
    for _ in range(rng.randint(1, 20)):
        sequence = len(given) + 1
        given.append(save(sequence, b"key %d" % rng.randrange(5), value=rng.randbytes(500)))
        synced = store.save({1: given[-1]})
        synced.addCallback(lambda _, sequence=sequence: told.append(sequence))
        clock.advance(rng.random() * 0.006)
    assert told == list(range(found + 1, found + 1 + len(told)))
    disk.crash(rng, thread.under_way)
    return told[-1] if told else found


@pytest.mark.parametrize("seed", range(10))
def test_nothing_that_was_told_is_lost_in_a_crash(path: Path, seed: int) -> None:
    rng, disk = Random(seed), GroupDisk(path)
    given: list[Save] = []
    for _ in range(6):
        told = life(disk, rng, given)
        kept = [found.rank.sequence for _, found, _, _ in disk.opened().load()]
        assert max(kept, default=0) >= told
        disk.crash(rng)


@pytest.mark.parametrize("seed", range(4))
def test_groups_lose_nothing_in_crashes(path: Path, seed: int) -> None:
    """Counters that were answered go on from there, whoever crashes in the middle of what."""
    rng, ids = Random(seed), [bytes([number]) * 20 for number in range(1, 4)]
    disks = {id: GroupDisk(path.with_name(f"{id[0]}.sqlite")) for id in ids}
    databases = {id: disk.opened() for id, disk in disks.items()}

    def commit(id: NodeId, saves: Any) -> None:
        databases[id].commit(saves, {})

    network = Network(ids, commit)
    network.create(ids[0], [0])
    network.change_members(0, ids)
    filled(network, 0, 5)
    for count in range(1, 9):
        id = rng.choice(ids)
        held = held_by(network.nodes[id])
        network.crash(id)
        disks[id].crash(rng)
        databases[id] = disks[id].opened()
        assert loaded_from(databases[id]) == held
        network.restart(id, databases[id].load())
        network.pass_seconds(4)
        answer = network.do(0, INCREMENT, b"n", b"\x01")
        assert (answer.status, answer.detail) == (DONE, count)
    for database in databases.values():
        database.close()


# For real


@pytest_twisted.ensureDeferred
async def test_commits_run_in_a_thread(running_reactor: Any, path: Path) -> None:
    def run(work: Callable[[], None]) -> Deferred[None]:
        return deferToThreadPool(running_reactor, running_reactor.getThreadPool(), work)

    store = GroupStore(Database(path), run, running_reactor.callLater)
    list(store.load())
    saves = [save(sequence, b"key %d" % (sequence % 7)) for sequence in range(100)]
    told: list[int] = []
    for sequence, each in enumerate(saves):
        last = store.save({1: each})
        last.addCallback(lambda _, sequence=sequence: told.append(sequence))
        if sequence % 10 == 9:
            await last
    assert told == list(range(100))
    await store.close()
    database = Database(path)
    assert loaded_from(database) == {1: (stored(99), state_of(*saves))}
    database.close()
