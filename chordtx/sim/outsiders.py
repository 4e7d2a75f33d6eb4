"""Processes that have no place in the ring, and what must become of them.

A node's data folder is copied, and a process begins on the copy: beside the node itself, or after the node
has run on. And nodes of another ring connect to those of this one. Nobody may take any of them in.
"""

from __future__ import annotations

from random import Random
from typing import Any

from chordtx.chord.leaders import node_id_of
from chordtx.errors import ChordError
from chordtx.sim.group_disk import Files, GroupDisk, read_files, write_files
from chordtx.sim.hosts import PORT, Host
from chordtx.sim.plan import Episode
from chordtx.sim.virtual import WallClock
from chordtx.sim.world import World

# A copy is noticed by those who know the node: there have to be some.
_MEMBERS_MIN = 3
# A node that is started again is a member, and known to its fellows, after this long.
_RUN_SECONDS = 6.0
_DOWN_SECONDS = 1.0
_OTHERS_MAX = 3
_OTHERS_WRITE_SECONDS = 5.0
_OTHERS_CONNECT_SECONDS = 7.0


class Outsiders:
    """Those of one run. :param world: whose ring they do not belong to."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._count = 0

    def _make(self, files: Files | None = None, rate: float = 1.0) -> Host:
        self._count += 1
        world, name = self._world, f"10.8.0.{self._count}"
        disk = None if files is None else world.disk(name)
        if disk is not None and files is not None:
            write_files(disk.path, files)
        clock = WallClock(world.time, world.clocks_ahead_seconds)
        return Host(name, clock, rate, disk, is_outsider=True)

    def _end(self, host: Host) -> None:
        if host.service is not None:
            self._world.crash(host, is_silent=False)

    # Copies of a data folder

    def run_twice(self, episode: Episode, rng: Random) -> None:
        """A copy of the folder of a node that runs is started beside it."""
        for host in self._some_known(rng):
            self._world.log(f"the folder of {host.name} is copied")
            files = read_files(_disk_of(host).path)
            self._run_copy(host, files, "a copy of a folder that is in use", episode.seconds)

    def put_back(self, episode: Episode, rng: Random) -> None:
        """A copy of a node's folder is started after the node itself has been started twice since."""
        for host in self._some_known(rng):
            files = read_files(_disk_of(host).path)
            self._world.log(f"the folder of {host.name} is copied, and the node goes on")
            service: Any = host.service
            id, starts = service.id_10, service._kept.starts + 1
            at = 0.0
            for _ in range(2):
                self._later(at, self._stop, host)
                self._later(at + _DOWN_SECONDS, self._start, host)
                at += _DOWN_SECONDS + _RUN_SECONDS
            self._later(at, self._stop, host)
            left_seconds = episode.seconds - at - _DOWN_SECONDS
            self._later(at + _DOWN_SECONDS, self._run_old_copy, host, files, id, starts, left_seconds)
            self._later(episode.seconds + _DOWN_SECONDS, self._start, host)

    def _run_old_copy(self, host: Host, files: Files, id: int, starts: int, seconds: float) -> None:
        """Run it, if some member knows that the node was started more often. When it was in no group since,
        nobody has to know, and there is no promise that the copy could break."""
        services: list[Any] = [member.service for member in self._world.members()]
        if any(service._kept.met_starts.get(id, 0) > starts for service in services):
            self._run_copy(host, files, "a folder that is older than the node", seconds)

    def _some_known(self, rng: Random) -> list[Host]:
        known = [host for host in self._world.callers() if host.is_member and _has_fellows(host)]
        return [rng.choice(known)] if len(known) >= _MEMBERS_MIN else []

    def _later(self, seconds: float, do: Any, *arguments: Any) -> None:
        self._world.time.call_later(seconds, lambda: do(*arguments))

    def _stop(self, host: Host) -> None:
        if host.service is not None:
            self._world.crash(host, is_silent=False)

    def _start(self, host: Host) -> None:
        if host.service is None and host.is_down:
            self._world.boot(host)

    def _run_copy(self, host: Host, files: Files, why: str, seconds: float) -> None:
        copy = self._make(files, host.rate)
        known = host.known if host.service is None else map(str, host.service._known_addresses())
        copy.known = list(known)
        self._world.boot(copy)
        service: Any = copy.service
        refused: list[bool] = []
        service.when_joined().addErrback(lambda failure: refused.append(_is_refusal(failure.value)))

        def end() -> None:
            if not any(refused):
                self._world.complained(f"{copy.name}: {why} is not refused")
            self._end(copy)

        self._later(seconds, end)

    # Another ring

    def meet_other_ring(self, episode: Episode, rng: Random) -> None:
        """Some nodes begin a ring of their own, write something, and then connect to ours."""
        others = [self._make() for _ in range(min(episode.count, _OTHERS_MAX))]
        for number, host in enumerate(others):
            self._world.boot(host, [f"{others[0].name}:{PORT}"] if number else [])
        self._later(_OTHERS_WRITE_SECONDS, self._write, others[0])
        for host in others:
            self._later(_OTHERS_CONNECT_SECONDS, self._connect, host, rng)

        def end() -> None:
            self._look_at(others)
            for host in others:
                self._end(host)

        self._later(episode.seconds, end)

    def _write(self, host: Host) -> None:
        service: Any = host.service
        service.set(b"of another ring", 1).addErrback(
            lambda failure: self._world.complained(f"another ring cannot be written to: {failure.value!r}")
        )

    def _connect(self, host: Host, rng: Random) -> None:
        service, members = host.service, self._world.members()
        if service is not None and members:
            to = rng.choice(members).name
            self._world.log(f"{host.name} of another ring connects to {to}")
            service.connect(to, PORT).addErrback(lambda _: None)

    def _look_at(self, others: list[Host]) -> None:
        """None of them may be in our ring, nor in any of its groups, and none of ours in theirs."""
        services: list[Any] = [host.service for host in others]
        theirs = {service.id_10 for service in services}
        groups = {node_id_of(id) for id in theirs}
        identities = {service._identity for service in services}
        for host in self._world.members():
            service: Any = host.service
            ring, hosting = service._ring, service._hosting
            listed = {contact.id for contact in (*ring.successors, ring.predecessor) if contact is not None}
            fellows = set() if hosting is None else {member.id for member in hosting.fellows()}
            if listed & theirs or fellows & groups or service._identity in identities:
                self._world.complained(f"{host.name}: two rings have become one")


def _has_fellows(host: Host) -> bool:
    """Whether it is in a group. Else nobody has to remember how often it was started, and it has no promise
    to forget."""
    hosting = None if host.service is None else host.service._hosting
    return hosting is not None and bool(hosting.fellows())


def _disk_of(host: Host) -> GroupDisk:
    assert host.disk is not None
    return host.disk


def _is_refusal(error: Exception) -> bool:
    return isinstance(error, ChordError) and "refuses this node" in str(error)
