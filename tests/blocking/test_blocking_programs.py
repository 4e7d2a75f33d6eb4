"""Programs with blocking sockets, as users write them: each runs in a process of its own beside a ring."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.chord.nodes import Nodes
from tests.interop.peers import require

TUTORIAL = Path(__file__).parents[1] / "data" / "chord-tutorial.txt"
Run = Callable[..., Deferred[str]]


@pytest_twisted.ensureDeferred
async def test_the_chord_tutorial_runs_word_for_word(nodes: Nodes, run_program: Run, free_port: Any) -> None:
    first, *_ = await nodes.ring(5)
    printed = await run_program("tutorial.py", TUTORIAL, first.out_addr[1], free_port())
    assert printed.endswith("blocks: 11\n")
    assert await first.get_many(["test key", "测试", "one"]) == {
        b"test key": b"value",
        "测试".encode(): "test",
        b"one": 1,
    }
    assert await first.get("test") is None


@pytest_twisted.ensureDeferred
async def test_a_chord_socket_is_a_dict(nodes: Nodes, run_program: Run, free_port: Any) -> None:
    first, *_ = await nodes.ring(5)
    assert await run_program("dict_program.py", first.out_addr[1], free_port(), free_port()) == "done\n"


@pytest_twisted.ensureDeferred
async def test_threads_change_one_key_exactly(nodes: Nodes, run_program: Run, free_port: Any) -> None:
    first, *_ = await nodes.ring(3)
    assert await run_program("exact_program.py", first.out_addr[1], free_port()) == "done\n"


@pytest_twisted.ensureDeferred
async def test_mesh_sockets_talk(run_program: Run, free_port: Any) -> None:
    assert await run_program("mesh_program.py", free_port(), free_port(), free_port()) == "done\n"


@pytest_twisted.ensureDeferred
async def test_sync_sockets_have_one_dict(run_program: Run, free_port: Any) -> None:
    assert await run_program("sync_program.py", free_port(), free_port()) == "done\n"


@pytest.mark.parametrize(("kind", "differences"), [("ChordSocket", 11), ("SyncSocket", 10)])
@pytest_twisted.ensureDeferred
async def test_cpythons_own_mapping_tests_pass(kind: str, differences: int, run_program: Run) -> None:
    if find_spec("test") is None or find_spec("test.mapping_tests") is None:
        pytest.skip("this Python comes without its own tests (the package `test`)")
    printed = await run_program("mapping_program.py", kind)
    passed, differ = map(int, re.findall(r"\d+", printed))
    assert (passed > 20, differ) == (True, differences)


@pytest.mark.interop
@pytest_twisted.ensureDeferred
async def test_py2ps_own_tests_pass(run_program: Run) -> None:
    folders = list(require("py2p").glob("lib/python3*/site-packages/py2p/test"))
    if not folders:
        pytest.skip("this py2p was published without its tests")
    assert await run_program("py2p_program.py", folders[0]) == "14 tests\n"
