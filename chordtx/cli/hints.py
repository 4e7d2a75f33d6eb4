"""What to do about a usage error, where click does not say it."""

from __future__ import annotations

from typing import Any

import click

_HYPHEN = "If it is a key or a value, put -- before it."


class HintingGroup(click.Group):
    """A group of commands."""

    def invoke(self, ctx: click.Context) -> Any:
        """See click. A key or value that begins with a hyphen looks like an option."""
        try:
            return super().invoke(ctx)
        except click.NoSuchOption as error:
            if error.possibilities or error.ctx is None or not _takes_arguments(error.ctx.command):
                raise
            raise click.UsageError(f"{error.format_message().rstrip('.')}. {_HYPHEN}", error.ctx) from error


def _takes_arguments(command: click.Command) -> bool:
    return any(isinstance(parameter, click.Argument) for parameter in command.params)
