"""What :class:`~chordtx.chord.node_parts.NodeParts` needs of a :class:`~chordtx.ChordService`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from random import Random
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from chordtx.chord.bootstrap import Bootstrap
from chordtx.chord.client import GroupClient
from chordtx.chord.hosting import Hosting
from chordtx.chord.leaders import Leaders
from chordtx.chord.link_policy import LinkPolicy
from chordtx.chord.membership import Membership
from chordtx.chord.node_folder import NodeFolder
from chordtx.chord.placement import Placement
from chordtx.chord.ring_identity import RingIdentity
from chordtx.chord.routing import Routing
from chordtx.chord.rpc import Rpc
from chordtx.chord.standings import Standings
from chordtx.chord.watching import Watch, Watches
from chordtx.config import ChordSettings
from chordtx.group.messages import Answer
from chordtx.legacy import LegacyPeers
from chordtx.mesh import Address, MeshConnection
from chordtx.mesh.bounds import LinkBounds
from chordtx.mesh.broadcasts import Broadcasts
from chordtx.mesh.calls import Method
from chordtx.mesh.life import Life
from chordtx.mesh.limited_log import LimitedLog
from chordtx.mesh.loop import Loop, Pause, Round
from chordtx.mesh.peer_exchange import PeerExchange
from chordtx.ring import Contact, RingNode
from chordtx.values import Key, Value
from chordtx.wire import Message


class Service(Protocol):
    """Its parts, and what it has of a mesh's node. (A protocol, for the service knows what is made of it.)"""

    # Of a mesh's node

    reactor: IReactorTime
    id: str
    id_10: int
    routing_table: dict[str, MeshConnection]
    _bounds: LinkBounds
    _broadcasts: Broadcasts
    _exchange: PeerExchange
    _life: Life
    _limited_log: LimitedLog
    _methods: dict[str, Method]
    _rng: Random

    def stopService(self) -> Deferred[None]: ...

    def sleep(self, seconds: float) -> Deferred[None]:
        """Fires after a while."""

    def _background(self, work: Coroutine[object, object, object]) -> Deferred[object]: ...

    def _broadcast(self, *payload: object) -> Message: ...

    def _connect_quietly(self, address: Address) -> None: ...

    def _emit(self, event: str, *args: object) -> None: ...

    def _has_listeners(self, event: str) -> bool: ...

    def _keep(self, name: str, round: Round, pause: Pause, first_after_seconds: float = 0.0) -> Loop: ...

    def _link_to(self, address: Address, peer: str | None = None) -> Deferred[MeshConnection]: ...

    def _own_address(self) -> Address: ...

    def _wall_ms(self) -> int: ...

    def _why_not_reached(self, address: Address) -> str | None: ...
    def _nobody_is_there(self, address: Address) -> bool: ...

    # Of its place in the ring, and of its groups

    leeching: bool
    _book: dict[int, Contact]
    _client: GroupClient
    _chord_settings: ChordSettings
    _connecting: set[int]
    _rpc: Rpc
    _hosting: Hosting | None
    _identity: RingIdentity | None
    _joining: Bootstrap
    _kept: NodeFolder
    _leaders: Leaders
    _lease_clock: Callable[[], float]
    _leaving: bool
    _legacy: LegacyPeers
    _membership: Membership
    _placement: Placement
    _ring: RingNode
    _routing: Routing
    _link_policy: LinkPolicy
    _standings: Standings
    _stopping: bool
    _watches: Watches

    def unjoin(self) -> Deferred[None]:
        """Have others keep what this node kept; the node goes on using the ring."""

    def _give_ring_up(self, for_ring: RingIdentity) -> None: ...

    def _left_for_good(self) -> None: ...

    def _ring_known(self) -> Deferred[RingIdentity]: ...

    def _ask(self, kind: int, key: bytes, *arguments: object) -> Deferred[Answer]: ...

    def watch(self, key: Key | None = None) -> Watch:
        """What becomes of a key, or of all."""

    def _unpacked(self, blob: bytes) -> Value: ...
