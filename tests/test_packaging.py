"""The wheel holds everything and works where nothing of the project's folder is near."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "chordtx", "twisted")
TRIES = 2

pytestmark = pytest.mark.package_index


def run(*command: str | Path, cwd: Path, tries: int = 1) -> str:
    """Run ``command`` without our environment's Python settings. :returns: what it wrote."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done: Any = None
    for _ in range(tries):
        done = subprocess.run(
            [str(word) for word in command], cwd=cwd, env=kept, text=True, capture_output=True, check=False
        )
        if done.returncode == 0:
            break
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return f"{done.stdout}{done.stderr}"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: what an earlier build left in the project's folder cannot get in."""
    copy = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__", "dropin.cache"))
        else:
            shutil.copy(source, copy / name)
    run(sys.executable, "-m", "build", "--wheel", "--outdir", copy / "dist", copy, cwd=copy, tries=TRIES)
    (built,) = (copy / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a fresh environment with the wheel in it."""
    environment = tmp_path_factory.mktemp("environment")
    venv.create(environment, with_pip=True)
    programs = environment / "bin"
    run(programs / "python", "-m", "pip", "install", "--quiet", wheel, cwd=environment, tries=TRIES)
    return programs


def test_wheel_holds_all_of_the_package_and_the_plugin(wheel: Path) -> None:
    ours = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "chordtx").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == ours | {"twisted/plugins/chordtx_plugin.py"}


@pytest.mark.parametrize("program", ["twistd", "twist"])
def test_twistd_knows_chord(installed: Path, tmp_path: Path, program: str) -> None:
    listed = [line.split() for line in run(installed / program, "--help", cwd=tmp_path).splitlines()]
    assert [words for words in listed if words[:1] == ["chord"]]
    assert "--advertise" in run(installed / program, "chord", "--help", cwd=tmp_path)


def test_command_line_starts(installed: Path, tmp_path: Path) -> None:
    said = run(installed / "chordtx", "--help", cwd=tmp_path)
    assert "Usage" in said
    assert "get" in said


def test_plain_install_brings_no_extra(installed: Path, tmp_path: Path) -> None:
    listed = run(installed / "python", "-m", "pip", "list", "--format=freeze", cwd=tmp_path).lower()
    names = {line.partition("==")[0] for line in listed.splitlines()}
    assert {"chordtx", "twisted", "click"} <= names
    assert {"base58", "crochet", "rich", "klein", "pytest"} & names == set()


def test_command_line_of_a_plain_install_works(
    installed: Path, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    port = free_port()
    ring = subprocess.Popen(
        [installed / "chordtx", "local", "1", "--port", str(port)], cwd=tmp_path, stdout=subprocess.PIPE
    )
    try:
        assert ring.stdout is not None
        assert b"node 1 of 1" in ring.stdout.readline()
        at = [installed / "chordtx", "--peer", f"127.0.0.1:{port}"]
        run(*at, "set", "key", "value", cwd=tmp_path)
        assert run(*at, "get", "key", cwd=tmp_path) == "value"
        run(*at, "dump", "records.jsonl", cwd=tmp_path)
        assert "loaded 1 records" in run(*at, "load", "records.jsonl", cwd=tmp_path)
    finally:
        ring.terminate()
        ring.communicate()


def test_types_are_told(installed: Path, tmp_path: Path) -> None:
    """``py.typed`` lies where type checkers look for it."""
    where = "import chordtx, pathlib; print((pathlib.Path(chordtx.__file__).parent / 'py.typed').is_file())"
    assert run(installed / "python", "-c", where, cwd=tmp_path).strip() == "True"
