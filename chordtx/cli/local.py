"""``local``: a ring to try things with."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from chordtx.cli import running
from chordtx.cli.client import Client
from chordtx.cli.parameters import ENCRYPTION, PEER_DEFAULT
from chordtx.cli.running import Failed, PortTaken
from chordtx.escaping import escaped

if TYPE_CHECKING:
    from chordtx.cli.local_ring import LocalRing

PORT_DEFAULT = 44565
PORT_MAX = 65535
NODES_MAX = 100


@click.command()
@click.argument("nodes", metavar="N", type=click.IntRange(1, NODES_MAX))
@click.option(
    "--port",
    type=click.IntRange(1, PORT_MAX),
    default=PORT_DEFAULT,
    show_default=True,
    help="The first one's.",
)
@click.option("--subnet", help="The network's name. [default: as given before the command]")
@click.option(
    "--encryption", type=ENCRYPTION, help="As in the protocol. [default: as given before the command]"
)
@click.option(
    "--data",
    type=click.Path(file_okay=False),
    help="Folder to keep the records in: each node gets one of its own there, named by its port.",
)
@click.option("--log", is_flag=True, help="Pass on what the nodes log.")
@click.pass_obj
def local(
    client: Client,
    nodes: int,
    port: int,
    subnet: str | None,
    encryption: str | None,
    data: str | None,
    log: bool,
) -> None:
    """Run a ring of N nodes on this machine until interrupted.

    Each is a process of its own, on 127.0.0.1 at --port and the ports after it.
    """
    if port + nodes - 1 > PORT_MAX:
        raise click.UsageError(f"--port {port} leaves no room for {nodes} ports.")
    subnet = client.subnet if subnet is None else subnet

    async def work(reactor: Any) -> None:
        from chordtx.cli.local_ring import LocalRing

        ring = LocalRing(
            reactor,
            nodes,
            port,
            subnet=subnet,
            encryption=encryption or client.encryption,
            data=data,
            on_line=_echo_line if log else _ignore_line,
            on_end=tell_of_end,
        )
        try:
            await ring.start()
            for line in directions(ring.addresses, subnet, encryption or client.encryption):
                click.echo(line)
            await until_interrupted(ring)
        except PortTaken as error:
            raise Failed(f"{error}: give another first port with --port", error.status) from error
        finally:
            await ring.stop()

    running.run(work)


def _echo_line(address: str, line: str) -> None:
    running.say(f"{address} {escaped(line)}")


def _ignore_line(address: str, line: str) -> None:
    pass


def tell_of_end(why: Exception) -> None:
    """Say on standard error why a node of the ring is gone."""
    running.say(f"chordtx: {running.text_of(why)}")


async def until_interrupted(ring: LocalRing) -> None:
    """Wait for SIGINT or SIGTERM.

    Nodes may end meanwhile: to see what happens then is what such a ring is for.

    :raises Failed: when none is left.
    """
    from twisted.internet.defer import CancelledError

    try:
        await ring.when_gone()
    except CancelledError:
        running.say("the nodes hand over and leave; Ctrl-C again does not wait for them")


def directions(addresses: list[str], subnet: str, encryption: str) -> list[str]:
    """What to tell who has started a ring: its nodes, and how to ask it."""
    nodes = [f"node {number} of {len(addresses)} at {address}" for number, address in enumerate(addresses, 1)]
    ask = asking_command(addresses[0], subnet, encryption)
    return [*nodes, f"Ask it: {ask} set KEY VALUE; {ask} get KEY; {ask} ring", "Ctrl-C stops it."]


def asking_command(address: str, subnet: str, encryption: str) -> str:
    """``chordtx`` with the options that reach a ring, those left out that are the defaults."""
    options = [
        "" if address == PEER_DEFAULT else f" --peer {address}",
        "" if subnet == "chord" else f" --subnet {shlex.quote(subnet)}",
        "" if encryption == "Plaintext" else f" --encryption {encryption}",
    ]
    return "chordtx" + "".join(options)


COMMANDS = (local,)
