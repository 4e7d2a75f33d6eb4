"""``status`` and ``ring``: what the node that is asked knows, and the ring walked once."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import click

from chordtx.cli.client import Client
from chordtx.cli.jsonform import dumps, json_text
from chordtx.cli.ring_table import line_of, table
from chordtx.cli.streams import standard_output

if TYPE_CHECKING:
    from chordtx.chord import ChordService


@click.command()
@click.pass_obj
def status(client: Client) -> None:
    """Write the view of the node that is asked as JSON: the first that was named."""
    out = standard_output()

    async def work(reactor: Any, node: ChordService) -> None:
        (told,) = await node.order(client.asked, "status")
        out.line(json_text(told, indent=2))

    client.run(work)


@click.command()
@click.option(
    "--json", "as_json", is_flag=True, help="Write each node as a line of JSON, with all that is known."
)
@click.pass_obj
def ring(client: Client, as_json: bool) -> None:
    """Walk the ring once; writes a line for each node.

    The columns: id, address, kind, groups that it keeps and leads, records and their bytes. On a terminal
    they have a head, and ids are shortened to what fits.
    """
    out = standard_output()

    async def work(reactor: Any, node: ChordService) -> None:
        nodes = await node.ring()
        if as_json:
            lines = [dumps(each) for each in nodes]
        elif out.is_terminal:
            lines = table(nodes, shutil.get_terminal_size().columns)
        else:
            lines = [line_of(each) for each in nodes]
        for line in lines:
            out.line(line)

    client.run(work)


COMMANDS = (status, ring)
