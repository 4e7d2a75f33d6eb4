"""The SQLite file that holds what a node's groups must not forget: synchronous, and no more than SQL.

What is damaged in it is of two kinds, and neither may go unnoticed:

- A partition's *state*: its header, a record, an operation. A replica must never act with a part of its
  state, for it would give that part to others as the whole. So the partition loses all of its state, and is
  loaded as one without rank; see :attr:`GroupDatabase.lost`.
- A *promise*, or one of the node's own values. Whoever has promised and does not know what may promise the
  opposite, and then two leaders believe that they have a majority. Nobody can make that good but the
  configuration, by leaving this node out. So the whole file is refused: the node has to begin as a new one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

from chordtx.errors import StorageFailed
from chordtx.group.configuration import NO_CONFIGURATION, Configuration
from chordtx.group.rank import NO_RANK
from chordtx.group.replica import Aside, Save
from chordtx.group.state import Header, State
from chordtx.store import group_form as form
from chordtx.store.form import Damaged
from chordtx.store.group_reading import Loaded, Reading
from chordtx.store.journal import commits_passed_over
from chordtx.store.sqlite_file import ERRORS, SqliteFile

FORMAT = 2
_RECORDS = (
    "(partition INTEGER NOT NULL, key BLOB NOT NULL, record BLOB NOT NULL, PRIMARY KEY (partition, key))"
)
_SCHEMA = (
    "CREATE TABLE partitions (partition INTEGER PRIMARY KEY, promises BLOB NOT NULL, header BLOB NOT NULL)",
    f"CREATE TABLE records {_RECORDS} WITHOUT ROWID",
    "CREATE TABLE operations (partition INTEGER NOT NULL, client BLOB NOT NULL, number INTEGER NOT NULL,"
    " operation BLOB NOT NULL, PRIMARY KEY (partition, client, number)) WITHOUT ROWID",
    "CREATE TABLE asides (partition INTEGER PRIMARY KEY, header BLOB NOT NULL)",
    f"CREATE TABLE aside_records {_RECORDS} WITHOUT ROWID",
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
)
_PARTITIONS = (
    "INSERT INTO partitions (partition, promises, header) VALUES {}"
    " ON CONFLICT (partition) DO UPDATE SET promises = excluded.promises, header = excluded.header"
)
#: The header is that of a new row only.
_PROMISES = (
    "INSERT INTO partitions (partition, promises, header) VALUES {}"
    " ON CONFLICT (partition) DO UPDATE SET promises = excluded.promises"
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
_CLEAR_ASIDE = (
    "DELETE FROM asides WHERE partition IN (VALUES {})",
    "DELETE FROM aside_records WHERE partition IN (VALUES {})",
)
_ASIDES = "INSERT INTO asides (partition, header) VALUES {}"
_ASIDE_RECORDS = "INSERT INTO aside_records (partition, key, record) VALUES {}"
_META = "INSERT INTO meta (name, value) VALUES {} ON CONFLICT (name) DO UPDATE SET value = excluded.value"

NOTHING: Mapping[Any, Any] = MappingProxyType({})


class GroupDatabase(SqliteFile):
    """An open file. See :class:`~chordtx.store.sqlite_file.SqliteFile`.

    :ivar lost: partitions whose states are damaged, each with the reason; known once :meth:`load` was called.
        What was acknowledged may be missing from what the group's other members have, so such a replica's
        promise must not count for a majority before a leader has given it a whole state again. It stays on
        disk as it is until then, so that it is known as lost after the next start too.
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
        self._left: dict[int, Configuration] = {}
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
        """Everything, read and checked before the first is given: (partition, what it has promised, state).

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
        self._left = {partition: stored.left for partition, stored, _ in loaded if partition in self.lost}
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

    def asides(self) -> Iterator[tuple[int, Aside, int]]:
        """What was kept aside: (partition, state without clients, how many damaged records it lacks).

        :raises StorageFailed: when it cannot be read.
        """
        try:
            headers = self._reader.execute("SELECT partition, header FROM asides").fetchall()
            for partition, stored in headers:
                yield partition, *self._aside(partition, stored)
        except ERRORS as error:
            raise self.failed(error) from error

    def _aside(self, partition: int, stored: object) -> tuple[Aside, int]:
        """It is used for nothing but to be looked through by people: so what is whole of it is of use."""
        rank, header = NO_RANK, None
        with suppress(Damaged):
            rank, header = form.header_from_stored(partition, stored, form.ASIDE_HEADERS)
        state = State(Header(NO_CONFIGURATION) if header is None else header)
        seed, decoder, damaged = form.seed_of(form.ASIDE_RECORDS, partition), form.Decoder(), 0
        rows = self._reader.execute("SELECT key, record FROM aside_records WHERE partition = ?", (partition,))
        for key, record in rows:
            try:
                state.records[key] = decoder.record(seed, key, record)
            except Damaged:
                damaged += 1
        return Aside(rank, state), damaged

    # Writing

    def commit(
        self,
        saves: Mapping[int, Save],
        values: Mapping[str, bytes],
        asides: Mapping[int, Aside | None] = NOTHING,
    ) -> None:
        """Store all of it, and sync, or nothing of it.

        The one method that may be called in another thread, by one at a time.

        :param saves: by partition. :param values: by name.
        :param asides: what is to be kept aside of partitions, in place of what is; None to forget that.
        :raises StorageFailed: when nothing of it was stored.
        """
        still_lost = {partition for partition in saves if self._stays_lost(partition, saves[partition])}
        whole = {partition: save for partition, save in saves.items() if partition not in still_lost}
        found = [partition for partition in whole if partition in self.lost]

        def write() -> None:
            pack = form.packer()
            self._clear(_CLEAR, found)
            self._execute_for(_PARTITIONS, _partition_rows(whole, pack))
            promises = {partition: saves[partition] for partition in still_lost}
            self._execute_for(_PROMISES, _partition_rows(promises, pack))
            self._save_rows(whole, pack)
            if asides:
                self._keep_aside(asides, pack)
            self._execute_for(_META, ((name, form.value_to_stored(name, values[name])) for name in values))

        self._commit(write)
        for partition in found:
            del self.lost[partition]

    def _stays_lost(self, partition: int, save: Save) -> bool:
        """Until a whole state takes the place of the damaged one, or the replica has left its group."""
        if partition not in self.lost:
            return False
        return save.stored.header is None and save.stored.left == self._left[partition]

    def _save_rows(self, saves: Mapping[int, Save], pack: form.Pack) -> None:
        items = saves.items()
        records = (form.record_rows(partition, save.records, pack) for partition, save in items)
        self._execute_for(_STORE, chain.from_iterable(records))
        self._execute_for(
            _DELETE,
            (
                (partition, key)
                for partition, save in items
                for key, record in save.records.items()
                if record is None
            ),
        )
        operations = (form.operation_rows(partition, save.clients, pack) for partition, save in items)
        self._execute_for(_REMEMBER, chain.from_iterable(operations))
        self._execute_for(
            _FORGET,
            (
                (partition, *id)
                for partition, save in items
                for id, kept in save.clients.items()
                if kept is None
            ),
        )

    def _keep_aside(self, asides: Mapping[int, Aside | None], pack: form.Pack) -> None:
        self._clear(_CLEAR_ASIDE, asides)
        kept = [(partition, aside) for partition, aside in asides.items() if aside is not None]
        headers = (
            (partition, form.header_to_stored(partition, rank, state.header, pack, form.ASIDE_HEADERS))
            for partition, (rank, state) in kept
        )
        self._execute_for(_ASIDES, headers)
        for partition, aside in kept:
            rows = form.record_rows(partition, aside.state.records, pack, form.ASIDE_RECORDS)
            self._execute_for(_ASIDE_RECORDS, rows)

    def _clear(self, statements: Iterable[str], partitions: Iterable[int]) -> None:
        """Delete all rows of partitions."""
        rows = [(partition,) for partition in partitions]
        for statement in statements:
            self._execute_for(statement, rows)


def _partition_rows(saves: Mapping[int, Save], pack: form.Pack) -> Iterator[tuple[int, bytes, bytes]]:
    for partition, save in saves.items():
        stored = save.stored
        promises = form.promises_to_stored(partition, stored, pack)
        yield partition, promises, form.header_to_stored(partition, stored.rank, stored.header, pack)
