"""What goes wrong in a simulated run, done to its world when the time has come."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import combinations, pairwise
from random import Random

from chordtx.chord import ChordService
from chordtx.sim.group_disk import GroupDisk
from chordtx.sim.hosts import SKEW_SECONDS, Host
from chordtx.sim.outsiders import Outsiders
from chordtx.sim.plan import Episode
from chordtx.sim.world import World

NODES_MAX = 24
_CLOCK_OFF_SECONDS = 86_400.0  # a clock is set to something that is off by up to this
_ALL_CLOCKS_SHARE = 0.3
_MOST_GO_WITHIN_SECONDS = 3.0
_ALL_CLOCKS_AHEAD_SECONDS = 3 * 3600.0


class Faults:
    """Those of one run. :param world: where they happen."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._outsiders = Outsiders(world)

    def begin(self, episode: Episode) -> None:
        """Let it begin."""
        begin = getattr(self, f"_{episode.fault.name.lower()}")
        begin(episode, Random(episode.draw))

    def _end_later(self, episode: Episode, end: Callable[[], None]) -> None:
        self._world.time.call_later(episode.seconds, end)

    def _some(self, episode: Episode, rng: Random) -> list[Host]:
        members, stay = self._world.members(), 1 if self._world.has_disks else 4
        return rng.sample(members, max(0, min(episode.count, len(members) - stay)))

    def _some_pairs(self, episode: Episode, rng: Random) -> list[tuple[str, str]]:
        names = [host.name for host in self._world.members()]
        some = [rng.sample(names, 2) for _ in range(episode.count if len(names) > 1 else 0)]
        return [(one, other) for one, other in some]

    def _join(self, episode: Episode, rng: Random) -> None:
        for _ in range(min(episode.count, NODES_MAX - len(self._world.members()))):
            self._world.add_host()

    def _leave(self, episode: Episode, rng: Random) -> None:
        for host in self._some(episode, rng):
            self._world.leave(host)

    def _kill(self, episode: Episode, rng: Random, is_silent: bool = False) -> None:
        for host in self._some(episode, rng):
            self._go_and_come_back(host, is_silent, episode.seconds)

    def _power(self, episode: Episode, rng: Random) -> None:
        self._kill(episode, rng, is_silent=True)

    def _most(self, episode: Episode, rng: Random) -> None:
        members, is_silent = self._world.members(), rng.random() < 0.5
        within_seconds = rng.choice([0.0, _MOST_GO_WITHIN_SECONDS])
        for host in rng.sample(members, max(0, len(members) - episode.count)):
            seconds = episode.seconds * rng.uniform(0.5, 1.0)
            go = partial(self._go_and_come_back, host, is_silent, seconds)
            self._world.time.call_later(rng.uniform(0.0, within_seconds), go)

    def _go_and_come_back(self, host: Host, is_silent: bool, seconds: float) -> None:
        if host.service is not None:  # another fault may have ended it
            self._world.crash(host, is_silent)
            self._world.time.call_later(seconds, partial(self._world.boot, host))

    def _pause(self, episode: Episode, rng: Random) -> None:
        for host in self._some(episode, rng):
            assert host.service is not None
            reactor = host.service.reactor
            self._world.log(f"{host.name} stands still")
            reactor.is_paused = True
            self._end_later(episode, reactor.resume)

    def _suspend(self, episode: Episode, rng: Random) -> None:
        self._pause(episode, rng)

    def _unjoin(self, episode: Episode, rng: Random) -> None:
        for host in self._some(episode, rng):
            assert host.service is not None
            self._world.log(f"{host.name} stores nothing any more")
            host.is_leaving = True
            host.service.unjoin().addErrback(lambda _: None)
            self._end_later(episode, partial(self._join_again, host, host.service))

    def _join_again(self, host: Host, service: ChordService) -> None:
        if host.service is service:
            self._world.log(f"{host.name} joins again")
            host.is_leaving = False
            service.join().addErrback(lambda _: None)

    def _refuse(self, episode: Episode, rng: Random) -> None:
        for _ in range(10 * episode.count):
            self._world.network.break_connection()
        for host in rng.sample(self._world.members(), min(episode.count, len(self._world.members()))):
            self._world.network.refuse(host.name)
            self._end_later(episode, partial(self._world.network.accept, host.name))

    def _full(self, episode: Episode, rng: Random) -> None:
        for host in self._some(episode, rng):
            assert host.disk is not None
            host.disk.full_for += 1
            self._end_later(episode, partial(_has_room, host.disk))

    def _break(self, episode: Episode, rng: Random) -> None:
        for _ in range(episode.count):
            self._world.network.break_connection()

    def _slow(self, episode: Episode, rng: Random) -> None:
        for source, target in self._some_pairs(episode, rng):
            factor = rng.choice([10.0, 30.0, 100.0])
            self._world.network.slow_down(source, target, factor)
            self._end_later(episode, partial(self._world.network.slow_down, source, target, 1))

    def _one_way(self, episode: Episode, rng: Random) -> None:
        self._cut(episode, self._some_pairs(episode, rng))

    def _non_transitive(self, episode: Episode, rng: Random) -> None:
        pairs = self._some_pairs(episode, rng)
        self._cut(episode, [way for a, b in pairs for way in ((a, b), (b, a))])

    def _split(self, episode: Episode, rng: Random) -> None:
        """In two, or three. Guests are on one side or another."""
        names = [host.name for host in (*self._world.members(), *self._world.guests)]
        rng.shuffle(names)
        places = sorted(rng.sample(range(1, len(names)), min(max(1, episode.count - 1), len(names) - 1)))
        parts = [names[a:b] for a, b in pairwise([0, *places, len(names)])]
        self._world.log(" | ".join(" ".join(part) for part in parts))
        pairs = [(a, b) for one, other in combinations(parts, 2) for a in one for b in other]
        self._cut(episode, [way for a, b in pairs for way in ((a, b), (b, a))])

    def _deaf(self, episode: Episode, rng: Random) -> None:
        """One part hears the other one, which does not hear it."""
        names = [host.name for host in (*self._world.members(), *self._world.guests)]
        rng.shuffle(names)
        place = rng.randint(1, max(1, len(names) - 1))
        deaf, others = names[:place], names[place:]
        self._world.log(f"{' '.join(deaf)} do not hear {' '.join(others)}")
        self._cut(episode, [(source, target) for source in others for target in deaf])

    def _crowd(self, episode: Episode, rng: Random) -> None:
        """Many join, and many of those who were there leave."""
        leaving = self._some(episode, rng)
        self._world.about_to_leave = leaving
        self._join(episode, rng)
        self._world.about_to_leave = []
        for host in leaving:
            self._world.leave(host)

    def _twice(self, episode: Episode, rng: Random) -> None:
        self._outsiders.run_twice(episode, rng)

    def _put_back(self, episode: Episode, rng: Random) -> None:
        self._outsiders.put_back(episode, rng)

    def _other_ring(self, episode: Episode, rng: Random) -> None:
        self._outsiders.meet_other_ring(episode, rng)

    def _cut(self, episode: Episode, ways: list[tuple[str, str]]) -> None:
        for way in ways:
            self._world.network.cut(*way)
            self._end_later(episode, partial(self._world.network.mend, *way))

    def _clock(self, episode: Episode, rng: Random) -> None:
        if rng.random() < _ALL_CLOCKS_SHARE:
            self.set_all_clocks(rng.uniform(0.0, _ALL_CLOCKS_AHEAD_SECONDS))
            return
        for host in self._some(episode, rng):
            most_seconds = rng.choice([SKEW_SECONDS, _CLOCK_OFF_SECONDS])
            off_seconds = rng.uniform(-most_seconds, most_seconds)
            host.wall_clock.offset_seconds = self._world.clocks_ahead_seconds + off_seconds
            self._world.log(f"the clock of {host.name} is set, and is {off_seconds:.1f} s off")

    def set_all_clocks(self, ahead_seconds: float) -> None:
        """All wall clocks are set at once."""
        self._world.log(f"all clocks are set ahead by {ahead_seconds:.1f} s")
        self._world.clocks_ahead_seconds += ahead_seconds
        for host in self._world.hosts:
            host.wall_clock.offset_seconds += ahead_seconds


def _has_room(disk: GroupDisk) -> None:
    disk.full_for -= 1
