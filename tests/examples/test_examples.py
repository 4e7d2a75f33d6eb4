"""The examples do what they say."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPCookieProcessor, Request, build_opener, urlopen

import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from tests.chord.conftest import nodes
from tests.chord.nodes import Nodes
from tests.examples.programs import EXAMPLES, Program

__all__ = ["nodes"]
Run = Callable[..., Program]


@pytest_twisted.async_yield_fixture
async def run(running_reactor: Any) -> AsyncIterator[Run]:
    """``run(name, *arguments)`` starts an example."""
    programs: list[Program] = []

    def start(name: str, *arguments: object) -> Program:
        programs.append(Program(running_reactor, name, *arguments))
        return programs[-1]

    yield start
    for program in programs:
        await program.kill()


@pytest_twisted.ensureDeferred
async def test_chat(run: Run, free_port: Any) -> None:
    first_port, second_port = free_port(), free_port()
    ann = run("chat.py", "Ann", "--listen", first_port)
    bob = run("chat.py", "Bob", "--listen", second_port, "--peer", f"127.0.0.1:{first_port}")
    cyd = run("chat.py", "Cyd", "--listen", free_port(), "--peer", f"127.0.0.1:{second_port}")
    for program in (ann, bob, cyd):
        await program.said("connected")
    cyd.type("/who")
    await cyd.said("neighbours")
    ann.type("hello, everybody")
    for program in (bob, cyd):
        await program.said("Ann: hello, everybody")
    cyd.type("/reply hello, Ann")
    await ann.said("Cyd (to you): hello, Ann")
    bob.type("grüß euch")
    await ann.said("Bob: grüß euch")
    assert "to you" not in bob.out
    for program in (ann, bob, cyd):
        program.end_input()
        await program.ended_well()


@pytest_twisted.ensureDeferred
async def test_sessions_are_the_same_on_every_server(run: Run, free_port: Any) -> None:
    port = free_port()
    first = run("sessions.py", 0, "--listen", port)
    await first.said("http://")
    second = run("sessions.py", 0, "--peer", f"127.0.0.1:{port}")
    await second.said("http://")
    urls = [program.out.strip() for program in (first, second)]
    visitor, other = Visitor(), Visitor()
    for visits in range(1, 7):
        assert await visitor.get(urls[visits % 2]) == {"visits": visits}
    assert await visitor.get(urls[0] + "name", b"name=Ann") == {"visits": 6, "name": "Ann"}
    assert await visitor.get(urls[1]) == {"visits": 7, "name": "Ann"}
    assert await other.get(urls[1]) == {"visits": 1}
    second.interrupt()
    await second.ended_well()
    assert await visitor.get(urls[0]) == {"visits": 8, "name": "Ann"}
    first.interrupt()
    await first.ended_well()


class Visitor:
    """Somebody with a browser."""

    def __init__(self) -> None:
        self._opener = build_opener(HTTPCookieProcessor())

    def get(self, url: str, data: bytes | None = None) -> Deferred[Any]:
        def read() -> Any:
            with self._opener.open(Request(url, data), timeout=30) as answer:
                return json.load(answer)

        return deferToThread(read)


@pytest_twisted.ensureDeferred
async def test_service_is_found_by_its_name(nodes: Nodes, run: Run) -> None:
    first, *_ = await nodes.ring(3)
    peer = f"127.0.0.1:{first.out_addr[1]}"
    endpoint = f"chord:echo:peer={peer}".replace(peer, peer.replace(":", r"\:"))
    early = run("echo_client.py", endpoint, "hello")
    await early.ended()
    assert early.status == 1
    assert "nobody serves 'echo'" in early.err
    servers = [run("echo_server.py", "--peer", peer) for _ in range(2)]
    for server in servers:
        await server.said("is served at")
    assert await first.count("service/echo/") == 2
    for _ in range(3):
        assert await run("echo_client.py", endpoint, "hello").ended_well() == "hello\n"
    await servers[0].kill()  # without a word: it is tried, and then the other one
    for _ in range(3):
        assert await run("echo_client.py", endpoint, "hello").ended_well() == "hello\n"
    servers[1].interrupt()
    await servers[1].ended_well()
    assert await first.count("service/echo/") == 1, "the one that was killed has its lease still"


@pytest_twisted.ensureDeferred
async def test_asyncio(nodes: Nodes, run: Run) -> None:
    printed = await run("with_asyncio.py").ended_well()
    expected = f"45\n{sorted(f'number {number}' for number in range(10))}\n"
    assert printed == expected
    first, *_ = await nodes.ring(3)
    assert await run("with_asyncio.py", f"127.0.0.1:{first.out_addr[1]}").ended_well() == expected
    assert await first.get("number 7") == 7


@pytest_twisted.ensureDeferred
async def test_notes_are_the_same_on_every_server(run: Run, free_port: Any) -> None:
    port = free_port()
    first = run("notes.py", 0, "--listen", port)
    await first.said("http://")
    second = run("notes.py", 0, "--peer", f"127.0.0.1:{port}")
    await second.said("http://")
    here, there = (program.out.strip() for program in (first, second))
    assert await fetched("PUT", f"{here}/shopping", b"milk, bread") == (204, "")
    assert await fetched("PUT", f"{there}/gr%C3%BC%C3%9Fe", b"an alle") == (204, "")
    assert await fetched("GET", f"{there}/shopping") == (200, "milk, bread")
    assert await fetched("GET", f"{here}/gr%C3%BC%C3%9Fe") == (200, "an alle")
    assert await fetched("GET", here) == (200, json.dumps(["grüße", "shopping"]))
    assert await fetched("DELETE", f"{here}/shopping") == (204, "")
    assert [(await fetched(method, f"{there}/shopping"))[0] for method in ("GET", "DELETE")] == [404, 404]
    second.interrupt()
    await second.ended_well()
    assert await fetched("GET", here) == (200, json.dumps(["grüße"]))
    first.interrupt()
    await first.ended_well()
    assert (first.err, second.err) == ("", "")


def fetched(method: str, url: str, data: bytes | None = None) -> Deferred[tuple[int, str]]:
    """Ask a web server. Fires with the status and the text."""

    def fetch() -> tuple[int, str]:
        try:
            with urlopen(Request(url, data, method=method), timeout=30) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return deferToThread(fetch)


def test_every_example_has_a_test() -> None:
    source = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert [path.name for path in EXAMPLES.glob("*.py") if f'"{path.name}"' not in source] == []
