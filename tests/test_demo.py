"""The demonstration, against a ring that is a dict."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from chordtx.cli.meter import Meter
from chordtx.cli.running import EXIT_NO_RING, Failed
from demo import run as demo
from tests.cli_fake import FakeChord, ReadyReactor


@pytest.fixture(scope="module")
def characters() -> dict[str, dict[str, str]]:
    return dict(demo.named_characters())


def outcome(coroutine: Any) -> Any:
    outcomes: list[Any] = []
    Deferred.fromCoroutine(coroutine).addErrback(lambda failure: failure.value).addCallback(outcomes.append)
    return outcomes[0]


def test_characters(characters: dict[str, dict[str, str]]) -> None:
    assert 30_000 < len(characters) < 45_000
    about = characters["GREEK SMALL LETTER ALPHA"]
    assert about == {"code": "U+03B1", "character": "\u03b1", "category": "Ll"}
    for name, about in characters.items():
        (name + about["character"]).encode()


def test_loads_and_reads_back(
    characters: dict[str, dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    nodes: list[Any] = [FakeChord.fresh()(None)]
    nodes.append(type(nodes[0])(None))
    with Meter("loaded", ReadyReactor().seconds) as meter:
        assert outcome(demo.load(nodes[0], characters, meter)) is None
    assert len(nodes[0].records) == len(characters) == meter.count
    assert len(outcome(demo.read_sample(ReadyReactor(), nodes, characters))) == demo.SAMPLE_RECORDS


def test_a_wrong_record_fails(characters: dict[str, dict[str, str]]) -> None:
    assert isinstance(
        outcome(demo.read_sample(ReadyReactor(), [FakeChord.fresh()(None)], characters)), Failed
    )


def test_a_port_that_is_taken_is_said_in_one_line() -> None:
    root = Path(__file__).parents[1]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = subprocess.run(
            [sys.executable, root / "demo" / "run.py", "--once", "--port", str(port)],
            capture_output=True,
            text=True,
            timeout=60,
            env=os.environ | {"PYTHONPATH": str(root)},
            check=False,
        )
    assert ended.returncode == EXIT_NO_RING
    assert ended.stderr == (
        f"chordtx: another program uses 127.0.0.1:{port}: take other ports, as with make run PORT=20000\n"
    )
    assert demo.other_ports(20_000).endswith("PORT=20005")
