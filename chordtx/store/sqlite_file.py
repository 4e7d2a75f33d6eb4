"""A file of SQLite's: made, opened, checked and refused, whatever tables are in it.

One connection reads and another one writes, so that a reader never waits while a commit is synced. In
SQLite's WAL mode a commit is a sequential write and one fsync; what a crash leaves half written at the end
is ignored when the file is opened again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import ClassVar

from chordtx.errors import StorageFailed

#: "chtx", in SQLite's header: so that another program's file is not taken for ours.
APPLICATION_ID = 0x63687478
_HEADER = b"SQLite format 3\0"
_CACHE_KIB = 16 * 1024
_ROWS_AT_ONCE = 300
#: What reading a damaged file may end with: SQLite's errors quote it, and Python decodes them.
ERRORS = (sqlite3.Error, UnicodeError)


class SqliteFile:
    """An open file.

    :cvar schema: the statements that make its tables. :cvar format: their number, which the file tells.
    :cvar what_to_do: with a file that is damaged. :cvar older: why one of an older format is refused.
    :param path: made when it is not there.
    :raises StorageFailed: when it cannot be used, saying what to do.
    """

    schema: ClassVar[tuple[str, ...]]
    format: ClassVar[int]
    what_to_do: ClassVar[str]
    older: ClassVar[str]

    def __init__(self, path: Path) -> None:
        self.path = path
        self._refuse_garbage()
        try:
            self._writer = _connected(path)
        except ERRORS as error:
            raise self.failed(error) from error
        try:
            self._prepare()
            self._reader = _connected(path)
        except BaseException as error:
            self._writer.close()
            if isinstance(error, ERRORS):
                raise self.failed(error) from error
            raise

    def _refuse_garbage(self) -> None:
        path = self.path
        try:
            with path.open("rb") as file:
                header = file.read(len(_HEADER))
        except FileNotFoundError:
            return
        except OSError as error:
            raise StorageFailed(
                f"cannot read {path}: {error.strerror}", str(path), str(error.strerror)
            ) from error
        if header and header != _HEADER:
            raise self.damaged("it is no database")

    def _prepare(self) -> None:
        writer, path = self._writer, self.path
        made_by = writer.execute("PRAGMA application_id").fetchone()[0]
        version = writer.execute("PRAGMA user_version").fetchone()[0]
        is_empty = not writer.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if is_empty:
            writer.execute("BEGIN IMMEDIATE")
            for statement in self.schema:
                writer.execute(statement)
            writer.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            writer.execute(f"PRAGMA user_version = {self.format}")
            writer.execute("COMMIT")
        elif made_by != APPLICATION_ID:
            raise StorageFailed(f"{path} is another program's database", str(path), "another program's")
        elif version > self.format:
            raise StorageFailed(
                f"{path} has format {version}, and this chordtx knows formats up to {self.format}:"
                " run a newer chordtx, or name another folder",
                str(path),
                f"format {version}",
            )
        elif version < self.format:
            raise StorageFailed(f"{path} {self.older}", str(path), f"format {version}")
        elif {row[0] for row in writer.execute("SELECT sql FROM sqlite_master")} - {None} != set(self.schema):
            raise self.damaged("its tables are not those that were made")  # its rows would be read awry
        # After a crash the log may end with torn pieces of a commit. The next commits would overwrite them
        # bit by bit, and a second crash leave the rest of the first one behind its own: as if acknowledged
        # commits were damaged (see the module about the journal). So every process begins with an empty log.
        writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def failed(self, error: Exception) -> StorageFailed:
        """What SQLite said, with the file and, where it is damaged, what to do."""
        reason = " ".join(str(error).split()) or type(error).__name__
        if is_damage(error):
            return self.damaged(reason)
        return StorageFailed(f"{self.path}: {reason}", str(self.path), reason)

    def damaged(self, reason: str) -> StorageFailed:
        """The refusal of this file, for it is damaged."""
        return damaged(self.path, reason, self.what_to_do)

    def check(self) -> None:
        """Read everything and see that it holds together.

        :raises StorageFailed: when it does not.
        """
        try:
            found = [str(row[0]) for row in self._reader.execute("PRAGMA integrity_check(1)")]
        except ERRORS as error:
            raise self.failed(error) from error
        if found != ["ok"]:
            raise self.damaged(" ".join(" ".join(found).split()))

    def _commit(self, write: Callable[[], None]) -> None:
        """All that ``write`` does, synced, or nothing of it. :raises StorageFailed: when it is nothing."""
        writer = self._writer
        try:
            writer.execute("BEGIN IMMEDIATE")
            write()
            writer.execute("COMMIT")
        except BaseException as error:
            # Some errors have rolled back already.
            with suppress(sqlite3.Error):
                writer.execute("ROLLBACK")
            if isinstance(error, ERRORS):
                raise self.failed(error) from error
            raise

    def _execute_for(self, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
        """Statements for many rows at once. One for each row would let go of Python's lock and take it again
        each time, which costs 5 ms when the reactor is busy; SQLite has 32766 parameters at least."""
        waiting = iter(rows)
        while some := list(islice(waiting, _ROWS_AT_ONCE)):
            placeholders = f"({', '.join('?' * len(some[0]))})"
            self._writer.execute(
                statement.format(", ".join([placeholders] * len(some))),
                list(chain.from_iterable(some)),
            )

    def close(self) -> None:
        """Close the file; what was committed is in it."""
        for connection in (self._reader, self._writer):
            with suppress(sqlite3.Error):
                connection.close()


def is_damage(error: BaseException) -> bool:
    """Whether SQLite says that the file is not what it was, rather than that it cannot be used now."""
    code = getattr(error, "sqlite_errorcode", None)
    is_told = isinstance(code, int) and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    # Text that is none is an error of Python's module, without a code.
    return is_told or isinstance(error, UnicodeError) or str(error).startswith("Could not decode to UTF-8")


def damaged(path: Path, reason: str, what_to_do: str) -> StorageFailed:
    """The refusal of a file that is damaged."""
    return StorageFailed(f"{path} is damaged ({reason}): {what_to_do}", str(path), reason)


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    except BaseException:
        connection.close()
        raise
    return connection
