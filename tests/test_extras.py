"""What chordtx needs: which packages its modules import, and what works without those that are extras."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import requires, version
from pathlib import Path

import pytest

import chordtx
from chordtx.cli.meter import Meter

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "chordtx"
TIMEOUT_SECONDS = 60.0
#: What Twisted brings with it, and lets others use.
OF_TWISTED = {"OpenSSL", "cryptography", "service_identity", "zope"}
#: Names of packages to import, where they differ from those to install.
IMPORTED_AS = {"attrs": "attr attrs", "python-snappy": "snappy"}
#: An embedder's program.
PROGRAM = """
import sys
for name in ("click", "rich", "crochet", "base58", "snappy"):
    sys.modules[name] = None  # what is None there cannot be imported
import chordtx.tap, chordtx.discovery
from twisted.internet.task import react
from chordtx import ChordService, SyncService

async def main(reactor):
    async with ChordService(reactor, listen="tcp:0:interface=127.0.0.1") as node:
        await node.set("key", "value")
        print((await node.entry("key")).value)

react(main)
"""


def required(extra: str | None = None) -> set[str]:
    """What an extra requires, or a plain install, by the names that are imported."""
    found = set()
    for line in requires("chordtx") or []:
        told = re.search(r"extra == [\"'](\w+)[\"']", line)
        if (told[1] if told else None) == extra:
            name = re.split(r"[^\w.-]", line)[0]
            found |= set(IMPORTED_AS.get(name, name).split())
    return found


def imported() -> Iterator[tuple[str, str]]:
    """Each module with each package of others that it imports."""
    for path in PACKAGE.rglob("*.py"):
        module = path.relative_to(PACKAGE)
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in (each.partition(".")[0] for each in names):
                if name not in {*sys.stdlib_module_names, "chordtx"}:
                    yield str(module), name


def missing(allowed: set[str], parts: tuple[str, ...], *, inside: bool) -> list[str]:
    """Imports of what is not allowed there."""
    return [
        f"{module}: {name}"
        for module, name in imported()
        if module.startswith(parts) == inside and name not in allowed
    ]


def test_each_import_is_of_a_package_that_is_installed() -> None:
    core = required() | OF_TWISTED
    assert core >= {"attr", "automat", "click", "msgpack", "twisted"}
    assert {"rich", "crochet", "base58", "snappy"} & core == set()
    optional = required("snappy")
    assert missing(core - {"click"} | optional, ("cli/", "sim/", "blocking/"), inside=False) == []
    assert missing(core | required("cli"), ("cli/",), inside=True) == []
    assert missing(core - {"click"} | required("blocking"), ("blocking/",), inside=True) == []
    assert missing(core, ("sim/",), inside=True) == []


def test_the_version_is_that_of_the_package() -> None:
    assert chordtx.__version__ == version("chordtx")


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )


def test_an_embedder_needs_no_extra_and_no_click() -> None:
    ended = run(PROGRAM)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("value\n", "", 0)


def test_the_blocking_sockets_name_their_extra() -> None:
    ended = run("import sys; sys.modules['crochet'] = None; import chordtx.blocking")
    assert ended.returncode == 1
    last = ended.stderr.splitlines()[-1]
    assert last == "ModuleNotFoundError: chordtx.blocking needs crochet: pip install 'chordtx[blocking]'"


@pytest.mark.parametrize("is_installed", [True, False])
def test_progress_without_rich_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], is_installed: bool
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    if not is_installed:
        for name in [name for name in sys.modules if name.split(".")[0] == "rich"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "rich", None)
    with Meter("loaded", iter([1.0, 2.0]).__next__, 10) as meter:
        meter.advance(5)
        meter.leave_out(5)
        assert (meter._bar is not None) == is_installed
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith("loaded 1 records in 1.0 s, 1 records/s; left out 1 that have expired")
