"""A data folder: locked, known again, and refused with one clear line when it is not what it should be."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from chordtx.errors import StorageFailed
from chordtx.store import DataFolder
from chordtx.store.database import Database
from chordtx.store.journal import commits_passed_over
from tests.store.disks import Disk, opened, record, result
from tests.store.writing import value

RECORDS = "records.sqlite"
ROOT = Path(__file__).parents[2]
COUNT = 500
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def close(folder: DataFolder) -> None:
    from twisted.internet.defer import Deferred

    assert result(Deferred.fromCoroutine(folder.close())) == [None]


def refusal(path: Path, subnet: str = "demo") -> str:
    """Why the folder is refused, in one line."""
    with pytest.raises(StorageFailed) as raised:
        opened(path, subnet)
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


@pytest.fixture
def filled(path: Path) -> Path:
    """A folder with records, closed."""
    folder = opened(path)
    for number in range(COUNT):
        folder.store.merge(b"%d" % number, record(1, b"x" * 300))
    close(folder)
    return path


def test_a_new_folder_is_its_owners_alone(path: Path) -> None:
    folder = opened(path)
    folder.store.merge(b"key", record(1))
    assert path.stat().st_mode & 0o777 == 0o700
    assert {file.name: file.stat().st_mode & 0o077 for file in path.iterdir()}.keys() >= {
        "lock",
        "format",
        RECORDS,
    }
    assert all(file.stat().st_mode & 0o077 == 0 for file in path.iterdir())
    assert (folder.node_id, folder.peers) == (None, [])
    assert (folder.seen_ms, folder.age_ms, folder.doubt_ms) == (None, None, None)
    close(folder)


def test_what_was_noted_is_known_again(path: Path) -> None:
    folder = opened(path)
    folder.note("some id", ["a:1", "[::1]:2"], 12345, 678, 90)
    folder.store.merge(b"key", record(1))
    close(folder)
    folder = opened(path)
    assert (folder.node_id, folder.peers) == ("some id", ["a:1", "[::1]:2"])
    assert (folder.seen_ms, folder.age_ms, folder.doubt_ms) == (12345, 678, 90)
    assert folder.store.get(b"key") == record(1)
    close(folder)


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
        [sys.executable, "-c", program], env=ENVIRONMENT, capture_output=True, text=True, check=False
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


def test_another_programs_database_is_refused(path: Path) -> None:
    path.mkdir(parents=True)
    connection = sqlite3.connect(path / RECORDS)
    connection.execute("CREATE TABLE theirs (a)")
    connection.close()
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
    shutil.rmtree(filled)
    close(opened(filled))


@pytest.mark.parametrize("seed", range(12))
def test_no_changed_bytes_go_unnoticed(filled: Path, seed: int) -> None:
    """Wherever they are: the file is refused, or the records that are left are those that were there."""
    file, rng = filled / RECORDS, Random(seed)
    data = bytearray(file.read_bytes())
    for _ in range(rng.choice([1, 5])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    file.write_bytes(data)
    refused = False
    try:
        folder = opened(filled)
    except StorageFailed:
        refused = True
    if not refused:
        assert all(folder.store.get(key) == record(1, b"x" * 300) for key in folder.store.keys())
        assert len(folder.store) + folder.store.damaged >= COUNT
        close(folder)


# The log of writes


@pytest.fixture
def crashed(path: Path) -> Path:
    """A folder after a crash: its records stand in SQLite's log, one commit each."""
    path.mkdir(parents=True)
    database = Database(path / RECORDS)
    disk = Disk(path / RECORDS)
    for number in range(20):
        disk.store.merge(b"%d" % number, record(1))
        disk.commit()
    copy = path.with_name("copy")
    shutil.copytree(path, copy)
    disk.crash()
    database.close()
    return copy


def frames(log: Path) -> int:
    return (log.stat().st_size - 32) // 4120


def test_the_log_is_read_after_a_crash(crashed: Path) -> None:
    log = crashed / f"{RECORDS}-wal"
    assert frames(log) > 20
    assert commits_passed_over(log) == 0
    folder = opened(crashed)
    assert len(folder.store) == 20
    close(folder)


@pytest.mark.parametrize("cut", [1, 24, 4000, 4119])
def test_a_torn_end_of_the_log_is_left_out(crashed: Path, cut: int) -> None:
    log = crashed / f"{RECORDS}-wal"
    os.truncate(log, log.stat().st_size - cut)
    folder = opened(crashed)
    assert len(folder.store) == 19
    close(folder)


def test_a_last_commit_written_in_part_is_left_out(crashed: Path) -> None:
    """The system may write the pages of a commit in any order until they are synced."""
    log = crashed / f"{RECORDS}-wal"
    data = bytearray(log.read_bytes())
    data[-100] ^= 1
    log.write_bytes(data)
    assert commits_passed_over(log) == 1
    folder = opened(crashed)
    assert len(folder.store) == 19
    close(folder)


@pytest.mark.parametrize("where", [5, 20, 32 + 4120 * 3 + 10, 32 + 4120 * 5 + 500])
def test_damage_before_acknowledged_commits_is_refused(crashed: Path, where: int) -> None:
    log = crashed / f"{RECORDS}-wal"
    data = bytearray(log.read_bytes())
    data[where] ^= 1
    log.write_bytes(data)
    assert "records that were acknowledged" in refusal(crashed)
    assert "records that were acknowledged" in refusal(crashed)  # looking at it has changed nothing


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
    for number in acknowledged:
        kept = folder.store.get(b"%d" % number)
        assert kept is not None
        assert kept.value == value(number)
    assert folder.store.damaged == 0
    close(folder)


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


def test_a_full_disk_is_told_and_passes(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1 << 20))
    folder = opened(small_disk / "data")
    store, clock, acknowledged, failed = folder.store, folder.store._call_later.__self__, 0, None
    while failed is None:
        store.merge(b"%d" % acknowledged, record(1, b"x" * 10_000))
        told: list[Any] = result(store.synced())
        clock.advance(0)
        if told == [None]:
            acknowledged += 1
        else:
            failed = told[0]
    assert isinstance(failed, StorageFailed)
    assert acknowledged > 10
    assert store.get(b"0") == record(1, b"x" * 10_000)
    assert store.get(b"%d" % acknowledged) == record(1, b"x" * 10_000)
    again = result(store.synced())
    ballast.unlink()
    clock.advance(10)
    assert again == [None]
    close(folder)
    folder = opened(small_disk / "data")
    assert len(folder.store) == acknowledged + 1
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
