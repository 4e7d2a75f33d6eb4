"""``status`` and ``ring``: what this node knows, and the ring walked once."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import click

from chordtx.chord import ChordService
from chordtx.cli.client import Client
from chordtx.cli.jsonform import dumps, json_text
from chordtx.escaping import escaped

COLUMN_CHARACTERS_MAX = 300
FIRST_COLUMNS = ("id", "address", "kind", "groups", "leads", "records", "bytes")


@click.command()
@click.pass_obj
def status(client: Client) -> None:
    """Write the view of the node that is asked as JSON: the first that was named."""

    async def work(reactor: Any, node: ChordService) -> None:
        (told,) = await node.order(client.asked, "status")
        click.echo(json_text(told, indent=2))

    client.run(work)


@click.command()
@click.option(
    "--json", "as_json", is_flag=True, help="Write each node as a line of JSON, with all that is known."
)
@click.pass_obj
def ring(client: Client, as_json: bool) -> None:
    """Walk the ring once; writes a line for each node.

    The columns: id, address, kind, groups that it keeps and leads, records and their bytes.
    """

    async def work(reactor: Any, node: ChordService) -> None:
        nodes = await node.ring()
        if not as_json and sys.stdout.isatty():
            click.echo("  ".join(FIRST_COLUMNS))
        for each in nodes:
            click.echo(dumps(each) if as_json else line_of(each))

    client.run(work)


def line_of(node: Mapping[str, Any]) -> str:
    """A node of the ring in one line, ``-`` for what it did not say; with an error when it did not answer.

    By its own word, which may be any: so each column is escaped, and bounded.
    """
    columns = ["-" if node.get(name) is None else str(node[name]) for name in FIRST_COLUMNS]
    if node.get("error"):
        columns.append(str(node["error"]))
    return "  ".join(escaped(column, COLUMN_CHARACTERS_MAX) for column in columns)


COMMANDS = (status, ring)
