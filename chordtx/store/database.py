"""The SQLite file with the durable state of a node's groups. It is synchronous, and knows rows only.

What is damaged in it is of two kinds, and neither may go unnoticed:

- A partition's *state*: its header, a record, an operation. A replica must never act with a part of its
  state, for it would give that part to others as the whole. So the partition loses all of its state, and is
  loaded as one that is lost; see :attr:`Database.lost`.
- A *promise*, in whatever history, or one of the node's own values. A replica that has lost its promise may
  promise the opposite, and then two leaders believe that they have a majority. Only a configuration without
  this node makes that good. So the whole file is refused: the node has to begin as a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from chordtx.errors import StorageFailed
from chordtx.group.replica import Save
from chordtx.store import form
from chordtx.store.form import Damaged
from chordtx.store.journal import commits_passed_over
from chordtx.store.reading import Loaded, Reading
from chordtx.store.sqlite_file import ERRORS, SqliteFile

FORMAT = 2
#: Asides are few and large, so they have rows of their own beside their index; and SQLite's check of the
#: file compares the two, so that a row that is gone is noticed.
_SCHEMA = (
    "CREATE TABLE partitions (partition INTEGER PRIMARY KEY, promises BLOB NOT NULL, header BLOB NOT NULL)",
    "CREATE TABLE records (partition INTEGER NOT NULL, key BLOB NOT NULL, record BLOB NOT NULL,"
    " PRIMARY KEY (partition, key)) WITHOUT ROWID",
    "CREATE TABLE operations (partition INTEGER NOT NULL, client BLOB NOT NULL, number INTEGER NOT NULL,"
    " operation BLOB NOT NULL, PRIMARY KEY (partition, client, number)) WITHOUT ROWID",
    "CREATE TABLE asides (partition INTEGER NOT NULL, mark INTEGER NOT NULL, aside BLOB NOT NULL,"
    " PRIMARY KEY (partition, mark))",
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
)
_PARTITIONS = (
    "INSERT INTO partitions (partition, promises, header) VALUES {}"
    " ON CONFLICT (partition) DO UPDATE SET promises = excluded.promises, header = excluded.header"
)
_STORE = (
    "INSERT INTO records (partition, key, record) VALUES {}"
    " ON CONFLICT (partition, key) DO UPDATE SET record = excluded.record"
)
_DELETE = "DELETE FROM records WHERE (partition, key) IN (VALUES {})"
_REMEMBER = (
    "INSERT INTO operations (partition, client, number, operation) VALUES {}"
    " ON CONFLICT (partition, client, number) DO UPDATE SET operation = excluded.operation"
)
_FORGET = "DELETE FROM operations WHERE (partition, client, number) IN (VALUES {})"
_CLEAR = (
    "DELETE FROM records WHERE partition IN (VALUES {})",
    "DELETE FROM operations WHERE partition IN (VALUES {})",
)
#: A row that is replaced is the newest again.
_SET_ASIDE = "INSERT OR REPLACE INTO asides (partition, mark, aside) VALUES {}"
_FORGET_ASIDE = "DELETE FROM asides WHERE (partition, mark) IN (VALUES {})"
_META = "INSERT INTO meta (name, value) VALUES {} ON CONFLICT (name) DO UPDATE SET value = excluded.value"


class Database(SqliteFile):
    """An open file. See :class:`~chordtx.store.sqlite_file.SqliteFile`.

    :ivar lost: partitions whose states were found damaged by :meth:`load`, each with the reason, for logs.
        What was acknowledged may be missing from what the group's other members have, so such a replica's
        promise must not count for a majority before a leader has given it a whole state again. That it is
        lost stands with its promises from its first save on, and the damaged rows are deleted by it.
    """

    schema = _SCHEMA
    format = FORMAT
    what_to_do = "move the folder away, and start the node as a new one; never put a backup in its place"
    older = (
        "is of chordtx 0.1.0, which kept its records in another way: dump them with that version,"
        " move the folder away, and load them with this one"
    )

    def __init__(self, path: Path) -> None:
        self.lost: dict[int, str] = {}
        self._with_damaged_rows: set[int] = set()
        try:
            passed_over = commits_passed_over(path.with_name(f"{path.name}-wal"))
        except OSError as error:
            reason = str(error.strerror)
            raise StorageFailed(f"cannot read the log of {path}: {reason}", str(path), reason) from error
        self.path = path
        if passed_over > 1:  # one may be what a crash has torn
            raise self.damaged("what was acknowledged cannot be read from its log")
        super().__init__(path)

    # Reading

    def load(self) -> Iterator[Loaded]:
        """Everything, read and checked before the first is given; see
        :data:`~chordtx.store.reading.Loaded`.

        :raises StorageFailed: when the file is damaged, or a promise in it.
        """
        self.check()
        reading = Reading(self._reader)
        try:
            loaded = reading.partitions()
        except ERRORS as error:
            raise self.failed(error) from error
        except Damaged as error:
            raise self.damaged(str(error)) from error
        self.lost = reading.lost
        self._with_damaged_rows = set(self.lost)
        return iter(loaded)

    def values(self) -> dict[str, bytes]:
        """What is stored beside the partitions. :raises StorageFailed: when it cannot be read."""
        try:
            rows = self._reader.execute("SELECT name, value FROM meta").fetchall()
            return {name: form.value_from_stored(name, value) for name, value in rows}
        except ERRORS as error:
            raise self.failed(error) from error
        except Damaged as error:
            raise self.damaged(str(error)) from error

    # Writing

    def commit(self, saves: Mapping[int, Save], values: Mapping[str, bytes]) -> None:
        """Store all of it, and sync, or nothing of it.

        The one method that may be called in another thread, by one at a time.

        :param saves: by partition. :param values: by name.
        :raises StorageFailed: when nothing of it was stored.
        """
        damaged = self._with_damaged_rows.intersection(saves)

        def write() -> None:
            pack = form.packer()
            for statement in _CLEAR if damaged else ():
                self._execute_for(statement, ((partition,) for partition in damaged))
            self._execute_for(_PARTITIONS, _partition_rows(saves, pack))
            self._save_rows(saves, pack)
            self._execute_for(_META, ((name, form.value_to_stored(name, values[name])) for name in values))

        self._commit(write)
        self._with_damaged_rows -= damaged

    def _save_rows(self, saves: Mapping[int, Save], pack: form.Pack) -> None:
        items = saves.items()
        records = (form.record_rows(partition, save.records, pack) for partition, save in items)
        self._execute_for(_STORE, chain.from_iterable(records))
        self._execute_for(_DELETE, _deleted(saves, lambda save: save.records))
        operations = (form.operation_rows(partition, save.clients, pack) for partition, save in items)
        self._execute_for(_REMEMBER, chain.from_iterable(operations))
        forgotten = ((partition, *id) for partition, id in _deleted(saves, lambda save: save.clients))
        self._execute_for(_FORGET, forgotten)
        asides = (form.aside_rows(partition, save.asides, pack) for partition, save in items)
        self._execute_for(_SET_ASIDE, chain.from_iterable(asides))
        self._execute_for(_FORGET_ASIDE, _deleted(saves, lambda save: save.asides))


def _deleted(
    saves: Mapping[int, Save], part: Callable[[Save], Mapping[Any, object | None]]
) -> Iterator[tuple[int, Any]]:
    """(partition, what was there) of what has to be deleted in one part of each save."""
    return (
        (partition, id)
        for partition, save in saves.items()
        for id, kept in part(save).items()
        if kept is None
    )


def _partition_rows(saves: Mapping[int, Save], pack: form.Pack) -> Iterator[tuple[int, bytes, bytes]]:
    for partition, save in saves.items():
        promises = form.promises_to_stored(partition, save.stored, pack)
        yield partition, promises, form.header_to_stored(partition, save.stored, pack)
