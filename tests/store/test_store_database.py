"""The file that groups are kept in: all of it or nothing, damage that is noticed, and what a crash tears."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chordtx.errors import StorageFailed
from chordtx.group.configuration import Configuration, Member
from chordtx.group.operations import DELETE, DELTA, DONE, INCREMENT, SET, TAKE, TOUCH
from chordtx.group.rank import COUNT_MAX, Ballot, Epoch, NodeId, Rank
from chordtx.group.record import Record
from chordtx.group.replica import Aside, Save, Stored
from chordtx.group.state import Client, Done, Header, State
from chordtx.sim.group_disk import Files, GroupDisk, read_files, torn, write_files
from chordtx.store import form
from chordtx.store.database import Database
from chordtx.store.journal import commits_passed_over
from tests.store.disks import IN_MEMORY, make_first_version
from tests.store.group_turns import (
    BALLOT,
    CONFIGURATION,
    EPOCH,
    Network,
    asides_from,
    clients_of,
    filled,
    held_by,
    loaded_from,
    promise,
    rank,
    record,
    save,
    state_of,
    stored,
)

IDS = [bytes([number]) * 20 for number in range(1, 6)]
NEW_NODE = "start the node as a new one"


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory(dir=IN_MEMORY) as name:
        yield Path(name)


@pytest.fixture
def path(folder: Path) -> Path:
    return folder / "groups.sqlite"


# Round trips


class Nodes:
    """Groups of five nodes, each with a database."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.databases = {id: self._opened(id) for id in IDS}
        self.network = Network(IDS, lambda id, saves: self.databases[id].commit(saves, {}))

    def _opened(self, id: NodeId) -> Database:
        return Database(self._folder / f"{id[0]}.sqlite")

    def check(self) -> None:
        """Every node has on disk what it has in memory."""
        for id, groups in self.network.nodes.items():
            assert loaded_from(self.databases[id]) == held_by(groups)
            asides = {partition: group.replica.asides for partition, group in groups.groups.items()}
            assert asides_from(self.databases[id]) == {p: each for p, each in asides.items() if each}
            assert self.databases[id].lost == {}

    def reopen(self, id: NodeId) -> None:
        self.databases[id].close()
        self.databases[id] = self._opened(id)

    def restart(self, id: NodeId) -> None:
        self.network.crash(id)
        self.reopen(id)
        self.network.restart(id, self.databases[id].load())

    def close(self) -> None:
        for database in self.databases.values():
            database.close()


@pytest.fixture
def nodes(folder: Path) -> Iterator[Nodes]:
    nodes = Nodes(folder)
    yield nodes
    nodes.close()


def test_what_groups_do_is_found_again(nodes: Nodes) -> None:
    network = nodes.network
    network.create(IDS[0], range(3))
    nodes.check()
    filled(network, 0, 10)
    network.change_members(0, IDS)
    network.change_members(1, IDS[:3])
    nodes.check()
    filled(network, 0, 10)
    filled(network, 1, 20)
    for kind, *arguments in (
        (INCREMENT, b"\x05"),
        (INCREMENT, b"\xcb?\xf8\0\0\0\0\0\0"),
        (DELTA, b"\x81\xa1a\x01"),
        (TOUCH, 60_000),
        (DELETE, None),
        (DELETE, rank(1)),
        (TAKE,),
    ):
        for partition in (0, 1):
            network.do(partition, kind, b"n", *arguments, client=b"another")
            network.do(partition, kind, b"key 7", *arguments, client=b"another")
    nodes.check()
    assert len(held_by(network.nodes[IDS[4]])[0][1].records) > 5  # type: ignore[union-attr]
    assert held_by(network.nodes[IDS[4]])[0][1].clients.keys() == {b"client", b"another"}  # type: ignore[union-attr]


def test_a_node_that_was_left_out_has_left(nodes: Nodes) -> None:
    network = nodes.network
    network.create(IDS[0], [0])
    network.change_members(0, IDS[:4])
    filled(network, 0, 10)
    network.change_members(0, IDS[1:])
    network.pass_seconds(3)
    (found,) = loaded_from(nodes.databases[IDS[0]]).values()
    assert found[1] is None
    assert found[0].left.ids == set(IDS[1:])
    nodes.check()


def test_expired_and_forgotten_is_gone(nodes: Nodes) -> None:
    network = nodes.network
    network.create(IDS[0], [0])
    filled(network, 0, 5)
    network.do(0, SET, b"short", b"\x01", 2000)
    before = loaded_from(nodes.databases[IDS[0]])[0][1]
    network.pass_seconds(200)
    network.do(0, SET, b"late", b"\x01", None, client=b"late")
    network.pass_seconds(100)
    after = loaded_from(nodes.databases[IDS[0]])[0][1]
    assert before is not None
    assert after is not None
    assert before.records.keys() - after.records.keys() == {b"short"}
    assert b"client" in before.clients
    assert b"client" not in after.clients
    nodes.check()


def test_everybody_starts_again_and_goes_on(nodes: Nodes) -> None:
    network = nodes.network
    network.create(IDS[0], [0, 1])
    network.change_members(0, IDS)
    filled(network, 0, 30)
    for id in IDS:
        nodes.restart(id)
        network.pass_seconds(4)
        answer = network.do(0, INCREMENT, b"starts", b"\x01", client=id)
        assert answer.status == DONE
        nodes.check()
    assert network.do(0, INCREMENT, b"starts", b"\x00").detail == 5
    assert held_by(network.nodes[IDS[1]])[0][1].records.keys() >= {b"key 29", b"starts"}  # type: ignore[union-attr]


COUNTS = st.integers(0, 3) | st.just(COUNT_MAX)
IDENTITIES = st.binary(max_size=3)
BALLOTS = st.builds(Ballot, COUNTS, IDENTITIES)
EPOCHS = st.builds(Epoch, st.integers(-1, 3), COUNTS)
RANKS = st.builds(Rank, EPOCHS, BALLOTS, COUNTS)
MEMBERS = st.lists(st.builds(Member, IDENTITIES, st.booleans()), max_size=3, unique_by=lambda each: each.id)
CONFIGURATIONS = st.builds(Configuration, EPOCHS, MEMBERS, RANKS)
HEADERS = st.builds(
    Header, CONFIGURATIONS, RANKS, COUNTS, st.none() | MEMBERS.map(lambda members: tuple(sorted(members)))
)
RESULTS = st.tuples(
    st.integers(0, 4),
    st.none() | st.binary(max_size=5) | RANKS | st.floats(allow_nan=False, allow_infinity=False) | COUNTS,
)
DONES = st.builds(Done, RANKS, st.integers(0, 8), IDENTITIES, RESULTS)
RECORDS = st.builds(Record, st.binary(max_size=9), COUNTS, RANKS, COUNTS)
CLIENTS = st.builds(Client, COUNTS, RANKS, st.dictionaries(COUNTS, DONES, max_size=2))
ASIDES = st.builds(
    lambda stored, records, clients: Aside(
        stored, None if stored.header is None else State(stored.header, records, clients)
    ),
    st.builds(Stored, BALLOTS, CONFIGURATIONS, RANKS, st.none() | HEADERS, EPOCHS, st.booleans()),
    st.dictionaries(IDENTITIES, RECORDS, max_size=2),
    st.dictionaries(IDENTITIES, CLIENTS, max_size=2),
)
SAVES = st.builds(
    Save,
    st.builds(Stored, BALLOTS, CONFIGURATIONS, RANKS, HEADERS, EPOCHS),
    st.dictionaries(IDENTITIES, st.none() | RECORDS, max_size=3),
    st.dictionaries(st.tuples(IDENTITIES, COUNTS), st.none() | st.tuples(COUNTS, DONES), max_size=3),
    st.dictionaries(COUNTS, st.none() | ASIDES, max_size=2),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(st.integers(0, 2) | st.just(4095), SAVES, max_size=2), max_size=4))
def test_any_saves_are_found_again(commits: list[dict[int, Save]]) -> None:
    given: dict[int, list[Save]] = {}
    with TemporaryDirectory(dir=IN_MEMORY) as name:
        with closing(Database(Path(name) / "groups.sqlite")) as database:
            for saves in commits:
                database.commit(saves, {"count": b"%d" % len(given)})
                for partition, each in saves.items():
                    given.setdefault(partition, []).append(each)
        with closing(Database(Path(name) / "groups.sqlite")) as database:
            wanted = {partition: (saves[-1].stored, state_of(*saves)) for partition, saves in given.items()}
            assert loaded_from(database) == wanted
            asides = {partition: asides_of(saves) for partition, saves in given.items()}
            assert asides_from(database) == {partition: each for partition, each in asides.items() if each}


def asides_of(saves: list[Save]) -> dict[int, Aside]:
    found: dict[int, Aside] = {}
    for each in saves:
        for mark, aside in each.asides.items():
            found.pop(mark, None)
            if aside is not None:
                found[mark] = aside
    return found


def test_a_client_is_what_its_operations_say(path: Path) -> None:
    """The newest rank may be that of a smaller number, and what it has answers to is said by each."""
    done = {
        (b"c", 9): (2, Done(rank(1), SET, b"k", (DONE, None))),
        (b"c", 5): (4, Done(rank(7), SET, b"k", (DONE, None))),
    }
    with closing(Database(path)) as database:
        database.commit({1: Save(stored(7), {}, dict(done), {})}, {})
        state = loaded_from(database)[1][1]
        assert state is not None
        assert state.clients == clients_of(done)
        assert (state.clients[b"c"].answered, state.clients[b"c"].newest) == (4, rank(7))


def test_what_is_alike_is_in_memory_once(path: Path) -> None:
    with closing(Database(path)) as database:
        database.commit({1: save(1, b"a", b"b")}, {})
        state = loaded_from(database)[1][1]
        assert state is not None
        assert state.records[b"a"].rank.ballot is state.records[b"b"].rank.ballot


def test_values_are_kept_beside(path: Path) -> None:
    with closing(Database(path)) as database:
        assert database.values() == {}
        database.commit({}, {"id": b"me", "starts": b"1"})
        database.commit({1: save(1, b"a")}, {"starts": b"2", "empty": b""})
    with closing(Database(path)) as database:
        assert database.values() == {"id": b"me", "starts": b"2", "empty": b""}


# What a replica was in other histories


def aside(sequence: int, *keys: bytes) -> Aside:
    """With a state that clients are in too."""
    return Aside(stored(sequence), state_of(save(sequence, *keys)))


def with_asides(sequence: int, asides: dict[int, Aside | None]) -> Save:
    return save(sequence, b"a")._replace(asides=asides)


#: One that had left its group there, and has promised something since; and one whose state was damaged.
LEFT = Aside(Stored(Ballot(7, b"x"), left=CONFIGURATION, entered=Epoch(3, 9)), None)
DAMAGED = Aside(Stored(BALLOT, is_lost=True), None)


def test_what_it_was_elsewhere_is_found_again(path: Path) -> None:
    with closing(Database(path)) as database:
        database.commit({1: with_asides(1, {0: aside(5, b"x", b"y"), 8: LEFT}), 2: save(1, b"a")}, {})
        database.commit({1: save(2, b"b"), 2: with_asides(2, {COUNT_MAX: DAMAGED})}, {})
    with closing(Database(path)) as database:
        assert asides_from(database) == {1: {0: aside(5, b"x", b"y"), 8: LEFT}, 2: {COUNT_MAX: DAMAGED}}
        assert database.lost == {}
        database.commit({1: with_asides(3, {0: None, 8: aside(6, b"z")}), 2: with_asides(3, {0: LEFT})}, {})
        assert asides_from(database) == {1: {8: aside(6, b"z")}, 2: {COUNT_MAX: DAMAGED, 0: LEFT}}


def test_the_newest_history_is_the_last(path: Path) -> None:
    """What is copied in a new one begins with it."""
    with closing(Database(path)) as database:
        database.commit({1: with_asides(1, {5: LEFT, 3: LEFT})}, {})
        database.commit({1: with_asides(2, {5: None})}, {})
        database.commit({1: with_asides(3, {5: LEFT})}, {})
        assert list(asides_from(database)[1]) == [3, 5]
        database.commit({1: with_asides(4, {3: DAMAGED})}, {})
        assert list(asides_from(database)[1]) == [5, 3]


def test_groups_that_changed_their_history_find_both(nodes: Nodes) -> None:
    network = nodes.network
    network.create(IDS[0], [0])
    network.change_members(0, IDS[:3])
    filled(network, 0, 10)
    replica = network.nodes[IDS[1]].groups[0].replica
    for epoch in (Epoch(5, 77), Epoch(6, 0), Epoch(9, 78), Epoch(10, 77)):
        network.turn(IDS[1], lambda groups, epoch=epoch: groups.groups[0].replica.change_history(epoch))
        nodes.check()
    assert replica.asides.keys() == {0, 78}
    state = replica.asides[0].state
    assert state is not None
    assert (len(state.records), len(state.clients)) == (10, 1)


# Damage


def change(path: Path, *statements: str) -> None:
    """Behind our back."""
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            assert connection.execute(statement).rowcount == 1, statement
        connection.commit()


def flip(path: Path, table: str, column: str, where: str = "1") -> None:
    """Change the first bit of such a blob."""
    with closing(sqlite3.connect(path)) as connection:
        rows = f"FROM {table} WHERE {where} ORDER BY {column} LIMIT 1"
        (blob,) = connection.execute(f"SELECT {column} {rows}").fetchone()
        changed = bytes([blob[0] ^ 128]) + blob[1:]
        keys = {"partitions": "partition", "asides": "partition, mark", "operations": "partition, number"}
        key = keys.get(table, "partition, key")
        statement = f"UPDATE {table} SET {column} = ? WHERE ({key}) IN (SELECT {key} {rows})"
        assert connection.execute(statement, (changed,)).rowcount == 1
        connection.commit()


@pytest.fixture
def three(path: Path) -> Path:
    """Partitions 1, 2 and 3 with ten keys each, partition 4 with a promise alone, two other histories, and a
    value beside."""
    with closing(Database(path)) as database:
        for sequence in range(10):
            database.commit(
                {partition: save(sequence, b"key %d" % sequence) for partition in (1, 2, 3)}, {"id": b"me"}
            )
        database.commit({4: promise(Stored(BALLOT))}, {})
        database.commit({2: WITH_ASIDES}, {})
    return path


WHOLE = (stored(9), state_of(*(save(sequence, b"key %d" % sequence) for sequence in range(10))))
WITH_ASIDES = Save(stored(9), {}, {}, {6: aside(3, b"x"), 7: LEFT})
ALONE = (Stored(BALLOT), None)
LOST = (Stored(BALLOT, is_lost=True), None)


def found(path: Path) -> tuple[dict[int, Any], set[int]]:
    with closing(Database(path)) as database:
        loaded = loaded_from(database)
        assert asides_from(database) == {2: WITH_ASIDES.asides}
        assert {p for p, (stored, _) in loaded.items() if stored.is_lost} == database.lost.keys()
        return loaded, set(database.lost)


def test_nothing_is_lost_without_damage(three: Path) -> None:
    assert found(three) == ({1: WHOLE, 2: WHOLE, 3: WHOLE, 4: ALONE}, set())


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("records", "record"),
        ("records", "key"),
        ("operations", "operation"),
        ("operations", "client"),
        ("partitions", "header"),
    ],
)
def test_a_damaged_row_takes_its_partitions_state(three: Path, table: str, column: str) -> None:
    flip(three, table, column, "partition = 2")
    assert found(three) == ({1: WHOLE, 2: LOST, 3: WHOLE, 4: ALONE}, {2})


@pytest.mark.parametrize(
    ("table", "column", "blob"),
    [
        ("records", "record", "x''"),
        ("records", "record", "'text'"),
        ("records", "record", "17"),
        ("records", "key", "'key 1'"),
        ("operations", "operation", "x'00'"),
        ("operations", "number", "77"),
        ("operations", "number", "'text'"),
        ("operations", "client", "5"),
        ("partitions", "header", "x''"),
        ("partitions", "header", "5"),
    ],
)
def test_what_is_no_row_of_ours_takes_its_partitions_state(
    three: Path, table: str, column: str, blob: str
) -> None:
    first = f"rowid = 2 AND {column} IS NOT NULL" if table == "partitions" else "partition = 2"
    if table == "records":
        first += " AND key = x'6b65792031'"
    elif table == "operations":
        first += " AND number = 3"
    change(three, f"UPDATE {table} SET {column} = {blob} WHERE {first}")
    assert found(three) == ({1: WHOLE, 2: LOST, 3: WHOLE, 4: ALONE}, {2})


@pytest.mark.parametrize("table", ["records", "operations"])
def test_a_row_in_a_wrong_partition_takes_the_states_of_both(three: Path, table: str) -> None:
    where = "key = x'6b65792031'" if table == "records" else "number = 1"
    change(
        three,
        f"DELETE FROM {table} WHERE partition = 3 AND {where}",
        f"UPDATE {table} SET partition = 3 WHERE partition = 2 AND {where}",
    )
    assert found(three) == ({1: WHOLE, 2: LOST, 3: LOST, 4: ALONE}, {2, 3})


def test_headers_that_changed_places_are_noticed(three: Path) -> None:
    with closing(sqlite3.connect(three)) as connection:
        headers = dict(connection.execute("SELECT partition, header FROM partitions").fetchall())
        for partition, other in ((2, 3), (3, 2)):
            connection.execute(
                "UPDATE partitions SET header = ? WHERE partition = ?", (headers[other], partition)
            )
        connection.commit()
    assert found(three) == ({1: WHOLE, 2: LOST, 3: LOST, 4: ALONE}, {2, 3})


def test_records_without_a_state_are_noticed(three: Path) -> None:
    header = form.header_to_stored(2, Stored(), form.packer())
    change(three, f"UPDATE partitions SET header = x'{header.hex()}' WHERE partition = 2")
    assert found(three) == ({1: WHOLE, 2: LOST, 3: WHOLE, 4: ALONE}, {2})


def read_all(path: Path) -> None:
    with closing(Database(path)) as database:
        database.values()
        list(database.load())


def refusal(path: Path) -> str:
    """Why a file is refused, in one line."""
    with pytest.raises(StorageFailed) as raised:
        read_all(path)
    said = str(raised.value)
    assert "\n" not in said
    assert str(path) in said
    assert raised.value.path
    assert raised.value.reason
    return said


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE partitions SET promises = x'0011223344' WHERE partition = 2",
        "UPDATE partitions SET promises = x'' WHERE partition = 4",
        "UPDATE partitions SET promises = 5 WHERE partition = 4",
        "UPDATE partitions SET partition = 7 WHERE partition = 4",
        "DELETE FROM partitions WHERE partition = 2",
        "UPDATE records SET partition = 9 WHERE partition = 2 AND key = x'6b65792031'",
        "UPDATE operations SET partition = 9 WHERE partition = 2 AND number = 1",
        "UPDATE asides SET aside = x'0011223344' WHERE mark = 6",
        "UPDATE asides SET aside = 5 WHERE mark = 7",
        "UPDATE asides SET mark = 'text' WHERE mark = 7",
        "UPDATE asides SET mark = 8 WHERE mark = 7",
        "UPDATE asides SET partition = 3 WHERE mark = 7",
        "UPDATE asides SET partition = 9 WHERE mark = 7",
        "UPDATE meta SET value = x'0011223344'",
        "UPDATE meta SET name = 'other'",
    ],
)
def test_a_lost_promise_is_a_lost_node(three: Path, statement: str) -> None:
    change(three, statement)
    said = refusal(three)
    assert "is damaged" in said
    assert NEW_NODE in said


def test_a_damaged_bit_of_a_promise_is_a_lost_node(three: Path) -> None:
    flip(three, "partitions", "promises")
    assert NEW_NODE in refusal(three)


def test_a_damaged_bit_of_another_history_is_a_lost_node(three: Path) -> None:
    flip(three, "asides", "aside")
    said = refusal(three)
    assert "in another history is lost" in said
    assert NEW_NODE in said


def test_a_row_of_another_history_that_is_gone_is_noticed(three: Path) -> None:
    """By the index of its table, which is written beside it: here one row of it is left out of a page."""
    with closing(sqlite3.connect(three)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'asides'").fetchone()
    data = bytearray(three.read_bytes())
    cells = (page - 1) * 4096 + 3
    assert data[cells : cells + 2] == b"\0\2"
    data[cells : cells + 2] = b"\0\1"
    three.write_bytes(data)
    assert NEW_NODE in refusal(three)


def test_lost_stays_lost_until_a_whole_state_comes(three: Path) -> None:
    """Also over starts, and whatever is promised meanwhile; and nothing of the old state is left then."""
    flip(three, "records", "record", "partition = 2")
    loaded, lost = found(three)
    assert (loaded[2], lost) == (LOST, {2})
    greater = Stored(Ballot(8, b"other"), entered=Epoch(4), is_lost=True)
    with closing(Database(three)) as database:
        list(database.load())
        database.commit({1: save(10, b"more")}, {})
        database.commit({2: promise(greater)}, {})
    for _ in range(2):
        loaded, lost = found(three)
        assert (loaded[2], lost) == ((greater, None), {2})
    with closing(Database(three)) as database:
        list(database.load())
        database.commit({2: save(20, b"key 3", b"new")}, {})
        database.commit({2: save(21, b"newer")}, {})
    loaded, lost = found(three)
    assert loaded[2] == (stored(21), state_of(save(20, b"key 3", b"new"), save(21, b"newer")))
    assert lost == set()


def test_lost_ends_when_the_group_is_left(three: Path) -> None:
    flip(three, "records", "record", "partition = 2")
    left = Stored(BALLOT, left=Configuration(EPOCH.successor(), (Member(b"other"),)))
    with closing(Database(three)) as database:
        list(database.load())
        database.commit({2: promise(left)}, {})
    loaded, lost = found(three)
    assert (loaded[2], lost) == ((left, None), set())
    with closing(Database(three)) as database:
        list(database.load())
        database.commit({2: save(30, b"only")}, {})
    assert found(three)[0][2] == (stored(30), state_of(save(30, b"only")))


def test_lost_is_known_after_another_history(nodes: Nodes) -> None:
    """The damaged rows are gone by then."""
    network = nodes.network
    network.create(IDS[0], [0])
    network.change_members(0, IDS[:3])
    filled(network, 0, 5)
    damaged, others = IDS[1], [IDS[0], IDS[2]]
    flip(nodes.databases[damaged].path, "records", "record")
    nodes.restart(damaged)
    replica = network.nodes[damaged].groups[0].replica
    for id in others:
        del network.nodes[id]
    assert replica.is_lost
    for epoch, is_lost in ((Epoch(7, 77), False), (Epoch(8, 0), True)):
        network.turn(damaged, lambda groups, epoch=epoch: groups.groups[0].replica.change_history(epoch))
        assert replica.is_lost == is_lost
        nodes.reopen(damaged)
        assert loaded_from(nodes.databases[damaged])[0][0].is_lost == is_lost


def test_a_failed_commit_leaves_lost_what_is_lost(three: Path) -> None:
    flip(three, "records", "record", "partition = 2")
    with closing(Database(three)) as database:
        list(database.load())
        database._writer.execute("PRAGMA max_page_count = 1")
        with pytest.raises(StorageFailed, match="full"):
            database.commit({2: save(20, b"large", value=bytes(100_000))}, {})
        database._writer.execute("PRAGMA max_page_count = 10000")
        assert loaded_from(database)[2] == LOST
        database.commit({2: save(21, b"small")}, {})
        assert loaded_from(database)[2] == (stored(21), state_of(save(21, b"small")))


def test_damaged_tables_are_refused(three: Path) -> None:
    """And what SQLite says then may be no text."""
    data = three.read_bytes()
    assert data.count(b"number INTEGER") == 1
    for number, damage in enumerate((b"number INTEGEQ", b"numb\xe5r INTEGER", b"number \xc9\xc9TEGER")):
        three.write_bytes(data.replace(b"number INTEGER", damage))
        assert NEW_NODE in refusal(three), number


@pytest.mark.parametrize("seed", range(40))
def test_no_changed_bits_go_unnoticed(three: Path, seed: int) -> None:
    """Wherever they are: the file is refused, or each partition is as it was, or known to be lost."""
    rng = Random(seed)
    data = bytearray(three.read_bytes())
    used = [place for place, byte in enumerate(data) if byte]  # most of so small a file is empty pages
    for _ in range(rng.choice([1, 1, 5])):
        data[rng.choice(used)] ^= 1 << rng.randrange(8)
    three.write_bytes(data)
    try:
        loaded, lost = found(three)
    except StorageFailed:
        return
    for partition, has in {1: WHOLE, 2: WHOLE, 3: WHOLE, 4: ALONE}.items():
        assert loaded[partition] == (LOST if partition in lost else has)


# Files that are refused


def another_programs(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (a)")


def newer(path: Path) -> None:
    Database(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 9")


def garbage(path: Path) -> None:
    path.write_bytes(Random(1).randbytes(20_000))


def with_a_wiped_page(path: Path) -> None:
    with closing(Database(path)) as database:
        database.commit({1: save(1, *(b"key %d" % number for number in range(500)))}, {})
    data = bytearray(path.read_bytes())
    page = len(data) // 4096 - 1
    data[page * 4096 : page * 4096 + 4096] = Random(1).randbytes(4096)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (another_programs, "another program's"),
        (newer, "has format 9, and this chordtx knows formats up to 2: run a newer chordtx"),
        (make_first_version, "is of chordtx 0.1.0"),
        (garbage, NEW_NODE),
        (with_a_wiped_page, NEW_NODE),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(path: Path, made: Callable[[Path], None], why: str) -> None:
    made(path)
    assert why in refusal(path)


def test_a_folder_is_no_file(folder: Path) -> None:
    assert "Is a directory" in refusal(folder)


def test_a_log_that_cannot_be_read_is_refused(path: Path) -> None:
    path.with_name(f"{path.name}-wal").mkdir()
    assert "cannot read the log" in refusal(path)


class Unreadable:
    """A connection to a disk that fails."""

    def __init__(self, connection: sqlite3.Connection, works_for: str) -> None:
        self._connection = connection
        self._works_for = works_for
        self.close = connection.close

    def execute(self, statement: str) -> Any:
        """:raises sqlite3.OperationalError: but for one statement."""
        if self._works_for in statement:
            return self._connection.execute(statement)
        raise sqlite3.OperationalError("disk I/O error")


@pytest.mark.parametrize("works_for", ["integrity_check", "nothing"])
def test_a_disk_that_fails_is_no_damage(three: Path, works_for: str) -> None:
    with closing(Database(three)) as database:
        reader = database._reader
        database._reader = Unreadable(reader, works_for)  # type: ignore[assignment]
        for read in (database.load, database.values):
            with pytest.raises(StorageFailed, match="disk I/O error") as raised:
                read()
            assert "damaged" not in str(raised.value)
        database._reader = reader
        assert loaded_from(database) == {1: WHOLE, 2: WHOLE, 3: WHOLE, 4: ALONE}


# Rows


def rows_of(key: bytes, value: bytes, number: int) -> list[tuple[Callable[[bytes], object], bytes]]:
    """What reads a row of each kind, and the row."""
    pack, seed = form.packer(), form.seed_of(form.RECORDS, 3)
    seed_of_operations, decoder = form.seed_of(form.OPERATIONS, 3), form.Decoder()
    ((_, _, kept),) = form.record_rows(3, {key: record(1, value)}, pack)
    done = Done(rank(number), SET, key, (DONE, value))
    ((_, _, _, operation),) = form.operation_rows(3, {(b"c", number): (0, done)}, pack)
    ((_, _, other),) = form.aside_rows(3, {number: aside(number, key)}, pack)
    return [
        (lambda row: form.promises_from_stored(3, row), form.promises_to_stored(3, stored(number), pack)),
        (lambda row: form.header_from_stored(3, row), form.header_to_stored(3, stored(number), pack)),
        (lambda row: decoder.record(seed, key, row), kept),
        (lambda row: form.operation_from_stored(seed_of_operations, b"c", number, row), operation),
        (lambda row: decoder.aside(3, number, row), other),
        (lambda row: form.value_from_stored("name", row), form.value_to_stored("name", value)),
    ]


@given(st.binary(max_size=9), st.binary(max_size=50), st.integers(0, 99), st.integers(0), st.integers(0, 7))
def test_a_changed_bit_of_a_row_is_noticed(
    key: bytes, value: bytes, number: int, place: int, bit: int
) -> None:
    rows = rows_of(key, value, number)
    for read, row in rows:
        read(row)
        changed = bytearray(row)
        changed[place % len(row)] ^= 1 << bit
        for other in (bytes(changed), row[: place % len(row)], *(each for _, each in rows if each != row)):
            with pytest.raises(form.Damaged):
                read(other)


# All or nothing


def test_a_commit_is_synced(path: Path) -> None:
    """No test here can cut the power: so this is as SQLite documents it."""
    with closing(Database(path)) as database:
        assert database._writer.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        assert database._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_full_file_takes_nothing_of_a_commit(path: Path) -> None:
    """SQLite itself refuses here, as it does when the disk is full."""
    with closing(Database(path)) as database:
        database.commit({1: save(1, b"a")}, {"x": b"1"})
        pages = database._writer.execute("PRAGMA page_count").fetchone()[0]
        database._writer.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(StorageFailed, match="full"):
            database.commit({1: save(2, b"b"), 2: save(2, b"c", value=bytes(100_000))}, {"x": b"2"})
        assert loaded_from(database) == {1: (stored(1), state_of(save(1, b"a")))}
        assert database.values() == {"x": b"1"}
        database.commit({1: save(3, b"d")}, {"x": b"3"})
        assert loaded_from(database) == {1: (stored(3), state_of(save(1, b"a"), save(3, b"d")))}


def test_what_cannot_be_packed_takes_nothing_with_it(path: Path) -> None:
    """A mistake of ours must not leave a transaction open."""
    with closing(Database(path)) as database:
        wrong = save(1, b"a")._replace(clients={(b"c", 1): (0, Done(rank(1), SET, b"k", (DONE, object())))})
        with pytest.raises(TypeError):
            database.commit({1: wrong}, {})
        database.commit({2: save(1, b"a")}, {})
        assert loaded_from(database).keys() == {2}


# Crashes


def random_saves(rng: Random, sequence: int) -> dict[int, Save]:
    """One commit, small or large."""
    saves = {}
    for partition in rng.sample(range(4), rng.choice([1, 1, 3])):
        keys = [b"key %d" % number for number in rng.sample(range(300), rng.choice([1, 5, 100]))]
        gone = [b"key %d" % number for number in rng.sample(range(300), 3)]
        saves[partition] = save(
            sequence,
            *keys,
            value=rng.randbytes(rng.choice([20, 600])),
            gone=[each for each in gone if each not in keys],
        )
    return saves


class Crashing:
    """A disk that crashes again and again, and what has to be on it."""

    def __init__(self, path: Path, rng: Random) -> None:
        self.disk = GroupDisk(path)
        self.rng = rng
        self.given: dict[int, list[Save]] = {}
        self.sequence = 0
        self.outcomes: list[str] = []

    def wanted(self, more: dict[int, Save] | None = None) -> dict[int, Any]:
        partitions = {**self.given, **{p: [*self.given.get(p, []), each] for p, each in (more or {}).items()}}
        return {partition: (saves[-1].stored, state_of(*saves)) for partition, saves in partitions.items()}

    def next_saves(self) -> dict[int, Save]:
        self.sequence += 1
        return random_saves(self.rng, self.sequence)

    def keep(self, saves: dict[int, Save]) -> None:
        for partition, each in saves.items():
            self.given.setdefault(partition, []).append(each)

    def life(self, database: Database, commits: int) -> None:
        """Of a process, from its start to its crash in the middle of a commit."""
        for _ in range(commits):
            saves = self.next_saves()
            database.commit(saves, {})
            self.keep(saves)
        saves = self.next_saves()
        self.disk.crash(self.rng, lambda: database.commit(saves, {}))
        self.last = saves

    def start(self) -> Database:
        """After a crash: everything that was synced is there, and of the last commit all or nothing."""
        database = self.disk.opened()
        loaded = loaded_from(database)
        assert database.lost == {}
        if loaded == self.wanted(self.last):
            self.outcomes.append("whole")
            self.keep(self.last)
        else:
            assert loaded == self.wanted()
            self.outcomes.append("nothing")
        return database


@pytest.mark.parametrize("seed", range(30))
def test_a_crash_leaves_what_was_synced_and_all_or_nothing_more(path: Path, seed: int) -> None:
    rng = Random(seed)
    crashing = Crashing(path, rng)
    database = crashing.disk.opened()
    for _ in range(6):
        crashing.life(database, rng.choice([0, 1, 3, 20]))
        database = crashing.start()
    database.close()


def test_crashes_end_in_different_ways(path: Path) -> None:
    crashing = Crashing(path, Random(1))
    database = crashing.disk.opened()
    for _ in range(30):
        crashing.life(database, 1)
        database = crashing.start()
    database.close()
    assert set(crashing.outcomes) == {"whole", "nothing"}


def test_a_crash_between_commits_loses_nothing(path: Path) -> None:
    disk = GroupDisk(path)
    disk.opened().commit({1: save(1, b"a")}, {})
    disk.crash(Random(1))
    with closing(disk.opened()) as database:
        assert loaded_from(database) == {1: (stored(1), state_of(save(1, b"a")))}


def test_a_commit_that_was_synced_is_not_torn_by_the_next(path: Path) -> None:
    """A test of the tearing: it changes nothing that was there before, and does tear what is new."""
    database = Database(path)
    database.commit({1: save(1, b"a")}, {})
    before = read_files(path)
    database.commit({1: save(2, b"b", value=bytes(50_000))}, {})
    after = read_files(path)
    database.close()
    left = [torn(before, after, Random(seed)) for seed in range(100)]
    assert all(files.log.startswith(before.log) for files in left)
    assert len({files.log for files in left}) > 30
    assert Files(before.database, before.log) in left
    assert Files(before.database, after.log) in left


def test_damage_before_acknowledged_commits_is_refused(path: Path) -> None:
    database = Database(path)
    for sequence in range(5):
        database.commit({1: save(sequence, b"a")}, {})
    files = read_files(path)
    database.close()
    log = bytearray(files.log)
    log[200] ^= 1
    write_files(path, Files(files.database, bytes(log)))
    assert commits_passed_over(path.with_name(f"{path.name}-wal")) > 1
    said = refusal(path)
    assert "what was acknowledged cannot be read" in said
    assert NEW_NODE in said
    assert refusal(path) == said  # looking at it has changed nothing


def test_a_process_begins_with_an_empty_log(path: Path) -> None:
    """What a crash tore must not stand behind what the next one tears."""
    disk = GroupDisk(path)
    disk.opened().commit({1: save(1, b"a")}, {})
    disk.crash(Random(1))
    assert read_files(path).log
    with closing(disk.opened()):
        assert read_files(path).log == b""
