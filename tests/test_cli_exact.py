"""What scripts do with keys that others change too: real processes, a real ring."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.cli_ring import CHORDTX, ENVIRONMENT, TIMEOUT_SECONDS, Ring, chordtx, on_a_terminal, ring

__all__ = ["ring"]
AT_ONCE = 4


@pytest.fixture
def at(ring: Ring) -> list[str]:
    """The options that reach the ring."""
    return ["--subnet", "test", "--peer", f"127.0.0.1:{ring.port}"]


@contextmanager
def begun(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command that runs on; it is killed at the end, if it is still there."""
    process = subprocess.Popen(
        [*CHORDTX, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def line(stream: Any) -> bytes:
    """The next line that a process writes."""
    read: bytes = stream.readline()
    return read


def test_processes_that_count_at_once_lose_nothing(at: list[str]) -> None:
    counting = [
        subprocess.Popen([*CHORDTX, *at, "incr", "hits", "-5"], stdout=subprocess.PIPE, env=ENVIRONMENT)
        for _ in range(AT_ONCE)
    ]
    told = [process.communicate(timeout=TIMEOUT_SECONDS)[0] for process in counting]
    assert sorted(map(int, told)) == [-20, -15, -10, -5]
    assert chordtx(*at, "get", "hits").stdout == b"-20\n"
    assert chordtx(*at, "incr", "hits", "0.5").stdout == b"-19.5\n"


def test_a_set_by_a_version_that_is_over_ends_with_1(at: list[str]) -> None:
    assert chordtx(*at, "set", "key", "first", "--if-absent").returncode == 0
    again = chordtx(*at, "set", "key", "second", "--if-absent")
    assert (again.returncode, again.stdout, again.stderr.count(b"\n")) == (1, b"", 1)
    version = chordtx(*at, "get", "key", "--version").stdout.decode().rstrip("\n")
    assert version.encode() in again.stderr
    assert chordtx(*at, "set", "key", "second", "--if-version", version).returncode == 0
    for late in (["set", "key", "third"], ["delete", "key"]):
        assert chordtx(*at, *late, "--if-version", version).returncode == 1
    assert chordtx(*at, "get", "key").stdout == b"second"
    version = chordtx(*at, "get", "key", "--version").stdout.decode().rstrip("\n")
    assert chordtx(*at, "delete", "key", "--if-version", version).returncode == 0
    assert chordtx(*at, "set", "key", "third", "--if-version", version).returncode == 1


def test_touch_says_anew_how_long(at: list[str]) -> None:
    assert chordtx(*at, "set", "touched", "value", "--ttl", "1000").returncode == 0
    assert chordtx(*at, "touch", "touched").returncode == 0
    dumped = map(json.loads, chordtx(*at, "dump").stdout.splitlines())
    assert {"key": "touched", "value": "value"} in list(dumped)
    assert chordtx(*at, "touch", "nothing").returncode == 1


def test_watch_tells_each_change_as_it_happens(at: list[str]) -> None:
    with begun(*at, "watch", "--prefix", "watched") as watching:
        assert line(watching.stderr) == b"watching; Ctrl-C ends it\n"
        assert chordtx(*at, "set", "watched", "1", "--json").returncode == 0
        added = json.loads(line(watching.stdout))
        assert (added["kind"], added["key"], added["value"]) == ("add", "watched", 1)
        assert chordtx(*at, "set", "other", "value").returncode == 0
        assert chordtx(*at, "set", "watched", "\x1b", "--if-version", added["version"]).returncode == 0
        updated = json.loads(line(watching.stdout))
        assert (updated["kind"], updated["value"]) == ("update", "\x1b")
        assert chordtx(*at, "delete", "watched", "--if-version", updated["version"]).returncode == 0
        gone = json.loads(line(watching.stdout))
        assert (gone["kind"], gone["key"], gone["value"]) == ("delete", "watched", None)
        watching.send_signal(signal.SIGINT)
        assert watching.wait(TIMEOUT_SECONDS) == 130
        assert (watching.stdout.read(), watching.stderr.read()) == (b"", b"")


def test_watch_since_a_version_on_a_terminal(at: list[str]) -> None:
    assert chordtx(*at, "set", "evil", "before").returncode == 0
    version = chordtx(*at, "get", "evil", "--version").stdout.decode().rstrip("\n")
    assert chordtx(*at, "set", "evil", "a\x1b[2J\nb").returncode == 0
    written = on_a_terminal(*at, "watch", "evil", "--since", version, "--limit", "1")
    assert written == b'update evil "a\\u001b[2J\\nb"\n'
