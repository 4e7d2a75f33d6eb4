"""A data folder that is not the process's own is refused, in one line that says what to do."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

from chordtx.errors import StorageFailed
from tests.store.disks import close, opened
from tests.store.group_turns import save

FILES = [
    "lock",
    "format",
    "records.sqlite",
    "records.sqlite-wal",
    "records.sqlite-shm",
    "records.sqlite-journal",
]
NOBODY = 65534
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
ROOT = Path(__file__).parents[2]


def refusal(path: Path) -> str:
    """Why it is refused."""
    with pytest.raises(StorageFailed) as raised:
        opened(path)
    said = str(raised.value)
    assert "\n" not in said
    assert said.startswith(raised.value.path)
    return said


def close_again(path: Path) -> None:
    """It can be used."""
    folder = opened(path)
    folder.store.save({1: save(1, b"key")})
    close(folder)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A folder that was used."""
    close_again(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def precious(tmp_path: Path) -> Iterator[Path]:
    """A file that nothing is to happen to."""
    file = tmp_path / "precious"
    file.write_text("precious")
    yield file
    assert file.read_text() == "precious"


def test_a_folder_that_is_a_link_is_refused(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(path)
    assert refusal(link) == f"{link} is a symbolic link: name the folder that it leads to"
    assert refusal(Path(f"{link}/")) == refusal(link)
    link.unlink()
    link.symlink_to(tmp_path / "nothing")
    assert "is a symbolic link" in refusal(link)
    assert not (tmp_path / "nothing").exists()


def test_links_on_the_way_to_it_are_nobodys_business(path: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    close_again(tmp_path / "link" / "data")


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_a_link_is_refused(path: Path, precious: Path, name: str) -> None:
    (path / name).unlink(missing_ok=True)
    (path / name).symlink_to(precious)
    assert refusal(path) == f"{path / name} is a symbolic link: move it away"


@pytest.mark.parametrize("name", FILES)
def test_a_link_to_nothing_is_refused(path: Path, tmp_path: Path, name: str) -> None:
    (path / name).unlink(missing_ok=True)
    (path / name).symlink_to(tmp_path / "nothing")
    assert "is a symbolic link" in refusal(path)
    assert not (tmp_path / "nothing").exists()


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_folder(path: Path) -> None:
    path.mkdir()


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        here = Path.cwd()
        os.chdir(path.parent)  # its name must be short
        try:
            listening.bind(path.name)
        finally:
            os.chdir(here)


@pytest.mark.parametrize("make", [a_pipe, a_folder, a_socket])
@pytest.mark.parametrize("name", FILES)
def test_only_regular_files_are_opened(path: Path, name: str, make: Callable[[Path], None]) -> None:
    (path / name).unlink(missing_ok=True)
    make(path / name)
    assert refusal(path) == f"{path / name} is not a regular file: move it away"


@AS_ROOT
def test_a_device_is_no_regular_file(path: Path) -> None:
    (path / "lock").unlink()
    try:
        os.mknod(path / "lock", 0o020600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("no devices can be made here")
    assert "is not a regular file" in refusal(path)


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777, 0o1777, 0o2770])
def test_a_folder_that_others_can_write_to_is_refused(path: Path, mode: int) -> None:
    path.chmod(mode)
    assert refusal(path) == f"{path} can be written by others: chmod go-w {path}"
    path.chmod(mode & ~0o022)
    close_again(path)


@pytest.mark.parametrize("name", ["lock", "format", "records.sqlite"])
def test_a_file_that_others_can_write_to_is_refused(path: Path, name: str) -> None:
    (path / name).chmod(0o660)
    assert refusal(path) == f"{path / name} can be written by others: chmod go-w {path / name}"


@AS_ROOT
def test_a_folder_of_another_owner_is_refused_to_root_too(path: Path) -> None:
    os.chown(path, NOBODY, NOBODY)
    said = refusal(path)
    assert said.startswith(f"{path} belongs to user {NOBODY}, and this node runs as user 0: ")


@AS_ROOT
@pytest.mark.parametrize("name", ["lock", "format", "records.sqlite"])
def test_a_file_of_another_owner_is_refused(path: Path, name: str) -> None:
    os.chown(path / name, NOBODY, NOBODY)
    assert f"{path / name} belongs to user {NOBODY}" in refusal(path)


@pytest.fixture
def nobodys() -> Iterator[Path]:
    """A place where another user may make folders."""
    place = Path(mkdtemp())
    os.chown(place, NOBODY, NOBODY)
    yield place
    shutil.rmtree(place)


@AS_ROOT
def test_the_owner_is_who_the_process_acts_for(nobodys: Path) -> None:
    """As when it is started by root and then becomes somebody else."""
    program = (
        "import os, sys; from tests.store.disks import opened; from pathlib import Path;"
        f"os.setegid({NOBODY}); os.seteuid({NOBODY}); opened(Path(sys.argv[1]))"
    )

    def said(path: Path) -> str:
        command = [sys.executable, "-c", program, path]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stderr

    assert said(nobodys / "data") == said(nobodys / "data") == ""
    assert (nobodys / "data" / "records.sqlite").stat().st_uid == NOBODY
    (nobodys / "roots").mkdir(mode=0o755)
    assert f"{nobodys}/roots belongs to user 0, and this node runs as user {NOBODY}" in said(
        nobodys / "roots"
    )
