"""One link to one peer: bytes in and out, its handshake, its dialect, its calls, its bounds.

Its life: the transport comes up; :class:`~chordtx.mesh.handshake.Handshake` runs, against a time
limit; then ``opened`` is told to the owner, which files the link, and every later message goes to
the owner. A link ends by :meth:`MeshConnection.close` (what is queued still leaves, within a time limit)
or :meth:`MeshConnection.abort`, and ``closed`` is told to the owner once, when the transport is gone.

Whatever goes wrong with a link ends that link alone: what the peer did wrong is a
:class:`~chordtx.errors.ProtocolError` and stands in the log as one line; anything else that is raised
while a message is handled is a bug of ours, and stands there with its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

from chordtx.errors import ChordError, ProtocolError, Stopped, WrongSubnet, without_traceback
from chordtx.mesh.address import Address
from chordtx.mesh.calls import Asker, Calls
from chordtx.mesh.handshake import EXTENSION_VERSION, Dialect, Greeting, Handshake, SameId, methods_from_wire
from chordtx.mesh.light import LightSender
from chordtx.mesh.link_load import LinkLoad
from chordtx.mesh.liveness import Liveness, Verdict
from chordtx.mesh.owner import ConnectionOwner
from chordtx.mesh.quota import Quota
from chordtx.mesh.receive_buffer import ReceiveBuffer
from chordtx.mesh.round_trip import RoundTrip
from chordtx.mesh.send_buffer import SendBuffer
from chordtx.wire import Codec, ExpandsTooMuch, Light, Message, flags

_CLOSE_SECONDS_MAX = 5.0
_PING_TIMEOUT_SECONDS = 60.0
#: A frame whose next part came within this time is on its way.
_COMING_SECONDS = 1.0
#: A longer message is not kept to be sent again: each link would hold one for as long as it is open.
_RESENT_BYTES_MAX = 64 * 1024
#: Sub-flags that are never broadcast. A tuple: what a peer sends may have no hash.
_BETWEEN_TWO = (
    flags.HANDSHAKE,
    flags.PEERS,
    flags.HELLO,
    flags.CALL,
    flags.REPLY,
    flags.STANDING,
    flags.GROUPS,
    flags.REFUSAL,
)
#: How a TLS client begins: a peer that was told another encryption than ours.
_TLS_BEGINS = b"\x16\x03"


class MeshConnection(Protocol):
    """A link.

    :param outgoing: whether our side connects. :param remote_host: whence or where to, as the transport says.
    :param dialled: where our side connects to.
    :ivar id: the peer's node id (base58), None until the handshake is through. :ivar id_10: as a number.
    :ivar address: the peer's outward address. :ivar dialect: how it writes ids.
    :ivar ours: whether it is one of our own nodes, which understands calls.
    :ivar leeching: whether it stores nothing (what it said last).
    :ivar clock_ahead_seconds: its wall clock less our monotonic time, by its latest call or answer.
    :ivar arc_start: where its arc starts (48 bytes) by its latest answer, None while unknown.
    :ivar has_parted: it ends because one side wants it to, and is not to be made again.
    :ivar light: sends what is between our own nodes.
    :ivar closed: nothing is sent or read any more, though the transport may take a moment to go.
    """

    def __init__(
        self,
        owner: ConnectionOwner[MeshConnection],
        outgoing: bool,
        remote_host: str = "",
        dialled: Address | None = None,
    ) -> None:
        self.owner = owner
        self.outgoing = outgoing
        self.remote_host = remote_host
        self.dialled = dialled
        self.id: str | None = None
        self.id_10 = -1
        self.address: Address | None = None
        self.dialect = Dialect.BIN
        self.ours = False
        self.leeching = True
        self.hears = False  # of keys that come and go, as far as it says
        self.arc_start: bytes | None = None
        self._wanted: list[Deferred[MeshConnection]] = []
        self._better: MeshConnection | None = None
        self.clock_ahead_seconds: float | None = None
        self.closed = False
        self.has_parted = False
        self.close_reason: Exception | None = None
        settings = owner.settings
        self.roundtrip = RoundTrip(settings.silence_timeout_seconds_min, settings.silence_timeout_seconds_max)
        self.light = LightSender(self, owner._own_arc_start)
        self.calls = Calls(
            self.light.send_calls,
            self.light.send_replies,
            lambda: owner._wants_flush(self),
            settings.calls_pending_max,
            owner._limited_log,
            lambda size_bytes: self._load.may_answer(size_bytes),
        )
        self._liveness = Liveness()
        self._codec = Codec(
            settings.limits, owner._methods_offered, settings.compress_bytes_min, has_greeted=False
        )
        reactor, bounds = owner.reactor, owner._bounds
        self._send_buffer = SendBuffer(settings.send_buffer_bytes_max, bounds.unsent, reactor.seconds, self)
        self._load = LinkLoad(self._send_buffer, bounds.unsent, reactor.seconds, self)
        per_second = settings.decoded_bytes_per_second_max
        quota, pool = Quota(per_second, per_second), bounds.unfinished
        self._receive_buffer = ReceiveBuffer(reactor, self._codec, bounds.turns, quota, pool, self)
        self._handshake: Handshake | None = Handshake(
            owner.id,
            owner._own_address(),
            owner._protocol_id,
            outgoing,
            self._send_hello,
            self._send_handshake,
            self._opened,
            self.refuse,
        )
        self._timer: IDelayedCall | None = None
        self._began_with = b""
        self._last_sent: Message | None = None
        self._resent: Message | None = None
        self._peer_methods: tuple[int, ...] = ()

    def __repr__(self) -> str:
        direction = "to" if self.outgoing else "from"
        return f"<link {direction} {self.address or self.remote_host} {(self.id or 'unknown')[:8]}>"

    # The transport

    def connectionMade(self) -> None:
        """Twisted's: the transport is up."""
        transport: Any = self.transport
        if self.closed:
            transport.abortConnection()
            return
        if hasattr(transport, "setTcpNoDelay"):
            transport.setTcpNoDelay(True)
        if self.outgoing:  # we may have dialled a name: what counts is where it led
            self.remote_host = str(getattr(transport.getPeer(), "host", self.remote_host))
        self._send_buffer.attach(transport)
        self._receive_buffer.attach(transport)
        self._liveness.heard(self.owner.reactor.seconds())
        seconds = self.owner.settings.handshake_timeout_seconds
        self._timer = self.owner.reactor.callLater(seconds, self._handshake_timed_out)
        self.owner._connection_made(self)
        if self._handshake is not None and not self.closed:
            self._handshake.connected()

    def dataReceived(self, data: bytes) -> None:
        """Twisted's: bytes came, torn in any way."""
        if self.closed:
            return
        self._liveness.heard(self.owner.reactor.seconds())
        if self.id is None and len(self._began_with) < len(_TLS_BEGINS):
            self._began_with += data[: len(_TLS_BEGINS)]
        self._receive_buffer.received(data)

    def reading_failed(self, error: Exception) -> None:
        """See :class:`~chordtx.mesh.receive_buffer.ReceivingLink`."""
        if isinstance(error, ProtocolError):
            self.refuse(self._explained(error))
        else:
            text = "{connection} is closed: a message could not be handled"
            self.owner._limited_log.failure(text, connection=self)
            self.close(ChordError(f"a message could not be handled: {error!r}"))

    def _explained(self, error: ProtocolError) -> Exception:
        if self.id is None and self._began_with.startswith(_TLS_BEGINS):
            text = "the peer speaks TLS, and we do not: encryption must be the same"
            return WrongSubnet(text, ours=self.owner._protocol_id)
        return error

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        """Twisted's: the transport is gone."""
        self.closed = True
        error = self.close_reason or reason.value
        if not isinstance(error, Exception):
            error = ConnectionDone()
        self._stop_timer()
        self._receive_buffer.stop()
        self._load.stop()
        self._send_buffer.discard()
        # First the owner: calls that fail now can be made again over a link that takes this one's place.
        self.owner._connection_closed(self, error)
        self.calls.lost(error)
        self.light.stop()
        self.settle(error)
        # Nobody holds the link any more, none of its parts either: so it is gone, and all that it held.
        self._handshake = self.transport = None
        self._last_sent = self._resent = None

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def close(self, reason: Exception | None = None) -> None:
        """End the link once what is queued has left; calls under way fail at once.

        Whoever does not read what is queued is cut off after a while.
        """
        if self.closed:
            return
        self.calls.flush()
        reason = reason or Stopped("the link was closed")
        if not self._ended(reason):
            return
        if self.transport is not None:
            transport: Any = self.transport
            self._timer = self.owner.reactor.callLater(_CLOSE_SECONDS_MAX, transport.abortConnection)
            self._send_buffer.finish(transport.loseConnection)
        self.calls.lost(reason)

    def part(self, reason: Exception) -> None:
        """:meth:`close` for good: the peer, if it is one of ours, is told not to look for us again."""
        self.has_parted = True
        if self.ours and not self.closed:
            self.call("farewell", timeout_seconds=_CLOSE_SECONDS_MAX).addErrback(lambda _: None)
        self.close(reason)

    def abort(self, reason: Exception) -> None:
        """End the link at once: the peer is dead, silent or does not read."""
        self._ended(reason)
        self._send_buffer.discard()
        if self.transport is not None:
            transport: Any = self.transport
            transport.abortConnection()

    def _ended(self, reason: Exception) -> bool:
        if self.closed:
            return False
        self.closed = True
        self.close_reason = without_traceback(reason)
        self._stop_timer()
        self._receive_buffer.stop()
        self._load.stop()
        return True

    def refuse(self, error: Exception) -> None:
        """End the link because of what the peer did, and say so in the log."""
        if not self.closed:
            limited_log = self.owner._limited_log
            log = limited_log.warn if isinstance(error, WrongSubnet | SameId) else limited_log.info
            log("{connection} is refused: {error}", connection=self, error=str(error))
            self.close(error)

    def floods(self) -> None:
        """See :class:`~chordtx.mesh.receive_buffer.ReceivingLink`."""
        self.owner._limited_log.info("{connection} floods us, and is slowed down", connection=self)

    def takes_too_much(self) -> None:
        """See :class:`~chordtx.mesh.receive_buffer.ReceivingLink`."""
        self.cut(ProtocolError("a frame was begun and not finished, and there are too many of them"))

    def cut(self, error: Exception) -> None:
        """End the link at once because of what the peer does not do, and say so in the log."""
        self.owner._limited_log.info("{connection} is cut off: {error}", connection=self, error=str(error))
        self.abort(error)

    def overflowed(self) -> None:
        """See :class:`~chordtx.mesh.send_buffer.OutboxLink`."""
        self.cut(ProtocolError("the peer does not read what it is sent"))

    def sent_on(self) -> None:
        """See :class:`~chordtx.mesh.send_buffer.OutboxLink`."""
        self._liveness.sent_on(self.owner.reactor.seconds())
        if (self.calls.unserved or self.calls.held) and self._load.is_read:
            self._receive_buffer.go_on()

    @property
    def has_unsent(self) -> bool:
        """Whether something waits to be sent."""
        return self._send_buffer.waiting_bytes > 0

    @property
    def is_member(self) -> bool:
        """Whether the peer is a node of ours that stores, as far as it says."""
        return self.ours and not self.leeching

    def _handshake_timed_out(self) -> None:
        self.cut(ProtocolError("the handshake was not finished in time (is the encryption the same?)"))

    # Messages

    def send(self, *payload: Any, type: int = flags.WHISPER) -> Message:
        """Build a message of our own and send it.

        :raises TypeError: when msgpack cannot carry an argument.
        :raises ValueTooLarge: when it would not fit into a frame.
        """
        sender = self.dialect.text(self.owner.id)
        message = Message.build(type, sender, self.owner._now_whole_seconds(), payload)
        self.send_message(message)
        return message

    def send_message(self, message: Message, plain: bool = False) -> None:
        """Send a message as it stands (a relayed one keeps its bytes); nothing, once the link is closed.

        :raises ValueTooLarge: when it would not fit into a frame.
        """
        if self.closed:
            return
        if message.type != flags.RENEGOTIATE:
            self._last_sent = message if len(message.body) <= _RESENT_BYTES_MAX else None
        for part in self._codec.encode_parts(message, plain):
            self._send_buffer.write(part)

    def write(self, data: bytes) -> None:
        """See :class:`~chordtx.mesh.light.LightLink`."""
        if not self.closed:
            self._send_buffer.write(data)

    def call(self, method: str, *arguments: Any, timeout_seconds: float) -> Deferred[list[Any]]:
        """Ask one of our own nodes; see :meth:`chordtx.mesh.calls.Calls.call`."""
        return self.calls.call(self.owner.reactor.seconds(), timeout_seconds, method, *arguments)

    def ask(
        self, asker: Asker, peer: Any, method: str, arguments: Iterable[Any], *, timeout_seconds: float
    ) -> None:
        """Ask one of our own nodes, without a Deferred; see :meth:`chordtx.mesh.calls.Calls.ask`."""
        self.calls.ask(self.owner.reactor.seconds(), timeout_seconds, asker, peer, method, arguments)

    def encode_ids(self, text: str) -> bytes | str:
        """An id or a method name in the peer's dialect."""
        return self.dialect.text(text)

    def watch(self, now: float, excused: bool = False) -> None:
        """Look after the link, now and then: time-outs of calls, and whether the peer lives.

        A peer that is silent is asked (``ping`` among our own, ``request '*'`` for legacy peers, which answer
        no pings); one that stays silent for its measured time-out is given up.

        :param excused: we were away ourselves, and what came meanwhile is not read yet: judge nothing.
        """
        if self.closed or excused:
            return
        if self._load.is_waiting:
            self._receive_buffer.go_on()
        if (
            self.ours
            and not self.calls.are_waiting
            and self._receive_buffer.unfinished_since is None
            and now - self._liveness.heard_at < self.owner._ping_interval_seconds(self)
        ):
            return  # heard from just now, and nothing is awaited: as with most links most of the time
        began_at = self._receive_buffer.unfinished_since
        comes_in = began_at is not None and now - self._liveness.heard_at < _COMING_SECONDS
        if not self._load.is_carrying(now, comes_in):
            self.calls.expire(now)
        half_open_seconds_max = self.owner.settings.half_open_seconds_max
        if self.id is None or self._receive_buffer.is_waiting:
            return
        if began_at is not None and now - began_at > half_open_seconds_max:
            self.cut(ProtocolError("a frame was begun and not finished"))
        else:
            self._judge(now, half_open_seconds_max)

    def _judge(self, now: float, half_open_seconds_max: float) -> None:
        interval, patience = self.owner._ping_interval_seconds(self), self.roundtrip.timeout_seconds
        if not self.ours:
            interval = patience = half_open_seconds_max / 4
        verdict = self._liveness.judge(now, interval, patience, self.calls.oldest_waiting_at)
        if verdict is Verdict.ASK:
            self._ping()
        elif verdict is Verdict.DEAD:
            self.cut(TimeoutError("the peer is silent"))

    def _ping(self) -> None:
        if self.ours:
            self.call("ping", timeout_seconds=_PING_TIMEOUT_SECONDS).addBoth(lambda _: None)
        else:
            self.ask_for_peers()

    # One of two links to a peer, see mesh.rivals

    @property
    def heard_at(self) -> float:
        """When something last came, by the reactor's clock."""
        return self._liveness.heard_at

    def when_open(self) -> Deferred[MeshConnection]:
        """Fires with the link to the peer once the handshake is through: this one, or a better one that there
        is; fails with the reason when the link ends before that. Cancelling it ends the link.
        """
        wanted: Deferred[MeshConnection] = Deferred(lambda _: self.abort(Stopped("it was cancelled")))
        if self.closed and self._better is None:
            wanted.errback(self.close_reason or ConnectionDone())
        elif self.id is not None:
            wanted.callback(self._better or self)
        else:
            self._wanted.append(wanted)
        return wanted

    def settle(self, outcome: MeshConnection | Exception) -> None:
        """The owner has chosen the link to this one's peer, or there is none: tell who waits for it."""
        if isinstance(outcome, MeshConnection):
            self._better = None if outcome is self else outcome
        waiting, self._wanted = self._wanted, []
        for wanted in waiting:
            if not wanted.called:
                wanted.callback(outcome if isinstance(outcome, MeshConnection) else Failure(outcome))

    def ask_for_life(self) -> None:
        """Ask the peer something that it has to answer, if it lives."""
        self._ping()

    def hold(self) -> None:
        """Handle nothing that comes, for now."""
        self._receive_buffer.hold()

    def release(self) -> None:
        """Handle what has come, and what comes."""
        self._receive_buffer.release()

    def ask_for_peers(self) -> None:
        """Ask the peer who else there is."""
        self.send(flags.REQUEST, self.dialect.text("*"))

    # What comes

    def deliver(self, message: Message | Light) -> None:
        """See :class:`~chordtx.mesh.receive_buffer.ReceivingLink`."""
        if isinstance(message, Message):
            self._deliver(message)
        elif message.flag == flags.CALL:
            self.calls.calls_received(message.content, message.decoded_bytes)
        elif message.flag == flags.REPLY:
            self._answered(message.content, message.decoded_bytes)
        else:
            self.owner._groups_received(self, message.content)

    def _deliver(self, message: Message) -> None:
        flag = message.payload[0]
        if self.id is None:
            if self._handshake is not None:
                self._handshake.message_received(message)
        elif message.type == flags.RENEGOTIATE:
            self._renegotiate(message.payload)
        elif message.type == flags.BROADCAST and flag in _BETWEEN_TWO:
            text = "{connection} passes on what is between two nodes: ignored"
            self.owner._limited_log.debug(text, connection=self)
        elif flag == flags.HANDSHAKE and len(message.payload) == 5:
            self._greeted_again(Greeting.from_message(message))
        elif flag not in (flags.HELLO, flags.CALL, flags.REPLY):
            self.owner._message_received(self, message)
        elif self.ours:  # what legacy peers ignore, we ignore of them
            self.clock_ahead_seconds = message.time - self._liveness.heard_at
            if flag == flags.CALL:
                if len(message.payload) < 2:
                    raise ProtocolError("a frame of calls has no calls")
                self.calls.calls_received(message.payload[1], message.decoded_bytes)
            elif flag == flags.REPLY:
                self._replies_received(message)

    def missed_received(self, message: Message) -> None:
        """The peer told us of a broadcast that we missed."""
        if message.type == flags.BROADCAST and message.payload[0] not in _BETWEEN_TWO:
            self.owner._message_received(self, message)

    def serve(self, until_turn_is_over: bool) -> bool:
        """See :class:`~chordtx.mesh.receive_buffer.ReceivingLink`."""
        calls, owner = self.calls, self.owner
        if not calls.unserved and not calls.held:
            return False
        if until_turn_is_over:
            calls.gather_answers()
        may_serve = self._load.may_serve
        while calls.send_held() and calls.unserved and may_serve(calls.unserved_bytes):
            calls.serve_one(owner._methods, self)
            if calls.unserved and (not until_turn_is_over or owner._bounds.turns.is_over):
                return not calls.held and may_serve(calls.unserved_bytes)
        return False

    def worked(self) -> None:
        """See :class:`~chordtx.mesh.receive_buffer.ReceivingLink`."""
        if self.calls.are_gathering:
            try:
                self.calls.flush()
            except Exception as error:
                self.reading_failed(error)

    def room_made(self) -> None:
        """See :class:`~chordtx.mesh.pool.Waiter`."""
        self._receive_buffer.go_on()

    def _replies_received(self, message: Message) -> None:
        payload = message.payload
        if len(payload) < 3:
            raise ProtocolError("a frame of replies has no replies")
        arc_start = payload[1]
        if arc_start is not None and not (isinstance(arc_start, bytes) and len(arc_start) == 48):
            raise ProtocolError("an arc starts at 48 bytes")
        self.arc_start = arc_start
        self._answered(payload[2], message.decoded_bytes)

    def _answered(self, replies: Any, size_bytes: int) -> None:
        self._load.received(size_bytes, self._liveness.heard_at)
        self.owner._arc_told(self)  # that it was not told anew says that it is the same
        seconds = self.calls.replies_received(replies, self._liveness.heard_at, self.owner._flush_calls)
        if seconds is not None:
            self.roundtrip.measured(seconds)

    def _greeted_again(self, greeting: Greeting) -> None:
        # js2p answers a handshake with a second one; py2p repeats its own when it begins to store.
        if greeting.id != self.id or greeting.protocol_id != self.owner._protocol_id:
            raise ProtocolError("a second handshake contradicts the first")
        self.address = greeting.address
        self._offered(greeting.methods)

    def _renegotiate(self, payload: Sequence[Any]) -> None:
        if payload[0] == flags.COMPRESSION and len(payload) == 2:
            theirs = methods_from_wire(payload[1])
            # Answered with what both know, when that is not what was offered: so two of our own nodes agree
            # after one answer each at most, since the common part of a common part is itself.
            common = tuple(method for method in self.owner._methods_offered if method in theirs)
            answer = set(common) != set(theirs) and set(theirs) != set(self._peer_methods)
            self._offered(theirs)
            if answer:
                self.send(flags.COMPRESSION, list(common), type=flags.RENEGOTIATE)
        elif payload[0] == flags.RESEND and self._last_sent is not None:
            self._resend(self._last_sent)

    def _offered(self, methods: tuple[int, ...]) -> None:
        self._peer_methods = methods
        self._codec.peer_offers(methods, never_plain=self.dialect is Dialect.STR)

    def expands_too_much(self, error: ExpandsTooMuch) -> None:
        """See :class:`~chordtx.mesh.receive_buffer.ReceivingLink`: it is to send that and the rest plain."""
        self.owner._limited_log.info(
            "{connection} is asked to send plain: {error}", connection=self, error=str(error)
        )
        self.send(flags.COMPRESSION, [], type=flags.RENEGOTIATE)
        self.send(flags.RESEND, type=flags.RENEGOTIATE)

    def _resend(self, message: Message) -> None:
        # Never in a loop: a peer that cannot read a message will not be able to the second time, so each
        # message is sent again once.
        if message is not self._resent:
            self._resent = message
            self.send_message(message, plain=True)

    # Parts of the handshake

    def _send_hello(self) -> None:
        self.send_message(self._build(flags.HELLO, EXTENSION_VERSION), plain=True)

    def _send_handshake(self, dialect: Dialect) -> None:
        self.dialect = dialect
        owner = self.owner
        told = (dialect.text(owner.id), dialect.text(owner._protocol_id), owner._own_address().to_wire())
        message = self._build(flags.HANDSHAKE, *told, list(owner._methods_offered))
        self.send_message(message, plain=True)

    def _build(self, *payload: Any) -> Message:
        sender = self.dialect.text(self.owner.id)
        return Message.build(flags.WHISPER, sender, self.owner._now_whole_seconds(), payload)

    def _opened(self, greeting: Greeting, ours: bool) -> None:
        self._stop_timer()
        self._codec.greeted(ours=ours)
        self.light.peer_reads_light = self._handshake is not None and self._handshake.peer_reads_light
        self.id = greeting.id
        self.id_10 = greeting.id_10
        self.address = greeting.address
        self.dialect = greeting.dialect
        self.ours = ours
        self._offered(greeting.methods)
        self.owner._connection_opened(self)
