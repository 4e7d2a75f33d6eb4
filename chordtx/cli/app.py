"""The group that the commands hang from, and its options: how to reach the ring."""

from __future__ import annotations

import sys

import click

from chordtx import __version__
from chordtx.cli import bulk, items, local, locking, numbers, operate, views, watching
from chordtx.cli.client import Client
from chordtx.cli.hints import HintingGroup
from chordtx.cli.parameters import ADDRESS, ENCRYPTION, PEER_DEFAULT, SecondsType

TIMEOUT_SECONDS_MAX = 1_000_000.0

EPILOG = """
\b
Exit status: 0 done; 1 no such key, or not as expected; 2 usage;
3 no ring reached; 4 no majority in time; 5 not healthy;
74 the output cannot be written; 75 a lock was lost.
Errors go to standard error.

\b
Completion with Tab, for ~/.bashrc (zsh: zsh_source; fish: fish_source):
  eval "$(_CHORDTX_COMPLETE=bash_source chordtx)"
"""


@click.group(cls=HintingGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--peer",
    "peers",
    multiple=True,
    type=ADDRESS,
    envvar="CHORDTX_PEER",
    help="A node to join through; may be given again. "
    f"[env: CHORDTX_PEER, with commas or spaces between several; default: {PEER_DEFAULT}]",
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
    type=SecondsType(TIMEOUT_SECONDS_MAX),
    help="How long to look for the ring, and for each answer. [default: 5 and 10]",
)
@click.option("-v", "--verbose", is_flag=True, help="Write the log to standard error.")
@click.version_option(__version__)
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
    if verbose and sys.stderr is not None:
        _log_to_stderr()
    context.obj = Client(
        peers=peers or (PEER_DEFAULT,), subnet=subnet, encryption=encryption, timeout_seconds=timeout_seconds
    )


def _log_to_stderr() -> None:
    from twisted.logger import globalLogBeginner

    from chordtx.logs import LINES, from_level, to_stream

    observer = from_level(to_stream(sys.stderr, LINES["text"]), "info")
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)


for module in (items, numbers, watching, locking, bulk, views, operate, local):
    for each in module.COMMANDS:
        command.add_command(each)
