"""Runs the groups that a node is in: hands them what comes in, and carries out their effects.

One turn of the groups is one turn of the reactor: all that comes in meanwhile goes into it, and at its end
messages leave in one frame for each node, and all saves in one commit. What must not be said before it is on
disk waits for that commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import inf
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from chordtx.chord import leadership
from chordtx.chord.health import LedGroup
from chordtx.chord.leadership import Leadership
from chordtx.config import GroupSettings
from chordtx.group.configuration import Member, by_preference
from chordtx.group.frames import Entries, to_frames
from chordtx.group.group import Group
from chordtx.group.groups import Groups
from chordtx.group.leader import Leader
from chordtx.group.messages import Answer, Operation
from chordtx.group.rank import NodeId
from chordtx.group.turn import Outgoing, Randomness
from chordtx.store.group_store import GroupStore

#: How many partitions of a node change their members at once.
CHANGES_MAX = 16
#: Turns that follow one another sooner than this are put together.
_BUSY_SECONDS = 0.0001
#: Messages that nobody waits for are gathered for this long.
_LAZY_SECONDS = 0.1

Answered = Callable[[Answer], None]


class Links(leadership.Links, Protocol):
    """How other nodes are reached."""

    def send_frame(self, to: NodeId, frame: bytes) -> None:
        """Send a frame to a node. It may be lost; there may be no link."""

    def is_sending(self, id: NodeId) -> bool:
        """Whether what was sent to a node has not left yet."""

    def is_leaving(self) -> bool:
        """Whether this node is about to leave its groups."""

    def are_working(self) -> bool:
        """Whether :meth:`Hosting.links_worked` is called soon."""


class Clocks(Protocol):
    """What time it is."""

    def lease_seconds(self) -> float:
        """A clock that only runs forward, and while the machine sleeps too."""

    def wall_ms(self) -> int:
        """Unix time in milliseconds."""


class Watch(Protocol):
    """Is told what becomes of keys where this node leads, and may have operations wait.

    :ivar is_active: whether updates are to be told too, and operations may have to wait.
    """

    @property
    def is_active(self) -> bool:
        """See above."""

    def key_changed(self, key: bytes, is_gone: bool | None) -> None:
        """A key came or went; ``is_gone`` is None for one that has another value."""

    def before(self, operation: Operation) -> Deferred[object] | None:
        """What an operation has to wait for; None when it may be done."""


class Hosting:
    """See the module.

    :param me: this node, as a member. :param reactor: gives ``callLater``.
    :param store: where what must not be forgotten is kept; None keeps it in memory.
    :param bytes_max: about what records may take before they are to grow no more.
    :param watch: is told what becomes of keys where this node leads.
    :ivar groups: the node's groups.
    :ivar leadership: sees to it that they are led.
    """

    _log = Logger()

    def __init__(
        self,
        me: Member,
        settings: GroupSettings,
        reactor: IReactorTime,
        clocks: Clocks,
        links: Links,
        rng: Randomness,
        store: GroupStore | None = None,
        bytes_max: int = 1 << 40,
        watch: Watch | None = None,
    ) -> None:
        assert me.has_disk == (store is not None)
        self.me = me
        self.groups = Groups(me, settings, rng)
        self.groups.turn.is_sending = links.is_sending
        self.groups.turn.is_leaving = links.is_leaving
        self._reactor = reactor
        self._lease_seconds, self._wall_ms = clocks.lease_seconds, clocks.wall_ms
        self.leadership = Leadership(self, links, clocks.lease_seconds)
        self._is_full = False
        self._links = links
        self._store = store
        self._bytes_max = bytes_max
        self._watch = watch
        self._ending: IDelayedCall | None = None
        self._is_due = False
        self._ended_at = -inf
        self._timer: IDelayedCall | None = None
        self._wakes_at = inf
        self._wanted: dict[int, tuple[Member, ...]] = {}
        self._changing: set[int] = set()
        self._lazily: Outgoing = {}
        self._lazy_timer: IDelayedCall | None = None
        self._values: dict[str, bytes] = {}
        self._is_stopped = False

    # Beginning and ending

    def load(self) -> int:
        """Take up what is on disk. :returns: how many partitions there are."""
        assert self._store is not None
        self.begin()
        for partition, stored, state, asides in self._store.load():
            self.groups.load(partition, stored, state, asides)
        self.wants_end()
        return len(self.groups.groups)

    def create(self, partitions: Iterable[int]) -> None:
        """Begin a ring: this node alone keeps all partitions."""
        self.begin()
        self.groups.create(partitions)
        self.wants_end()

    def note(self, values: Mapping[str, bytes]) -> None:
        """Keep these beside the groups, by name: with what this turn saves, in one commit."""
        if self._store is not None:
            self._values.update(values)
            self.begin()
            self.wants_end()

    def stop(self) -> None:
        """Nothing is done any more: what was not said yet is never said. What was noted is kept."""
        self._is_stopped = True
        if self._store is not None and self._values:
            self._store.save({}, self._values)
        for call in (self._ending, self._timer, self._lazy_timer):
            if call is not None and call.active():
                call.cancel()
        self._ending = self._timer = self._lazy_timer = None

    # What comes in

    def received(self, by: NodeId, entries: Entries) -> None:
        """What another node has sent."""
        self.begin()
        self.groups.received(by, entries)
        if not self.groups.is_at_rest:
            self.wants_end()

    def do(self, answered: Answered, partition: int, operation: Operation) -> Answer | None:
        """A client's operation.

        :param answered: is called with the answer, in a later turn.
        :returns: the answer, if it is there at once.
        """
        if (
            self._watch is not None
            and self._watch.is_active
            and self._must_wait(answered, partition, operation)
        ):
            return None
        return self._do(answered, partition, operation)

    def _must_wait(self, answered: Answered, partition: int, operation: Operation) -> bool:
        group = self.group(partition)
        if self._watch is None or group is None or not group.is_leading:
            return False
        waiting = self._watch.before(operation)
        if waiting is not None:
            waiting.addCallback(lambda _: self._do_late(answered, partition, operation))
        return waiting is not None

    def _do_late(self, answered: Answered, partition: int, operation: Operation) -> None:
        if not self._is_stopped:
            answer = self._do(answered, partition, operation)
            if answer is not None:
                answered(answer)

    def _do(self, answered: Answered, partition: int, operation: Operation) -> Answer | None:
        groups = self.begin()
        groups.do(answered, partition, operation)
        answers = groups.turn.answers
        if answers and answers[-1][0] is answered:
            answer = answers.pop()[2]
            if self._timer is None:
                self.wants_end()
            return answer
        self.wants_end()
        return None

    def lost(self, node: NodeId, *, has_ended: bool) -> None:
        """The link to a node broke. :param has_ended: its process is known to have ended."""
        self.begin()
        self.groups.lost(node, has_ended=has_ended)
        self.wants_end()

    def reached(self, node: NodeId) -> None:
        """There is a link to a node again."""
        self.begin()
        self.groups.reached(node)
        self.wants_end()

    # What is known

    def group(self, partition: int) -> Group | None:
        """This node's part in a group."""
        return self.groups.groups.get(partition)

    @property
    def leads(self) -> list[int]:
        """The partitions that this node leads, and serves."""
        return [partition for partition, group in self.groups.groups.items() if group.is_leading]

    @property
    def kept(self) -> list[int]:
        """The partitions of which this node is a member, as far as it knows."""
        me = self.me.id
        return [each for each, group in self.groups.groups.items() if me in group.configuration.ids]

    @property
    def learning(self) -> list[int]:
        """The partitions of which this node copies, or has copied, the records, and is no member yet."""
        me = self.me.id
        return [
            each
            for each, group in self.groups.groups.items()
            if group.replica.copy is not None and me not in group.configuration.ids
        ]

    def fellows(self) -> set[Member]:
        """The other members of the groups that this node is in."""
        configurations = (group.configuration for group in self.groups.groups.values())
        rows = {each.members for each in configurations if self.me.id in each.ids}
        return {member for row in rows for member in row if member.id != self.me.id}

    def is_fellow(self, id: NodeId) -> bool:
        """Whether a node is a member of one of the groups."""
        return any(id in group.configuration.ids for group in self.groups.groups.values())

    def led(self) -> dict[int, LedGroup]:
        """The groups that this node leads, as it sees them."""
        led = {}
        for partition in self.leads:
            group = self.groups.groups[partition]
            leader, members = group.leader, group.configuration.ids
            if leader is not None:
                ready = {id for id in members if self._keeps_up(id, leader)}
                led[partition] = LedGroup(members, frozenset(ready))
        return led

    def _keeps_up(self, id: NodeId, leader: Leader) -> bool:
        return id == self.me.id or (leader.keeps_up(id) and self._links.is_linked(id))

    @property
    def is_full(self) -> bool:
        """Whether records are to grow no more."""
        return self.groups.bytes_used > self._bytes_max or (self._store is not None and self._store.is_full)

    def ask_whether_gone(self, partition: int, members: Iterable[NodeId]) -> None:
        """This node ought not to be in a group: is it still, or is it to come?

        :param members: whom to ask, beside those that it knows.
        """
        self.begin()
        group = self.groups.group(partition)
        if group is not None:
            copy = group.replica.copy
            known = group.configuration.ids | set(members) | (set() if copy is None else {copy.source})
            group.replica.ask_whether_gone(sorted(known - {self.me.id}))
            self.wants_end()

    # Who is to be in the groups

    def place(self, partition: int, members: tuple[Member, ...]) -> bool:
        """The members of a group that this node leads are to be these.

        :returns: whether this node leads it; then its members will be these, if nothing comes in between.
        """
        group = self.group(partition)
        if group is None or group.leader is None:
            return False
        if group.configuration.members != members or group.is_changing:
            self._wanted[partition] = members
            self.begin()
            self.wants_end()
        else:
            self._wanted.pop(partition, None)
        return True

    def is_to_change(self, partition: int) -> bool:
        """Whether a group that this node leads is to have other members."""
        return partition in self._wanted

    def _start_changes(self) -> None:
        groups = self.groups.groups
        self._changing = {each for each in self._changing if groups[each].is_changing}
        # A change that is under way may wait for somebody who is not to come any more: it is another one now.
        under_way = [each for each in self._wanted if each in self._changing]
        others = [each for each in self._wanted if each not in self._changing]
        for partition in under_way + others[: CHANGES_MAX - len(self._changing)]:
            members = self._wanted.pop(partition)
            group = self.groups.group(partition)
            if group is not None and group.leader is not None:
                group.change_members(members)
                self._changing.add(partition)

    # When a majority is gone for good

    def stuck(self) -> list[int]:
        """The groups without a leader, as far as this node knows, in which it is the most preferred of the
        members that it reaches."""
        found = []
        for partition, group in self.groups.groups.items():
            ids = group.configuration.ids
            reached = [id for id in ids if id == self.me.id or self._links.is_linked(id)]
            is_led = group.who_leads() in reached
            is_stuck = self.me.id in ids and not is_led and 2 * len(reached) <= len(ids)
            if is_stuck and by_preference(partition, reached)[0] == self.me.id:
                found.append(partition)
        return found

    def force(self, partitions: Iterable[int]) -> None:
        """On an operator's order: ask the members that are left."""
        self.begin()
        for partition in partitions:
            if (group := self.groups.group(partition)) is not None:
                group.force()
        self.wants_end()

    def force_now(self, partitions: Iterable[int]) -> list[int]:
        """Go on with those who have answered.

        :returns: which partitions do.
        """
        self.begin()
        groups = {partition: self.groups.group(partition) for partition in partitions}
        going_on = [number for number, group in groups.items() if group is not None and group.force_now()]
        self.wants_end()
        return going_on

    # Turns

    def begin(self) -> Groups:
        """A turn begins, or goes on: this is the time now."""
        groups, watch = self.groups, self._watch
        groups.turn.is_watched = watch is not None and watch.is_active
        groups.begin(self._lease_seconds(), self._wall_ms(), is_full=self._is_full)
        return groups

    def wants_end(self) -> None:
        """Something was done in this turn, which :meth:`begin` began: it ends with the work of links that
        goes on, or with this turn of the reactor."""
        if self._links.are_working():
            self._is_due = True
        elif self._ending is None and not self._is_stopped:
            self._ending = self._reactor.callLater(0, self._end)

    def links_worked(self) -> None:
        """What came over some link was handled. With little to do the turn ends at once; with much, all that
        comes in this turn of the reactor goes into it."""
        if self._is_due:
            self._is_due = False
            if self._ending is None and not self._is_stopped:
                if self.groups.turn.now - self._ended_at < _BUSY_SECONDS:
                    self._ending = self._reactor.callLater(0, self._end)
                else:
                    self._end()

    def _end(self) -> None:
        self._ending = None
        try:
            self._end_turn()
        except Exception:  # a bug in one turn: the groups go on with the next one
            self._log.failure("a turn of the groups failed")
        self._schedule()

    def _end_turn(self) -> None:
        self._is_full = self.is_full
        groups = self.groups  # the time of the last event is that of the turn's end
        self._ended_at = groups.turn.now
        if self._wanted or self._changing:
            self._start_changes()
        groups.tick()
        ended = groups.end()
        if ended.lazily:
            self._gather(ended.lazily)
        self._send(ended.at_once)
        if self._store is None:
            self._send(ended.when_synced)
        elif ended.saves or ended.when_synced or self._values:
            values, self._values = self._values, {}
            synced = self._store.save(ended.saves, values)
            if ended.when_synced:
                synced.addCallback(self._synced, ended.when_synced)
        for answered, _, answer in ended.answers:
            answered(answer)  # type: ignore[operator]
        if self._watch is not None:
            for key, is_gone in ended.news:
                self._watch.key_changed(key, is_gone)

    def _synced(self, _: None, waiting: Outgoing) -> None:
        if not self._is_stopped:
            self._send(waiting)

    def _gather(self, outgoing: Outgoing) -> None:
        """Messages that nobody waits for are sent a little later, many in one frame, or before anything else
        that goes to the same node."""
        for to, entries in outgoing.items():
            self._lazily.setdefault(to, []).extend(entries)
        if self._lazy_timer is None and not self._is_stopped:
            self._lazy_timer = self._reactor.callLater(_LAZY_SECONDS, self._send_gathered)

    def _send_gathered(self) -> None:
        self._lazy_timer = None
        gathered, self._lazily = self._lazily, {}
        self._send(gathered)

    def _send(self, outgoing: Outgoing) -> None:
        last: Entries = []
        frames: list[bytes] = []
        for to, entries in outgoing.items():
            if to == self.me.id:
                self.received(to, entries)
                continue
            if self._lazily and (gathered := self._lazily.pop(to, None)) is not None:
                entries = gathered + entries
            if not _are_the_same(entries, last):  # what a leader tells all members is packed once
                last, frames = entries, to_frames(entries)
            for frame in frames:
                self._links.send_frame(to, frame)

    def _schedule(self) -> None:
        """Be woken when the groups want to be, at the latest."""
        seconds = self.groups.seconds_to_wake()
        if seconds is None or self._is_stopped:
            return
        wakes_at = self.groups.turn.now + seconds
        if self._timer is None:
            self._timer = self._reactor.callLater(seconds, self._woken)
        elif wakes_at < self._wakes_at:
            self._timer.reset(seconds)
        else:
            return
        self._wakes_at = wakes_at

    def _woken(self) -> None:
        self._timer = None
        self.begin()
        self.wants_end()


def _are_the_same(some: Entries, others: Entries) -> bool:
    return len(some) == len(others) and all(one is other for one, other in zip(some, others, strict=True))


class LateAnswer:
    """An :data:`Answered` that fires a Deferred. Most answers are there at once: then there is none."""

    __slots__ = ("_answer", "_waiting")

    def __init__(self) -> None:
        self._answer: Answer | None = None
        self._waiting: Deferred[Answer] | None = None

    def waiting(self) -> Deferred[Answer]:
        """Fires with the answer. To be called once."""
        self._waiting = Deferred()
        if self._answer is not None:
            self._waiting.callback(self._answer)
        return self._waiting

    def __call__(self, answer: Answer) -> None:
        """The answer is there."""
        self._answer = answer
        if self._waiting is not None and not self._waiting.called:
            self._waiting.callback(answer)
