"""Many pieces of work at once, and lines however they come."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, fail, succeed

from chordtx.cli.pipeline import Pipeline
from chordtx.cli.reading import read_chunks, split_lines
from tests.cli_fake import ReadyReactor


class Works:
    """Work that ends when the test says so."""

    def __init__(self) -> None:
        self.started: dict[str, Deferred[None]] = {}

    def start(self, name: str) -> Deferred[None]:
        self.started[name] = Deferred()
        return self.started[name]

    async def run(self, width: int, names: str) -> None:
        async with Pipeline(width) as pipeline:
            for name in names:
                await pipeline.add(name, lambda name=name: self.start(name))  # type: ignore[misc]


def test_only_so_many_are_under_way() -> None:
    works = Works()
    running = Deferred.fromCoroutine(works.run(2, "abcd"))
    assert list(works.started) == ["a", "b"]
    works.started["b"].callback(None)
    assert list(works.started) == ["a", "b", "c"]
    for name in "acd":
        assert not running.called
        works.started[name].callback(None)
    assert running.called


def test_the_same_name_runs_in_order() -> None:
    works = Works()
    running = Deferred.fromCoroutine(works.run(5, "aba"))
    first = works.started["a"]
    works.started["b"].callback(None)
    assert works.started["a"] is first
    first.callback(None)
    assert works.started["a"] is not first
    works.started["a"].callback(None)
    assert running.called


def test_the_first_failure_ends_it() -> None:
    works = Works()
    failures: list[Any] = []
    Deferred.fromCoroutine(works.run(2, "abcd")).addErrback(failures.append)
    works.started["a"].errback(ZeroDivisionError())
    assert list(works.started) == ["a", "b"]
    works.started["b"].callback(None)
    assert failures[0].check(ZeroDivisionError)


def test_a_failure_at_the_end_is_raised() -> None:
    failures: list[Any] = []

    async def run() -> None:
        async with Pipeline(5) as pipeline:
            await pipeline.add(1, lambda: fail(ZeroDivisionError()))
            assert not failures

    Deferred.fromCoroutine(run()).addErrback(failures.append)
    assert failures[0].check(ZeroDivisionError)


def test_cancelling_cancels_what_is_under_way() -> None:
    works = Works()
    failures: list[Any] = []
    running = Deferred.fromCoroutine(works.run(2, "abcd"))
    running.addErrback(failures.append)
    running.cancel()
    assert failures[0].check(CancelledError)
    assert all(work.called for work in works.started.values())


def test_who_waits_for_work_of_the_same_name_can_be_cancelled() -> None:
    works = Works()
    failures: list[Any] = []
    running = Deferred.fromCoroutine(works.run(3, "aba")).addErrback(failures.append)
    assert not running.called
    running.cancel()
    assert failures[0].check(CancelledError)
    assert all(work.called for work in works.started.values())


def test_work_that_is_done_at_once_needs_no_stack() -> None:
    async def run() -> None:
        async with Pipeline(3) as pipeline:
            for number in range(5000):
                await pipeline.add(number, lambda: succeed(None))

    assert Deferred.fromCoroutine(run()).called


async def as_they_come(chunks: list[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def collected(lines: AsyncIterator[bytes]) -> list[bytes]:
    found: list[bytes] = []

    async def collect() -> None:
        found.extend([line async for line in lines])

    assert Deferred.fromCoroutine(collect()).called
    return found


@given(st.lists(st.binary(max_size=6) | st.just(b"\n")))
def test_lines_do_not_depend_on_the_chunks(chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    expected = whole.split(b"\n")
    if not expected[-1]:
        expected.pop()
    assert collected(split_lines(as_they_come(chunks))) == expected


def test_a_pipe_is_read_to_its_end() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"one\ntwo")
    os.close(writing)
    assert collected(split_lines(read_chunks(ReadyReactor(), reading))) == [b"one", b"two"]
    os.close(reading)


def test_reading_can_be_cancelled() -> None:
    class NothingComes(ReadyReactor):
        def addReader(self, reader: Any) -> None:
            self.reader = reader

        def removeReader(self, reader: Any) -> None:
            del self.reader

    reactor = NothingComes()

    async def read() -> None:
        async for _ in read_chunks(reactor, 0):
            pytest.fail("nothing was there to be read")

    reading = Deferred.fromCoroutine(read())
    failures: list[Any] = []
    reading.addErrback(failures.append)
    reading.cancel()
    assert failures[0].check(CancelledError)
    assert not hasattr(reactor, "reader")
