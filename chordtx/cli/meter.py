"""How far a long command is: a bar on a terminal (where rich is installed), and one line at the end."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from chordtx.cli.running import say
from chordtx.cli.streams import is_terminal

if TYPE_CHECKING:
    from rich.progress import Progress


class Meter:
    """Counts records; used as ``with``.

    :ivar count: records so far. :ivar expired: how many were left out, because they have expired.
    :ivar present: how many, because their keys are there already.
    """

    def __init__(self, verb: str, seconds: Callable[[], float], share_total: float | None = None) -> None:
        """:param verb: what is done with the records, as ``loaded``.
        :param seconds: a clock.
        :param share_total: the sum of all shares that :meth:`advance` will be given, when it is known.
        """
        self.count = self.expired = self.present = 0
        self._verb = verb
        self._seconds = seconds
        self._bar = _bar() if is_terminal(sys.stderr) else None
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
        say(self.line())

    def advance(self, share: float = 1) -> None:
        """One more record is done.

        :param share: what it adds toward ``share_total``.
        """
        self.count += 1
        self._show(share)

    def leave_out(self, share: float = 1) -> None:
        """One more record has expired."""
        self.expired += 1
        self._show(share)

    def leave_as_it_is(self, share: float = 1) -> None:
        """The key of one more record is there already."""
        self.present += 1
        self._show(share)

    def _show(self, share: float) -> None:
        if self._bar is not None:
            self._bar.update(self._task, advance=share, records=f"{self.count:,}")

    def line(self) -> str:
        """What was done, in how long, and how fast."""
        seconds = max(self._seconds() - self._started_seconds, 1e-9)
        rate = self.count / seconds
        left_out = f"; left out {self.expired:,} that have expired" if self.expired else ""
        left_out += f"; left {self.present:,} as they are that are there" if self.present else ""
        return f"{self._verb} {self.count:,} records in {seconds:.1f} s, {rate:,.0f} records/s{left_out}"


def _bar() -> Progress | None:
    """A bar on standard error; None where rich is not installed."""
    # Imported late: it would take a tenth of the time that a short command has.
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
    except ModuleNotFoundError:
        return None

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[records]} records"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
