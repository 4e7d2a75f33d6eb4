"""The recipes of docs/recipes.md: with several processes at once, while a process of the ring is killed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest_twisted
from twisted.internet.defer import gatherResults

from chordtx import ChordService
from tests.examples.programs import PATIENCE_SECONDS, Program
from tests.processes.daemons import Daemon, Daemons

NODES = 5


class Ring:
    """A ring of processes, a client of it, and programs that use it."""

    def __init__(self, reactor: Any, daemons: Daemons) -> None:
        self._reactor = reactor
        self._daemons = daemons
        self._nodes: list[Daemon] = []
        self._programs: list[Program] = []
        self.client: ChordService

    async def start(self, config: Path) -> None:
        """Start it. It has few partitions, so that it is whole soon."""
        config.write_text("[chord]\npartition_bits = 4\n")
        self._nodes = await self._daemons.ring(NODES, "--config", str(config))
        self.client = await self._daemons.client(*self._nodes)

    def run(self, name: str, *arguments: object) -> Program:
        """Run an example that joins through all nodes."""
        peers = [word for node in self._nodes for word in ("--peer", node.address)]
        self._programs.append(Program(self._reactor, name, *peers, *arguments))
        return self._programs[-1]

    async def kill_one(self) -> None:
        """As ``kill -9`` does. It is not started again."""
        await self._nodes.pop().kill()

    async def until(self, is_so: Callable[[], Any], what: str) -> None:
        """Wait until it is so; ``is_so`` returns something to await."""
        deadline = self._reactor.seconds() + PATIENCE_SECONDS
        while not await is_so():
            assert self._reactor.seconds() < deadline, f"not in time: {what}"
            await self.client.sleep(0.02)

    async def stop(self) -> None:
        """End everything."""
        for program in self._programs:
            await program.kill()
        await self._daemons.stop()


@pytest_twisted.async_yield_fixture
async def ring(running_reactor: Any, free_port: Any, tmp_path: Path) -> AsyncIterator[Ring]:
    made = Ring(running_reactor, Daemons(running_reactor, free_port, subnet="chord"))
    try:
        await made.start(tmp_path / "node.toml")
        yield made
    finally:
        await made.stop()


@pytest_twisted.ensureDeferred
async def test_rate_limiter_allows_no_more_than_its_limit(ring: Ring) -> None:
    # One window of eleven days, so that no run meets its end.
    calls, limit = 60, 150
    options = ["--limit", limit, "--seconds", 1e6, "--calls", calls]
    programs = [ring.run("rate_limiter.py", *options, "ann") for _ in range(4)]

    async def has_begun() -> bool:
        return sum([value async for value in ring.client.values(prefix="rate:ann:")]) > limit // 4

    await ring.until(has_begun, "some calls")
    await ring.kill_one()
    told = [re.findall(r"\d+", await program.ended_well()) for program in programs]
    allowed, refused, unknown = (sum(map(int, numbers)) for numbers in zip(*told, strict=True))
    assert allowed + refused + unknown == len(programs) * calls
    assert limit - unknown <= allowed <= limit
    (entry,) = [entry async for entry in ring.client.entries(prefix="rate:ann:")]
    assert len(programs) * calls - unknown <= entry.value <= len(programs) * calls
    assert entry.expires is not None or unknown


@pytest_twisted.ensureDeferred
async def test_url_shortener_gives_no_code_twice_and_counts_visits(ring: Ring) -> None:
    # Of so short codes many are drawn twice.
    urls = [[f"https://example.org/{number}/{each}" for each in range(60)] for number in range(4)]
    programs = [ring.run("url_shortener.py", "--length", 2, *some) for some in urls]
    await programs[0].said(urls[0][10])
    await ring.kill_one()
    lines = [line for program in programs for line in (await program.ended_well()).splitlines()]
    codes = dict(line.split() for line in lines)
    assert len(codes) == len(lines) == 4 * 60
    assert sorted(codes.values()) == sorted(url for some in urls for url in some)
    stored = {key.decode(): url async for key, url in ring.client.items(prefix="url:")}
    assert {code: stored[f"url:{code}"] for code in codes} == codes

    asked = list(codes)[:20]
    visitors = [ring.run("url_shortener.py", "--open", *asked, *asked) for _ in range(4)]
    await visitors[0].said(asked[5])
    await ring.kill_one()
    unknown = 0
    for visitor in visitors:
        *visits, last = (await visitor.ended_well()).splitlines()
        if "may be counted" in last:
            unknown += int(last.split()[0])
        else:
            visits.append(last)
        assert [line.split()[:2] for line in visits] == [[code, codes[code]] for code in asked + asked]
    counts = [await ring.client.get(f"visits:{code}", 0) for code in asked]
    assert all(count <= 8 for count in counts)
    assert 20 * 8 - unknown <= sum(counts)


@pytest_twisted.ensureDeferred
async def test_each_job_is_done_once_whoever_dies(ring: Ring) -> None:
    jobs = 24
    await ring.run("job_queue.py", "--add", jobs).ended_well()
    options = ["--work", "--seconds", 0.7, "--lease", 2]
    dies, stands_still, *others = workers = [ring.run("job_queue.py", *options) for _ in range(4)]
    await stands_still.said("begun")
    while True:  # in the middle of a job
        stands_still.signal("STOP")
        if stands_still.out.splitlines()[-1].split()[1] == "begun":
            break
        stands_still.signal("CONT")
        await ring.client.sleep(0.1)
    late_key, *_, late_token = stands_still.out.splitlines()[-1].split()
    await dies.said("begun")
    await dies.kill()
    await ring.kill_one()

    async def is_taken_again() -> bool:
        job = await ring.client.get(late_key)
        return bool(job["token"] > int(late_token) and job["is_done"])

    await ring.until(is_taken_again, "somebody does the job of who stands still")
    stands_still.signal("CONT")
    await gatherResults([worker.ended() for worker in (stands_still, *others)])
    assert f"{late_key} refused with token {late_token}\n" in stands_still.out
    assert [worker.status for worker in (stands_still, *others)] == [0, 0, 0]

    lines = [line.split() for worker in workers for line in worker.out.splitlines()]
    done = [(key, int(token)) for key, what, *_, token in lines if what == "done"]
    stored = {key.decode(): job async for key, job in ring.client.items(prefix="job:numbers:")}
    assert {key: (job["is_done"], job["result"]) for key, job in stored.items()} == {
        f"job:numbers:{number}": (True, number * number) for number in range(jobs)
    }
    assert max(Counter(key for key, _ in done).values()) == 1
    assert all(stored[key]["token"] == token for key, token in done)
    assert len(done) >= jobs - 1  # who was killed may have done one that it did not tell of


@pytest_twisted.ensureDeferred
async def test_another_one_leads_when_the_leader_dies_or_stands_still(ring: Ring) -> None:
    watcher = ring.run("leader_election.py", "--watch", "cyd")
    terms = []
    leader = None
    for name, how in [("ann", "KILL"), ("bob", "STOP"), ("dora", "INT")]:
        candidate = ring.run("leader_election.py", "--lease", 2, name)
        await candidate.said(f"{name} leads with token")
        await watcher.said(f"the leader is {name} with token")
        terms.append(int(candidate.out.split()[4]))
        if leader is not None and leader.status is None:
            leader.signal("CONT")
            await leader.said("bob leads no longer")
        candidate.signal(how)
        if how == "KILL":
            await ring.kill_one()
        leader = candidate
    assert terms == sorted(set(terms))
    told = [line.split() for line in watcher.out.splitlines()]
    assert [(words[3], int(words[-1])) for words in told] == list(
        zip(["ann", "bob", "dora"], terms, strict=True)
    )


@pytest_twisted.ensureDeferred
async def test_session_is_known_when_a_node_has_died(ring: Ring) -> None:
    token = (await ring.run("session_store.py", "login", "ann").ended_well()).strip()
    assert re.fullmatch("[0-9a-f]+", token)  # or the next command might take it for an option
    await ring.kill_one()
    users = [ring.run("session_store.py", "who", word) for word in (token, token, "nonsense")]
    assert [await user.ended_well() for user in users] == ["ann\n", "ann\n", "nobody\n"]


@pytest_twisted.ensureDeferred
async def test_configuration_is_told_to_all_when_a_node_has_died(ring: Ring) -> None:
    await ring.run("watched_config.py", "shop", "--set", "colour", "green").ended_well()
    watchers = [ring.run("watched_config.py", "shop") for _ in range(2)]
    for watcher in watchers:
        await watcher.said("[('colour', 'green')]")
    await ring.kill_one()
    await ring.run("watched_config.py", "shop", "--set", "colour", "red").ended_well()
    await ring.run("watched_config.py", "shop", "--set", "size", "3").ended_well()
    for watcher in watchers:
        await watcher.said("[('colour', 'red'), ('size', '3')]")
