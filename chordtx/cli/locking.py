"""``lock``: runs a command while a lock is held."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import click

from chordtx.cli.client import Client
from chordtx.cli.parameters import SecondsType
from chordtx.cli.running import (
    EXIT_CANNOT_RUN,
    EXIT_LOCK_LOST,
    EXIT_NO_COMMAND,
    EXIT_NO_SUCH_KEY,
    Ended,
    Failed,
    say,
)
from chordtx.errors import LockLost
from chordtx.escaping import escaped

if TYPE_CHECKING:
    from chordtx import Lock
    from chordtx.chord import ChordService

LEASE_SECONDS = 10.0
LEASE_SECONDS_MAX = 365 * 86400.0
KILL_AFTER_SECONDS = 10.0
#: In the environment of the command: the lock's token.
TOKEN = "CHORDTX_LOCK_TOKEN"


@click.command()
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option(
    "--ttl",
    type=SecondsType(LEASE_SECONDS_MAX),
    default=LEASE_SECONDS,
    show_default=True,
    help="The lease, renewed meanwhile: how long others wait when this machine dies.",
)
@click.option(
    "--kill-after",
    type=SecondsType(LEASE_SECONDS_MAX),
    default=KILL_AFTER_SECONDS,
    show_default=True,
    help="When the lock is lost, SIGKILL follows SIGTERM so much later.",
)
@click.option("--no-wait", is_flag=True, help="End with 1 when another holds the lock.")
@click.pass_obj
def lock(
    client: Client, name: str, command: tuple[str, ...], ttl: float, kill_after: float, no_wait: bool
) -> None:
    """Run COMMAND while the lock NAME is held: in the whole ring one at a time. Who came first is first.

    Put -- before COMMAND. Its exit status is passed on, and so are SIGINT and SIGTERM to it. It finds the
    lock's token in CHORDTX_LOCK_TOKEN, a number that grows with each holder: what the lock protects can
    refuse one that is smaller than another that it has seen.

    When the lock is lost meanwhile, COMMAND is ended with SIGTERM, then SIGKILL, and the exit status is 75.
    """
    executable = shutil.which(command[0])
    if executable is None:
        raise Failed(f"no such command: {escaped(command[0])}", EXIT_NO_COMMAND)

    async def work(reactor: Any, node: ChordService) -> None:
        held = node.lock(os.fsencode(name), ttl)
        try:
            is_ours = await held.acquire(wait=not no_wait)
        except TypeError as error:
            raise Failed(f"not as expected: {error}", EXIT_NO_SUCH_KEY) from error
        if not is_ours:
            raise Failed(f"another holds the lock {escaped(name)}", EXIT_NO_SUCH_KEY)
        try:
            status = await _run(reactor, executable, command, held, name, kill_after)
        finally:
            try:
                await held.release()
            except LockLost as error:
                raise Failed(
                    f"the lock {escaped(name)} was lost before the command had ended", EXIT_LOCK_LOST
                ) from error
        if status:
            raise Ended(status)

    client.run(work)


async def _run(
    reactor: Any, executable: str, command: tuple[str, ...], held: Lock, name: str, kill_after_seconds: float
) -> int:
    """Run the command to its end; ask it to end when the lock is lost. :returns: its exit status."""
    from twisted.internet.defer import CancelledError

    from chordtx.cli.held_command import HeldCommand

    environment = {**os.environb, TOKEN.encode(): str(held.token).encode()}
    words = [os.fsencode(word) for word in command]
    try:
        running = HeldCommand(reactor, os.fsencode(executable), words, environment)
    except OSError as error:
        raise Failed(f"cannot run {escaped(command[0])}: {error.strerror}", EXIT_CANNOT_RUN) from error

    def lost(_: None) -> None:
        say(f"chordtx: the lock {escaped(name)} is lost: the command is asked to end")
        running.end(kill_after_seconds)

    held.when_lost().addCallback(lost)
    try:
        return await running.when_ended()
    except CancelledError:  # a signal that came just before the command began
        running.end(kill_after_seconds)
        await running.when_ended()
        raise


COMMANDS = (lock,)
