"""How a node finds its ring: by a list of seeds, of which one that answers is enough."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest_twisted

from tests.processes.daemons import Daemons


def seeds(tmp_path: Path, addresses: list[str]) -> list[str]:
    """The arguments that name a file with these seeds."""
    path = tmp_path / "chord.toml"
    listed = ", ".join(f'"{address}"' for address in addresses)
    path.write_text(f"peer = [{listed}]\n[chord]\njoin_timeout_seconds = 3.0\n")
    return ["--config", str(path)]


@pytest_twisted.ensureDeferred
async def test_one_seed_that_answers_is_enough(
    daemons: Daemons, free_port: Any, running_reactor: Any, tmp_path: Path
) -> None:
    first, second = await daemons.ring(2)
    dead = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    daemons.start(*seeds(tmp_path, [*dead, second.address]))
    client = await daemons.client(first)
    await daemons.whole(client, 3)


@pytest_twisted.ensureDeferred
async def test_seeds_that_do_not_answer_are_named(daemons: Daemons, free_port: Any, tmp_path: Path) -> None:
    dead = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    daemon = daemons.start(*seeds(tmp_path, dead))
    await daemon.ended()
    said = next(line for line in daemon.said.decode().splitlines() if line.startswith("chord: "))
    assert daemon.status == 1
    assert said.startswith("chord: cannot start: no ring was reached")
    for address in dead:
        assert f"{address}: Connection was refused" in said
