"""Where records could live: SQLite beside LMDB, doing what a node does with them.

Both get the same records in the same stored form, in turns and in several rounds. Needs LMDB's binding, which
chordtx itself does not: ``pip install lmdb``.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from chordtx.records import Record, Version, merge
from chordtx.store.database import PLACE_SHIFT, Database
from chordtx.store.form import from_stored, to_stored
from chordtx.store.memory import naming_position

WRITER = b"w" * 16
VALUE_BYTES = (100, 1024)
PAGE = 500
BATCHES = (1, 16, 128)
_MAP_BYTES = 1 << 34
_PLACE_MAX = (1 << 62) - 1

Timings = dict[str, list[float]]


class Sqlite:
    """The store that chordtx has."""

    name = "sqlite3"

    def __init__(self, folder: Path) -> None:
        self._database = Database(folder / "records.sqlite")

    def get(self, key: bytes) -> Record | None:
        """One record."""
        found = self._database.load(naming_position(key) >> PLACE_SHIFT, key)
        return None if found is None else from_stored(key, found)

    def commit(self, changes: Sequence[tuple[bytes, Record]]) -> None:
        """Store all, synced."""
        rows = [(naming_position(key) >> PLACE_SHIFT, key, to_stored(key, record)) for key, record in changes]
        self._database.commit(rows, [], {})

    def pages(self) -> Iterator[Sequence[Any]]:
        """All keys by their positions, page by page."""
        top = _PLACE_MAX
        while page := self._database.page(top, 0, PAGE):
            yield page
            top = page[-1][0] - 1

    def check(self) -> None:
        """Read everything, as a node does when it starts."""
        self._database.check()
        for _, key, stored in self._database.everything():
            from_stored(key, stored)

    def close(self) -> None:
        """Close the file."""
        self._database.close()


class Lmdb:
    """Records by the full position, so that one tree does for both; the key stands in the value."""

    name = "lmdb"

    def __init__(self, folder: Path) -> None:
        import lmdb

        self._environment = lmdb.open(str(folder), map_size=_MAP_BYTES)

    def get(self, key: bytes) -> Record | None:
        """One record."""
        with self._environment.begin() as transaction:
            found = transaction.get(naming_position(key).to_bytes(48, "big"))
        return None if found is None else from_stored(key, found[4 + len(key) :])

    def commit(self, changes: Sequence[tuple[bytes, Record]]) -> None:
        """Store all, synced."""
        with self._environment.begin(write=True) as transaction:
            for key, record in changes:
                stored = len(key).to_bytes(4, "big") + key + to_stored(key, record)
                transaction.put(naming_position(key).to_bytes(48, "big"), stored)

    def pages(self) -> Iterator[Sequence[Any]]:
        """All keys by their positions, page by page: each finds its start anew, as a node's do."""
        last: bytes | None = None
        while page := self._page(last):
            yield page
            last = page[-1][0]

    def _page(self, last: bytes | None) -> list[tuple[bytes, bytes]]:
        page = []
        with self._environment.begin(buffers=True) as transaction, transaction.cursor() as cursor:
            if last is None:
                more = cursor.last()
            else:
                cursor.set_range(last)
                more = cursor.prev()
            while more and len(page) < PAGE:
                place, stored = cursor.item()
                length = int.from_bytes(stored[:4], "big")
                page.append((bytes(place), bytes(stored[4 : 4 + length])))
                more = cursor.prev()
        return page

    def check(self) -> None:
        """Read everything. LMDB has nothing that checks its tree."""
        with self._environment.begin() as transaction, transaction.cursor() as cursor:
            for _, stored in cursor:
                end = 4 + int.from_bytes(stored[:4], "big")
                from_stored(stored[4:end], stored[end:])

    def close(self) -> None:
        """Close the file."""
        self._environment.close()


KINDS: tuple[Callable[[Path], Any], ...] = (Sqlite, Lmdb)


class Candidate:
    """One store that is measured, in a folder of its own."""

    def __init__(self, kind: Callable[[Path], Any], folder: Path, records: int) -> None:
        folder.mkdir()
        self.name: str = kind.name  # type: ignore[attr-defined]
        self.folder = folder
        self.seconds: Timings = {}
        self._kind = kind
        self._keys = [b"record-%08d" % number for number in range(records)]
        self._rng = Random(1)
        self._clock = 1
        self._store = kind(folder)

    def fill(self) -> None:
        """Store every key, a thousand in one commit."""
        for start in range(0, len(self._keys), 1000):
            changes = [(key, self._record()) for key in self._keys[start : start + 1000]]
            self._time("fill, of each record", len(changes), lambda: self._store.commit(changes))  # noqa: B023

    def round(self, gets: int, commits: int) -> None:
        """Measure everything once."""
        keys = self._rng.choices(self._keys, k=gets)
        self._time("get", gets, lambda: [self._store.get(key) for key in keys])
        for size in BATCHES:
            self._merges(size, max(commits // size, 20))
        pages: list[int] = []
        self._time(f"page of {PAGE} keys", 1, lambda: pages.extend(len(page) for page in self._store.pages()))
        self.seconds[f"page of {PAGE} keys"][-1] /= len(pages)
        assert sum(pages) == len(self._keys)
        self._time("close", 1, self._store.close)
        self._time(f"open with {len(self._keys):,} records", 1, self._open)
        self._time("check, of each record", len(self._keys), self._store.check)

    def _open(self) -> None:
        self._store = self._kind(self.folder)

    def _merges(self, size: int, commits: int) -> None:
        batches = [
            [(key, self._record()) for key in self._rng.sample(self._keys, size)] for _ in range(commits)
        ]
        self._time(f"merge, {size} in a commit", commits * size, lambda: [self._merge(b) for b in batches])

    def _merge(self, batch: Sequence[tuple[bytes, Record]]) -> None:
        merged = [(key, merge(self._store.get(key), record)) for key, record in batch]
        self._store.commit(merged)

    def _record(self) -> Record:
        self._clock += 1
        return Record(Version(self._clock, WRITER), self._rng.randbytes(self._rng.randint(*VALUE_BYTES)))

    def _time(self, what: str, count: int, work: Callable[[], Any]) -> None:
        began = time.perf_counter()
        work()
        self.seconds.setdefault(what, []).append((time.perf_counter() - began) / count)

    def close(self) -> int:
        """:returns: how many bytes it takes on the disk."""
        self._store.close()
        return sum(path.stat().st_blocks * 512 for path in self.folder.iterdir())


def print_table(candidates: Sequence[Candidate], sizes: Sequence[int], records: int) -> None:
    """Medians, and each one's ratio to the first."""
    table = Table(title=f"{records:,} records of {VALUE_BYTES[0]} to {VALUE_BYTES[1]} bytes: microseconds")
    table.add_column("what", no_wrap=True)
    for candidate in candidates:
        table.add_column(candidate.name, justify="right")
    table.add_column(" : ".join(candidate.name for candidate in candidates), justify="right")
    for what in candidates[0].seconds:
        first, second = (statistics.median(candidate.seconds[what]) * 1e6 for candidate in candidates)
        table.add_row(what, f"{first:,.1f}", f"{second:,.1f}", f"{first / second:.2f}")
    table.add_row(
        "MiB on the disk", *(f"{size / 2**20:,.1f}" for size in sizes), f"{sizes[0] / sizes[1]:.2f}"
    )
    Console(width=100).print(table)


@click.command()
@click.option("--records", default=100_000, show_default=True, help="How many there are.")
@click.option("--rounds", default=5, show_default=True, help="Medians are taken over these.")
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="On the disk that is meant. [default: the system's folder for temporary files]",
)
def main(records: int, rounds: int, folder: Path | None) -> None:
    """Measure SQLite and LMDB with a node's records."""
    try:
        import lmdb  # noqa: F401
    except ImportError:
        raise click.ClickException("LMDB's binding is not installed: pip install lmdb") from None
    place = Path(tempfile.mkdtemp(dir=folder))
    try:
        candidates = [Candidate(kind, place / str(number), records) for number, kind in enumerate(KINDS)]
        for candidate in candidates:
            candidate.fill()
        for number in range(rounds):
            for candidate in candidates if number % 2 else reversed(candidates):
                candidate.round(gets=20_000, commits=2_000)
        print_table(candidates, [candidate.close() for candidate in candidates], records)
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
