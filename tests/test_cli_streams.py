"""What a command loads, and standard streams that are closed or full: real processes, without a ring."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chordtx.cli import parameters
from chordtx.mesh.arguments import ENCRYPTIONS

Loaded = Callable[..., tuple[int, set[str]]]
TIMEOUT_SECONDS = 60.0
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
LISTED = """
import atexit, os, sys
atexit.register(lambda: print(*sys.modules, sep="\\n", file=open(os.environ["LISTED_IN"], "w")))
from chordtx.cli import main
main()
"""
#: What takes its time to load, and is only of use once there is a ring to be asked.
HEAVY = {"asyncio", "attr", "email", "importlib.metadata", "rich", "ssl", "twisted", "zope"}


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    """Gives the exit status of a command line, and the modules that it has imported, with their packages."""

    def run(*arguments: str) -> tuple[int, set[str]]:
        process = subprocess.run(
            [sys.executable, "-c", LISTED, *arguments],
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            env=ENVIRONMENT | {"LISTED_IN": str(tmp_path / "modules")},
            check=False,
        )
        return process.returncode, set((tmp_path / "modules").read_text().split())

    return run


def shell(command: str) -> subprocess.CompletedProcess[str]:
    """Run ``command``, in which @CHORDTX@ is the command line."""
    return subprocess.run(
        ["sh", "-c", command.replace("@CHORDTX@", f"{sys.executable} -m chordtx.cli")],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        env=ENVIRONMENT,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--version"], 0),
        (["--help"], 0),
        (["set", "--help"], 0),
        ([], 2),
        (["nonsense"], 2),
        (["set", "key"], 2),
        (["set", "key", "-5"], 2),
        (["set", "key", "value", "--ttl", "0"], 2),
        (["set", "key", "value", "--if-version", "7"], 2),
        (["incr", "key", "one"], 2),
        (["local", "0"], 2),
    ],
)
def test_what_needs_no_ring_loads_little(loaded: Loaded, arguments: list[str], status: int) -> None:
    ended, modules = loaded(*arguments)
    assert ended == status
    assert "chordtx.cli.app" in modules
    assert modules & HEAVY == set()


def test_a_wrong_address_loads_no_reactor(loaded: Loaded) -> None:
    ended, modules = loaded("--peer", "nowhere", "get", "key")
    assert ended == 2
    assert "chordtx.cli.app" in modules
    assert "twisted.internet.reactor" not in modules


def test_encryptions_are_those_of_a_node() -> None:
    assert tuple(parameters.ENCRYPTION.choices) == ENCRYPTIONS


@pytest.mark.parametrize("command", ["get key", "incr key", "keys", "watch", "status", "ring", "dump"])
def test_closed_standard_output_is_said_in_one_line(command: str) -> None:
    ended = shell(f"@CHORDTX@ {command} >&-")
    assert (ended.returncode, ended.stderr) == (74, "chordtx: standard output is closed\n")


@pytest.mark.parametrize("command", ["set key -", "set key --file -", "load -", "recover"])
def test_closed_standard_input_is_said(command: str) -> None:
    ended = shell(f"@CHORDTX@ {command} <&-")
    assert ended.returncode == 2
    assert "standard input is closed" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("command", ["--help", "--version"])
def test_closed_standard_streams_are_no_traceback(command: str) -> None:
    for closed in (">&-", "2>&-", ">&- 2>&-", "<&-"):
        ended = shell(f"@CHORDTX@ {command} {closed}")
        assert (ended.returncode, ended.stderr) == (0, "")


def test_completion() -> None:
    script = shell("_CHORDTX_COMPLETE=bash_source @CHORDTX@")
    assert script.returncode == 0
    assert "_CHORDTX_COMPLETE=bash_complete" in script.stdout
    words = shell('COMP_WORDS="chordtx dum" COMP_CWORD=1 _CHORDTX_COMPLETE=bash_complete @CHORDTX@')
    assert words.stdout == "plain,dump\n"
