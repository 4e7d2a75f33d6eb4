"""A node's data folder: its records, and what makes it the same node when it starts again.

- ``lock`` is held while a node uses the folder.
- ``records.sqlite`` holds what the node's groups must not forget and, beside it, the node's id, the network's
  name, the ring's identity, the addresses of peers and how often the node has started. SQLite has two more
  files beside it while it is open.
- ``format`` says that the folder has had records: without ``records.sqlite`` it is damaged.

Whatever is wrong with it is told in one line that says what to do: :class:`~chordtx.errors.StorageFailed`.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Sequence
from pathlib import Path

from twisted.logger import Logger

from chordtx.errors import StorageFailed
from chordtx.store.database import FORMAT, Database
from chordtx.store.group_store import CallLater, GroupStore, RunInThread
from chordtx.store.ownership import OwnFolder
from chordtx.store.sqlite_file import damaged

_LOCK = "lock"
_FORMAT = "format"
RECORDS = "records.sqlite"
_LOG = "records.sqlite-wal"
_OF_SQLITE = ("records.sqlite-shm", "records.sqlite-journal")


class DataFolder:
    """An open folder, locked until it is closed.

    :param path: made when it is not there, for its owner's eyes only; it must be the process's own.
    :param subnet: the network whose records it holds. :param run_in_thread: see :class:`GroupStore`.
    :ivar node_id: the node's id, None when it never ran. :ivar peers: addresses that it remembers.
    :ivar store: what groups keep. :ivar ring: the identity of the ring, as it was given; None without one.
    :ivar starts: how often the folder was opened, this time too. :ivar met: as it was given.
    :raises StorageFailed: when it cannot be used.
    """

    _log = Logger()

    def __init__(self, path: str, subnet: str, run_in_thread: RunInThread, call_later: CallLater) -> None:
        self.path = Path(path)
        self._lock: int | None = None
        try:
            self._own = OwnFolder(self.path)
            try:
                self._must_be_own()
                self._lock = self._locked()
                self._open(subnet, run_in_thread, call_later)
            finally:
                self._own.close()
        except OSError as error:
            self._unlock()
            reason = error.strerror or str(error)
            raise StorageFailed(f"cannot use the data folder {path}: {reason}", path, reason) from error
        except BaseException:
            self._unlock()
            raise

    def _must_be_own(self) -> None:
        if self._own.others_may_look:
            self._log.warn("others than its owner may look into {path}", path=str(self.path))
        for name in (_LOCK, _FORMAT, RECORDS, _LOG, *_OF_SQLITE):
            self._own.must_own(name)

    def _locked(self) -> int:
        descriptor = self._own.open(_LOCK, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 20).decode(errors="replace").strip()
            os.close(descriptor)
            who = f" (process {holder})" if holder.isdigit() else ""
            path = str(self.path)
            raise StorageFailed(
                f"the data folder {path} is in use by another node{who}", path, "in use"
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        return descriptor

    def _open(self, subnet: str, run_in_thread: RunInThread, call_later: CallLater) -> None:
        self._check_files()
        database = Database(self.path / RECORDS)
        try:
            self._read(database.values(), subnet)
            self._mark()
            self.store = GroupStore(database, run_in_thread, call_later)
        except BaseException:
            database.close()
            raise
        self._subnet = subnet

    def _check_files(self) -> None:
        records = self.path / RECORDS
        size = records.stat().st_size if records.exists() else None
        if (self.path / _FORMAT).exists() and not size:
            raise damaged(records, "it is gone" if size is None else "it is empty", Database.what_to_do)
        # SQLite gives the files that it makes beside this one the same permissions.
        os.close(self._own.open(RECORDS, os.O_RDWR))

    def _read(self, values: dict[str, bytes], subnet: str) -> None:
        """What stands beside the records. :raises StorageFailed: when it makes no sense here."""
        try:
            named = values.get("subnet", subnet.encode()).decode()
            self.node_id = values["node_id"].decode() if "node_id" in values else None
            self.peers = self.peers_of(values)
            self.ring, self.met = values.get("ring"), values.get("met")
            self.starts = int(values.get("starts", b"0")) + 1
        except (ValueError, TypeError) as error:
            reason = "what stands beside the records makes no sense"
            raise damaged(self.path / RECORDS, reason, Database.what_to_do) from error
        if named != subnet:
            path = str(self.path)
            raise StorageFailed(
                f"the data folder {path} is of subnet {named!r}, not {subnet!r}: name another folder",
                path,
                f"of subnet {named!r}",
            )

    @staticmethod
    def peers_of(values: dict[str, bytes]) -> list[str]:
        """The addresses that stand in such values."""
        return [str(peer) for peer in json.loads(values.get("peers", b"[]"))]

    def _mark(self) -> None:
        marker = self.path / _FORMAT
        if not marker.exists():
            with open(self._own.open(_FORMAT, os.O_WRONLY), "w") as file:
                file.write(f"chordtx data, format {FORMAT}\n")
                file.flush()
                os.fsync(file.fileno())
            self._own.sync()

    def noted(self, node_id: str, peers: Sequence[str], ring: bytes | None, met: bytes) -> dict[str, bytes]:
        """What is to be stored beside the groups, by name.

        :param met: after how many starts others were met.
        """
        values = {
            "subnet": self._subnet.encode(),
            "node_id": node_id.encode(),
            "peers": json.dumps(list(peers)).encode(),
            "starts": b"%d" % self.starts,
            "met": met,
        }
        return values if ring is None else {**values, "ring": ring}

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def close(self) -> None:
        """Commit what there is, and let others use the folder.

        :raises StorageFailed: when something could not be stored; the folder is closed just the same.
        """
        try:
            await self.store.close()
        finally:
            self._unlock()
