"""``watch``: what becomes of keys, as it happens."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import click

from chordtx.cli.client import Client
from chordtx.cli.jsonform import FORMS_HELP, dumps, json_text, key_to_json, to_json
from chordtx.cli.parameters import VERSION
from chordtx.cli.running import say
from chordtx.cli.streams import Output, standard_output
from chordtx.escaping import escaped

if TYPE_CHECKING:
    from chordtx import Event
    from chordtx.chord import ChordService
    from chordtx.chord.watching import Watch


@click.command(epilog=FORMS_HELP)
@click.argument("key", required=False)
@click.option("--prefix", default="", help="All keys that begin with this, instead of one KEY.")
@click.option("--since", type=VERSION, help="Begin with what became of KEY after this version.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="End after N events.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON on a terminal too.")
@click.pass_obj
def watch(
    client: Client, key: str | None, prefix: str, since: str | None, limit: int | None, as_json: bool
) -> None:
    """Write a line for whatever becomes of KEY, or of all keys, until interrupted.

    Each line is {"kind": ..., "key": ..., "value": ..., "version": ...}. The kind is add, update, delete or
    expire; or reset: what became of some keys is not known, so read them all again. What is not there is
    null. On a terminal the lines are for people.

    A line on standard error says from when on no change is missed.
    """
    if key is not None and prefix:
        raise click.UsageError("Give either KEY or --prefix.")
    if key is None and since is not None:
        raise click.UsageError("--since is a version of one KEY: give that too.")
    known = None if key is None else os.fsencode(key)
    out = standard_output()
    line_of = _line if out.is_terminal and not as_json else _json_line

    async def work(reactor: Any, node: ChordService) -> None:
        async with aclosing(node.watch(known, prefix=os.fsencode(prefix), since=since)) as events:
            # What fails here fails the iteration too, and is told there.
            events.when_ready().addCallbacks(_tell_ready, lambda _: None)
            await _write(reactor, out, events, line_of, limit)

    client.run(work)


async def _write(
    reactor: Any, out: Output, events: Watch, line_of: Callable[[Event], str], limit: int | None
) -> None:
    """Write a line for each event. :raises BrokenPipeError: when nobody reads them any more."""
    from twisted.internet.defer import Deferred

    from chordtx.cli.reading import when_unread

    # The next event, with which writing would fail, may be hours away, and ``watch | head`` waits for us.
    unread = Deferred[None]() if out.pipe is None else when_unread(reactor, out.pipe)
    unread.addCallbacks(lambda _: Deferred.fromCoroutine(events.aclose()), lambda _: None)
    count = 0
    try:
        async for event in events:
            out.line(line_of(event))
            out.flush()  # whoever reads it waits for it now
            count += 1
            if count == limit:
                return
        raise BrokenPipeError
    finally:
        unread.cancel()


def _tell_ready(_: object) -> None:
    say("watching; Ctrl-C ends it")


def _json_line(event: Event) -> str:
    key = None if event.key is None else key_to_json(event.key)
    return json_text(event._asdict() | {"key": key, "value": to_json(event.value)})


def _line(event: Event) -> str:
    if event.key is None:
        return f"{event.kind}: what became of some keys is not known"
    value = "" if event.value is None else " " + dumps(event.value)
    return f"{event.kind:<6} {escaped(event.key)}{value}"


COMMANDS = (watch,)
