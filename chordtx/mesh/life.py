"""How a service starts, runs and ends, in whatever order it is told to.

It is *down*, *starting*, *up* or *going down*. A start that fails goes down by itself: nothing of it is left,
and those who wait are told why. What is told meanwhile:

======== ===========================================================================================
down     ``begin`` starts it
starting ``end`` gives the start up, and goes down
up       ``end`` goes down
going    ``begin`` has it start once it is down; ``end`` after that takes this back
======== ===========================================================================================

Whether calls may be made depends on what was told last, not on how far it got: between ``begin`` and ``end``
they are taken, and wait if need be; before and after they fail at once. Knows nothing of networks.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from chordtx.errors import ChordError, NotJoined, Stopped
from chordtx.mesh.deferreds import Gate, Shared


class Phase(enum.Enum):
    """How far it got."""

    DOWN = enum.auto()
    STARTING = enum.auto()
    UP = enum.auto()
    GOING_DOWN = enum.auto()


class Life:
    """The life of one service.

    :param start: does what may take a while or fail; is cancelled when the service is to stop meanwhile.
    :param started: called when that worked. :param stop: ends everything, also what a start has only begun;
        is told whether the service was up.
    :param log: where a failure goes that nobody waits for.
    :ivar listening: open while peers can connect. :ivar joined: open from when calls work.
    """

    def __init__(
        self,
        start: Callable[[], Awaitable[None]],
        started: Callable[[], None],
        stop: Callable[[bool], Awaitable[None]],
        log: Logger,
    ) -> None:
        self._start = start
        self._started = started
        self._stop = stop
        self._log = log
        self._phase = Phase.DOWN
        self._refusal: ChordError | None = NotJoined("the service is not started")
        self._has_failed = False
        self._begins_again = False
        self._starting: Deferred[Any] | None = None
        self._going_down: Shared[None] | None = None
        self._up = Gate(self._refusal)
        self.listening = Gate(self._refusal)
        self.joined = Gate(self._refusal)

    @property
    def phase(self) -> Phase:
        """How far it got."""
        return self._phase

    @property
    def refusal(self) -> ChordError | None:
        """Why no call can be made; None when calls are taken."""
        return self._refusal

    def when_up(self) -> Deferred[None]:
        """Fires once the service is started, fails when it is not to be, or cannot be."""
        return self._up.when_open()

    def begin(self) -> None:
        """Start. Nothing happens when it is started already; after a failure it is tried again."""
        if self._refusal is None:
            return
        self._refusal, self._has_failed = None, False
        for gate in self._gates:
            gate.reset()
        if self._phase is Phase.DOWN:
            self._launch()
        else:
            self._begins_again = True

    def end(self) -> Deferred[None]:
        """Stop. :returns: fires when it is down."""
        self._begins_again = False
        if self._refusal is None or self._has_failed:
            self._has_failed = False
            self._refuse(Stopped("the service is stopped"), Stopped("the service was stopped"))
        if self._phase in (Phase.STARTING, Phase.UP):
            self._go_down()
        return succeed(None) if self._going_down is None else self._going_down.wait()

    @property
    def _gates(self) -> tuple[Gate, ...]:
        return (self.listening, self.joined, self._up)

    def _refuse(self, refusal: ChordError, error: Exception) -> bool:
        """Take no more calls. :returns: whether anybody was waiting, and is told."""
        self._refusal = refusal
        told = [gate.failed(error) for gate in self._gates]
        return any(told)

    # Up

    def _launch(self) -> None:
        self._phase = Phase.STARTING
        starting = Deferred.fromCoroutine(self._start_through())
        if self._phase is Phase.STARTING:
            self._starting = None if starting.called else starting
        else:
            starting.cancel()  # something that it did has stopped the service

    async def _start_through(self) -> None:
        try:
            await self._start()
            if self._phase is Phase.STARTING:
                self._phase = Phase.UP
                self._started()
        except Exception as error:
            self._cannot_start(error)
        else:
            if self._phase is Phase.UP:
                self._up.opened()
                self.listening.opened()

    def _cannot_start(self, error: Exception) -> None:
        if self._phase not in (Phase.STARTING, Phase.UP):
            return  # it was to stop, and has failed because of that
        self._has_failed = True
        refusal = NotJoined(f"the service could not start: {error}")
        refusal.__cause__ = error
        if not self._refuse(refusal, error):
            self._log.error("cannot start: {error}", error=str(error))
        if self._phase in (Phase.STARTING, Phase.UP):  # those who were told may have stopped it
            self._go_down()

    # Down

    def _go_down(self) -> None:
        was_up = self._phase is Phase.UP and not self._has_failed
        self._phase = Phase.GOING_DOWN
        starting, self._starting = self._starting, None
        if starting is not None:
            starting.cancel()
        work = Deferred.fromCoroutine(self._stop_through(was_up))
        self._going_down = Shared(work)
        work.addBoth(lambda _: self._go_on())

    async def _stop_through(self, was_up: bool) -> None:
        try:
            await self._stop(was_up)
        except Exception:
            self._log.failure("stopping failed")
        self._phase = Phase.DOWN

    def _go_on(self) -> None:
        """Those who waited for the end have been told; now to what was told meanwhile."""
        if self._phase is Phase.DOWN and self._begins_again:
            self._begins_again = False
            self._launch()
