"""``twistd chord`` and ``twist chord`` as processes: how they end, what they log, and as whom they run."""

from __future__ import annotations

import json
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chordtx.tap import READY
from tests.processes.patience import PATIENCE_SECONDS, says, until

ROOT = Path(__file__).parents[2]
HERE = "tcp:0:interface=127.0.0.1"
TWISTD = ["from twisted.scripts.twistd import run; run()", "-n", "--pidfile="]
TWIST = ["from twisted.application.twist._twist import Twist; Twist.main()"]
NOBODY = "nobody"

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """``start(program, *arguments)`` runs it with its output in ``tmp_path / "out"``; ended with the test."""
    started = []

    def run(program: list[str], *arguments: str) -> subprocess.Popen[str]:
        with open(tmp_path / "out", "w") as out:
            process = subprocess.Popen(
                [sys.executable, "-c", *program, "chord", "--listen", HERE, *arguments],
                stdout=out,
                stderr=out,
                text=True,
                cwd=tmp_path,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
            )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()


# How they end


@pytest.mark.parametrize("program", [TWISTD, TWIST], ids=["twistd", "twist"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_a_signal_ends_it_politely_with_0(
    start: Start, tmp_path: Path, program: list[str], number: signal.Signals
) -> None:
    process = start(program, "--data", "data")
    until(says(tmp_path / "out", READY), process)
    for _ in range(2):  # a second one, of a terminal's and of a supervisor's, changes nothing
        process.send_signal(number)
    assert process.wait(PATIENCE_SECONDS) == 0
    out = (tmp_path / "out").read_text()
    assert "Traceback" not in out
    assert "\tTraceback" not in out


@pytest.mark.parametrize("program", [TWISTD, TWIST], ids=["twistd", "twist"])
def test_what_cannot_start_ends_with_1(start: Start, program: list[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = start(program, "--listen", f"tcp:{port}:interface=127.0.0.1")
        assert process.wait(PATIENCE_SECONDS) == 1


def test_a_signal_that_comes_before_the_reactor_runs_is_heeded() -> None:
    program = """
import os, signal
from twisted.internet import reactor
from chordtx.process import stop_on_signals
stop_on_signals(reactor)
os.kill(os.getpid(), signal.NUMBER)
reactor.run()
print("ended")
"""
    for name in ("SIGTERM", "SIGINT"):
        command = [sys.executable, "-c", program.replace("NUMBER", name)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "ended\n", "")


def test_an_ignored_interrupt_stays_ignored() -> None:
    program = """
import signal
from twisted.internet import reactor
from chordtx.process import stop_on_signals
signal.signal(signal.SIGINT, signal.SIG_IGN)
stop_on_signals(reactor)
reactor.callWhenRunning(lambda: (print(signal.getsignal(signal.SIGINT).name), reactor.stop()))
reactor.run()
"""
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert ended.stdout == "SIG_IGN\n"


# What they log


def log_of(start: Start, log: Path, program: list[str], *arguments: str) -> list[str]:
    """The lines of a whole life, in which a client came and went."""
    log.unlink(missing_ok=True)
    process = start(program, *arguments)
    until(says(log, READY), process)
    port = re.findall(r"listening on 127.0.0.1:(\d+)", log.read_text())[0]
    get = ["-m", "chordtx.cli", "--peer", f"127.0.0.1:{port}", "get", "nothing"]
    assert subprocess.run([sys.executable, *get], cwd=ROOT, stderr=subprocess.DEVNULL).returncode == 1
    process.terminate()
    assert process.wait(PATIENCE_SECONDS) == 0
    return log.read_text().splitlines()


def is_json(line: str) -> bool:
    return json.loads(line).keys() >= {"time", "level", "namespace", "text"}


@pytest.mark.parametrize("program", [TWISTD, TWIST, [*TWISTD, "--logfile=log"], [*TWISTD, "--logfile=-"]])
def test_json_lines(start: Start, tmp_path: Path, program: list[str]) -> None:
    log = tmp_path / ("log" if "--logfile=log" in program else "out")
    lines = log_of(start, log, program, "--log-format", "json")
    assert all(is_json(line) for line in lines)
    [ready] = [json.loads(line) for line in lines if READY in line]
    assert ready["level"] == "info"
    assert ready["subnet"] == "chord"
    assert ready["address"].startswith("127.0.0.1:")


def levels(lines: list[str]) -> set[str]:
    """Which levels occur, of lines of text."""
    return {line.split("#", 1)[1].split("]", 1)[0] for line in lines if "#" in line and "]" in line}


@pytest.mark.parametrize("program", [TWISTD, [*TWISTD, "--logfile=log"]], ids=["out", "file"])
def test_debug_lines_are_there_only_when_asked_for(start: Start, tmp_path: Path, program: list[str]) -> None:
    log = tmp_path / ("log" if "--logfile=log" in program else "out")
    assert levels(log_of(start, log, program)) == {"info"}
    lines = log_of(start, log, program, "--log-level", "debug")
    assert "debug" in levels(lines)


def test_the_file_of_settings_says_how_to_log(start: Start, tmp_path: Path) -> None:
    (tmp_path / "chord.toml").write_text('log_level = "error"\nlog_format = "json"\n')
    process = start(TWISTD, "--config", "chord.toml", "--data", "data")
    until(lambda: (tmp_path / "data" / "records.sqlite").exists(), process)
    process.terminate()
    assert process.wait(PATIENCE_SECONDS) == 0
    assert all(json.loads(line)["level"] in ("error", "critical") for line in (tmp_path / "out").open())


def test_a_daemon_logs_to_its_file(start: Start, tmp_path: Path) -> None:
    daemon = [TWISTD[0], "--pidfile=pid"]
    assert start(daemon, "--log-format", "json").wait(PATIENCE_SECONDS) == 0
    number = int((tmp_path / "pid").read_text())
    try:
        until(says(tmp_path / "twistd.log", READY))
        os.kill(number, signal.SIGUSR1)  # begins another file, as with twistd's own log
        until(lambda: (tmp_path / "twistd.log.1").exists())
        os.kill(number, signal.SIGTERM)
        until(says(tmp_path / "twistd.log", "Server Shut Down"))
    finally:
        until(lambda: not (tmp_path / "pid").exists())
    files = ("twistd.log.1", "twistd.log")
    assert all(is_json(line) for name in files for line in (tmp_path / name).open())


# As whom they run


def privileged_port() -> int:
    """A port below 1024 that nobody listens on."""
    for port in range(1023, 600, -1):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    pytest.skip("no port below 1024 is free")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may open these ports, and become another user")
def test_a_port_below_1024_is_opened_before_privileges_are_dropped(start: Start, tmp_path: Path) -> None:
    user = pwd.getpwnam(NOBODY)
    folder = tmp_path / "data"
    folder.mkdir()
    os.chown(folder, user.pw_uid, user.pw_gid)
    for parent in [tmp_path, *tmp_path.parents]:
        if parent.owner() == "root" and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    port = privileged_port()
    options = ["--listen", f"tcp:{port}:interface=127.0.0.1", "--data", str(folder / "node")]
    process = start([*TWISTD, "--uid", NOBODY], *options)
    until(says(tmp_path / "out", READY), process)
    status = Path(f"/proc/{process.pid}/status").read_text()
    assert f"Uid:\t{user.pw_uid}\t{user.pw_uid}" in status
    assert {path.owner() for path in (folder / "node").iterdir()} == {NOBODY}
    with socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS):
        pass
    process.terminate()
    assert process.wait(PATIENCE_SECONDS) == 0
