"""The dict that everybody has a full copy of, with or without leases on its keys.

:class:`SyncService` puts the parts together: :class:`~chordtx.sync.replica.Replica` has the entries,
:class:`~chordtx.sync.entry.Rules` say what may be written, broadcasts carry each change to everyone,
:class:`~chordtx.sync.anti_entropy.AntiEntropy` finds out what they have missed, and
:class:`~chordtx.sync.legacy_peers.LegacyNeighbours` deals with py2p and js2p nodes.

What is sent: ``store [11, key, value, note]`` and ``delta [17, key, map, note]``; legacy peers read it
without the note, ``[clock, expiry_ms or nil, term, began]``: the version, and the lease.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamServerEndpoint

from chordtx.assignments import Assignments
from chordtx.config import SyncSettings
from chordtx.dictionary import DictMixin, Span
from chordtx.errors import ProtocolError, StorageFull, ValueTooLarge
from chordtx.mesh import MeshConnection, MeshService
from chordtx.mesh.arguments import check_settings, check_subnet
from chordtx.mesh.handshake import as_text, number_of_id
from chordtx.sync.anti_entropy import AntiEntropy
from chordtx.sync.clock import HybridClock
from chordtx.sync.entry import Entry, Meta, Rules, joined, lease_from_wire
from chordtx.sync.lease import Lease
from chordtx.sync.legacy_peers import LegacyNeighbours
from chordtx.sync.record import NEVER_WRITTEN, Record
from chordtx.sync.record_limits import RecordLimits
from chordtx.sync.replica import Replica, View
from chordtx.sync.version import COUNTER_BITS, Version
from chordtx.wire import Message, flags, pack_value

_PAGE = 500
_LOOK_SECONDS = 0.5
_SLICE_KEYS = 500
_SLICE_PAUSE_SECONDS = 0.002
_FORGETS_IN_TOMBSTONE_TIME = 20
#: How far a version may be put ahead so that legacy peers, which know whole seconds, take it for a later one.
_AHEAD_SECONDS_MAX = 5


class SyncService(DictMixin, MeshService):
    """A node of a network in which everybody has a copy of the whole dict, and reads from memory.

    With ``leasing``, a key that one node has set can be changed by no other until an hour after its last
    change, or until it was deleted: others get a :class:`KeyError`. Without, the later change wins.
    ``leasing`` is part of the network's name, so nodes with and without it are of different networks.

    A change counts at once here, and reaches the others as soon as the network carries it: there is no
    majority to wait for. Two who change a key at the same moment both succeed, and everybody then settles on
    one of them.

    :param reactor: Twisted's, or one that behaves like it.
    :param listen: Twisted server endpoint to accept peers on, or the text of one; None accepts none.
    :param advertise: outward address ``HOST:PORT``; taken from ``listen`` when None.
    :param peers: addresses of nodes to join through. :param subnet: the network's name.
    :param encryption: ``Plaintext`` or ``SSL``. :param leasing: whether keys are leased.
    :param settings: limits and times. :param rng: random source.
    :param wall_clock: gives Unix time in seconds, for leases and expiry; the system's when None.
    :ivar data: everything, as a mapping to read at once. :ivar metadata: who changed each key last, and when.
    :raises ValueError: for an address, encryption or setting that makes no sense.
    :raises TypeError: for an argument of another kind.
    """

    _keeps_messages = False
    _event_names = (*MeshService._event_names, "update", "delete")

    def __init__(
        self,
        reactor: Any = None,
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
        self._sync_settings = check_settings(settings, SyncSettings).validate()
        mesh = self._sync_settings.mesh
        named = f"{check_subnet(subnet)}{int(leasing)}"
        MeshService.__init__(
            self, reactor, listen, advertise, peers, named, encryption, mesh, rng, wall_clock
        )
        self._key_bytes_max = self._sync_settings.key_bytes_max
        self._value_bytes_max = self._sync_settings.value_bytes_max
        self._value_limits = mesh.limits
        self._read_limits = self._value_limits.of_reading
        self.leasing = leasing
        self._record_limits = RecordLimits(self._value_bytes_max, self._value_limits)
        self._rules = Rules(leasing, self._sync_settings.lease_skew_seconds)
        self._owner = self.id.encode("ascii")
        drift_ms_max = int(self._sync_settings.clock_drift_seconds_max * 1000)
        self._clock = HybridClock(self._owner, drift_ms_max)
        self._replica = Replica()
        self.data: Mapping[bytes, Any] = View(
            self._replica, self._wall_ms, lambda _, packed: self._unpacked(packed)
        )
        self.metadata: Mapping[bytes, Meta] = View(self._replica, self._wall_ms, lambda entry, _: entry.meta)
        self._anti_entropy = AntiEntropy(
            self, self._replica, self._sync_settings.compare_interval_seconds, self._copy_received
        )
        self._legacy = LegacyNeighbours(self, self._replica)
        self._assignments = Assignments()
        self._flag_handlers.update({flags.STORE: self._store_received, flags.DELTA: self._delta_received})

    # The service

    def _port_opened(self) -> None:
        """See :class:`~chordtx.MeshService`."""
        super()._port_opened()
        self._anti_entropy.go_on()
        self._keep("expiry", self._tell_expired, lambda: _LOOK_SECONDS, _LOOK_SECONDS)
        seconds = self._sync_settings.tombstone_seconds / _FORGETS_IN_TOMBSTONE_TIME
        self._keep("forgetting", self._forget, lambda: seconds, seconds)

    def when_joined(self) -> Deferred[None]:
        """As :meth:`chordtx.MeshService.when_joined`; with peers, once what the first of them has is here.

        (A legacy peer does not say when it has told everything: with one of these, as soon as it is linked.)
        """
        return super().when_joined()

    async def _catch_up(self, link: MeshConnection) -> None:
        """See :class:`~chordtx.MeshService`."""
        if link.ours:
            await self._anti_entropy.compared(link)

    def _link_opened(self, link: MeshConnection) -> None:
        """See :class:`~chordtx.MeshService`: a new neighbour catches up, and so do we."""
        if not link.ours:
            self._legacy.link_opened(link)
        elif link.outgoing:
            self._anti_entropy.begin(link)

    def _may_relay(self, link: MeshConnection, message: Message) -> bool:
        """See :class:`~chordtx.MeshService`."""
        return super()._may_relay(link, message) and self._legacy.may_hear(link, message)

    @property
    def status(self) -> dict[str, Any]:
        """This node's view, fit for JSON: id, address, whether keys are leased, records, bytes, peers."""
        return super().status

    def _own_status(self) -> dict[str, Any]:
        return {
            "leasing": self.leasing,
            "records": len(self._replica),
            "bytes": self._replica.bytes_used,
        }

    # Writing

    async def _read_packed(self, key: bytes) -> bytes | None:
        """See :class:`~chordtx.dictionary.DictMixin`: from memory."""
        return self._replica.packed_value(key, self._wall_ms())

    async def _write_packed(self, key: bytes, blob: bytes, ttl: float | None) -> None:
        """See :class:`~chordtx.dictionary.DictMixin`.

        :raises KeyError: while another node has the key leased.
        """
        expiry_ms = None if ttl is None else self._expiry_ms(ttl)
        lease, version = self._may_write(key)
        entry = Entry(lease, Record(version, blob, expiry_ms))
        self._record_limits.must_be_written(key, entry.record, self._wall_ms())
        self._must_fit(key, entry)
        self._changed(key, entry, flags.STORE, self._unpacked(blob), expiry_ms)

    async def _delete_key(self, key: bytes) -> None:
        """See :class:`~chordtx.dictionary.DictMixin`; the lease is given up with it.

        :raises KeyError: while another node has the key leased.
        """
        lease, version = self._may_write(key)
        present = self._replica.get(key)
        if present is not None and present.record.alive(self._wall_ms()):
            self._changed(key, Entry(lease, Record(version, None)), flags.STORE, None, None)

    async def _write_fields(self, key: bytes, fields: dict[bytes, bytes]) -> bytes | None:
        """See :class:`~chordtx.dictionary.DictMixin`.

        :raises KeyError: while another node has the key leased.
        """
        packed = self._replica.packed_value(key, self._wall_ms())
        if packed is not None and not isinstance(self._unpacked(packed), dict):
            raise TypeError("a delta can only be applied to a map")
        lease, version = self._may_write(key)
        entry = self._with_fields(key, lease, version, fields)
        self._record_limits.must_be_written(key, entry.record, self._wall_ms())
        self._must_fit(key, entry)
        delta = {self._unpacked(name): self._unpacked(blob) for name, blob in fields.items()}
        self._changed(key, entry, flags.DELTA, delta, None)
        return self._replica.packed_value(key, self._wall_ms())

    async def _write_if_absent(self, key: bytes, blob: bytes, ttl: float | None) -> bool:
        """See :class:`~chordtx.dictionary.DictMixin`: what is absent here may be there elsewhere.

        :raises KeyError: while another node has the key leased.
        """
        if self._replica.is_alive(key, self._wall_ms()):
            return False
        await self._write_packed(key, blob, ttl)
        return True

    async def _key_pages(self, span: Span) -> AsyncGenerator[list[bytes], None]:
        """See :class:`~chordtx.dictionary.DictMixin`: in the order of keys, so that a listing can go on."""
        prefix, after, _ = span
        keys = sorted(key for key in self._replica.keys() if key.startswith(prefix))
        if after is not None:
            del keys[: bisect_right(keys, after)]
        for place in range(0, len(keys), _PAGE):
            now_ms = self._wall_ms()
            yield [key for key in keys[place : place + _PAGE] if self._replica.is_alive(key, now_ms)]

    async def _item_pages(self, span: Span) -> AsyncGenerator[list[tuple[bytes, bytes]], None]:
        """See :class:`~chordtx.dictionary.DictMixin`: the values are those in memory."""
        async for page in self._key_pages(span):
            now_ms = self._wall_ms()
            found = [(key, self._replica.packed_value(key, now_ms)) for key in page]
            yield [(key, blob) for key, blob in found if blob is not None]

    def _may_write(self, key: bytes) -> tuple[Lease, Version]:
        present, now_ms = self._replica.get(key), self._wall_ms()
        lease = self._rules.lease_for(present, self._owner, now_ms)
        if present is not None:
            self._clock.observe(self._late_enough(present, now_ms), now_ms)
        return lease, self._clock.tick(now_ms)

    def _late_enough(self, present: Entry, now_ms: int) -> Version:
        """The version that ours must be above.

        Legacy peers know whole seconds only, and within one the smaller id wins: a change of what another
        node wrote in the same second might not count with them.
        """
        newest = present.record.newest
        seconds = present.seconds + 1
        is_doubtful = not self.leasing and newest.writer < self._owner and seconds * 1000 > now_ms
        if is_doubtful and seconds * 1000 <= now_ms + _AHEAD_SECONDS_MAX * 1000:
            return Version((seconds * 1000) << COUNTER_BITS, newest.writer)
        return newest

    def _with_fields(
        self, key: bytes, lease: Lease, version: Version, fields: Mapping[bytes, bytes]
    ) -> Entry:
        """What a delta makes of what is there, if that is of the same lease."""
        present = self._replica.get(key)
        base = NEVER_WRITTEN if present is None or present.lease != lease else present.record
        return Entry(lease, base.with_fields(version, fields))

    def _must_fit(self, key: bytes, entry: Entry) -> None:
        settings = self._sync_settings
        growth_bytes = self._replica.growth_bytes(key, entry)
        if growth_bytes > 0 and self._replica.bytes_used + growth_bytes > settings.store_bytes_max:
            limit = f"store_bytes_max = {settings.store_bytes_max}"
        elif self._replica.get(key) is None and len(self._replica) >= settings.store_records_max:
            limit = f"store_records_max = {settings.store_records_max}"
        else:
            return
        raise StorageFull(f"the dict is full: {limit}", limit)

    def _changed(self, key: bytes, entry: Entry, flag: int, value: Any, expiry_ms: int | None) -> None:
        """A change of our own: keep it, and tell everyone."""
        note = [entry.record.newest.clock, expiry_ms, entry.lease.term, entry.lease.began]
        message = Message.build(flags.BROADCAST, self._owner, entry.seconds, (flag, key, value, note))
        self._broadcasts.send(message)
        self._merge(key, entry, None)

    # What others wrote

    def _store_received(self, link: MeshConnection, message: Message) -> None:
        """``store [11, key, value]``, with a note of our own nodes; or whispered with owner and time."""
        payload = message.payload
        if len(payload) not in (3, 4, 5):
            raise ProtocolError("store takes a key and a value")
        key = self._key_of(payload[1])
        blob = None if payload[2] is None else self._packed_of(payload[2])
        if len(payload) == 5:
            self._legacy_copy_received(link, key, blob, payload[3], payload[4])
            return
        noted = _noted(message)
        if noted is not None:
            lease, version, expiry_ms = noted
        else:
            decided = self._decided_for_old(key, message, is_delta=False)
            if decided is None:
                return
            (lease, version), expiry_ms = decided, None
        self._take(key, Entry(lease, Record(version, blob, expiry_ms)), link)

    def _delta_received(self, link: MeshConnection, message: Message) -> None:
        """``delta [17, key, map]``, with a note of our own nodes."""
        payload = message.payload
        if len(payload) not in (3, 4) or not isinstance(payload[2], dict):
            raise ProtocolError("delta takes a key and a map")
        key = self._key_of(payload[1])
        fields = {self._packed_of(name): self._packed_of(value) for name, value in payload[2].items()}
        noted = _noted(message)
        if noted is not None:
            lease, version, _ = noted
            entry = Entry(lease, NEVER_WRITTEN.with_fields(version, fields))
        else:
            decided = self._decided_for_old(key, message, is_delta=True)
            if decided is None:
                return
            entry = self._with_fields(key, *decided, fields)
        self._take(key, entry, link)

    def _decided_for_old(self, key: bytes, message: Message, is_delta: bool) -> tuple[Lease, Version] | None:
        owner = _id_of(message.sender)
        if message.time < 0:
            raise ProtocolError("a change is from before 1970")
        present = self._replica.get(key)
        return self._rules.by_legacy_peer(present, owner, message.time, self._wall_ms(), is_delta=is_delta)

    def _legacy_copy_received(
        self, link: MeshConnection, key: bytes, blob: bytes | None, owner: Any, seconds: Any
    ) -> None:
        """What a legacy peer has, told as the link opens: it says nothing of what was deleted meanwhile."""
        if type(seconds) is not int or not 0 <= seconds < 1 << 40:
            raise ProtocolError("a copy comes with its owner and a time")
        present = self._replica.get(key)
        name = _id_of(owner)
        is_known = present is not None and present.seconds == seconds and present.record.newest.writer == name
        if is_known or blob is None:
            return
        if present is not None and present.seconds >= seconds:
            self._legacy.tell_again(link, key, present)
            return
        decided = self._rules.by_legacy_peer(present, name, seconds, self._wall_ms())
        if decided is None:
            assert present is not None
            self._legacy.tell_again(link, key, present)
            return
        lease, version = decided
        if self._take(key, Entry(lease, Record(version, blob)), link):
            # Nobody else tells others: a legacy peer whispers what it has to its neighbours only.
            self._anti_entropy.spread(link)
            self._spread_to_old(key, link)

    def _copy_received(self, key: bytes, entry: Entry, link: MeshConnection) -> bool:
        """Something came by a comparison. :returns: whether it was news."""
        if len(key) > self._key_bytes_max:
            raise ProtocolError("a key is too long")
        is_news = self._take(key, entry, link, is_copy=True)
        if is_news:
            self._spread_to_old(key, link)
        return is_news

    def _spread_to_old(self, key: bytes, source: MeshConnection) -> None:
        entry = self._replica.get(key)
        if entry is not None:
            self._legacy.spread(key, entry, source)

    def _take(self, key: bytes, entry: Entry, link: MeshConnection, is_copy: bool = False) -> bool:
        self._clock.observe(entry.record.newest, self._wall_ms())
        if self._is_forgettable(entry) and self._replica.get(key) is None:
            return False  # from somebody who has not forgotten it yet
        after = joined(self._replica.get(key), entry)
        assert after is not None
        try:
            self._record_limits.must_be_kept(key, after.record, self._wall_ms())
            self._must_fit(key, entry)
        except (StorageFull, ValueTooLarge) as error:
            self._limited_log.warn("a change is not kept: {error}", error=str(error))
            return False
        return self._merge(key, entry, link, is_copy)

    def _merge(self, key: bytes, entry: Entry, source: MeshConnection | None, is_copy: bool = False) -> bool:
        self._tell_expired()  # first what has happened first
        before, after = self._replica.merge(key, entry)
        if before == after:
            return False
        now_ms = self._wall_ms()
        self._replica.expired(now_ms)  # what came when it had expired already was never there
        value = after.record.packed_value(now_ms)
        was = None if before is None else before.record.packed_value(now_ms)
        if value is None:
            self._legacy.deleted(key, after, source)
            if was is not None:
                self._emit("delete", self, key)
        elif not (is_copy and before is not None and was == value and before.meta == after.meta):
            # (A legacy peer's change may have got another version elsewhere, and is still the same change.)
            self._tell_updated(key, value, after.meta)
        return True

    def _tell_updated(self, key: bytes, packed: bytes, meta: Meta) -> None:
        if self._has_listeners("update"):  # else the value is unpacked for nobody
            self._emit("update", self, key, self._unpacked(packed), meta)

    def _key_of(self, key: Any) -> bytes:
        if isinstance(key, str):
            key = key.encode("utf-8")
        if not isinstance(key, bytes) or len(key) > self._key_bytes_max:
            raise ProtocolError("a key is bytes, and not too many")
        return key

    def _packed_of(self, value: Any) -> bytes:
        try:
            return pack_value(value, self._value_bytes_max, self._value_limits)
        except (TypeError, ValueTooLarge) as error:
            raise ProtocolError(f"a value cannot be kept: {error}") from error

    # What goes with time

    def _tell_expired(self) -> None:
        """Tell that values have expired, as that happens."""
        now_ms = self._wall_ms()
        for key in self._replica.expired(now_ms):
            entry, value = self._replica.get(key), self._replica.packed_value(key, now_ms)
            assert entry is not None
            if value is None:
                self._emit("delete", self, key)
            else:  # fields that were written since
                self._tell_updated(key, value, entry.meta)
            self._legacy.spread(key, entry, None)

    def _is_forgettable(self, entry: Entry) -> bool:
        return entry.record.forgettable(self._wall_ms(), int(self._sync_settings.tombstone_seconds * 1000))

    async def _forget(self) -> None:
        """Drop what was deleted or has expired long ago."""
        for count, key in enumerate(self._replica.keys(), start=1):
            if count % _SLICE_KEYS == 0:
                await self.sleep(_SLICE_PAUSE_SECONDS)
            entry = self._replica.get(key)
            if entry is not None and self._is_forgettable(entry):
                self._replica.forget(key)


def _id_of(owner: object) -> bytes:
    """A node's id as we keep it. :raises ProtocolError: when it is none."""
    text = as_text(owner)
    number_of_id(text)
    return text.encode("ascii")


def _noted(message: Message) -> tuple[Lease, Version, int | None] | None:
    """Lease, version and expiry, as our own nodes note them.

    :raises ProtocolError: when the note makes no sense.
    """
    if len(message.payload) != 4:
        return None
    note: Sequence[Any] = message.payload[3] if isinstance(message.payload[3], list) else ()
    if len(note) != 4:
        raise ProtocolError("a note is [clock, expiry, term, began]")
    clock, expiry_ms, term, began = note
    owner = _id_of(message.sender)
    # Checked as a record's parts are.
    version = Record.from_wire([clock, owner, None, expiry_ms, []]).version
    lease = lease_from_wire(term, began, owner if term else b"")
    return lease, version, expiry_ms
