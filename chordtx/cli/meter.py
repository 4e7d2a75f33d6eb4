"""How far a long command is: a bar on a terminal, and one line at the end."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress


class Meter:
    """Counts records; used as ``with``.

    :ivar count: records so far.
    """

    def __init__(self, verb: str, seconds: Callable[[], float], share_total: float | None = None) -> None:
        """:param verb: what is done with the records, as ``loaded``.
        :param seconds: a clock.
        :param share_total: the sum of all shares that :meth:`advance` will be given, when it is known.
        """
        self.count = 0
        self._verb = verb
        self._seconds = seconds
        self._bar = _bar() if sys.stderr.isatty() else None
        if self._bar is not None:
            self._task = self._bar.add_task(verb, total=share_total, records="0")

    def __enter__(self) -> Meter:
        self._started_seconds = self._seconds()
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        click.echo(self.line(), err=True)

    def advance(self, share: float = 1) -> None:
        """One more record is done.

        :param share: what it adds toward ``share_total``.
        """
        self.count += 1
        if self._bar is not None:
            self._bar.update(self._task, advance=share, records=f"{self.count:,}")

    def line(self) -> str:
        """What was done, in how long, and how fast."""
        seconds = max(self._seconds() - self._started_seconds, 1e-9)
        return (
            f"{self._verb} {self.count:,} records in {seconds:.1f} s, {self.count / seconds:,.0f} records/s"
        )


def _bar() -> Progress:
    # Imported late: it would take a tenth of the time that a short command has.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[records]} records"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
