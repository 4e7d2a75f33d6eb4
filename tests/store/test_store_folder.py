"""A data folder: locked, known again, and refused with one clear line when it is not what it should be."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest
from twisted.internet.task import Clock

from chordtx.errors import StorageFailed
from chordtx.store.folder import RECORDS, DataFolder
from chordtx.store.group_store import LAZY_SECONDS
from chordtx.store.journal import commits_passed_over
from tests.store.disks import close, make_first_version, opened, result
from tests.store.group_turns import save, state_of, stored
from tests.store.writing import PARTITION, numbered

ROOT = Path(__file__).parents[2]
COUNT = 500
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
NEW_NODE = "start the node as a new one"


def loaded(folder: DataFolder) -> dict[int, Any]:
    """What is in it, by partition."""
    return {partition: (stored, state) for partition, stored, state, _ in folder.store.load()}


def opened_and_read(path: Path, subnet: str) -> None:
    """What a node does at its start."""
    folder = opened(path, subnet)
    try:
        loaded(folder)
    finally:
        close(folder)


def refusal(path: Path, subnet: str = "demo") -> str:
    """Why the folder is refused, in one line: when it is opened, or at the latest when it is read."""
    with pytest.raises(StorageFailed) as raised:
        opened_and_read(path, subnet)
    said = str(raised.value)
    assert "\n" not in said
    assert str(path) in said
    assert raised.value.path
    assert raised.value.reason
    return said


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of a folder that is not there."""
    return tmp_path / "some" / "where"


#: What is in :func:`filled`.
SAVE = save(1, *(b"%d" % number for number in range(COUNT)), value=b"x" * 300)
WHOLE = {1: (stored(1), state_of(SAVE))}


@pytest.fixture
def filled(path: Path) -> Path:
    """A folder with records, closed."""
    folder = opened(path)
    folder.store.save({1: SAVE}, folder.noted("some id", [], None, b"met"))
    close(folder)
    return path


def test_a_new_folder_is_its_owners_alone(path: Path) -> None:
    folder = opened(path)
    folder.store.save({1: save(1, b"key")})
    assert path.stat().st_mode & 0o777 == 0o700
    assert {file.name for file in path.iterdir()} >= {"lock", "format", RECORDS, f"{RECORDS}-wal"}
    assert all(file.stat().st_mode & 0o077 == 0 for file in path.iterdir())
    assert (folder.node_id, folder.peers, folder.ring, folder.met) == (None, [], None, None)
    assert folder.starts == 1
    close(folder)


def test_what_was_noted_is_known_again(path: Path) -> None:
    folder = opened(path)
    folder.store.save(
        {1: save(1, b"key")}, folder.noted("some id", ["a:1", "[::1]:2"], b"ring", b"whom it met")
    )
    close(folder)
    folder = opened(path)
    assert (folder.node_id, folder.peers) == ("some id", ["a:1", "[::1]:2"])
    assert (folder.ring, folder.met) == (b"ring", b"whom it met")
    assert folder.starts == 2
    assert loaded(folder) == {1: (stored(1), state_of(save(1, b"key")))}
    close(folder)


def test_without_a_ring_the_one_before_is_kept(path: Path) -> None:
    """A node that looks for its ring again has not forgotten which one it is."""
    folder = opened(path)
    folder.store.save({}, folder.noted("id", [], b"ring", b""))
    folder.store.save({}, folder.noted("id", ["a:1"], None, b""))
    close(folder)
    folder = opened(path)
    assert (folder.ring, folder.peers) == (b"ring", ["a:1"])
    close(folder)


def test_starts_are_counted_once_they_are_noted(path: Path) -> None:
    for _ in range(2):
        folder = opened(path)
        assert folder.starts == 1
        close(folder)
    for starts in (1, 2, 3):
        folder = opened(path)
        assert folder.starts == starts
        folder.store.save({}, folder.noted("id", [], None, b""))
        close(folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("subnet", b"\xff"),
        ("node_id", b"\xff"),
        ("peers", b"{"),
        ("peers", b"5"),
        ("starts", b""),
        ("starts", b"many"),
    ],
)
def test_what_makes_no_sense_beside_the_records_is_refused(path: Path, name: str, value: bytes) -> None:
    folder = opened(path)
    folder.store.save({}, {**folder.noted("id", [], None, b""), name: value})
    close(folder)
    said = refusal(path)
    assert "makes no sense" in said
    assert NEW_NODE in said


def test_one_node_at_a_time(path: Path) -> None:
    folder = opened(path)
    said = refusal(path)
    assert "in use by another node" in said
    assert str(os.getpid()) in said
    close(folder)
    close(opened(path))


def test_one_process_at_a_time(path: Path) -> None:
    folder = opened(path)
    program = f"from tests.store.disks import opened; from pathlib import Path; opened(Path({str(path)!r}))"
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=ENVIRONMENT,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "in use by another node" in ended.stderr
    close(folder)


def test_another_subnet_is_refused(filled: Path) -> None:
    assert "of subnet 'demo', not 'other'" in refusal(filled, "other")


def test_a_newer_format_is_refused(filled: Path) -> None:
    connection = sqlite3.connect(filled / RECORDS)
    connection.execute("PRAGMA user_version = 9")
    connection.close()
    assert "has format 9" in (said := refusal(filled))
    assert "run a newer chordtx" in said


def test_a_folder_of_the_first_version_is_refused(path: Path) -> None:
    """It says what to do; and that version can still read it then."""
    path.mkdir(parents=True, mode=0o700)
    make_first_version(path / RECORDS)
    (path / "format").write_text("chordtx data, format 1\n")
    for _ in range(2):
        said = refusal(path)
        assert "is of chordtx 0.1.0" in said
        assert "dump them with that version, move the folder away, and load them with this one" in said
    assert (path / "format").read_text() == "chordtx data, format 1\n"
    with closing(sqlite3.connect(path / RECORDS)) as connection:
        assert connection.execute("SELECT key FROM records").fetchall() == [(b"key",)]
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)


def test_another_programs_database_is_refused(path: Path) -> None:
    path.mkdir(parents=True)
    with closing(sqlite3.connect(path / RECORDS)) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    assert "another program's" in refusal(path)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    assert "is not a folder" in refusal(tmp_path / "file")


def garbage(file: Path) -> None:
    file.write_bytes(Random(1).randbytes(20_000))


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def truncated(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2 + 100)


def without_its_first_page(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[100:4096] = bytes(3996)
    file.write_bytes(data)


def with_a_wiped_page(file: Path) -> None:
    data = bytearray(file.read_bytes())
    page = len(data) // 4096 // 2
    data[page * 4096 : page * 4096 + 2000] = Random(1).randbytes(2000)
    file.write_bytes(data)


@pytest.mark.parametrize(
    "harm", [garbage, emptied, Path.unlink, truncated, without_its_first_page, with_a_wiped_page]
)
def test_a_damaged_file_is_refused(filled: Path, harm: Callable[[Path], None]) -> None:
    harm(filled / RECORDS)
    said = refusal(filled)
    assert "is damaged" in said
    assert "move the folder away" in said
    assert NEW_NODE in said
    shutil.rmtree(filled)
    close(opened(filled))


@pytest.mark.parametrize("seed", range(12))
def test_no_changed_bytes_go_unnoticed(filled: Path, seed: int) -> None:
    """Wherever they are: the folder is refused, or its partition is whole, or known to be lost."""
    file, rng = filled / RECORDS, Random(seed)
    data = bytearray(file.read_bytes())
    for _ in range(rng.choice([1, 5])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    file.write_bytes(data)
    try:
        folder = opened(filled)
    except StorageFailed:
        return
    try:
        found = loaded(folder)
    except StorageFailed:
        pass
    else:
        if folder.store.lost:
            assert [(found.is_lost, state) for found, state in found.values()] == [(True, None)]
        else:
            assert found == WHOLE
    close(folder)


# The log of writes


@pytest.fixture
def crashed(path: Path) -> Path:
    """A folder after a crash: its records stand in SQLite's log, one commit each."""
    folder = opened(path)
    for number in range(20):
        folder.store.save({1: save(number, b"%d" % number)})
    copy = path.with_name("copy")
    shutil.copytree(path, copy)
    copy.chmod(0o700)
    close(folder)
    return copy


def kept(path: Path) -> list[bytes]:
    """The keys in a folder, in the order in which :func:`crashed` has written them."""
    folder = opened(path)
    ((_, state),) = loaded(folder).values()
    close(folder)
    return sorted(state.records, key=int)


def keys(count: int) -> list[bytes]:
    """The first ones of :func:`crashed`."""
    return [b"%d" % number for number in range(count)]


def frames(log: Path) -> int:
    return (log.stat().st_size - 32) // 4120


def test_the_log_is_read_after_a_crash(crashed: Path) -> None:
    log = crashed / f"{RECORDS}-wal"
    assert frames(log) > 20
    assert commits_passed_over(log) == 0
    assert kept(crashed) == keys(20)


@pytest.mark.parametrize("cut", [1, 24, 4000, 4119])
def test_a_torn_end_of_the_log_is_left_out(crashed: Path, cut: int) -> None:
    log = crashed / f"{RECORDS}-wal"
    os.truncate(log, log.stat().st_size - cut)
    assert kept(crashed) == keys(19)


def test_a_last_commit_written_in_part_is_left_out(crashed: Path) -> None:
    """The system may write the pages of a commit in any order until they are synced."""
    log = crashed / f"{RECORDS}-wal"
    data = bytearray(log.read_bytes())
    data[-100] ^= 1
    log.write_bytes(data)
    assert commits_passed_over(log) == 1
    assert kept(crashed) == keys(19)


@pytest.mark.parametrize("where", [5, 20, 32 + 4120 * 3 + 10, 32 + 4120 * 5 + 500])
def test_damage_before_acknowledged_commits_is_refused(crashed: Path, where: int) -> None:
    log = crashed / f"{RECORDS}-wal"
    data = bytearray(log.read_bytes())
    data[where] ^= 1
    log.write_bytes(data)
    said = refusal(crashed)
    assert "what was acknowledged cannot be read from its log" in said
    assert NEW_NODE in said
    assert refusal(crashed) == said  # looking at it has changed nothing


def test_no_log_is_no_damage(tmp_path: Path) -> None:
    assert commits_passed_over(tmp_path / "nothing") == 0
    (tmp_path / "short").write_bytes(b"1234")
    assert commits_passed_over(tmp_path / "short") == 0


# Real crashes, disks and permissions


@pytest.mark.parametrize("lines", [1, 300, 2000])
def test_all_that_was_acknowledged_survives_kill_9(path: Path, lines: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.store.writing", path], env=ENVIRONMENT, cwd=ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    acknowledged = [int(process.stdout.readline()) for _ in range(lines)]
    process.kill()
    acknowledged += [
        int(line) for line in process.stdout.read().splitlines(keepends=True) if line.endswith(b"\n")
    ]
    process.stdout.close()
    process.wait()
    folder = opened(path)
    found, state = loaded(folder)[PARTITION]
    close(folder)
    assert folder.store.lost == {}
    saved = found.rank.sequence + 1  # some that nobody was told of are there too
    assert acknowledged == list(range(len(acknowledged)))
    assert saved >= len(acknowledged) >= lines
    assert state == state_of(*map(numbered, range(saved)))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for 2 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this user may not mount file systems")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def test_a_full_disk_holds_answers_back_until_it_has_room(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1 << 20))
    clock = Clock()
    folder = opened(small_disk / "data", clock=clock)
    saves: list[Any] = []
    told = [None]
    while told == [None]:
        saves.append(save(len(saves), b"%d" % len(saves), value=b"x" * 10_000))
        told = result(folder.store.save({1: saves[-1]}))
    assert told == []
    assert folder.store.is_failing
    assert len(saves) > 10
    found = loaded(folder)
    assert found[1][1] == state_of(*saves[:-1])
    saves.append(save(len(saves), b"after"))
    later = result(folder.store.save({1: saves[-1]}))
    clock.advance(LAZY_SECONDS)
    assert (told, later) == ([], [])
    ballast.unlink()
    clock.advance(LAZY_SECONDS)
    assert (told, later) == ([None], [None])
    close(folder)
    folder = opened(small_disk / "data")
    found = loaded(folder)
    assert found[1][1] == state_of(*saves)
    close(folder)


def test_no_room_to_begin_with_is_refused(small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(bytes((2 << 20) - 8192))
    assert "full" in refusal(small_disk / "data")


def test_a_disk_that_cannot_be_written_is_refused(small_disk: Path) -> None:
    close(opened(small_disk / "data"))
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert "Read-only file system" in refusal(small_disk / "data")
    assert "Read-only file system" in refusal(small_disk / "other")


def test_a_folder_of_somebody_else_is_refused(path: Path) -> None:
    close(opened(path))
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    path.chmod(0)
    try:
        assert "Permission denied" in refusal(path)
    finally:
        path.chmod(0o700)
