"""What is written to standard error, beside the log, and the exit statuses."""

from __future__ import annotations

import sys

EXIT_CANNOT_START = 1
EXIT_USAGE = 2
#: What such a line begins with: programs that start nodes look for it.
TOLD = "chord: "


def tell(line: str) -> None:
    """Write to standard error itself: ``sys.stderr`` is a part of the log once twistd has started it."""
    if sys.__stderr__ is not None:
        sys.__stderr__.write(f"{TOLD}{line}\n")
        sys.__stderr__.flush()


def one_line(error: BaseException) -> str:
    """An error's text in one line, or its kind when it has none."""
    return " ".join(str(error).split()) or type(error).__name__
