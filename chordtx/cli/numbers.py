"""``incr`` and ``touch``: what changes a key without reading it first."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import click

from chordtx.cli.client import Client
from chordtx.cli.jsonform import dumps
from chordtx.cli.parameters import NumberType, SecondsType
from chordtx.cli.running import EXIT_NO_SUCH_KEY, Failed, NoSuchKey
from chordtx.cli.streams import standard_output
from chordtx.escaping import escaped
from chordtx.values import TTL_SECONDS_MAX

if TYPE_CHECKING:
    from chordtx.chord import ChordService

_NEGATIVE = re.compile(r"-\.?[0-9]")


class _NumberLast(click.Command):
    """A command whose last argument may be a negative number, which looks like an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See click."""
        if len(args) > 1 and "--" not in args and _NEGATIVE.match(args[-1]):
            args = [*args[:-1], "--", args[-1]]
        return super().parse_args(ctx, args)


@click.command(cls=_NumberLast)
@click.argument("key")
@click.argument("by", type=NumberType(), default=1)
@click.pass_obj
def incr(client: Client, key: str, by: float) -> None:
    """Add BY (1 without it) to the number under KEY, and write the new number.

    BY may be negative, or a float. Without a number there it begins with 0. However many do so at once, each
    is counted.
    """
    out = standard_output()

    async def work(reactor: Any, node: ChordService) -> None:
        try:
            number = await node.increment(os.fsencode(key), by)
        except TypeError as error:
            raise Failed(f"not as expected: {escaped(key)} has no number", EXIT_NO_SUCH_KEY) from error
        except OverflowError as error:
            raise Failed(str(error)) from error
        out.line(dumps(number))

    client.run(work)


@click.command()
@click.argument("key")
@click.option(
    "--ttl",
    type=SecondsType(TTL_SECONDS_MAX),
    help="Forget it so long after now. [default: keep it for ever]",
)
@click.pass_obj
def touch(client: Client, key: str, ttl: float | None) -> None:
    """Say anew how long KEY stays. Its value stays the same, and it has another version then."""

    async def work(reactor: Any, node: ChordService) -> None:
        try:
            await node.touch(os.fsencode(key), ttl)
        except KeyError as error:
            raise NoSuchKey(key) from error

    client.run(work)


COMMANDS = (incr, touch)
