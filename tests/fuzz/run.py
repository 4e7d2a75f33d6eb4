"""Runs of the fuzzer: a kind of stranger, a seed and a count of inputs are a run, the same one each time."""

from __future__ import annotations

import gc
from contextlib import suppress
from traceback import format_exception

from attrs import frozen

from tests.fuzz.guest import KINDS, Guests
from tests.fuzz.memory import held_bytes
from tests.fuzz.world import OWN_KEYS, Failed, WatchedLog, World

BATCH = 50
BATCH_SECONDS = 0.3
#: Inputs before memory is first looked at: what is bounded by settings is full then.
WARM_UP_SHARE = 0.4
#: More may be held after the second part of a run than after the first, the records left out.
GROWN_BYTES_MAX = 200_000


@frozen
class Outcome:
    """What came of a run.

    :ivar links: how many links strangers had. :ivar longest_seconds: the longest turn, in processor time.
    :ivar grown_bytes: by how much more memory was held at its end.
    """

    inputs: int
    links: int
    longest_seconds: float
    grown_bytes: int


def run(kind: str, seed: int, count: int, first: int = 0) -> Outcome:
    """Fuzz a service in a world of its own.

    :param kind: one of :data:`~tests.fuzz.guest.KINDS`. :param first: inputs before this one are left out.
    :raises Failed: naming the run, and how many inputs show the fault.
    """
    with WatchedLog() as log:
        one = _Run(kind, seed, first, log)
        try:
            return one.fuzz(count)
        except Exception as error:
            one.give_up()
            told = f"python -m tests.fuzz --kind {kind} --seed {seed} --count {one.done + 1 - first}"
            what = error if isinstance(error, Failed) else "".join(format_exception(error))
            raise Failed(f"{told}{f' --from {first}' if first else ''}: {what}") from error


class _Run:
    """
    :ivar done: the number of the input that comes next.
    """

    def __init__(self, kind: str, seed: int, first: int, log: WatchedLog) -> None:
        self.done = self._first = first
        self._log = log
        self._world = World(KINDS[kind].service, seed, has_short_turns=bool(seed % 2))
        self._guests = Guests(self._world, KINDS[kind], seed)

    def fuzz(self, count: int) -> Outcome:
        """So many inputs, in two parts that begin and end with no stranger."""
        self._act_until(self._first + int(count * WARM_UP_SHARE))
        before_bytes = self._held_bytes()
        self._act_until(self._first + count)
        grown_bytes = self._held_bytes() - before_bytes
        if grown_bytes > GROWN_BYTES_MAX:
            raise Failed(f"{grown_bytes:,} bytes more are held than before")
        self._world.stop()
        gc.collect()
        self._log.check()
        return Outcome(count, self._guests.links, self._world.meter.longest_seconds, grown_bytes)

    def give_up(self) -> None:
        """End what can be ended: what is left in the middle would fail when it is collected."""
        with suppress(Exception):
            self._guests.leave()
            self._world.stop()

    def _act_until(self, end: int) -> None:
        while self.done < end:
            self._guests.act(self.done)
            self.done += 1
            if self.done % BATCH == 0:
                self._check_batch()
        self._guests.leave()
        self._world.settle(is_own_safe=not self._guests.may_overwrite)
        self._world.check_links()
        self._world.check_served()
        self._log.check()

    def _check_batch(self) -> None:
        world = self._world
        world.run(BATCH_SECONDS)
        self._log.check()
        if world.own and not self._guests.may_overwrite:
            world.check_own([OWN_KEYS[self.done // BATCH % len(OWN_KEYS)]])
        world.check_served()
        self._log.check()

    def _held_bytes(self) -> int:
        return held_bytes() - self._world.stored_bytes
