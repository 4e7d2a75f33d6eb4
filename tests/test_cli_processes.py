"""The command line as people use it: real processes, a real ring."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from chordtx.cli.local_ring import STOP_TIMEOUT_SECONDS
from tests.cli_ring import COLUMNS, ENVIRONMENT, NODES, TIMEOUT_SECONDS, Ring, chordtx, on_a_terminal, ring

__all__ = ["ring"]


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


def test_the_ring_on_a_terminal(ring: Ring) -> None:
    at = ["--subnet", "test", "--peer", f"127.0.0.1:{ring.port}"]
    whole = [line.split() for line in chordtx(*at, "ring").stdout.decode().splitlines()]
    head, *rows = on_a_terminal(*at, "ring").decode().splitlines()
    assert head.split()[:3] == ["id", "address", "kind"]
    assert max(map(len, [head, *rows])) <= COLUMNS
    for row, (id, address, *_) in zip(rows, whole, strict=True):
        assert id.startswith(row.split()[0])
        assert row.split()[1] == address


def test_a_node_is_named_by_what_a_terminal_shows(ring: Ring) -> None:
    at = ["--subnet", "test", "--peer", f"127.0.0.1:{ring.port}"]
    shown = on_a_terminal(*at, "ring").decode().splitlines()[1].split()[0]
    for name in (shown, f"127.0.0.1:{ring.port}"):
        asked = chordtx(*at, "health", "--without", name)
        assert (asked.returncode, asked.stderr) == (0, b"")
    unknown = chordtx(*at, "health", "--without", "0")
    assert (unknown.returncode, unknown.stdout) == (2, b"")
    assert b"no node" in unknown.stderr


def test_status_is_of_the_node_that_was_asked(ring: Ring) -> None:
    for port in range(ring.port, ring.port + NODES):
        told = json.loads(chordtx("--subnet", "test", "--peer", f"127.0.0.1:{port}", "status").stdout)
        assert (told["address"], told["leeching"]) == (f"127.0.0.1:{port}", False)


def test_peers_that_refuse_are_told_at_once(ring: Ring, free_port: Callable[[], int]) -> None:
    nobody = ["--peer", f"127.0.0.1:{free_port()}"]
    asked = chordtx("--subnet", "test", *nobody, *nobody, "--timeout", str(2 * TIMEOUT_SECONDS), "get", "key")
    assert (asked.returncode, asked.stdout, asked.stderr.count(b"\n")) == (3, b"", 1)
    assert b"refused" in asked.stderr
    some = [*nobody, "--peer", f"127.0.0.1:{ring.port}"]
    assert chordtx("--subnet", "test", *some, "get", "no such key").returncode == 1


def test_output_that_cannot_be_written(ring: Ring) -> None:
    at = f"--subnet test --peer 127.0.0.1:{ring.port}"
    assert chordtx(*at.split(), "set", "key", "value" * 10_000).returncode == 0
    for command, ends in {
        f"{at} get key >/dev/full": (
            74,
            "chordtx: cannot write to standard output: No space left on device\n",
        ),
        f"{at} get key >&-": (74, "chordtx: standard output is closed\n"),
        f"{at} set other value >&-": (0, ""),
        f"{at} keys 2>&- >/dev/null": (0, ""),
        f"{at} health >/dev/full": (
            74,
            "chordtx: cannot write to standard output: No space left on device\n",
        ),
        f"{at} dump /dev/full 2>&1 >/dev/null | tail -n 1 >&2; exit ${{PIPESTATUS[0]}}": (
            74,
            "chordtx: cannot write to /dev/full: No space left on device\n",
        ),
        f"{at} get nothing 2>/dev/full": (1, ""),
        f"{at} dump - 2>/dev/full >/dev/null": (0, ""),
        f"{at} get key | true; exit ${{PIPESTATUS[0]}}": (141, ""),
    }.items():
        asked = subprocess.run(
            ["bash", "-c", f"{sys.executable} -m chordtx.cli {command}"],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            env=ENVIRONMENT,
        )
        assert (asked.returncode, asked.stderr) == ends, command
    for key in ("key", "other"):
        assert chordtx(*at.split(), "delete", key).returncode == 0


def test_expiry_outlives_dump_and_load(ring: Ring) -> None:
    at = ["--subnet", "test", "--peer", f"127.0.0.1:{ring.port}"]
    assert chordtx(*at, "set", "--ttl", "1000", "expiring", "value").returncode == 0

    def dumped() -> dict[str, object]:
        records = map(json.loads, chordtx(*at, "dump").stdout.splitlines())
        return next(record for record in records if record["key"] == "expiring")

    before = dumped()
    assert chordtx(*at, "delete", "expiring").returncode == 0
    assert chordtx(*at, "load", "-", input=json.dumps(before).encode()).returncode == 0
    after = dumped()
    assert after["value"] == "value"
    assert after["expires"] == pytest.approx(before["expires"], abs=1)
    past = {**before, "expires": time.time() - 1}
    loaded = chordtx(*at, "load", "-", input=json.dumps(past).encode())
    assert loaded.returncode == 0
    assert loaded.stderr.endswith(b"; left out 1 that have expired\n")
    assert dumped() == after
    assert chordtx(*at, "delete", "expiring").returncode == 0


def test_another_subnet_is_no_ring(ring: Ring) -> None:
    asked = chordtx("--subnet", "else", "--peer", f"127.0.0.1:{ring.port}", "--timeout", "1", "get", "key")
    assert asked.returncode == 3
    assert asked.stderr.startswith(b"chordtx: ")


def test_a_port_that_is_taken_is_told(ring: Ring) -> None:
    failed = chordtx("local", "1", "--port", str(ring.port))
    assert failed.returncode == 3
    assert failed.stderr.decode() == (
        f"chordtx: another program uses 127.0.0.1:{ring.port}: give another first port with --port\n"
    )


def test_interrupting_stops_every_node(ring: Ring) -> None:
    # As a terminal does it: the signal goes to the whole group.
    os.killpg(ring.process.pid, signal.SIGINT)
    assert ring.process.wait(STOP_TIMEOUT_SECONDS + TIMEOUT_SECONDS) == 0
    for index in range(NODES):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", ring.port + index)) != 0
