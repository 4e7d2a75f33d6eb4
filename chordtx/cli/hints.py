"""What to do about a usage error, where click does not say it."""

from __future__ import annotations

from typing import Any

import click

from chordtx.cli.running import EXIT_INTERRUPTED, Failed

_HYPHEN = "If it is a key or a value, put -- before it."


class HintingGroup(click.Group):
    """A group of commands."""

    def invoke(self, ctx: click.Context) -> Any:
        """See click. A key or value that begins with a hyphen looks like an option. Ctrl-C is Ctrl-C before a
        ring is asked, too."""
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort) as error:
            raise Failed("interrupted, or not confirmed", EXIT_INTERRUPTED) from error
        except click.NoSuchOption as error:
            if error.possibilities or error.ctx is None or not _takes_arguments(error.ctx.command):
                raise
            raise click.UsageError(f"{error.format_message().rstrip('.')}. {_HYPHEN}", error.ctx) from error


def _takes_arguments(command: click.Command) -> bool:
    return any(isinstance(parameter, click.Argument) for parameter in command.params)
