"""asyncio programs in processes of their own: pytest has a reactor already."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.examples.programs import Program

HERE = Path(__file__).parent
#: In development mode Python looks more closely. What Twisted uses that will go some day is no concern here.
OPTIONS = ("-X", "dev", "-W", "error", "-W", "ignore::DeprecationWarning")
Start = Callable[..., Program]


@pytest_twisted.async_yield_fixture
async def start_program(running_reactor: Any) -> AsyncIterator[Start]:
    """``start_program(file, *arguments)`` starts one of the programs here."""
    programs: list[Program] = []

    def start(file: str, *arguments: object) -> Program:
        programs.append(Program(running_reactor, HERE / file, *arguments, options=OPTIONS))
        return programs[-1]

    yield start
    for program in programs:
        await program.kill()


@pytest.fixture
def run_program(start_program: Start) -> Callable[..., Deferred[str]]:
    """``run_program(file, *arguments)`` gives what it printed; it has to end well and in silence."""

    async def run(file: str, *arguments: object) -> str:
        program = start_program(file, *arguments)
        printed = await program.ended_well()
        assert program.err == ""
        return printed

    return lambda *arguments: Deferred.fromCoroutine(run(*arguments))
