"""What scripts do with keys that others change too: real processes, a real ring."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.cli_ring import CHORDTX, ENVIRONMENT, NODES, TIMEOUT_SECONDS, Ring, chordtx, on_a_terminal, ring

__all__ = ["ring"]
AT_ONCE = 4


@pytest.fixture(scope="module")
def at(ring: Ring) -> list[str]:
    """The options that reach the ring, once its groups are full: until then watches may be told of resets."""
    options = ["--subnet", "test", "--peer", f"127.0.0.1:{ring.port}"]
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while (asked := chordtx(*options, "health", "--expect", str(NODES))).returncode:
        assert time.monotonic() < deadline, asked.stderr
    return options


@contextmanager
def begun(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command that runs on; it and what it has started is killed at the end, if it is still there."""
    process = subprocess.Popen(
        [*CHORDTX, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
        start_new_session=True,  # or it would see whether the tests run on a terminal
    )
    with process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


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


def test_watch_ends_when_nobody_reads_it(at: list[str]) -> None:
    with begun(*at, "watch", "nothing happens here") as watching:
        assert line(watching.stderr) == b"watching; Ctrl-C ends it\n"
        watching.stdout.close()
        assert watching.wait(TIMEOUT_SECONDS) == 141
        assert watching.stderr.read() == b""


def test_watch_since_a_version_on_a_terminal(at: list[str]) -> None:
    assert chordtx(*at, "set", "evil", "before").returncode == 0
    version = chordtx(*at, "get", "evil", "--version").stdout.decode().rstrip("\n")
    assert chordtx(*at, "set", "evil", "a\x1b[2J\nb").returncode == 0
    written = on_a_terminal(*at, "watch", "evil", "--since", version, "--limit", "1")
    assert written == b'update evil "a\\u001b[2J\\nb"\n'


def test_lock_passes_words_streams_and_status_on(at: list[str]) -> None:
    script = 'cat; echo "$0 $1"; echo $CHORDTX_LOCK_TOKEN >&2; exit 7'
    tokens = []
    for _ in range(2):
        ran = chordtx(*at, "lock", "words", "--", "sh", "-c", script, "--json", "\udcff", input=b"in\n")
        assert (ran.returncode, ran.stdout) == (7, b"in\n--json \xff\n")
        tokens.append(int(ran.stderr))
    assert 0 < tokens[0] < tokens[1]
    assert chordtx(*at, "lock", "words", "--", "true").returncode == 0
    assert chordtx(*at, "lock", "words", "--", "sh", "-c", "kill -9 $$").returncode == 128 + 9


def test_a_lock_has_one_holder_at_a_time(at: list[str]) -> None:
    script = "echo $CHORDTX_LOCK_TOKEN; cat"
    with begun(*at, "lock", "single", "--", "sh", "-c", script) as first:
        token = int(line(first.stdout))
        refused = chordtx(*at, "lock", "single", "--no-wait", "--", "echo", "never")
        assert (refused.returncode, refused.stdout) == (1, b"")
        assert refused.stderr == b"chordtx: another holds the lock single\n"
        with begun(*at, "lock", "single", "--", "sh", "-c", script) as second:
            out, _ = first.communicate(b"to its end", timeout=TIMEOUT_SECONDS)
            assert (out, first.returncode) == (b"to its end", 0)
            assert int(line(second.stdout)) > token
            second.communicate(timeout=TIMEOUT_SECONDS)
            assert second.returncode == 0


@pytest.mark.parametrize("name", ["INT", "TERM"])
def test_signals_go_to_the_command_that_holds_the_lock(at: list[str], name: str) -> None:
    script = f"trap 'echo {name}; exit 3' {name}; echo ready; while :; do sleep 0.1; done"
    with begun(*at, "lock", "signals", "--", "sh", "-c", script) as holding:
        assert line(holding.stdout) == b"ready\n"
        holding.send_signal(getattr(signal, f"SIG{name}"))
        out, said = holding.communicate(timeout=TIMEOUT_SECONDS)
        assert (holding.returncode, out, said) == (3, f"{name}\n".encode(), b"")
    assert chordtx(*at, "lock", "signals", "--no-wait", "--", "true").returncode == 0


def test_what_is_started_to_ignore_a_signal_has_its_command_ignore_it(at: list[str]) -> None:
    command = " ".join(
        [*CHORDTX, *at, "lock", "nohup", "--", "sh", "-c", "'kill -HUP $$; echo \"$0\"'", "on"]
    )
    ran = subprocess.run(
        ["sh", "-c", f"trap '' HUP; exec {command}"],
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
        timeout=TIMEOUT_SECONDS,
    )
    assert (ran.returncode, ran.stdout) == (0, b"on\n")


TOLD_TOO_SOON = """
import os, signal, sys
from chordtx.cli import held_command, main
begin = held_command.HeldCommand.__init__
def told_before(*arguments):
    os.kill(os.getpid(), signal.SIGTERM)
    begin(*arguments)
held_command.HeldCommand.__init__ = told_before
main()
"""


def test_a_signal_just_before_the_command_begins_ends_the_command_first(at: list[str]) -> None:
    runs_on = "import time; print('ready', flush=True); time.sleep(1000)"
    ran = subprocess.run(
        [sys.executable, "-c", TOLD_TOO_SOON, *at, "lock", "soon", "--", sys.executable, "-c", runs_on],
        stdout=subprocess.PIPE,  # which the command has, too: it is at its end when both are gone
        env=ENVIRONMENT,
        timeout=TIMEOUT_SECONDS,
    )
    assert ran.returncode == 130
    assert chordtx(*at, "lock", "soon", "--no-wait", "--", "true").returncode == 0


TELLS_OF_SIGNALS = """
import signal, sys, time
signal.signal(signal.SIGINT, lambda *_: print("interrupted", flush=True))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
print("ready", flush=True)
while True:
    time.sleep(1)
"""


def test_ctrl_c_reaches_the_command_once(at: list[str]) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*CHORDTX, *at, "lock", "typed", "--", sys.executable, "-c", TELLS_OF_SIGNALS],
        stdin=theirs,
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    with process:
        os.close(theirs)
        assert line(process.stdout) == b"ready\n"
        os.write(ours, b"\x03")
        assert line(process.stdout) == b"interrupted\n"
        process.terminate()  # it is passed on after whatever else would be
        out, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    os.close(ours)
    assert (process.returncode, out) == (3, b"")


def test_a_command_whose_lock_is_lost_is_ended(at: list[str]) -> None:
    script = "trap 'echo ended; exit 0' TERM; echo ready; while :; do sleep 0.1; done"
    with begun(*at, "lock", "lost", "--ttl", "1", "--", "sh", "-c", script) as stopped:
        assert line(stopped.stdout) == b"ready\n"
        stopped.send_signal(signal.SIGSTOP)
        # When the next one has had its turn, the lease of the first is over.
        assert chordtx(*at, "lock", "lost", "--", "true").returncode == 0
        stopped.send_signal(signal.SIGCONT)
        out, said = stopped.communicate(timeout=TIMEOUT_SECONDS)
        assert (stopped.returncode, out) == (75, b"ended\n")
        assert said == (
            b"chordtx: the lock lost is lost: the command is asked to end\n"
            b"chordtx: the lock lost was lost before the command had ended\n"
        )


def test_a_command_that_does_not_end_when_its_lock_is_lost_is_killed(at: list[str]) -> None:
    script = "trap '' TERM; echo began; exec sleep 60"
    with begun(
        *at, "lock", "kept", "--ttl", "1", "--kill-after", "0.5", "--", "sh", "-c", script
    ) as stubborn:
        assert line(stubborn.stdout) == b"began\n"
        assert chordtx(*at, "delete", "lock:kept").returncode == 0
        assert stubborn.wait(TIMEOUT_SECONDS) == 75


def test_a_command_that_cannot_be_run_leaves_the_lock_free(at: list[str], tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF and nothing")
    program.chmod(0o755)
    ran = chordtx(*at, "lock", "broken", "--", str(program))
    assert (ran.returncode, ran.stdout) == (126, b"")
    assert ran.stderr.startswith(b"chordtx: cannot run ")
    assert chordtx(*at, "lock", "broken", "--no-wait", "--", "true").returncode == 0


def test_what_is_no_lock_is_not_locked(at: list[str]) -> None:
    assert chordtx(*at, "set", "lock:taken", "text").returncode == 0
    ran = chordtx(*at, "lock", "taken", "--", "echo", "never")
    assert (ran.returncode, ran.stdout, ran.stderr.count(b"\n")) == (1, b"", 1)
