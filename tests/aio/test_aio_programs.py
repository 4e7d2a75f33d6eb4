"""asyncio programs, each in a process of its own, under asyncio's loop and uvloop's.

They run in Python's development mode, where a warning is an error; and nothing may come on standard error:
no task that was destroyed, no socket that was not closed, no failure that nobody took.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

Run = Callable[..., Deferred[str]]
LOOPS = [
    "asyncio",
    pytest.param(
        "uvloop", marks=pytest.mark.skipif(find_spec("uvloop") is None, reason="uvloop is not here")
    ),
]
on_each_loop = pytest.mark.parametrize("loop", LOOPS)


@on_each_loop
@pytest.mark.parametrize("program", ["ring", "mesh", "sync", "loops"])
@pytest_twisted.ensureDeferred
async def test_program(run_program: Run, loop: str, program: str) -> None:
    assert await run_program(f"{program}_program.py", loop) == "done\n"


@on_each_loop
@pytest_twisted.ensureDeferred
async def test_tls_names_folders_and_threads(run_program: Run, loop: str, tmp_path: Path) -> None:
    assert await run_program("places_program.py", loop, tmp_path) == "done\n"


@on_each_loop
@pytest.mark.parametrize(
    "which", ["another_kind", "of_another_loop", "of_this_loop", "started", "in_the_foreground"]
)
@pytest_twisted.ensureDeferred
async def test_reactor_of_the_program(run_program: Run, loop: str, which: str) -> None:
    assert await run_program("reactors_program.py", loop, which) == "done\n"


@on_each_loop
@pytest_twisted.ensureDeferred
async def test_interrupt(start_program: Any, loop: str) -> None:
    program = start_program("interrupted_program.py", loop)
    await program.said("ready")
    program.interrupt()
    assert await program.ended_well() == "ready\ninterrupted\n"
    assert program.err == ""
