"""The SQLite file that holds a node's records and what belongs to them: synchronous, and no more than SQL.

One connection reads and another one writes, so that a reader never waits while a commit is synced. In
SQLite's WAL mode a commit is a sequential write and one fsync; what a crash leaves half written at the end
is ignored when the file is opened again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path

from chordtx.errors import StorageFailed
from chordtx.ring import BITS

FORMAT = 1
#: "chtx", in SQLite's header: so that another program's file is not taken for ours.
APPLICATION_ID = 0x63687478
_HEADER = b"SQLite format 3\0"
#: Positions as SQLite's signed integers: their first 62 bits. Who shares them is told apart by the key.
PLACE_SHIFT = BITS - 62
_CACHE_KIB = 16 * 1024

_SCHEMA = (
    "CREATE TABLE records (row INTEGER PRIMARY KEY, place INTEGER NOT NULL, key BLOB NOT NULL,"
    " record BLOB NOT NULL)",
    "CREATE UNIQUE INDEX records_by_place ON records (place, key)",
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {FORMAT}",
)
_LOAD = "SELECT record FROM records WHERE place = ? AND key = ?"
#: Statements for many rows at once. One for each row would let go of Python's lock and take it again each
#: time, which costs 5 ms when the reactor is busy; SQLite has 999 parameters at least.
_STORE = (
    "INSERT INTO records (place, key, record) VALUES {}"
    " ON CONFLICT (place, key) DO UPDATE SET record = excluded.record"
)
_DELETE = "DELETE FROM records WHERE (place, key) IN (VALUES {})"
_META = "INSERT INTO meta (name, value) VALUES {} ON CONFLICT (name) DO UPDATE SET value = excluded.value"
_ROWS_AT_ONCE = 300
_PAGE = "SELECT place, key FROM records WHERE place BETWEEN ? AND ? ORDER BY place DESC LIMIT ?"
_GROUP = "SELECT key FROM records WHERE place = ?"
_ROWS = "SELECT row, key FROM records WHERE row > ? AND row <= ? ORDER BY row LIMIT ?"
_RECORDS = "SELECT row, key, record FROM records WHERE row > ? AND row <= ? ORDER BY row LIMIT ?"

Row = tuple[int, bytes, bytes]
Place = tuple[int, bytes]


class Database:
    """An open file.

    :param path: made when it is not there.
    :raises StorageFailed: when it cannot be used, saying what to do.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        _refuse_garbage(path)
        try:
            self._writer = _connected(path)
        except sqlite3.Error as error:
            raise self.failed(error) from error
        try:
            self._prepare()
            self._reader = _connected(path)
        except BaseException as error:
            self._writer.close()
            if isinstance(error, sqlite3.Error):
                raise self.failed(error) from error
            raise

    def _prepare(self) -> None:
        writer = self._writer
        made_by = writer.execute("PRAGMA application_id").fetchone()[0]
        version = writer.execute("PRAGMA user_version").fetchone()[0]
        is_empty = not writer.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if is_empty:
            writer.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA:
                writer.execute(statement)
            writer.execute("COMMIT")
        elif made_by != APPLICATION_ID:
            raise StorageFailed(
                f"{self.path} is another program's database", str(self.path), "another program's"
            )
        elif version > FORMAT:
            raise StorageFailed(
                f"{self.path} has format {version}, and this chordtx knows formats up to {FORMAT}:"
                " run a newer chordtx, or name another folder",
                str(self.path),
                f"format {version}",
            )

    def failed(self, error: Exception) -> StorageFailed:
        """What SQLite said, with the file and, where it is damaged, what to do."""
        reason = " ".join(str(error).split()) or type(error).__name__
        if is_damage(error):
            return damaged(self.path, reason)
        return StorageFailed(f"{self.path}: {reason}", str(self.path), reason)

    def check(self) -> None:
        """Read everything and see that it holds together.

        :raises StorageFailed: when it does not.
        """
        try:
            found = [str(row[0]) for row in self._reader.execute("PRAGMA integrity_check(1)")]
        except sqlite3.Error as error:
            raise self.failed(error) from error
        if found != ["ok"]:
            raise damaged(self.path, " ".join(" ".join(found).split()))

    def everything(self) -> Iterator[Row]:
        """All there is. :raises StorageFailed: when it cannot be read."""
        try:
            yield from self._reader.execute("SELECT place, key, record FROM records")
        except sqlite3.Error as error:
            raise self.failed(error) from error

    def load(self, place: int, key: bytes) -> bytes | None:
        """The stored form of a record. :raises sqlite3.Error: when it cannot be read."""
        found = self._reader.execute(_LOAD, (place, key)).fetchone()
        return None if found is None else found[0]

    def page(self, top: int, low: int, limit: int) -> list[Place]:
        """Keys with their places, from ``top`` down to ``low``: ``limit`` at least, where there are so many.

        All keys of a place are there when one is.
        """
        found: list[Place] = self._reader.execute(_PAGE, (low, top, limit)).fetchall()
        if len(found) < limit:
            return found
        last = found[-1][0]
        above = [entry for entry in found if entry[0] != last]
        return above + [(last, key) for (key,) in self._reader.execute(_GROUP, (last,))]

    def last_row(self) -> int:
        """The number of the newest row, 0 when there is none."""
        row: int | None = self._reader.execute("SELECT max(row) FROM records").fetchone()[0]
        return row or 0

    def keys_after(self, row: int, last_row: int, limit: int) -> list[tuple[int, bytes]]:
        """Row numbers and keys, in the order in which they were first stored."""
        found: list[tuple[int, bytes]] = self._reader.execute(_ROWS, (row, last_row, limit)).fetchall()
        return found

    def records_after(self, row: int, last_row: int, limit: int) -> list[Row]:
        """As :meth:`keys_after`, with the stored form of each."""
        found: list[Row] = self._reader.execute(_RECORDS, (row, last_row, limit)).fetchall()
        return found

    def meta(self) -> dict[str, bytes]:
        """What is stored beside the records. :raises StorageFailed: when it cannot be read."""
        try:
            return dict(self._reader.execute("SELECT name, value FROM meta").fetchall())
        except sqlite3.Error as error:
            raise self.failed(error) from error

    def commit(self, rows: Iterable[Row], gone: Iterable[Place], meta: Mapping[str, bytes]) -> None:
        """Store rows (place, key, stored form), delete others, and sync: all of it or nothing.

        The one method that may be called in another thread, by one at a time.

        :raises StorageFailed: when nothing of it was stored.
        """
        writer = self._writer
        try:
            writer.execute("BEGIN IMMEDIATE")
            self._execute_for(_STORE, rows)
            self._execute_for(_DELETE, gone)
            self._execute_for(_META, meta.items())
            writer.execute("COMMIT")
        except sqlite3.Error as error:
            # Some errors have rolled back already.
            with suppress(sqlite3.Error):
                writer.execute("ROLLBACK")
            raise self.failed(error) from error

    def _execute_for(self, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
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
    return isinstance(code, int) and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def damaged(path: Path, reason: str) -> StorageFailed:
    """The refusal of a file that is damaged."""
    return StorageFailed(
        f"{path} is damaged ({reason}): move the folder away, and the node fetches its records from the"
        " others, or put a backup in its place",
        str(path),
        reason,
    )


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


def _refuse_garbage(path: Path) -> None:
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
        raise damaged(path, "it is no database")
