"""The SQLite file that holds a node's records and what belongs to them: synchronous, and no more than SQL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from chordtx.ring import BITS
from chordtx.store.sqlite_file import ERRORS, SqliteFile

FORMAT = 1
#: Positions as SQLite's signed integers: their first 62 bits. Who shares them is told apart by the key.
PLACE_SHIFT = BITS - 62

_SCHEMA = (
    "CREATE TABLE records (row INTEGER PRIMARY KEY, place INTEGER NOT NULL, key BLOB NOT NULL,"
    " record BLOB NOT NULL)",
    "CREATE UNIQUE INDEX records_by_place ON records (place, key)",
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
)
_LOAD = "SELECT record FROM records WHERE place = ? AND key = ?"
_STORE = (
    "INSERT INTO records (place, key, record) VALUES {}"
    " ON CONFLICT (place, key) DO UPDATE SET record = excluded.record"
)
_DELETE = "DELETE FROM records WHERE (place, key) IN (VALUES {})"
_META = "INSERT INTO meta (name, value) VALUES {} ON CONFLICT (name) DO UPDATE SET value = excluded.value"
_PAGE = "SELECT place, key FROM records WHERE place BETWEEN ? AND ? ORDER BY place DESC LIMIT ?"
_GROUP = "SELECT key FROM records WHERE place = ?"
_ROWS = "SELECT row, key FROM records WHERE row > ? AND row <= ? ORDER BY row LIMIT ?"
_RECORDS = "SELECT row, key, record FROM records WHERE row > ? AND row <= ? ORDER BY row LIMIT ?"

Row = tuple[int, bytes, bytes]
Place = tuple[int, bytes]


class Database(SqliteFile):
    """An open file. See :class:`~chordtx.store.sqlite_file.SqliteFile`."""

    schema = _SCHEMA
    format = FORMAT

    def everything(self) -> Iterator[Row]:
        """All there is. :raises StorageFailed: when it cannot be read."""
        try:
            yield from self._reader.execute("SELECT place, key, record FROM records")
        except ERRORS as error:
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
        except ERRORS as error:
            raise self.failed(error) from error

    def commit(self, rows: Iterable[Row], gone: Iterable[Place], meta: Mapping[str, bytes]) -> None:
        """Store rows (place, key, stored form), delete others, and sync: all of it or nothing.

        The one method that may be called in another thread, by one at a time.

        :raises StorageFailed: when nothing of it was stored.
        """

        def write() -> None:
            self._execute_for(_STORE, rows)
            self._execute_for(_DELETE, gone)
            self._execute_for(_META, meta.items())

        self._commit(write)
