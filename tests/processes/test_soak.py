"""Pairs of processes are killed and started again under load: nothing acknowledged is lost.

``make soak`` runs the same for three minutes with 10,000 records a node, and prints what it measured.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest_twisted

from tests.processes.daemons import Daemons
from tests.processes.soak import COPIES, NODES, Plan, Soak

SHORT = Plan(keys=1600, kills=3, between_seconds=10.0)
LONG = Plan(keys=10_000 * NODES // COPIES, kills=18, between_seconds=10.0)
ANSWERED_SECONDS = 5.0


@pytest_twisted.ensureDeferred
async def test_pairs_are_killed_and_nothing_is_lost(
    daemons: Daemons, free_port: Any, running_reactor: Any, tmp_path: Path
) -> None:
    plan = LONG if os.environ.get("CHORDTX_SOAK") == "long" else SHORT
    soak = Soak(running_reactor, daemons, [free_port() for _ in range(NODES)], tmp_path, plan)
    client = await soak.start()
    await soak.load(client)
    await soak.run(client)
    healthy_seconds = await soak.seconds_until_healthy(client, patience_seconds=120)
    assert await soak.lost(client) == []
    assert soak.wrong_reads == []
    share = soak.answered_share(ANSWERED_SECONDS)
    failed = sum(call.seconds is None for call in soak.calls)
    print(f"\n{len(soak.calls)} calls, {failed} without an answer; pairs killed: {len(soak.killed_at)}")
    print(f"calls begun within {ANSWERED_SECONDS:.0f} s of that: {share:.2%} answered in as long")
    print(f"healthy, with {len(soak.keys)} records, {healthy_seconds:.1f} s after the last restart")
