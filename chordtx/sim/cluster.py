"""A simulated run of nodes whose records are in groups, checked for linearizability from beginning to end."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.defer import Deferred

from chordtx.chord.group_service import ChordService
from chordtx.config import ChordSettings, GroupSettings, MeshSettings
from chordtx.sim.group_disk import GroupDisk, SimulatedThread
from chordtx.sim.history import Operation, TooHard, by_key, unexplained
from chordtx.sim.invariants import zave_violations
from chordtx.sim.plan import Fault
from chordtx.sim.run import Report, Run
from chordtx.sim.world import PORT, SKEW_SECONDS, Host, Options, World
from chordtx.store.group_folder import GroupFolder
from chordtx.store.group_store import GroupStore


class SimulatedFolder:
    """The data folder of a process on a simulated disk. It has what GroupFolder has."""

    noted = GroupFolder.noted

    def __init__(self, disk: GroupDisk, reactor: Any, rng: Random) -> None:
        database = disk.opened()
        values = database.values()
        self._disk = disk
        self._subnet = "sim"
        self.path = Path(disk.path.name)  # the same in each run
        self.thread = SimulatedThread(reactor.callLater, rng)
        self.store = GroupStore(database, self.thread, reactor.callLater)
        self.node_id = values["node_id"].decode() if "node_id" in values else None
        self.peers = GroupFolder.peers_of(values)
        self.ring, self.met = values.get("ring"), values.get("met")
        self.starts = int(values.get("starts", b"0")) + 1

    async def close(self) -> None:
        """Commit what there is, and let go of the disk."""
        await self.store.close()
        self._disk.closed()


class ObservedService(ChordService):
    """A node as it is, but that the world is told what its ring looks like."""

    changed: Callable[[list[str]], None]

    def _ring_changed(self) -> None:
        self.changed(self._ring.check())
        super()._ring_changed()


class Cluster(World):
    """The world of one run. :param folder: for the disks of its hosts."""

    def __init__(
        self, seed: int, options: Options, folder: Path, print_line: Callable[[str], None] | None = None
    ) -> None:
        super().__init__(seed, options, print_line)
        self._settings = options.settings or _draw_settings(Random(f"{seed} settings"))
        self._folder = folder
        self._disks: dict[str, GroupDisk] = {}
        self._folders: dict[str, SimulatedFolder] = {}
        self._known: dict[str, list[str]] = {}

    def boot(self, host: Host) -> None:
        """Start the node of a host."""
        reactor = self.network.process(host.name)
        peers = self._draw_peers(host)
        if self._known.get(host.name):
            peers = []
        host.incarnation += 1
        rng = Random(f"{self.seed} {host.name} {host.incarnation}")
        service = ObservedService(
            reactor,
            listen=f"tcp:{PORT}:interface={host.name}",
            peers=peers,
            subnet="sim",
            settings=self._settings,
            rng=rng,
            wall_clock=host.wall_clock,
            remembered=self._known.get(host.name, ()),
            open_folder=None if host.disk is None else lambda _: self._opened(host, reactor, rng),
        )
        service.changed = lambda broken: self._ring_looks(host, broken)
        host.service = service  # type: ignore[assignment]
        host.is_leaving = host.is_down = False
        self.log(f"{host.name} starts as {service.id[:8]}, through {' '.join(peers) or 'nobody'}")
        service.startService()

    def _opened(self, host: Host, reactor: Any, rng: Random) -> SimulatedFolder:
        disk = self._disks.setdefault(host.name, GroupDisk(self._folder / host.name))
        folder = self._folders[host.name] = SimulatedFolder(disk, reactor, rng)
        return folder

    def crash(self, host: Host, is_silent: bool) -> None:
        """End a host's process without a word."""
        service: Any = host.service
        self.log(f"{host.name} {'loses power' if is_silent else 'is killed'}")
        self.network.kill(host.name, is_silent)
        folder = self._folders.pop(host.name, None)
        if folder is not None and folder._disk._database is not None:
            folder._disk.crash(self.rng, folder.thread.under_way)
        self._known[host.name] = [str(address) for address in service._known_addresses()]
        service._closing = True
        service._ring.leave()
        self._ended.append(service)
        host.service, host.is_down = None, True
        self._process_ended(host)

    def _depart(self, service: Any) -> Deferred[None]:
        """See :class:`World`. One that has a disk stays a member when it is only stopped."""
        unjoined: Deferred[None] = service.unjoin()
        return unjoined.addBoth(lambda _: service.stopService())

    def _ring_looks(self, host: Host, broken: list[str]) -> None:
        for what in broken:
            self.complained(f"{host.name}: {what}")
        if not self._may_be_taken_for_dead:
            rings = (each.service._ring for each in self.hosts if each.service is not None)
            for what in zave_violations(rings):
                self.complained(f"after a change at {host.name}: {what}")

    def differences(self) -> list[str]:
        """What is not as it is in the one true ring."""
        services: list[Any] = [host.service for host in self.members()]
        rings = sorted((service._ring for service in services), key=lambda ring: -ring.me.id)
        order = [ring.me.id for ring in rings]
        found = [f"{s._own_address()} is in no ring" for s in services if not s._ring.is_member]
        for place, ring in enumerate(rings):
            after = [*order[place + 1 :], *order[:place]]
            if [contact.id for contact in ring.successors] != after[: ring.list_length]:
                found.append(f"successors of {ring.me.host}")
            if (None if ring.predecessor is None else ring.predecessor.id) != (after[-1] if after else None):
                found.append(f"predecessor of {ring.me.host}")
        return found

    def misplaced(self) -> list[str]:
        """Partitions without a leader, with two, or whose group is not what the ring names."""
        services: list[Any] = [host.service for host in self.members()]
        identity = next((s._identity for s in services if s._identity is not None), None)
        if identity is None:
            return ["no ring has begun"]
        wrong = []
        count = min(identity.replicas, len(services))
        for partition in range(identity.partitions):
            groups = [s._hosting.group(partition) for s in services if s._hosting is not None]
            leading = [group for group in groups if group is not None and group.is_leading]
            if len(leading) != 1:
                wrong.append(f"partition {partition} has {len(leading)} leaders")
            elif len(leading[0].configuration.members) != count or leading[0].is_changing:
                wrong.append(f"partition {partition} has {len(leading[0].configuration.members)} members")
        return wrong


class ClusterRun(Run):
    """One run."""

    # By the time of its group, which is the median of clocks: another leader may have another median.
    _expiry_slack_seconds = 2 * SKEW_SECONDS

    def __init__(
        self, seed: int, options: Options, folder: Path, print_line: Callable[[str], None] | None = None
    ) -> None:
        super().__init__(seed, options, print_line, Cluster(seed, options, folder, print_line))

    def misplaced(self, keys: Sequence[bytes]) -> list[str]:
        """See :class:`Cluster`."""
        world: Any = self.world
        return world.misplaced()  # type: ignore[no-any-return]

    def _expiry_clock(self, host: Host) -> float:
        return self.world.time.now

    def _judges_expiry(self) -> bool:
        return not self.world.faults[Fault.CLOCK]

    def _judge(self) -> None:
        if self.report.violations:
            return
        self._read_all()
        for key, operations in by_key(self.operations).items():
            self._judge_order(key, operations)

    def _judge_order(self, key: bytes, operations: list[Operation]) -> None:
        try:
            wrong = unexplained(operations)
        except TooHard:
            self.report.too_hard += 1
            return
        if wrong is not None:
            self.violated(f"{key!r}: not linearizable: {wrong}")


def _draw_settings(rng: Random) -> ChordSettings:
    """Some that an operator may choose."""
    return ChordSettings(
        partition_bits=rng.choice([2, 3, 4]),
        stabilize_interval_seconds=rng.choice([1.0, 2.0, 3.0]),
        announce_interval_seconds=60.0,
        mesh=MeshSettings(ping_interval_seconds=rng.choice([1.0, 2.0, 4.0])),
        restart_grace_seconds=rng.choice([3.0, 10.0, 60.0]),
        placement_settle_seconds=rng.choice([0.3, 1.0]),
        groups=GroupSettings(lease_seconds=rng.choice([0.3, 1.0])),
    ).validate()


def run_seed(seed: int, options: Options, print_line: Callable[[str], None] | None = None) -> Report:
    """Run one seed to its verdict."""
    with tempfile.TemporaryDirectory() as folder:
        return ClusterRun(seed, options, Path(folder), print_line).run()
