"""The command line as people use it: real processes, a real ring."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
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
TIMEOUT_SECONDS = 60.0  # for what should take one; only a command that hangs meets it
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
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


def test_local_says_where_its_nodes_are(ring: Ring) -> None:
    assert ring.said[:NODES] == [
        f"node {n + 1} of {NODES} at 127.0.0.1:{ring.port + n}" for n in range(NODES)
    ]


def test_commands_through_any_node(ring: Ring) -> None:
    at = [["--subnet", "test", "--peer", f"127.0.0.1:{ring.port + index}"] for index in range(NODES)]
    assert chordtx(*at[0], "set", "key", "--file", "-", input=b"\x00\xff").returncode == 0
    assert [chordtx(*each, "get", "key").stdout for each in at] == [b"\x00\xff"] * NODES
    lines = b"".join(b'{"key": "k%d", "value": [%d]}\n' % (number, number) for number in range(500))
    loaded = chordtx(*at[1], "load", "-", input=lines)
    assert loaded.returncode == 0, loaded.stderr
    dumped = {
        record["key"]: record["value"]
        for record in map(json.loads, chordtx(*at[2], "dump").stdout.splitlines())
    }
    assert {key: dumped.get(key) for key in (f"k{n}" for n in range(500))} == {
        f"k{n}": [n] for n in range(500)
    }
    assert len(chordtx(*at[0], "ring").stdout.splitlines()) == NODES
    assert chordtx(*at[0], "delete", "key").returncode == 0
    assert chordtx(*at[1], "get", "key").returncode == 1


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


def test_a_terminal_is_not_commanded_by_keys_and_values(ring: Ring) -> None:
    at = ["--subnet", "test", "--peer", f"127.0.0.1:{ring.port}"]
    key, value = "evil\x1b]0;owned\x07", "a\x1b[2J\nb\x9b31m"
    assert chordtx(*at, "set", key, value).returncode == 0
    assert on_a_terminal(*at, "get", key) == b"a\\x1b[2J\nb\\x9b31m\n"
    assert on_a_terminal(*at, "keys", "--prefix", "evil") == b"evil\\x1b]0;owned\\x07\n"
    assert chordtx(*at, "get", key).stdout == value.encode()
    assert chordtx(*at, "keys", "--prefix", "evil").stdout == key.encode() + b"\n"
    assert chordtx(*at, "delete", key).returncode == 0
    assert chordtx(*at, "get", key).stderr == b"chordtx: no such key: evil\\x1b]0;owned\\x07\n"


def test_another_subnet_is_no_ring(ring: Ring) -> None:
    asked = chordtx("--subnet", "else", "--peer", f"127.0.0.1:{ring.port}", "--timeout", "1", "get", "key")
    assert asked.returncode == 3
    assert asked.stderr.startswith(b"chordtx: ")


def test_a_port_that_is_taken_is_told(ring: Ring) -> None:
    failed = chordtx("local", "1", "--port", str(ring.port))
    assert failed.returncode == 3
    assert b"Address already in use" in failed.stderr
    assert failed.stderr.count(b"\n") == 1


def test_interrupting_stops_every_node(ring: Ring) -> None:
    # As a terminal does it: the signal goes to the whole group.
    os.killpg(ring.process.pid, signal.SIGINT)
    assert ring.process.wait(STOP_TIMEOUT_SECONDS + TIMEOUT_SECONDS) == 0
    for index in range(NODES):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", ring.port + index)) != 0
