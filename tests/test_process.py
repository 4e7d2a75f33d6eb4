"""What a node does with a process that is its own."""

from __future__ import annotations

import resource

import pytest

from chordtx import process
from chordtx.config import MeshSettings


@pytest.mark.parametrize(
    ("soft", "hard", "count", "expected"),
    [
        (1024, 4096, 8192, 4096),
        (1024, 100_000, 8192, 8192),
        (9000, 100_000, 8192, None),
        (512, 512, 8192, None),
    ],
)
def test_open_files_are_allowed_as_far_as_the_system_goes(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, count: int, expected: int | None
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    process.allow_open_files(count)
    assert asked == ([] if expected is None else [(expected, hard)])


def test_open_files_are_enough_for_the_links_that_are_accepted() -> None:
    settings = MeshSettings()
    assert settings.accepted_max + 3 * settings.connections_max < process.OPEN_FILES
