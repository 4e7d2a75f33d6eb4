"""A ring of real processes, and the command line as a process beside it."""

from __future__ import annotations

import contextlib
import os
import pty
import socket
import subprocess
import sys
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from chordtx.cli.local_ring import STOP_TIMEOUT_SECONDS

NODES = 3
COLUMNS = 80
TIMEOUT_SECONDS = 60.0  # for what should take one; only a command that hangs meets it
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "COLUMNS": str(COLUMNS)}
CHORDTX = [sys.executable, "-m", "chordtx.cli"]


class Ring(NamedTuple):
    """A running ``chordtx local``."""

    process: subprocess.Popen[bytes]
    said: list[str]
    port: int


def chordtx(*arguments: str, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*CHORDTX, *arguments],
        input=input,
        capture_output=True,
        timeout=TIMEOUT_SECONDS,
        env=ENVIRONMENT,
        check=False,
    )


def free_ports(free_port: Callable[[], int], count: int) -> int:
    """The first of ``count`` ports in a row that nobody listens on."""
    for _ in range(100):
        first = free_port()
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            continue
        return first
    pytest.fail("no ports in a row are free")


@pytest.fixture(scope="module")
def ring(free_port: Callable[[], int]) -> Iterator[Ring]:
    port = free_ports(free_port, NODES)
    process = subprocess.Popen(
        [*CHORDTX, "--subnet", "test", "local", str(NODES), "--port", str(port)],
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
        start_new_session=True,
    )
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line.decode().rstrip())
        if "Ctrl-C" in said[-1]:
            break
    yield Ring(process, said, port)
    if process.poll() is None:
        process.terminate()
        process.wait(STOP_TIMEOUT_SECONDS + TIMEOUT_SECONDS)
    process.stdout.close()


def on_a_terminal(*arguments: str) -> bytes:
    """What a command writes when its standard output is a terminal."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)  # or line ends would come out as two characters
    with subprocess.Popen([*CHORDTX, *arguments], stdout=theirs, env=ENVIRONMENT) as process:
        os.close(theirs)
        written = b""
        with contextlib.suppress(OSError):  # how Linux says that the other end is closed
            while chunk := os.read(ours, 4096):
                written += chunk
        os.close(ours)
    assert process.returncode == 0
    return written
