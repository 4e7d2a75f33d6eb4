"""Blocking sockets and their process: its log, forks, its own reactor, Ctrl-C, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.chord.nodes import Nodes

Run = Callable[..., Deferred[str]]
PROGRAM = "process_program.py"
#: Far less than it takes to find out that a member of a group has died, and to go on without it.
POLITE_SECONDS = 3.0


@pytest.mark.parametrize(
    "scenario", ["log", "fork", "first_after_fork", "interrupted", "handed_over", "handlers", "speaks"]
)
@pytest_twisted.ensureDeferred
async def test_process(scenario: str, run_program: Run) -> None:
    assert await run_program(PROGRAM, scenario) == "done\n"


@pytest_twisted.ensureDeferred
async def test_a_program_that_runs_the_reactor_may_use_sockets_in_other_threads(run_program: Run) -> None:
    assert (await run_program(PROGRAM, "in_the_reactor")).splitlines() == [
        "RuntimeError the reactor runs in this thread, which must not wait",
        "RuntimeError nothing may wait in the reactor's thread, which calls handlers",
        "Stopped the reactor has stopped, as it does when the program's main thread ends",
        "RuntimeError the reactor was stopped, and cannot run again",
    ]


@pytest_twisted.ensureDeferred
async def test_a_thread_that_outlives_the_main_one_is_told(run_program: Run) -> None:
    assert await run_program(PROGRAM, "after_the_end") == "Stopped\n"


@pytest_twisted.ensureDeferred
async def test_sockets_left_open_leave_politely_when_the_program_ends(
    nodes: Nodes, run_program: Run, running_reactor: Any
) -> None:
    (first,) = await nodes.ring(1)
    assert await run_program(PROGRAM, "left_open", first.out_addr[1]) == "done\n"
    keys = [str(number) for number in range(200)]
    found = await first.get_many(keys).addTimeout(POLITE_SECONDS, running_reactor)
    assert found == {key.encode(): int(key) for key in keys}
