"""A data folder: what groups must not forget, and what makes a node the same one when it starts again.

Beside what :mod:`chordtx.store.folder` says: the identity of the node's ring stands in it too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from chordtx.store.disk import CallLater, RunInThread
from chordtx.store.folder import RECORDS, LockedFolder
from chordtx.store.group_database import FORMAT, GroupDatabase
from chordtx.store.group_store import GroupStore


class GroupFolder(LockedFolder):
    """See the module.

    :ivar store: what groups keep. :ivar ring: the identity of the ring, as it was given; None without one.
    :ivar starts: how often the folder was opened, this time too. :ivar met: as it was given.
    """

    def _open(self, subnet: str, run_in_thread: RunInThread, call_later: CallLater) -> None:
        self._check_files()
        database = GroupDatabase(self.path / RECORDS)
        try:
            self._read(database.values(), subnet)
            self._mark(FORMAT)
            self.store = GroupStore(database, run_in_thread, call_later)
        except BaseException:
            database.close()
            raise
        self._subnet = subnet

    def _read_more(self, values: dict[str, bytes]) -> None:
        self.ring, self.met = values.get("ring"), values.get("met")
        self.starts = int(values.get("starts", b"0")) + 1

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

    @staticmethod
    def peers_of(values: dict[str, bytes]) -> list[str]:
        """The addresses that stand in such values."""
        return [str(peer) for peer in json.loads(values.get("peers", b"[]"))]

    async def close(self) -> None:
        """Commit what there is, and let others use the folder.

        :raises StorageFailed: when something could not be stored; the folder is closed just the same.
        """
        try:
            await self.store.close()
        finally:
            self._unlock()
