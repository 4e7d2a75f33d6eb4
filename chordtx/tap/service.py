"""The node as a service of twistd: made of what the options say, and its process ends when it cannot start.

:func:`makeService` does no input or output. What goes wrong once the reactor runs (a port that is taken, a
ring that nobody answers from) is seen by :class:`GuardedNode`, which says it in one line and ends the process
with a status other than 0.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.application.service import IService, Service
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized

from chordtx import process
from chordtx.chord import ChordService
from chordtx.errors import ChordError
from chordtx.tap.options import Options
from chordtx.tap.telling import EXIT_CANNOT_START, one_line, tell

#: What a program that starts nodes (cli.local_ring) looks for in their log.
READY = "Ready: in the ring"

_log = Logger()


class CannotStart(ChordError):
    """The node could not start; for twistd, which passes it on to the one who started the daemon."""


class GuardedNode(Service):
    """Runs a node, and ends the process when it cannot start.

    :ivar node: the :class:`ChordService`, or anything with its starting and stopping methods.
    """

    def __init__(
        self,
        reactor: Any,
        node: Any,
        end: Callable[[Any, int], None],
        log_observer: Callable[[Any], ILogObserver] | None = None,
    ) -> None:
        """:param end: called with the reactor and a status other than 0 when the start failed.
        :param log_observer: makes, of the reactor, what the application is to log with; None leaves that to
            whoever runs it.
        """
        self.node = node
        self._log_observer = log_observer
        self._reactor = reactor
        self._end = end
        self._failure: CannotStart | None = None
        self._watching: Deferred[None] = succeed(None)

    def setServiceParent(self, parent: Any) -> None:
        """Twisted's: become a part of the application, which is told how to log before it begins to."""
        if self._log_observer is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._log_observer(self._reactor))
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    def privilegedStartService(self) -> None:
        """Open the port, while the process may still open one below 1024; twist leaves that to the start."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self.node.privilegedStartService()

    def startService(self) -> None:
        """Start the node, and watch until it is in the ring.

        :raises CannotStart: in a daemon only, when binding failed at once: twistd tells its starter.
        """
        super().startService()  # type: ignore[no-untyped-call]
        self.node.startService()
        self._watching = Deferred.fromCoroutine(self._watch())
        self._watching.addErrback(lambda failure: _log.failure("Watching the start failed", failure))
        if self._failure is not None and _leads_nowhere(2):
            _log.critical("Cannot start: {why}", why=str(self._failure))
            raise self._failure

    def stopService(self) -> Deferred[None]:
        """Leave the ring politely; fires when that is done."""
        super().stopService()  # type: ignore[no-untyped-call]
        self._watching.cancel()
        stopped: Deferred[None] = self.node.stopService()
        return stopped

    async def _watch(self) -> None:
        try:
            await self.node.when_listening()
            await self.node.when_joined()
        except CancelledError:
            return
        except (ChordError, CannotListenError, OSError) as error:
            self._failed(one_line(error))
        except Exception as error:
            _log.failure("The node could not start for a reason that nobody thought of")
            self._failed(f"{type(error).__name__}: {one_line(error)}")
        else:
            status = self.node.status
            _log.info(
                READY + " of subnet {subnet} as {id} at {address}",
                subnet=status.get("subnet"),
                id=status.get("id"),
                address=status.get("address"),
            )
            if isinstance(self.node, ChordService):
                self.node.when_left().addCallback(lambda _: self._end(self._reactor, 0))

    def _failed(self, why: str) -> None:
        if not self.running:
            return
        self._failure = CannotStart(why)
        # twist begins its log only with the reactor, and what is logged before goes to standard error.
        self._reactor.callWhenRunning(self._tell_and_end, why)

    def _tell_and_end(self, why: str) -> None:
        _log.critical("Cannot start: {why}", why=why)
        tell(f"cannot start: {why}")
        self._end(self._reactor, EXIT_CANNOT_START)


def makeService(options: Options, reactor: Any = None) -> IService:
    """The node that the options describe.

    :param options: parsed. :param reactor: the global one when None; the process is then taken to be the
        node's own, see :mod:`chordtx.process`.
    """
    if reactor is None:
        from twisted.internet import reactor

        process.prepare_node(reactor)
    node = ChordService(
        reactor,
        listen=options["listen"],
        advertise=options["advertise"],
        peers=options["peer"],
        subnet=options["subnet"],
        encryption=options["encryption"],
        leech=options["leech"],
        settings=options["settings"],
        data=options["data"],
    )
    log_observer = options.runner.log_as(options["log-level"], options["log-format"])
    return GuardedNode(reactor, node, process.end_process, log_observer)


def _leads_nowhere(descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(os.devnull))
    except OSError:
        return True
