"""Records on disk: the same as in memory, and what is acknowledged is there after a crash."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from zope.interface.verify import verifyObject

from chordtx.errors import Stopped, StorageFailed
from chordtx.records import Record, Version
from chordtx.ring import SIZE
from chordtx.store import IStore, MemoryStore, disk
from chordtx.store.database import PLACE_SHIFT, Database
from chordtx.store.form import Damaged, from_stored, to_stored
from chordtx.store.memory import naming_position
from tests.store.disks import IN_MEMORY, Disk, record, result

KEYS = [b"key %d" % number for number in range(300)]


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[Disk]:
    opened = Disk(tmp_path / "records.sqlite")
    yield opened
    opened.crash()


@pytest.fixture
def filled(on_disk: Disk) -> Disk:
    """A third of :data:`KEYS` on disk, a third under way to it, a third in memory."""
    for key in KEYS[:100]:
        on_disk.store.merge(key, record(1))
    on_disk.commit()
    for key in KEYS[100:200]:
        on_disk.store.merge(key, record(1))
    on_disk.clock.advance(10)
    assert on_disk.threads.waiting
    for key in KEYS[200:]:
        on_disk.store.merge(key, record(1))
    return on_disk


def placed(keys: list[bytes]) -> list[tuple[int, bytes]]:
    return sorted(((naming_position(key), key) for key in keys), reverse=True)


def test_it_is_a_store(on_disk: Disk) -> None:
    assert verifyObject(IStore, on_disk.store)


def test_nothing_is_there_at_first(on_disk: Disk) -> None:
    store = on_disk.store
    assert store.get(b"key") is None
    assert len(store) == store.bytes_used == 0
    assert list(store.keys()) == store.keys_down_from(SIZE - 1, 0, 10) == []
    assert store.synced() is None


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(
            ["merge", "merge", "drop", "begin a commit", "end a commit", "fail a commit", "open anew"]
        ),
        st.sampled_from(KEYS[:5]),
        st.integers(1, 9),
        st.none() | st.binary(max_size=20),
    ),
    max_size=30,
)


class Twins:
    """A store on disk and one in memory, to which the same is done."""

    def __init__(self, folder: str) -> None:
        self.disk = Disk(Path(folder) / "records.sqlite")
        self.memory = MemoryStore()

    def do(self, what: str, key: bytes, written: Record) -> None:
        if what == "merge":
            assert self.disk.store.merge(key, written) == self.memory.merge(key, written)
        elif what == "drop":
            self.disk.store.drop(key)
            self.memory.drop(key)
        elif what == "begin a commit":
            self.disk.clock.advance(10)
        elif what == "end a commit":
            self.disk.threads.run()
        elif what == "fail a commit":
            for _, done in self.disk.threads.waiting[:]:
                self.disk.threads.waiting.clear()
                done.errback(StorageFailed("no space left"))
        else:
            self.disk.commit()
            self.disk.crash()
            self.disk = self.disk.opened_again()

    def compare(self) -> None:
        stored, memory = self.disk.store, self.memory
        assert sorted(stored.keys()) == sorted(memory.keys())
        for key in KEYS[:5]:
            assert stored.get(key) == memory.get(key)
        assert (len(stored), stored.bytes_used) == (len(memory), memory.bytes_used)
        for limit in (1, 2, 10):
            assert stored.keys_down_from(SIZE - 1, 0, limit) == memory.keys_down_from(SIZE - 1, 0, limit)


@settings(max_examples=60)
@given(OPERATIONS)
def test_it_does_what_the_one_in_memory_does(operations: list[Any]) -> None:
    with TemporaryDirectory(dir=IN_MEMORY) as folder:
        twins = Twins(folder)
        for what, key, clock, value in operations:
            twins.do(what, key, record(clock, value))
            twins.compare()
        twins.disk.crash()


def test_fields_and_expiry_survive(on_disk: Disk) -> None:
    version = Version(1, b"writer")
    whole = Record(
        version, b"\x80", 12345, {b"a": (Version(2, b"x"), b"\x01"), b"b": (Version(3, b"y"), b"\xc0")}
    )
    on_disk.store.merge(b"key", whole)
    on_disk.commit()
    assert on_disk.store.get(b"key") == whole


def test_reads_see_what_is_not_committed_yet(filled: Disk) -> None:
    store = filled.store
    assert all(store.get(key) == record(1) for key in KEYS)
    assert len(store) == len(KEYS)
    assert sorted(store.keys()) == sorted(KEYS)


def test_keys_are_of_the_moment_when_they_were_asked_for(filled: Disk) -> None:
    found = []
    for key in filled.store.keys():
        found.append(key)
        filled.store.drop(key)
        filled.store.merge(key + b"!", record(1))
        if len(found) == 150:
            filled.commit()
    assert sorted(found) == sorted(KEYS)


@pytest.mark.parametrize("limit", [1, 7, 299, 300, 1000])
def test_pages_follow_one_another(filled: Disk, limit: int) -> None:
    found: list[tuple[int, bytes]] = []
    position = SIZE - 1
    while page := filled.store.keys_down_from(position, 0, limit):
        assert len(page) <= limit
        found += page
        position = page[-1][0] - 1
    assert found == placed(KEYS)


def test_a_page_has_both_its_ends(filled: Disk) -> None:
    everything = placed(KEYS)
    high, low = everything[10][0], everything[20][0]
    assert filled.store.keys_down_from(high, low, 1000) == everything[10:21]
    assert filled.store.keys_down_from(high - 1, low + 1, 1000) == everything[11:20]
    assert filled.store.keys_down_from(low, high, 1000) == []


def test_keys_of_one_place_are_told_apart(on_disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their first 62 bits are the same: somebody may have looked for such keys."""
    positions = {key: (5 << PLACE_SHIFT) + number for number, key in enumerate(KEYS[:10])}
    monkeypatch.setattr(disk, "naming_position", positions.__getitem__)
    for key in positions:
        on_disk.store.merge(key, record(1, key))
    on_disk.commit()
    assert all(on_disk.store.get(key) == record(1, key) for key in positions)
    for limit in (1, 3, 10):
        found: list[bytes] = []
        position = SIZE - 1
        while page := on_disk.store.keys_down_from(position, 0, limit):
            found += [key for _, key in page]
            position = page[-1][0] - 1
        assert found == list(reversed(positions))


def test_acknowledged_is_synced(on_disk: Disk) -> None:
    on_disk.store.merge(b"key", record(1))
    told = result(on_disk.store.synced())
    on_disk.clock.advance(0)
    assert told == []
    on_disk.threads.run()
    assert told == [None]
    on_disk.crash()
    assert on_disk.opened_again().store.get(b"key") == record(1)


def test_what_nobody_waits_for_is_committed_after_a_while(on_disk: Disk) -> None:
    on_disk.store.merge(b"key", record(1))
    on_disk.clock.advance(disk.LAZY_SECONDS / 2)
    assert on_disk.threads.waiting == []
    on_disk.clock.advance(disk.LAZY_SECONDS / 2)
    on_disk.threads.run()
    on_disk.crash()
    assert on_disk.opened_again().store.get(b"key") == record(1)


def test_those_of_one_turn_share_a_commit(on_disk: Disk) -> None:
    told = []
    for key in KEYS[:50]:
        on_disk.store.merge(key, record(1))
        told.append(result(on_disk.store.synced()))
    on_disk.clock.advance(0)
    assert len(on_disk.threads.waiting) == 1
    on_disk.store.merge(b"later", record(1))
    late = result(on_disk.store.synced())
    on_disk.threads.run()
    assert told == [[None]] * 50
    assert late == []
    assert len(on_disk.threads.waiting) == 1  # begun at once, for somebody waits
    on_disk.threads.run()
    assert late == [None]


def test_a_merge_under_way_is_waited_for(on_disk: Disk) -> None:
    """A second write of the same record is acknowledged no sooner than the first."""
    on_disk.store.merge(b"key", record(1))
    on_disk.clock.advance(10)
    on_disk.store.merge(b"key", record(1))
    told = result(on_disk.store.synced())
    assert told == []
    on_disk.threads.run()
    assert told == [None]
    assert on_disk.store.synced() is None


def test_drops_are_waited_for_by_nobody(on_disk: Disk) -> None:
    on_disk.store.merge(b"key", record(1))
    on_disk.commit()
    on_disk.store.drop(b"key")
    assert on_disk.store.synced() is None
    on_disk.commit()
    on_disk.crash()
    assert on_disk.opened_again().store.get(b"key") is None


def failing(on_disk: Disk, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Have commits fail. :returns: has them succeed again."""

    def fail(*_: Any) -> None:
        raise StorageFailed("full", str(on_disk.path), "database or disk is full")

    monkeypatch.setattr(on_disk.database, "commit", fail)
    return monkeypatch.undo


def test_a_failed_commit_is_told_and_tried_again(on_disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    mend = failing(on_disk, monkeypatch)
    on_disk.store.merge(b"key", record(1, b"old"))
    on_disk.store.merge(b"other", record(1))
    told = result(on_disk.store.synced())
    on_disk.clock.advance(0)
    on_disk.store.merge(b"key", record(2, b"new"))
    on_disk.threads.run()
    assert isinstance(told[0], StorageFailed)
    assert told[0].reason == "database or disk is full"
    assert on_disk.store.get(b"key") == record(2, b"new")
    assert on_disk.store.get(b"other") == record(1)
    again = result(on_disk.store.synced())
    mend()
    on_disk.commit()
    assert again == [None]
    on_disk.crash()
    reopened = on_disk.opened_again().store
    assert reopened.get(b"key") == record(2, b"new")
    assert reopened.get(b"other") == record(1)


def test_a_failed_commit_is_tried_again_without_anybody(
    on_disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    mend = failing(on_disk, monkeypatch)
    on_disk.store.merge(b"key", record(1))
    on_disk.clock.advance(10)
    on_disk.threads.run()
    mend()
    on_disk.clock.advance(disk.LAZY_SECONDS)
    on_disk.threads.run()
    assert on_disk.store.synced() is None


def test_what_piles_up_is_bounded(on_disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "UNSAVED_BYTES_MAX", 10_000)
    failing(on_disk, monkeypatch)
    for number in range(9):
        on_disk.store.merge(b"%d" % number, record(1, b"x" * 1000))
        on_disk.clock.advance(10)
        on_disk.threads.run()
    with pytest.raises(StorageFailed, match="too much waits"):
        on_disk.store.merge(b"one more", record(1))
    assert on_disk.store.get(b"0") == record(1, b"x" * 1000)
    monkeypatch.undo()


def test_a_full_file_is_an_error_that_passes(on_disk: Disk) -> None:
    """SQLite itself refuses here, as it does when the disk is full."""
    pages = on_disk.database._writer.execute("PRAGMA page_count").fetchone()[0]
    on_disk.database._writer.execute(f"PRAGMA max_page_count = {pages + 2}")
    on_disk.store.merge(b"large", record(1, b"x" * 100_000))
    told = result(on_disk.store.synced())
    on_disk.clock.advance(0)
    on_disk.threads.run()
    assert "full" in str(told[0])
    on_disk.store.drop(b"large")
    on_disk.store.merge(b"small", record(1))
    told = result(on_disk.store.synced())
    on_disk.commit()
    assert told == [None]


def test_closing_commits(on_disk: Disk) -> None:
    on_disk.store.merge(b"a", record(1))
    on_disk.clock.advance(10)
    on_disk.store.merge(b"b", record(1))
    waiting = result(on_disk.store.synced())
    closed = result(on_disk.store.close())
    while on_disk.threads.waiting:
        on_disk.threads.run()
    assert waiting == closed == [None]
    assert on_disk.clock.getDelayedCalls() == []
    assert len(on_disk.opened_again().store) == 2


def test_closing_tells_what_is_lost(on_disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(on_disk, monkeypatch)
    on_disk.store.merge(b"a", record(1))
    waiting = result(on_disk.store.synced())
    closed = result(on_disk.store.close())
    on_disk.threads.run()
    assert isinstance(waiting[0], StorageFailed)
    assert isinstance(closed[0], StorageFailed)


def test_a_closed_store_answers_nothing(on_disk: Disk) -> None:
    assert result(on_disk.store.close()) == [None]
    assert result(on_disk.store.close()) == [None]
    for ask in (
        lambda: on_disk.store.get(b"key"),
        lambda: on_disk.store.merge(b"key", record(1)),
        lambda: on_disk.store.keys(),
        lambda: on_disk.store.keys_down_from(1, 0, 1),
        lambda: on_disk.store.keep("a", b"b"),
    ):
        with pytest.raises(Stopped):
            ask()
    assert len(on_disk.store) == 0


# Damage


@given(st.binary(max_size=50), st.integers(0), st.integers(0, 7))
def test_a_changed_bit_is_noticed(value: bytes, place: int, bit: int) -> None:
    stored = bytearray(to_stored(b"key", record(1, value)))
    assert from_stored(b"key", bytes(stored)) == record(1, value)
    stored[place % len(stored)] ^= 1 << bit
    with pytest.raises(Damaged):
        from_stored(b"key", bytes(stored))
    with pytest.raises(Damaged):
        from_stored(b"other", to_stored(b"key", record(1, value)))


@pytest.mark.parametrize("stored", [b"", b"abc", None, 5, "text"])
def test_what_is_no_record_is_noticed(stored: Any) -> None:
    with pytest.raises(Damaged):
        from_stored(b"key", stored)


def damage(path: Path, key: bytes) -> None:
    connection = sqlite3.connect(path)
    (stored,) = connection.execute("SELECT record FROM records WHERE key = ?", (key,)).fetchone()
    changed = stored[:-1] + bytes([stored[-1] ^ 1])
    connection.execute("UPDATE records SET record = ? WHERE key = ?", (changed, key))
    connection.commit()
    connection.close()


def test_a_damaged_record_is_left_out_at_the_start(on_disk: Disk) -> None:
    for key in KEYS:
        on_disk.store.merge(key, record(1))
    on_disk.commit()
    on_disk.crash()
    damage(on_disk.path, KEYS[7])
    reopened = on_disk.opened_again()
    store = reopened.store
    assert (store.damaged, len(store)) == (1, len(KEYS) - 1)
    assert store.get(KEYS[7]) is None
    assert KEYS[7] not in set(store.keys())
    assert store.merge(KEYS[7], record(1)) == record(1)
    assert len(store) == len(KEYS)
    reopened.commit()
    reopened.crash()
    assert on_disk.opened_again().store.damaged == 0


def test_a_record_that_is_damaged_later_is_told(on_disk: Disk) -> None:
    for key in KEYS[:3]:
        on_disk.store.merge(key, record(1))
    on_disk.commit()
    told: list[bytes] = []
    on_disk.store.on_lost = told.append
    damage(on_disk.path, KEYS[1])
    assert on_disk.store.get(KEYS[1]) is None
    assert (told, on_disk.store.damaged, len(on_disk.store)) == ([KEYS[1]], 1, 2)
    on_disk.commit()
    assert on_disk.store.merge(KEYS[1], record(1)) == record(1)


def test_unreadable_pages_are_told(on_disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    on_disk.store.merge(b"key", record(1))
    on_disk.commit()

    def fail(*_: Any) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    for name in ("load", "page", "keys_after"):
        monkeypatch.setattr(on_disk.database, name, fail)
    told: list[bytes] = []
    on_disk.store.on_lost = told.append
    assert on_disk.store.get(b"key") is None
    assert on_disk.store.get(b"key") is None
    assert (told, on_disk.store.damaged) == ([b"key", b"key"], 1)
    with pytest.raises(StorageFailed, match="disk I/O error"):
        on_disk.store.keys_down_from(SIZE - 1, 0, 10)
    with pytest.raises(StorageFailed, match="disk I/O error"):
        list(on_disk.store.keys())


@pytest_twisted.ensureDeferred
async def test_commits_run_beside_reads(running_reactor: Any, tmp_path: Path) -> None:
    """In a real thread, with a reader that goes on."""

    def run(work: Callable[[], None]) -> Deferred[None]:
        return deferToThreadPool(running_reactor, running_reactor.getThreadPool(), work)

    store = disk.DiskStore(Database(tmp_path / "records.sqlite"), run, running_reactor.callLater)
    for round in range(1, 6):
        for key in KEYS:
            store.merge(key, record(round))
        synced = store.synced()
        assert synced is not None
        while not synced.called:
            assert all(store.get(key) == record(round) for key in KEYS)
            await deferLater(running_reactor, 0)
    await store.close()
    reopened = Disk(tmp_path / "records.sqlite")
    assert len(reopened.store) == len(KEYS)
    reopened.crash()
