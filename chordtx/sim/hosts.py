"""The machines of a simulated run, and what runs on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from attrs import define, field

from chordtx.chord import ChordService
from chordtx.sim.group_disk import GroupDisk, SimulatedThread
from chordtx.sim.service_watch import ServiceWatch
from chordtx.sim.virtual import WallClock
from chordtx.store.folder import DataFolder
from chordtx.store.group_store import GroupStore

PORT = 4000
#: The wall clocks of hosts differ from true time by up to this.
SKEW_SECONDS = 2.0


@define(eq=False)
class Host:
    """One machine.

    :ivar wall_clock: its time of day. :ivar rate: of the clock that only runs forward, beside true time.
    :ivar disk: None keeps nothing when its process ends.
    :ivar service: None while no process runs.
    :ivar folder: open, while a process with a disk runs. :ivar known: addresses that its node knew when it
        crashed, if it was in a ring. :ivar is_down: whether it crashed and is to come back.
    :ivar is_guest: whether its node only uses the ring. :ivar is_outsider: whether it has no place in it.
    :ivar has_listener: whether somebody there listens to keys.
    :ivar incarnation: how often it was started. :ivar when_ended: called when its process ends.
    """

    name: str
    wall_clock: WallClock
    rate: float
    disk: GroupDisk | None
    service: ObservedService | None = None
    folder: SimulatedFolder | None = None
    known: list[str] = field(factory=list)
    is_leaving: bool = False
    is_down: bool = False
    is_guest: bool = False
    is_outsider: bool = False
    has_listener: bool = False
    incarnation: int = 0
    when_ended: list[Callable[[], None]] = field(factory=list)

    @property
    def is_member(self) -> bool:
        """Whether its node runs, and is to stay."""
        return self.service is not None and not self.is_leaving and not self.is_guest

    @property
    def address(self) -> str:
        """Where its node is reached."""
        return f"{self.name}:{PORT}"


class SimulatedFolder:
    """The data folder of a process on a simulated disk. It has what DataFolder has."""

    noted = DataFolder.noted

    def __init__(self, disk: GroupDisk, reactor: Any, rng: Random) -> None:
        database = disk.opened()
        values = database.values()
        self._disk = disk
        self._subnet = "sim"
        self.path = Path(disk.path.name)  # the same in each run
        self.thread = SimulatedThread(reactor.callLater, rng, disk)
        self.store = GroupStore(database, self.thread, reactor.callLater)
        self.node_id = values["node_id"].decode() if "node_id" in values else None
        self.peers = DataFolder.peers_of(values)
        self.ring, self.met = values.get("ring"), values.get("met")
        self.starts = int(values.get("starts", b"0")) + 1

    def crash(self, rng: Random) -> None:
        """The process ends without a word: files go back to the last sync, and what came after is torn."""
        if self._disk.is_open:
            self._disk.crash(rng, self.thread.under_way)

    async def close(self) -> None:
        """Commit what there is, and let go of the disk."""
        await self.store.close()
        self._disk.closed()


class ObservedService(ChordService):
    """A node as it is, but that the world is told what its ring looks like."""

    changed: Callable[[list[str]], None]
    observed_by: ServiceWatch

    def _host(self) -> None:
        super()._host()
        assert self._hosting is not None
        clocks = lambda: (self._lease_clock(), self._wall_ms())  # noqa: E731
        self.observed_by.hosted(self._hosting, self._kept.store, clocks, self.reactor.rate)

    def _ring_changed(self) -> None:
        self.changed(self._ring.check())
        super()._ring_changed()


def opened(host: Host, reactor: Any, rng: Random) -> SimulatedFolder:
    """The data folder of a process that begins on this host."""
    assert host.disk is not None
    folder = host.folder = SimulatedFolder(host.disk, reactor, rng)
    return folder
