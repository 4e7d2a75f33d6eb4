"""Real processes in network namespaces of their own: the network falls apart, processes are killed or stand
still, and what clients were told must be linearizable.

``python -m tests.processes.chaos`` needs root, for it makes namespaces, and ends them. Each node has a data
folder and a cable to a switch. For a split some cables are put into another switch, so that nobody is told.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any, Protocol

from chordtx.sim.history import Kind, Operation, TooHard, by_key, unexplained
from tests.processes.daemons import ROOT

NODES = 5
PORT = 4000
CLIENTS_AT = (1, 4)
#: Exit status where a machine does not allow it.
NOT_HERE = 2
_READY_SECONDS = 90.0
_SETTLE_SECONDS = 4.0
_LINES_TOLD = 15


def may_run() -> bool:
    """Whether this machine lets us make namespaces and switches."""
    if os.geteuid() != 0:
        return False
    name = f"cx{os.getpid()}t"
    try:
        _ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError):
        return False
    try:
        _ip("-n", name, "link", "add", "near", "type", "bridge")
        _ip("-n", name, "link", "add", "one", "type", "veth", "peer", "name", "other")
    except subprocess.CalledProcessError:
        return False
    finally:
        _ip("netns", "del", name)
    return True


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Wires:
    """Namespaces for some nodes, and two switches: all cables are in the first, unless there is a split."""

    def __init__(self, count: int) -> None:
        self._name = f"cx{os.getpid()}"
        self._switch = f"{self._name}s"
        self._count = count
        self._made: list[str] = []

    def __enter__(self) -> Wires:
        try:
            self._make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in self._made:
            _ip("netns", "del", name)

    def _make(self) -> None:
        self._add(self._switch)
        for switch in ("near", "far"):
            _ip("-n", self._switch, "link", "add", switch, "type", "bridge")
            _ip("-n", self._switch, "link", "set", switch, "up")
        for number in range(1, self._count + 1):
            name = self.namespace(number)
            self._add(name)
            cable = ["link", "add", f"v{number}", "netns", self._switch, "type", "veth"]
            _ip(*cable, "peer", "name", "cable", "netns", name)
            _ip("-n", name, "addr", "add", f"{address(number)}/24", "dev", "cable")
            for device in ("cable", "lo"):
                _ip("-n", name, "link", "set", device, "up")
            self.put(number, "near")
            _ip("-n", self._switch, "link", "set", f"v{number}", "up")

    def _add(self, name: str) -> None:
        _ip("netns", "add", name)
        self._made.append(name)

    def put(self, number: int, switch: str) -> None:
        """Put a node's cable into a switch."""
        _ip("-n", self._switch, "link", "set", f"v{number}", "master", switch)

    def namespace(self, number: int) -> str:
        """Of a node."""
        return f"{self._name}n{number}"

    def address(self, number: int) -> str:
        """Of a node: a host and a port."""
        return f"{address(number)}:{PORT}"

    def run(self, number: int, *command: str, log: Path) -> subprocess.Popen[bytes]:
        """Run a program in a node's namespace."""
        with log.open("ab") as out:
            return subprocess.Popen(
                ["ip", "netns", "exec", self.namespace(number), *command],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=out,
                stderr=out,
            )


def address(number: int) -> str:
    """Of a node."""
    return f"10.78.0.{number}"


class Places(Protocol):
    """Where nodes run."""

    def address(self, number: int) -> str:
        """Of a node: a host and a port."""

    def run(self, number: int, *command: str, log: Path) -> subprocess.Popen[bytes]:
        """Run a program beside a node."""


class Ring:
    """The nodes. :ivar running: their processes, by number."""

    def __init__(self, wires: Places, folder: Path) -> None:
        self._wires = wires
        self._folder = folder
        self.running: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, number: int) -> None:
        """Start a node, or start it again."""
        peers = [word for each in range(1, NODES + 1) for word in ("--peer", self._wires.address(each))]
        host, _, port = self._wires.address(number).partition(":")
        twistd = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile="]
        listen = [
            "--listen",
            f"tcp:{port}:interface={host}",
            "--data",
            str(self._folder / f"d{number}"),
        ]
        log = self._folder / f"node{number}.log"
        self.running[number] = self._wires.run(number, *twistd, "chord", *listen, *peers, log=log)

    def signal(self, number: int, what: signal.Signals) -> None:
        """Send a node a signal."""
        self.running[number].send_signal(what)

    def kill(self, number: int) -> None:
        """As ``kill -9`` does."""
        process = self.running.pop(number)
        process.kill()
        process.wait()

    def is_healthy(self) -> bool:
        """Whether all nodes are there, and all groups are whole."""
        command = [sys.executable, "-m", "chordtx.cli", "--peer", self._wires.address(3), "health"]
        log = self._folder / "health.log"
        return self._wires.run(3, *command, "--expect", str(NODES), log=log).wait() == 0

    def when_healthy(self) -> None:
        """Wait until it is. :raises TimeoutError: when it takes too long; the logs are told first."""
        try:
            until(self.is_healthy, "the ring is not healthy")
        except TimeoutError:
            for log in (self._folder / "health.log", *sorted(self._folder.glob("node*.log"))):
                say(f"{log.name}\n" + "\n".join(log.read_text().splitlines()[-_LINES_TOLD:]))
            raise

    def end(self) -> None:
        """Kill all that still run."""
        for number in list(self.running):
            self.signal(number, signal.SIGCONT)
            self.kill(number)


class Chaos:
    """One run. :param wires: None where the network cannot be split.

    :ivar faults: how many there were of each kind.
    """

    def __init__(self, wires: Wires | None, ring: Ring, rng: Random) -> None:
        self._wires = wires
        self._ring = ring
        self._rng = rng
        self.faults: Counter[str] = Counter()

    def one(self) -> None:
        """Something goes wrong for a while, and is right again."""
        kinds = [self.kill, self.stop, self.stop_and_kill]
        what = self._rng.choice(kinds if self._wires is None else [self.split, *kinds])
        self.faults[what.__name__] += 1
        say(f"{time.monotonic():.1f} {what.__name__}")
        what()
        time.sleep(_SETTLE_SECONDS)

    def split(self) -> None:
        """Two nodes, or one, are cut off from the others."""
        assert self._wires is not None
        some = self._rng.sample(range(1, NODES + 1), self._rng.choice([1, 2, 2]))
        for number in some:
            self._wires.put(number, "far")
        time.sleep(self._rng.uniform(1.0, 8.0))
        for number in some:
            self._wires.put(number, "near")

    def kill(self) -> None:
        """One or two processes are killed, and started again."""
        some = self._rng.sample(range(1, NODES + 1), self._rng.choice([1, 2]))
        for number in some:
            self._ring.kill(number)
        time.sleep(self._rng.uniform(0.0, 3.0))
        for number in some:
            self._ring.start(number)

    def stop(self) -> None:
        """One or two processes stand still."""
        some = self._rng.sample(range(1, NODES + 1), self._rng.choice([1, 2]))
        for number in some:
            self._ring.signal(number, signal.SIGSTOP)
        time.sleep(self._rng.uniform(0.3, 6.0))
        for number in some:
            self._ring.signal(number, signal.SIGCONT)

    def stop_and_kill(self) -> None:
        """One stands still while another one is killed."""
        still, killed = self._rng.sample(range(1, NODES + 1), 2)
        self._ring.signal(still, signal.SIGSTOP)
        time.sleep(self._rng.uniform(0.3, 2.0))
        self._ring.kill(killed)
        self._ring.signal(still, signal.SIGCONT)
        time.sleep(self._rng.uniform(0.0, 2.0))
        self._ring.start(killed)


def operations_in(logs: Iterable[Path]) -> list[Operation]:
    """What clients have written down (:mod:`tests.processes.chaos_client`)."""
    found = []
    for log in logs:
        for line in log.read_text().splitlines():
            client, kind, key, value, began_at, ended_at = json.loads(line)
            ends = float("inf") if ended_at is None else ended_at
            found.append(Operation(client, Kind[kind], key.encode(), value, began_at, ends))
    return found


def judged(operations: list[Operation]) -> list[str]:
    """What is wrong with them."""
    wrong = []
    for key, some in by_key(operations).items():
        try:
            unexplained_one = unexplained(some)
        except TooHard:
            wrong.append(f"{key!r}: too much was going on to tell")
        else:
            if unexplained_one is not None:
                wrong.append(f"{key!r}: not linearizable: {unexplained_one}")
    return wrong


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def until(is_so: Callable[[], bool], what: str) -> None:
    """Wait until it is so. :raises TimeoutError: when it takes too long."""
    late = time.monotonic() + _READY_SECONDS
    while not is_so():
        if time.monotonic() > late:
            raise TimeoutError(what)
        time.sleep(0.25)


def run(seconds: float, seed: int, folder: Path) -> int:
    """A ring, its clients, and what goes wrong. :returns: an exit status."""
    with ExitStack() as stack:
        wires = stack.enter_context(Wires(NODES))
        ring = Ring(wires, folder)
        stack.callback(ring.end)
        for number in range(1, NODES + 1):
            ring.start(number)
        ring.when_healthy()
        logs = [folder / f"client{number}.jsonl" for number in CLIENTS_AT]
        stop = folder / "stop"
        clients = [
            wires.run(
                number,
                *[sys.executable, "-m", "tests.processes.chaos_client", str(log), str(stop)],
                *[wires.address(each) for each in range(1, NODES + 1)],
                log=folder / f"client{number}.log",
            )
            for number, log in zip(CLIENTS_AT, logs, strict=True)
        ]
        for client in clients:
            stack.callback(client.kill)
        until(lambda: all(log.exists() and log.stat().st_size for log in logs), "no clients")
        chaos = Chaos(wires, ring, Random(seed))
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            chaos.one()
        ring.when_healthy()
        stop.touch()
        ended = [client.wait(_READY_SECONDS) for client in clients]
        return _told(operations_in(logs), chaos, ended)


def _told(operations: list[Operation], chaos: Chaos, ended: list[int]) -> int:
    answered = sum(operation.is_answered for operation in operations)
    wrong = judged(operations) + [f"a client ended with {status}" for status in ended if status]
    told: dict[str, Any] = {"faults": dict(chaos.faults), "operations": len(operations), "answered": answered}
    return said(told, wrong)


def said(told: dict[str, Any], wrong: list[str]) -> int:
    """Say what was counted, and what was wrong. :returns: the exit status."""
    say(json.dumps(told))
    for each in wrong:
        say(each)
    return 1 if wrong else 0


def main() -> None:
    """Run, and exit with 1 when something was wrong; with 2 where the machine does not allow it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of faults")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if not may_run():
        say("this needs root, network namespaces, bridges and veth devices")
        sys.exit(NOT_HERE)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # and clean up
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(run(options.seconds, options.seed, Path(folder)))


if __name__ == "__main__":
    main()
