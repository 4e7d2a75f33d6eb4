"""``load`` and ``dump``: all records, in and out, as JSON Lines."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import AsyncIterator
from typing import Any, BinaryIO

import click
from twisted.internet.defer import Deferred

from chordtx.chord import ChordService
from chordtx.cli.client import Client
from chordtx.cli.jsonform import FORMS_HELP, from_json, json_text, key_from_json, key_to_json, to_json
from chordtx.cli.meter import Meter
from chordtx.cli.pipeline import Pipeline
from chordtx.cli.reading import read_chunks, split_lines
from chordtx.cli.running import Failed

UNDER_WAY_MAX = 256  # enough to keep a ring busy over a slow link, and little to lose when interrupted
LINES_HELP = 'Each line is {"key": ..., "value": ...}. ' + FORMS_HELP


@click.command(epilog=LINES_HELP)
@click.argument("file", type=click.File("rb"))
@click.pass_obj
def load(client: Client, file: BinaryIO) -> None:
    """Store every record of FILE, JSON Lines; - is standard input."""

    async def work(reactor: Any, node: ChordService) -> None:
        with Meter("loaded", reactor.seconds, _size_bytes(file)) as meter:
            await load_lines(node, split_lines(read_chunks(reactor, file.fileno())), meter)

    client.run(work)


def _size_bytes(file: BinaryIO) -> int | None:
    """The length of a regular file; others do not know theirs."""
    about = os.fstat(file.fileno())
    return about.st_size if stat.S_ISREG(about.st_mode) else None


async def load_lines(node: ChordService, lines: AsyncIterator[bytes], meter: Meter) -> None:
    """Store the records of JSON Lines; of two with the same key the later one wins.

    :raises Failed: naming the first line that is no record, or that cannot be stored.
    """
    number = 0
    async with Pipeline(UNDER_WAY_MAX) as pipeline:
        async for line in lines:
            number += 1
            if line.strip():
                key, value = _record(line, number)
                store = _Storing(node, key, value, number, meter, len(line) + 1)
                await pipeline.add(key, store)


class _Storing:
    """One line on its way into the ring."""

    def __init__(
        self, node: ChordService, key: bytes, value: Any, number: int, meter: Meter, share: int
    ) -> None:
        self._node, self._key, self._value = node, key, value
        self._number, self._meter, self._share = number, meter, share

    def __call__(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._store())

    async def _store(self) -> None:
        try:
            await self._node.set(self._key, self._value)
        except (TypeError, ValueError, OverflowError) as error:
            raise Failed(f"line {self._number}: this value cannot be stored: {error}") from error
        self._meter.advance(self._share)


def _record(line: bytes, number: int) -> tuple[bytes, Any]:
    try:
        said = json.loads(line)
        if not isinstance(said, dict) or said.keys() != {"key", "value"}:
            raise ValueError('it is not {"key": ..., "value": ...}')
        return key_from_json(said["key"]), from_json(said["value"])
    except (ValueError, RecursionError) as error:
        raise Failed(f"line {number}: {error}") from error


@click.command(epilog=LINES_HELP)
@click.argument("file", type=click.File("wb", lazy=False), default="-")
@click.pass_obj
def dump(client: Client, file: BinaryIO) -> None:
    """Write every record as JSON Lines to FILE, or to standard output."""

    async def work(reactor: Any, node: ChordService) -> None:
        with Meter("dumped", reactor.seconds) as meter:
            await dump_lines(node, file, meter)
            file.flush()

    client.run(work)


async def dump_lines(node: ChordService, out: BinaryIO, meter: Meter) -> None:
    """Write every record, read page by page; one that is deleted meanwhile may be left out."""
    async for key, value in node.items():
        record = {"key": key_to_json(key), "value": to_json(value)}
        out.write(json_text(record).encode() + b"\n")
        meter.advance()


COMMANDS = (load, dump)
