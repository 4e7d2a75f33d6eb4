"""The group that the commands hang from, and its options: how to reach the ring."""

from __future__ import annotations

import sys

import click
from attrs import evolve

from chordtx.cli import bulk, items, local, operate, views
from chordtx.cli.addresses import ADDRESS, ENCRYPTION, PEER_DEFAULT
from chordtx.cli.client import Client
from chordtx.config import ChordSettings

# A ring answers within milliseconds: somebody at a prompt should not wait as long as a server that starts.
JOIN_TIMEOUT_SECONDS = 5.0

EXITS = """
\b
Exit status: 0 done; 1 no such key; 2 usage; 3 no ring reached;
4 no majority in time; 5 not healthy. Errors go to standard error.
"""


@click.group(epilog=EXITS, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--peer",
    "peers",
    multiple=True,
    type=ADDRESS,
    envvar="CHORDTX_PEER",
    help=f"A node to join through; may be given again. [env: CHORDTX_PEER, default: {PEER_DEFAULT}]",
)
@click.option(
    "--subnet",
    default="chord",
    envvar="CHORDTX_SUBNET",
    show_envvar=True,
    show_default=True,
    help="The network's name.",
)
@click.option(
    "--encryption", type=ENCRYPTION, default="Plaintext", show_default=True, help="As the ring has it."
)
@click.option(
    "--timeout",
    "timeout_seconds",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="How long to look for the ring, and for each answer. [default: 5 and 10]",
)
@click.option("-v", "--verbose", is_flag=True, help="Write the log to standard error.")
@click.version_option(package_name="chordtx")
@click.pass_context
def command(
    context: click.Context,
    peers: tuple[str, ...],
    subnet: str,
    encryption: str,
    timeout_seconds: float | None,
    verbose: bool,
) -> None:
    """Use a Chord ring: a dict that many machines share.

    Joins the ring as a node that stores nothing, for the length of the command.
    """
    settings = ChordSettings(join_timeout_seconds=JOIN_TIMEOUT_SECONDS)
    if timeout_seconds is not None:
        settings = evolve(
            settings, join_timeout_seconds=timeout_seconds, operation_timeout_seconds=timeout_seconds
        )
    if verbose:
        _log_to_stderr()
    context.obj = Client(
        peers=peers or (PEER_DEFAULT,), subnet=subnet, encryption=encryption, settings=settings
    )


def _log_to_stderr() -> None:
    from twisted.logger import globalLogBeginner

    from chordtx.logs import LINES, from_level, to_stream

    observer = from_level(to_stream(sys.stderr, LINES["text"]), "info")
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)


for module in (items, bulk, views, operate, local):
    for each in module.COMMANDS:
        command.add_command(each)
