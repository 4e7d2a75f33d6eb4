"""``health``, ``leave`` and ``recover``: what operators ask of a ring, and tell its nodes."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from chordtx.cli.bulk import write_file
from chordtx.cli.client import Client
from chordtx.cli.running import EXIT_NOT_HEALTHY, Failed
from chordtx.cli.streams import standard_output

if TYPE_CHECKING:
    from chordtx.chord import ChordService


@click.command()
@click.option("--expect", type=click.IntRange(min=1), metavar="N", help="So many nodes ought to run.")
@click.option(
    "--without", metavar="ID", help="Is it safe to stop this node? The beginning of its id, or its address."
)
@click.pass_obj
def health(client: Client, expect: int | None, without: str | None) -> None:
    """Say in one line whether every partition has a leader and a full group.

    Exit status: 0 when it has, else 5.
    """

    out = standard_output()

    async def work(reactor: Any, node: ChordService) -> None:
        left = None if without is None else named(await node.ring(), without)
        found = await node.health(expect or 0, left)
        if found.complaints:
            raise Failed(found.text, EXIT_NOT_HEALTHY)
        out.line(found.text)

    client.run(work)


def named(nodes: Sequence[Mapping[str, Any]], name: str) -> str:
    """The id of the node whose address or whose id's beginning ``name`` is.

    :param nodes: of the ring. :raises Failed: when it is none of them, or of several.
    """
    ids = {
        str(node["id"]) for node in nodes if name == node.get("address") or str(node["id"]).startswith(name)
    }
    if len(ids) != 1:
        how_many = f"{len(ids)} nodes" if ids else "no node"
        raise Failed(f"--without: in the ring {how_many} with this address or beginning of the id: {name}")
    return ids.pop()


@click.command()
@click.pass_obj
def leave(client: Client) -> None:
    """Make the node that is asked leave its groups and the ring for good, and wait for it.

    It must run on this machine.
    """

    async def work(reactor: Any, node: ChordService) -> None:
        await node.order(client.asked, "leave")

    client.run(work)


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--export",
    type=click.Path(dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Only write to FILE (- is standard output) what nodes have set aside and the ring has not, as "
    "load --if-absent takes it.",
)
@click.pass_obj
def recover(client: Client, yes: bool, export: str | None) -> None:
    """Have partitions go on that have lost their majority: what only the lost members had is gone.

    For when lost members do not come back. The node that is asked must run on this machine.

    A lost member that comes back after all sets aside what it had. --export writes of that what the ring has
    not, or has otherwise; nothing is changed.
    """
    if export is not None:
        from chordtx.cli.exporting import export_lines

        write_file(client, export, "exported", export_lines)
        return
    if not yes:
        if sys.stdin is None:
            raise click.UsageError("standard input is closed: nobody can be asked. Give --yes.")
        click.confirm("Members that do not answer now are given up for good. Go on?", abort=True)

    out = standard_output()

    async def work(reactor: Any, node: ChordService) -> None:
        (count,) = await node.order(client.asked, "recover")
        out.line(f"partitions that went on without their lost members: {count}")

    client.run(work)


COMMANDS = (health, leave, recover)
