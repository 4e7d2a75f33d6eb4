"""Runs something with one of the planted faults, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.mutants.__main__ import ROOT, planted
from tests.mutants.groups import MUTANTS


def said_with(name: str, code: str, folder: Path) -> str:
    """What ``code`` prints, with a fault in the package.

    :param name: of the fault. :param folder: an empty one.
    """
    planted(next(mutant for mutant in MUTANTS if mutant.name == name), folder)
    (folder / "tests").symlink_to(ROOT / "tests")
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
