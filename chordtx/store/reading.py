"""Reads all that a node's groups have on disk, and finds what is damaged in it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

from chordtx.group.rank import NO_RANK, Rank
from chordtx.group.record import Record
from chordtx.group.replica import Aside, Stored
from chordtx.group.state import Client, Header, State
from chordtx.store import form
from chordtx.store.form import Damaged

#: Partition, what its replica has promised and has, its state when it has one, and what it was in other
#: histories, by mark.
Loaded = tuple[int, Stored, State | None, dict[int, Aside]]

T = TypeVar("T")


class Reading:
    """One reading of everything.

    :ivar lost: partitions whose states are damaged, each with the first reason.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.lost: dict[int, str] = {}
        self._connection = connection
        self._decoder = form.Decoder()
        self._promises: dict[int, form.Promises] = {}
        self._headers: dict[int, tuple[Rank, Header | None]] = {}

    def partitions(self) -> list[Loaded]:
        """All there are. None can be given before the last row was read: a row that stands in the wrong
        partition is missing in another one.

        :raises Damaged: when a promise is, in whatever history, or a row of whose partition nothing else is
            known.
        """
        self._read_partitions()
        records, clients, asides = self._records(), self._clients(), self._asides()
        loaded: list[Loaded] = []
        for partition, promises in self._promises.items():
            rank, header = self._headers.get(partition, (NO_RANK, None))
            if header is None and (records[partition] or clients[partition]):
                self._lose(partition, "it has records without a header")
            if promises.is_lost:
                self._lose(partition, "it was damaged before, and no leader has installed another one since")
            if partition in self.lost:
                stored, state = promises._replace(is_lost=True).stored(), None
            else:
                stored = promises.stored(rank, header)
                state = None if header is None else State(header, records[partition], clients[partition])
            loaded.append((partition, stored, state, asides[partition]))
        return loaded

    def _rows(self, query: str) -> Iterator[Any]:
        return self._connection.execute(query)

    def _read_partitions(self) -> None:
        for partition, promises, header in self._rows("SELECT partition, promises, header FROM partitions"):
            try:
                if not isinstance(partition, int):
                    raise Damaged("its number is none")
                self._promises[partition] = form.promises_from_stored(partition, promises)
            except Damaged as error:
                raise Damaged(f"what was promised for partition {partition!r} is lost: {error}") from error
            try:
                self._headers[partition] = form.header_from_stored(partition, header)
            except Damaged as error:
                self._lose(partition, str(error))

    def _records(self) -> dict[int, dict[bytes, Record]]:
        found: dict[int, dict[bytes, Record]] = {partition: {} for partition in self._promises}
        seeds, decode = self._seeds(form.RECORDS), self._decoder.record
        for partition, key, stored in self._rows("SELECT partition, key, record FROM records"):
            record = self._checked(seeds, partition, decode, key, stored)
            if record is not None:
                found[partition][key] = record
        return found

    def _clients(self) -> dict[int, dict[bytes, Client]]:
        found: dict[int, dict[bytes, Any]] = {partition: {} for partition in self._promises}
        seeds = self._seeds(form.OPERATIONS)
        for partition, client, number, stored in self._rows(
            "SELECT partition, client, number, operation FROM operations"
        ):
            row = self._checked(seeds, partition, form.operation_from_stored, client, number, stored)
            if row is not None:
                found[partition].setdefault(client, []).append((number, row))
        for partition, clients in found.items():
            for client, rows in clients.items():
                try:
                    clients[client] = self._decoder.client(rows)
                except Damaged as error:
                    self._lose(partition, str(error))
        return found

    def _asides(self) -> dict[int, dict[int, Aside]]:
        """Promises are in them, so they are never left out. The newest is the last."""
        found: dict[int, dict[int, Aside]] = {partition: {} for partition in self._promises}
        for partition, mark, stored in self._rows("SELECT partition, mark, aside FROM asides ORDER BY rowid"):
            if partition not in found:
                raise Damaged(f"a row is of partition {partition!r}, of which nothing else is known")
            try:
                found[partition][mark] = self._decoder.aside(partition, mark, stored)
            except Damaged as error:
                raise Damaged(
                    f"what was promised for partition {partition!r} in another history is lost: {error}"
                ) from error
        return found

    def _seeds(self, table: bytes) -> dict[int, int]:
        return {partition: form.seed_of(table, partition) for partition in self._promises}

    def _checked(self, seeds: dict[int, int], partition: int, read: Callable[..., T], *row: Any) -> T | None:
        """What is read from a row; None when it is damaged. What is damaged may be the very number of its
        partition: then it is missing where it belongs, which is found by its checksum."""
        if partition not in seeds:
            raise Damaged(f"a row is of partition {partition!r}, of which nothing else is known")
        try:
            return read(seeds[partition], *row)
        except Damaged as error:
            self._lose(partition, str(error))
        for other, seed in seeds.items():
            with suppress(Damaged):
                read(seed, *row)
                self._lose(other, f"a row of it stands in partition {partition}")
        return None

    def _lose(self, partition: int, reason: str) -> None:
        self.lost.setdefault(partition, reason)
