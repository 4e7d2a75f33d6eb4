"""Types of options and arguments: addresses, encryption, seconds, versions, numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    _OfText = click.ParamType[str]
    _OfNumber = click.ParamType[float]
else:  # before click 8.4 these had no parameter
    _OfText = _OfNumber = click.ParamType

PEER_DEFAULT = "127.0.0.1:44565"
#: As in :mod:`chordtx.mesh.arguments`, which takes long to load.
ENCRYPTION = click.Choice(["Plaintext", "SSL"])


class AddressType(_OfText):
    """``HOST:PORT`` or ``[V6]:PORT``, kept as it is written."""

    name = "HOST:PORT"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check ``value``; a wrong one is a usage error."""
        from chordtx.mesh.address import Address

        try:
            Address.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return value

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        """The addresses in an environment variable, with spaces or commas between them."""
        return [each for each in re.split(r"[\s,]+", rv) if each]


class SecondsType(_OfNumber):
    """A number of seconds above 0.

    :param seconds_max: the most that makes sense.
    """

    name = "SECONDS"

    def __init__(self, seconds_max: float) -> None:
        self._seconds_max = seconds_max

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number; anything else is a usage error."""
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if not 0 < seconds <= self._seconds_max:
            self.fail(f"{value} is no number above 0 and up to {self._seconds_max:,.0f}", param, ctx)
        return seconds


class VersionType(_OfText):
    """What tells one state of a key from another, as ``get --version`` writes it."""

    name = "VERSION"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check ``value``; a wrong one is a usage error."""
        from chordtx.group.rank import rank_of

        try:
            rank_of(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return value


class NumberType(_OfNumber):
    """A whole number, or a float that is finite."""

    name = "NUMBER"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number; anything else is a usage error."""
        try:
            return int(value)
        except ValueError:
            pass
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            self.fail(f"{value} is no number", param, ctx)
        return number


ADDRESS = AddressType()
VERSION = VersionType()
