"""Option types that several commands share."""

from __future__ import annotations

import click

from chordtx.mesh.address import Address
from chordtx.mesh.arguments import ENCRYPTIONS

PEER_DEFAULT = "127.0.0.1:44565"
ENCRYPTION = click.Choice(ENCRYPTIONS)


class AddressType(click.ParamType[str]):
    """``HOST:PORT`` or ``[V6]:PORT``, kept as it is written."""

    name = "HOST:PORT"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check ``value``; a wrong one is a usage error."""
        try:
            Address.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return value


ADDRESS = AddressType()
