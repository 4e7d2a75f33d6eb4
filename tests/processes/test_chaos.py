"""The judge of what clients of real processes were told (`make chaos` runs those)."""

from __future__ import annotations

from chordtx.sim.history import Kind, Operation
from tests.processes.chaos import judged


def operation(kind: Kind, value: str | None, began_at: float, ended_at: float) -> Operation:
    return Operation("client", kind, b"key", value, began_at, ended_at)


def test_a_stale_read_is_seen() -> None:
    written = [operation(Kind.SET, "one", 0, 1), operation(Kind.SET, "two", 2, 3)]
    assert judged([*written, operation(Kind.GET, "two", 4, 5)]) == []
    assert judged([*written, operation(Kind.GET, "one", 2.5, 3.5)]) == []
    (wrong,) = judged([*written, operation(Kind.GET, "one", 4, 5)])
    assert "not linearizable" in wrong
