"""``docs/start.md``, walked literally: what stands there is typed, saved and run in order, in a fresh folder.

A fenced block is used by what its first line says beside the language:

- ``console run``: each line after ``$`` is typed into one shell; what follows is what it must print on
  standard output.
- ``console ring``: the same, in a terminal of its own, where it runs on until Ctrl-C at the end of the page.
- ``python save FILE``: is saved.

Only the ports are others than those of the page, for something may be listening there.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Timer

import pytest

from tests.test_docs import ROOT, Block, blocks
from tests.test_packaging import SOURCES

PAGE_PORT = 44565
COUNT = 3
LIMIT_SECONDS = 300
END_SECONDS = 60
MARK = "== ended with"


def commands(block: Block) -> Iterator[tuple[str, str]]:
    """What is typed in a block, each with what it must print."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        typed, _, printed = part.partition("\n")
        yield typed, printed


@contextmanager
def limited(process: subprocess.Popen[str]) -> Iterator[None]:
    """What takes too long is killed."""
    timer = Timer(LIMIT_SECONDS, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class Shell:
    """A shell in which one command is typed after another."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            ["sh"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def type(self, command: str) -> str:
        """Type a command. :returns: what it printed; it must end with 0."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\necho {MARK} $?\n")
        self._process.stdin.flush()
        printed = ""
        with limited(self._process):
            for line in self._process.stdout:
                last, mark, status = line.partition(MARK)
                printed += last
                if mark:
                    assert status == " 0\n", f"{command}\n{printed}{line}"
                    return (
                        printed + "\n" if last else printed
                    )  # on a terminal a prompt gets a line of its own
        raise AssertionError(f"the shell has ended in {command}\n{printed}")

    def close(self) -> None:
        """Type no more."""
        self._process.communicate(timeout=END_SECONDS)


class Ring:
    """The other terminal."""

    def __init__(self, folder: Path, environment: dict[str, str], command: str) -> None:
        self._process = subprocess.Popen(
            ["sh", "-c", f". .venv/bin/activate && exec {command}"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )

    def must_print(self, text: str) -> None:
        """These lines come first."""
        assert self._process.stdout is not None
        with limited(self._process):
            assert "".join(self._process.stdout.readline() for _ in text.splitlines()) == text

    def interrupt(self) -> None:
        """Ctrl-C; it must end with 0."""
        self._process.send_signal(signal.SIGINT)
        self._process.communicate(timeout=END_SECONDS)
        assert self._process.returncode == 0

    def kill(self) -> None:
        """However the test went, nothing runs on."""
        if self._process.poll() is None:
            self._process.terminate()
            self._process.communicate(timeout=END_SECONDS)


@pytest.fixture
def port() -> int:
    """The first of a few free ports in a row."""
    while True:
        with ExitStack() as probes:
            try:
                first = probes.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
                for number in range(1, COUNT):
                    probes.enter_context(socket.create_server(("127.0.0.1", first + number)))
            except (OSError, OverflowError):
                continue
            return int(first)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of what is installed, and nothing else of the project."""
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "dropin.cache")
            shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def environment(port: int) -> dict[str, str]:
    """A newcomer's: nothing of the environment that the tests run in, and the same Python."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
    }
    found_first = str(Path(sys.base_prefix) / "bin")
    return {**kept, "PATH": f"{found_first}:{os.environ['PATH']}", "CHORDTX_PEER": f"127.0.0.1:{port}"}


def of_page(port: int) -> Callable[[str], str]:
    """The page's text with other ports."""

    def with_ports(text: str) -> str:
        for number in range(COUNT):
            text = text.replace(str(PAGE_PORT + number), str(port + number))
        return text.replace("chordtx local 3", f"chordtx local 3 --port {port}")

    return with_ports


@pytest.mark.package_index
def test_the_page_walked_from_top_to_bottom(folder: Path, port: int) -> None:
    with_ports = of_page(port)
    page = [block for block in blocks() if block.page.name == "start.md"]
    used = dict.fromkeys(("console run", "console ring", "python save"), 0)
    with ExitStack() as ended:
        shell = Shell(folder, environment(port))
        ended.callback(shell.close)
        for block in page:
            kind, _, name = block.kind.partition(" save ")
            used[f"{kind} save" if name else kind] += 1
            if name:
                (folder / name).write_text(with_ports(block.text))
                continue
            for typed, printed in commands(block):
                if block.kind == "console ring":
                    ring = Ring(folder, environment(port), with_ports(typed))
                    ended.callback(ring.kill)
                    ring.must_print(with_ports(printed))
                else:
                    assert shell.type(with_ports(typed)) == with_ports(printed), f"{block}: {typed}"
        ring.interrupt()
    assert used == {"console run": 6, "console ring": 1, "python save": 3}


def test_commands_are_told_from_what_they_print() -> None:
    block = Block(ROOT, 1, "console run", "$ chordtx get a\n1\n2\n$ chordtx get b\n$ true\n")
    assert [*commands(block)] == [("chordtx get a", "1\n2\n"), ("chordtx get b", ""), ("true", "")]
