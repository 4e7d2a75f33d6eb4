"""Standard input and output of a command, closed ones and full disks included.

A supervisor or ``>&-`` may have closed any of the three. Then Python has None in place of the stream, and the
next file or socket that is opened gets its number, so that what is meant for a person goes to a peer.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, BinaryIO

import click

from chordtx.cli.running import EXIT_OUTPUT, Failed

_STANDARD = (0, 1, 2)
#: The name of a file that stands for standard input or output.
STANDARD_OUTPUT = "-"


def reserve_numbers() -> None:
    """Have nothing else open under the numbers of the standard streams: what is closed leads to nothing."""
    for descriptor in _STANDARD:
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


class Output:
    """Where a command writes what was asked for. A failed write ends the command with a line that says so.

    :param stream: takes bytes. :param name: of the stream, for that line.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream = stream
        self._name = name

    @property
    def is_terminal(self) -> bool:
        """Whether a person reads it."""
        return self._stream.isatty()

    @property
    def pipe(self) -> int | None:
        """The descriptor, if it is a pipe."""
        try:
            descriptor = self._stream.fileno()
        except OSError:  # it is in memory
            return None
        return descriptor if stat.S_ISFIFO(os.fstat(descriptor).st_mode) else None

    def write(self, data: bytes) -> None:
        """Write ``data``. :raises Failed: when it cannot be. :raises BrokenPipeError: when nobody reads."""
        try:
            self._stream.write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _not_written(self._name, error) from error

    def line(self, text: str) -> None:
        """Write a line of text."""
        self.write(text.encode() + b"\n")

    def flush(self) -> None:
        """Have all of it written, as :meth:`write`."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _not_written(self._name, error) from error

    def sync(self) -> None:
        """Have it on the disk, where it is one, as :meth:`write`."""
        descriptor = self._stream.fileno()
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            try:
                os.fsync(descriptor)
            except OSError as error:
                raise _not_written(self._name, error) from error


def standard_output() -> Output:
    """:raises Failed: when it is closed."""
    if sys.stdout is None:
        raise Failed("standard output is closed", EXIT_OUTPUT)
    return Output(sys.stdout.buffer, "standard output")


@contextmanager
def opened(path: str) -> Iterator[Output]:
    """A new file, or one that is written anew. Until all of it is written, the old one stays as it is: what
    ends half-way leaves nothing that could be taken for the whole. (What is no regular file is written to.)

    :raises OSError: when it cannot be opened. :raises Failed: when it cannot be written.
    """
    real = os.path.realpath(path)
    mode = os.stat(real).st_mode if os.path.exists(real) else None
    if mode is not None and not stat.S_ISREG(mode):
        with _written(open(real, "wb"), path) as out:
            yield out
        return
    part = f"{real}.{os.getpid()}.part"
    file = open(part, "xb")  # noqa: SIM115  # closed by _written
    try:
        with _written(file, path) as out:
            if mode is not None:
                os.chmod(part, stat.S_IMODE(mode))
            yield out
        os.replace(part, real)
    except BaseException:
        os.unlink(part)
        raise


@contextmanager
def _written(file: BinaryIO, path: str) -> Iterator[Output]:
    """Takes a file to its end: all of it is on the disk then."""
    try:
        out = Output(file, path)
        yield out
        out.flush()
        out.sync()
    finally:
        with suppress(OSError):  # what could not be written has been told
            file.close()


def _not_written(name: str, error: OSError) -> Failed:
    return Failed(f"cannot write to {name}: {error.strerror}", EXIT_OUTPUT)


def is_terminal(stream: IO[Any] | None) -> bool:
    """Whether a person reads a standard stream, which may be closed."""
    return stream is not None and stream.isatty()


class InputFile(click.File):
    """A file to read bytes from; ``-`` is standard input."""

    def __init__(self) -> None:
        super().__init__("rb")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See click; closed standard input is a usage error."""
        if value == "-" and sys.stdin is None:
            self.fail("standard input is closed", param, ctx)
        return super().convert(value, param, ctx)
