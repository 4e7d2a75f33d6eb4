"""``ChordService`` for asyncio: a node of a Chord ring, with the ring's records as a dict."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random

from twisted.internet.interfaces import IStreamServerEndpoint

from chordtx import chord
from chordtx.aio.bridge import awaited, iterated
from chordtx.aio.mesh import Base
from chordtx.aio.namespace import RingMethods
from chordtx.chord.node_folder import OpenFolder
from chordtx.config import ChordSettings
from chordtx.ring import Contact


class ChordService(RingMethods, Base):
    """A node of a Chord ring, with the ring's records as a dict.

    ``async with ChordService(...) as node:`` starts it, waits until it has joined, and stops it at the end.
    To be made while a loop runs. The parameters are those of :class:`chordtx.ChordService`, but for the
    reactor.

    :raises RuntimeError: when no loop runs, or when something else has installed a reactor of Twisted's
        that is not on the loop; the text says what to do.
    """

    _service: chord.ChordService

    def __init__(
        self,
        listen: str | IStreamServerEndpoint | None = "tcp:44565:interface=127.0.0.1",
        advertise: str | None = None,
        peers: Iterable[str] = (),
        subnet: str = "chord",
        encryption: str = "Plaintext",
        leech: bool = False,
        settings: ChordSettings | None = None,
        rng: Random | None = None,
        data: str | None = None,
        remembered: Iterable[str] = (),
        wall_clock: Callable[[], float] | None = None,
        lease_clock: Callable[[], float] | None = None,
        open_folder: OpenFolder | None = None,
    ) -> None:
        super().__init__(
            chord.ChordService,
            listen=listen,
            advertise=advertise,
            peers=peers,
            subnet=subnet,
            encryption=encryption,
            leech=leech,
            settings=settings,
            rng=rng,
            data=data,
            remembered=remembered,
            wall_clock=wall_clock,
            lease_clock=lease_clock,
            open_folder=open_folder,
        )
        self._service.when_left().addCallback(self._stopped)

    when_hearing = awaited(chord.ChordService.when_hearing)
    when_joined = awaited(chord.ChordService.when_joined)
    when_left = awaited(chord.ChordService.when_left)
    join = awaited(chord.ChordService.join)
    unjoin = awaited(chord.ChordService.unjoin)
    health = awaited(chord.ChordService.health)
    ring = awaited(chord.ChordService.ring)
    order = awaited(chord.ChordService.order)
    set_aside = iterated(chord.ChordService.set_aside)

    @property
    def leeching(self) -> bool:
        """Whether it stores nothing for others."""
        return self._service.leeching

    @property
    def next(self) -> Contact | None:
        """The next node along the walk, None in a ring of one."""
        return self._service.next

    @property
    def prev(self) -> Contact | None:
        """The node before on the walk, None while unknown."""
        return self._service.prev
