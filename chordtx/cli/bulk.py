"""``load`` and ``dump``: all records, in and out, as JSON Lines."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from chordtx.cli.client import Client
from chordtx.cli.jsonform import FORMS_HELP
from chordtx.cli.meter import Meter
from chordtx.cli.streams import STANDARD_OUTPUT, InputFile, Output, opened, standard_output

if TYPE_CHECKING:
    from chordtx.chord import ChordService

    Write = Callable[[ChordService, Output, Meter], Awaitable[None]]

LINES_HELP = (
    'Each line is {"key": ..., "value": ..., "expires": SECONDS}: when the record expires, in seconds since '
    "1970; left out for one that does not. " + FORMS_HELP
)


@click.command(epilog=LINES_HELP)
@click.argument("file", type=InputFile())
@click.option("--if-absent", is_flag=True, help="Leave keys as they are that are there already.")
@click.pass_obj
def load(client: Client, file: BinaryIO, if_absent: bool) -> None:
    """Store every record of FILE, JSON Lines; - is standard input.

    Records that have expired meanwhile are left out.
    """

    async def work(reactor: Any, node: ChordService) -> None:
        from chordtx.cli.loading import load_lines
        from chordtx.cli.reading import read_chunks, split_lines

        with Meter("loaded", reactor.seconds, _size_bytes(file)) as meter:
            lines = split_lines(read_chunks(reactor, file.fileno()))
            await load_lines(node, lines, meter, time.time, if_absent=if_absent)

    client.run(work)


def _size_bytes(file: BinaryIO) -> int | None:
    """The length of a regular file; others do not know theirs."""
    about = os.fstat(file.fileno())
    return about.st_size if stat.S_ISREG(about.st_mode) else None


@click.command(epilog=LINES_HELP)
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True), default=STANDARD_OUTPUT)
@click.pass_obj
def dump(client: Client, file: str) -> None:
    """Write every record as JSON Lines to FILE, or to standard output."""
    from chordtx.cli.dumping import dump_lines

    write_file(client, file, "dumped", dump_lines)


def write_file(client: Client, file: str, done: str, write: Write) -> None:
    """Have ``write(node, out, meter)`` write to a file, or to standard output (``-``).

    :param done: what was done with what the meter counts: "dumped".
    """
    standard = standard_output() if file == STANDARD_OUTPUT else None

    async def work(reactor: Any, node: ChordService) -> None:
        opening = opened(file) if standard is None else nullcontext(standard)
        with opening as out, Meter(done, reactor.seconds) as meter:
            await write(node, out, meter)
            out.flush()

    client.run(work)


COMMANDS = (load, dump)
