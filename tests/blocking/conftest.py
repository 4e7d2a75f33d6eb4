"""A ring in this process, and programs with blocking sockets in others: they have a reactor of their own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.utils import getProcessOutputAndValue

from tests.chord.conftest import nodes

__all__ = ["nodes", "run_program"]
HERE = Path(__file__).parent


@pytest.fixture
def run_program(running_reactor: Any) -> Callable[..., Deferred[str]]:
    """``run_program(file, *arguments)`` gives what the program printed; it fails unless it ended well."""

    def run(file: str, *arguments: object) -> Deferred[str]:
        command = [str(HERE / file), *map(str, arguments)]
        ended = getProcessOutputAndValue(sys.executable, command, env={**os.environ, "PYTHONUTF8": "1"})

        def check(outcome: tuple[bytes, bytes, int]) -> str:
            out, err, status = outcome
            said = err.decode(errors="replace")
            assert status == 0, said
            assert "Traceback" not in said, said
            return out.decode()

        return ended.addCallback(check)

    return run
