"""``SyncService`` for asyncio: a dict that everybody has a copy of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import Any

from twisted.internet.interfaces import IStreamServerEndpoint

from chordtx import sync
from chordtx.aio.bridge import awaited
from chordtx.aio.dictionary import DictMethods
from chordtx.aio.mesh import Base
from chordtx.config import SyncSettings
from chordtx.sync import Meta


class SyncService(DictMethods, Base):
    """A node of a network in which everybody has a copy of the whole dict, and reads from memory.

    ``async with SyncService(...) as node:`` starts it, waits until it can be used, and stops it at the end.
    To be made while a loop runs. What it promises, and the parameters but for the reactor, are as with
    :class:`chordtx.SyncService`.

    :raises RuntimeError: when no loop runs, or when something else has installed a reactor of Twisted's
        that is not on the loop; the text says what to do.
    """

    _service: sync.SyncService

    def __init__(
        self,
        listen: str | IStreamServerEndpoint | None = "tcp:44565:interface=127.0.0.1",
        advertise: str | None = None,
        peers: Iterable[str] = (),
        subnet: str = "sync",
        encryption: str = "Plaintext",
        leasing: bool = True,
        settings: SyncSettings | None = None,
        rng: Random | None = None,
        wall_clock: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(
            sync.SyncService,
            listen=listen,
            advertise=advertise,
            peers=peers,
            subnet=subnet,
            encryption=encryption,
            leasing=leasing,
            settings=settings,
            rng=rng,
            wall_clock=wall_clock,
        )

    when_joined = awaited(sync.SyncService.when_joined)

    @property
    def leasing(self) -> bool:
        """Whether keys are leased."""
        return self._service.leasing

    @property
    def data(self) -> Mapping[bytes, Any]:
        """Everything, as a mapping to read at once."""
        return self._service.data

    @property
    def metadata(self) -> Mapping[bytes, Meta]:
        """Who changed each key last, and when."""
        return self._service.metadata
