"""Leading: changes in sequence, answered when a majority has them; reads under leases; sealing an epoch.

Of the state that the leader goes on with there are two views. The *newest* has all changes that it has made:
on it the next change is computed. The *committed* one has only those that a majority has: it is what reads
see. The newest is the replica's own state; of what is not committed yet, the leader remembers what was there
before.
"""

from __future__ import annotations

from collections import deque

from chordtx.config import GroupSettings
from chordtx.group import operations
from chordtx.group.change_log import Batch, ChangeLog
from chordtx.group.configuration import Configuration, Member
from chordtx.group.lease import NEVER, NOT_CONFIRMED, Confirmed, Held, PairLeases
from chordtx.group.messages import (
    BUSY,
    FULL,
    TOO_OLD,
    UNKNOWN,
    Accept,
    Accepted,
    Answer,
    Install,
    Learn,
    Operation,
    Yours,
    not_leader,
)
from chordtx.group.operations import DONE, GET, READS, WATCH, WRITTEN, Moment
from chordtx.group.partition_time import Expiries, Marks, PartitionTime, WallClocks
from chordtx.group.rank import NO_RANK, Ballot, NodeId, Rank, named
from chordtx.group.record import Record, is_expired
from chordtx.group.replica import Replica
from chordtx.group.resend import RESEND_SECONDS, Resend
from chordtx.group.state import EVICT, EXPIRE, KEEP, REMOVE, SEAL, STORE, Change, Done, State, done_in
from chordtx.group.thrifty import Thrifty
from chordtx.group.turn import Turn
from chordtx.group.uncommitted import Uncommitted
from chordtx.group.waiting import LateRead, Read, Waiting
from chordtx.group.watchers import Told, Watchers, arguments_of, what_changed

#: A majority is to have the state that it begins with, first: nothing is served yet.
INSTALLING = "installing"
#: It serves.
LEADING = "leading"
#: Its epoch is sealed by itself: it reads on, and changes wait.
SEALED = "sealed"
#: It found its epoch sealed by somebody else, so that the next one may have begun: it serves nothing.
PASSING = "passing"

#: No more goes into one message, unless one change alone is larger: a frame has a limit.
_BATCH_BYTES = 1 << 20
_BATCH_CHANGES = 1000


class Leader:
    """One ballot's lead of one epoch.

    :param replica: the node's own. :param ballot: which it leads with.
    :param state: that it goes on with: the replica's own, when the leader is a member.
    :param first: the sequence that this state has.
    :param base: a rank with the same records and clients.
    :ivar stage: INSTALLING, LEADING, SEALED or PASSING.
    :ivar commit: a majority has everything up to this sequence. :ivar watchers: who waits for changes.
    """

    def __init__(
        self,
        replica: Replica,
        turn: Turn,
        pairs: PairLeases,
        settings: GroupSettings,
        ballot: Ballot,
        state: State,
        first: int,
        base: Rank,
        walls: WallClocks,
    ) -> None:
        self.ballot = ballot
        self.state = state
        self.configuration: Configuration = state.configuration
        self.stage = INSTALLING
        self.first = self.newest = first
        self.commit = first - 1
        self.base = base
        self.acknowledged: dict[NodeId, int] = {}
        self._replica = replica
        self._partition = replica.partition
        self._me = replica.me
        self._turn = turn
        self._pairs = pairs
        self._settings = settings
        self.is_member = self._me in self.configuration.ids
        self._epoch = self.configuration.epoch
        self._majority = self.configuration.majority
        self.others = tuple(sorted(id for id in self.configuration.ids if id != self._me))
        self._thrifty = Thrifty(self.others, self._majority - self.is_member)
        self._held_lease = Held(self.others, is_member=self.is_member)
        self._batch: list[Change] = []
        self._batch_bytes = 0
        self.log = ChangeLog(settings.log_bytes_max)
        self._waiting: deque[Waiting] = deque()
        self._reads, self._late = list[Read](), list[LateRead]()
        self._held: list[tuple[object, Operation]] = []
        self.watchers = Watchers(self, turn, self._partition)
        self._uncommitted = Uncommitted()
        self._keys: list[bytes] | None = None
        self._installs: dict[NodeId, float] = {}
        self._learning, self._named = set[NodeId](), set[int]()
        self._resend = Resend(turn.now, first)
        self._expiries = Expiries(state.records)
        self._walls = walls
        self._time = PartitionTime(state.now_ms, self.configuration.ids, walls, turn)
        self._batch_now_ms = state.now_ms
        self._marks = Marks(settings.ids_seconds)
        self._progress = turn.now

    @property
    def rank(self) -> Rank:
        """The rank of the newest state."""
        return Rank(self._epoch, self.ballot, self.newest)

    @property
    def committed_rank(self) -> Rank:
        """The rank of the newest state that a majority has."""
        return named(Rank, (self._epoch, self.ballot, self.commit))

    # Beginning

    def begin(self) -> None:
        """Everybody's state is to be this one."""
        for member in self.others:
            self.install(member)
        if self.is_member:
            self._replica.grant()
            self._acknowledge_own()
        else:
            self._replica.offer(self.rank, self.state, self.base)

    def install(self, member: NodeId) -> None:
        """A member's state is to be the newest one."""
        base = self.base if self.newest == self.first else NO_RANK
        self._installs[member] = self._turn.now
        self._named.add(self.newest)
        told = Install(self.rank, base, self.state.header, self._turn.now)
        self._turn.send_at_once((member,), self._partition, told)

    def doubt(self, member: NodeId) -> None:
        """A member may have been started again with a damaged disk: it is asked how far it is."""
        if member in self.acknowledged:
            self.acknowledged[member] = -1

    def teach(self, newcomer: NodeId) -> None:
        """One that is about to be a member copies the newest state."""
        self._learning.add(newcomer)
        self._named.add(self.newest)
        self._turn.send_at_once((newcomer,), self._partition, Learn(self.ballot, self.rank))

    def learned(self, newcomer: NodeId) -> None:
        """A newcomer has the records, or is not waited for any more."""
        self._learning.discard(newcomer)
        self._release_copies()

    def is_copied_by(self, member: NodeId) -> None:
        """A member copies the state, which may take long: that it asks shows that it does."""
        if member in self.configuration.ids:
            self._progress = self._turn.now

    def _release_copies(self) -> None:
        if not self._installs and not self._learning:
            self._named.clear()
            self._replica.release()

    def _acknowledge_own(self) -> None:
        """Its own replica has the newest state, once that is on disk."""
        turn = self._turn
        told = Accepted(self.ballot, self._epoch, self.newest, turn.now, turn.wall_ms, turn.is_full)
        turn.send(self._me, self._partition, told)

    def make_way_for(self, member: NodeId) -> None:
        """This one has stopped by itself, and another member is to lead."""
        self._turn.send_at_once((member,), self._partition, Yours(self.ballot, self._epoch.mark))

    # Acknowledgements

    def accepted(self, by: NodeId, told: Accepted) -> bool:
        """A member tells how far it is.

        :returns: whether more is committed than before.
        """
        ballot, epoch, sequence, sent, wall_ms, full = told
        if ballot != self.ballot or epoch != self._epoch or by not in self.configuration.ids:
            return False
        before = self.acknowledged.get(by, -1)
        if by != self._me:
            self._held_lease.granted(by, min(sent, self._turn.now))
            self._walls.told(by, wall_ms)
        if full or self._turn.full:
            self._turn.heard_full(by, full)
        if sequence < 0 or sequence < before:
            return False  # what it lacks, the next tick finds
        if before < 0 and by != self._me:
            self._pairs.acknowledged_by(by, self._partition, ballot, epoch)
        self.acknowledged[by] = sequence
        if self._installs and self._installs.pop(by, None) is not None:
            self._release_copies()
        return sequence > self.commit and self._advance()

    def _advance(self) -> bool:
        needed = self._majority
        reached = sorted(self.acknowledged.values())  # of members alone
        if len(reached) < needed:
            return False
        commit = reached[-needed]
        if commit <= self.commit:
            return False
        self.commit = commit
        self._progress = self._turn.now
        if self._waiting:
            self._answer_committed()
        turn, watchers = self._turn, self.watchers
        news = self._uncommitted.committed(commit, self.state.records, turn.is_watched or bool(watchers))
        if watchers:
            news = watchers.heard(news, with_updates=turn.is_watched)
            watchers.tell()
        turn.news += news
        self.log.trim(commit)
        return True

    def _answer_committed(self) -> None:
        waiting, commit, stamp = self._waiting, self.commit, self.committed_rank
        while waiting and waiting[0].sequence <= commit:
            _, who, answer = waiting.popleft()
            self._turn.answer(who, self._partition, named(Answer, (*answer[:-1], stamp)))

    def _send_missing(self, member: NodeId, have: int) -> None:
        """A member has had the time to acknowledge more than it has."""
        missing = self.log.since(have)
        if missing is not None:
            for batch in missing:
                self._turn.send_at_once((member,), self._partition, self._accept(batch))
        elif self._turn.now >= self._installs.get(member, NEVER) + self._settings.copy_timeout_seconds:
            self.install(member)

    def _accept(self, batch: Batch) -> Accept:
        return Accept(self.ballot, self._epoch, *batch, self._turn.now)

    # Operations

    def do(self, who: object, operation: Operation) -> None:
        """A client's operation."""
        waiting = len(self._waiting) + len(self._reads) + len(self._late)
        if not waiting and self.stage == LEADING:  # what it waits for from now on was not waited for before
            self._progress = self._turn.now
        if waiting >= self._settings.waiting_operations_max:
            self.answer(who, operation, BUSY, None)
        elif self.stage == LEADING:
            if operation.kind in READS:
                self._read(who, operation)
            else:
                self._change(who, operation)
        elif self.stage == SEALED and operation.kind in READS:
            self._read(who, operation)
        elif len(self._held) < self._settings.held_operations_max:
            self._held.append((who, operation))
        else:
            self.answer(who, operation, BUSY, None)

    def answer(self, who: object, operation: Operation, status: int, detail: object) -> None:
        """Of an operation that it has not made a change of."""
        stamp = self.committed_rank
        answer = named(Answer, (operation.client, operation.number, status, detail, NO_RANK, stamp))
        self._turn.answer(who, self._partition, answer)

    def _change(self, who: object, operation: Operation) -> None:
        client, number, answered, stamp, kind, key, arguments = operation
        state = self.state
        known = state.clients.get(client)
        if known is not None:
            done = known.done.get(number)
            if done is not None:
                self._answer_again(who, operation, done)
                return
            if number <= known.answered:
                self.answer(who, operation, TOO_OLD, None)
                return
        if stamp < state.evicted:
            self.answer(who, operation, TOO_OLD, None)
            return
        full = self._turn.full and self._turn.is_any_full(self.configuration.ids)
        if full and operations.grows(kind, arguments):
            self.answer(who, operation, FULL, None)
            return
        before = state.records.get(key)
        now_ms = self._now_of_batch()
        rank = named(Rank, (self._epoch, self.ballot, self.newest + 1))
        moment = named(Moment, (rank, now_ms, self._settings.value_bytes_max))
        after, result = operations.change(kind, before, moment, arguments)
        effect, value, expires, told = KEEP if after is before else REMOVE, b"", 0, result
        if after is not None and after is not before:
            effect, value, expires = STORE, after.value, after.expires_ms
            told = WRITTEN if result[1] is value else result
        change = named(Change, (kind, key, effect, value, expires, client, number, answered, told))
        self._make(change, rank, now_ms, before)
        answer = named(Answer, (client, number, *result, rank, NO_RANK))
        self._waiting.append(named(Waiting, (rank.sequence, who, answer)))

    def _answer_again(self, who: object, operation: Operation, done: Done) -> None:
        """An operation that was done: its result, once it is committed."""
        rank = done.rank
        is_committed = rank[:2] != (self._epoch, self.ballot) or rank.sequence <= self.commit
        answer = Answer(operation.client, operation.number, *done.result, rank, self.committed_rank)
        if is_committed:
            self._turn.answer(who, self._partition, answer)
        else:
            self._waiting.append(Waiting(rank.sequence, who, answer))
            if len(self._waiting) > 1 and self._waiting[-2].sequence > rank.sequence:
                self._waiting = deque(sorted(self._waiting, key=lambda each: each.sequence))

    def _make(self, change: Change, rank: Rank, now_ms: int, before: Record | None) -> None:
        """The next change in the sequence."""
        if self.newest in self._named:
            self._named.discard(self.newest)
            self._replica.retain()
        key = change.key
        if change.effect != KEEP:
            self._uncommitted.note(rank.sequence, key, before)
            self._keys = None
            if change.expires_ms:
                self._expiries.push(change.expires_ms, key)
        self.newest = rank.sequence
        self._replica.apply_own(change, rank, now_ms)
        if not self._batch:
            self._turn.unflushed.append(self.flush)
        self._batch.append(change)
        self._time.is_now(now_ms)
        self._batch_bytes += len(key) + len(change.value)
        if self._batch_bytes > _BATCH_BYTES or len(self._batch) >= _BATCH_CHANGES:
            self.flush()

    def flush(self) -> None:
        """The turn ends: what was made in it goes to all members, in one message each."""
        batch = self._batch
        if batch:
            self._batch = []
            self._batch_bytes = 0
            sent = Batch(self.newest - len(batch), self._batch_now_ms, tuple(batch))
            self.log.append(sent)
            told, thrifty = self._accept(sent), self._thrifty
            thrifty.choose(self.acknowledged, self.commit)
            self._turn.send_at_once(thrifty.at_once, self._partition, told)
            self._turn.send_lazily(thrifty.later, self._partition, told)
            self._acknowledge_own()

    def _now_of_batch(self) -> int:
        if not self._batch:
            self._batch_now_ms = self._time.now_ms()
        return self._batch_now_ms

    # Reads

    def _read(self, who: object, operation: Operation) -> None:
        if operation.kind == WATCH and arguments_of(operation)[2] is not None:
            self.watchers.ask(who, operation, self._turn.now)
        else:
            self.read_leased(who, operation)

    def read_leased(self, who: object, operation: Operation) -> None:
        """Answer from the committed state, once the lead is certain."""
        now = self._turn.now
        self._pairs.read_with(self.others)
        if now < self._held_lease.until or self.is_leased():
            self._read_committed(who, operation)
        else:
            self._reads.append(Read(self._pairs.latest_number, who, operation))
            self._turn.to_confirm.update(self.others)
            self._turn.reading.add(self._partition)

    def is_leased(self) -> bool:
        """Whether a majority's leases run at this moment."""
        if self.stage not in (LEADING, SEALED):
            return False
        if not self.others:
            return self.is_member  # it alone decides
        now = self._turn.now
        return self._held_lease.reckon(self._settings.counted_seconds, now, self._confirmed()) > now

    def _confirmed(self) -> dict[NodeId, Confirmed]:
        ask, have = self._pairs.confirmed_by, self.acknowledged
        about = (self._partition, self.ballot, self._epoch)
        return {id: ask(id, *about) if id in have else NOT_CONFIRMED for id in self.others}

    @property
    def is_reading(self) -> bool:
        """Whether reads wait for a confirm."""
        return bool(self._reads)

    @property
    def has_waiting(self) -> bool:
        """Whether operations wait for anything."""
        return bool(self._waiting or self._reads or self._late or self._held)

    def forgotten_by(self, member: NodeId) -> None:
        """A member does not follow any more, as far as it says: it is asked how far it is."""
        self.acknowledged.pop(member, None)

    def confirmed(self) -> None:
        """A member has answered a confirm: reads that came before it was sent may have their majority."""
        if not self._reads or self.stage not in (LEADING, SEALED):
            return
        numbers = sorted((each.number for each in self._confirmed().values()), reverse=True)
        needed = self.configuration.majority - self.is_member
        newest = numbers[needed - 1]
        reads, self._reads = self._reads, [read for read in self._reads if read.above >= newest]
        for read in reads:
            if read.above < newest:
                self._progress = self._turn.now
                self._read_committed(read.who, read.operation)

    def _read_committed(self, who: object, operation: Operation, now_ms: int | None = None) -> None:
        """From the newest committed state, for the lead is certain at this moment.

        :param now_ms: what is expired by then, or by now, is removed by a change first, or another leader,
            whose time is less far, might still find it.
        """
        key = operation.key
        if operation.kind == GET:
            record = self._uncommitted.record(key, self.state.records)
            if record is not None and record.expires_ms:
                now_ms = self._time.now_ms() if now_ms is None else now_ms
                if is_expired(record, now_ms):
                    self._read_late(who, operation, now_ms, [key])
                    return
            self.answer(who, operation, *operations.get(record))
            return
        if operation.kind == WATCH:
            self.answer(who, operation, DONE, self.told(operation))
            return
        now_ms = self._time.now_ms() if now_ms is None else now_ms
        records = self._uncommitted.records(self.state.records)
        expired = [each for each, record in records.items() if is_expired(record, now_ms)]
        if expired:
            self._read_late(who, operation, now_ms, expired)
        else:
            keys = self._sorted(records)
            found = operations.look_at_all(operation.kind, keys, records, operation.arguments)
            self.answer(who, operation, *found)

    def told(self, operation: Operation) -> Told:
        """What a watcher is to be told."""
        records = self._uncommitted.records(self.state.records)
        return what_changed(operation, records, self._replica.touched.keys, self.committed_rank)

    def _sorted(self, records: dict[bytes, Record]) -> list[bytes]:
        if records is not self.state.records:
            return sorted(records)
        if self._keys is None:
            self._keys = sorted(records)
        return self._keys

    def _read_late(self, who: object, operation: Operation, now_ms: int, expired: list[bytes]) -> None:
        if self.stage == LEADING:
            self.expire(expired)
        if self.newest > self.commit:
            self._late.append(LateRead(self.newest, now_ms, who, operation))
        else:
            self._held.append((who, operation))  # sealed: the next epoch removes it

    def read_on(self) -> None:
        """More is committed than before: reads may have waited for that."""
        if not self._late:
            return
        commit, late = self.commit, self._late
        self._late = [read for read in late if read.after > commit]
        for read in late:
            if read.after <= commit:
                self._read_committed(read.who, read.operation, read.now_ms)

    # Its own changes

    def _make_own(self, kind: int, about: tuple[object, ...]) -> None:
        now_ms = self._now_of_batch()
        rank = named(Rank, (self._epoch, self.ballot, self.newest + 1))
        self._make(Change(kind, b"", KEEP, b"", 0, b"", 0, 0, about), rank, now_ms, None)

    def expire(self, keys: list[bytes]) -> None:
        """Remove what is expired in the newest state."""
        now_ms, records = self._now_of_batch(), self.state.records
        due = tuple(key for key in keys if is_expired(records.get(key), now_ms))
        if due and self.stage == LEADING:
            for key in due:
                self._uncommitted.note(self.newest + 1, key, records[key])
            self._keys = None
            self._make_own(EXPIRE, due)

    def evict(self, upto: Rank) -> None:
        """Forget operations up to a committed rank."""
        if self.stage == LEADING and self.state.evicted < upto <= self.committed_rank:
            self._make_own(EVICT, upto)

    def seal(self, members: tuple[Member, ...]) -> None:
        """The last change of the epoch: who decides in the next one."""
        if self.stage == LEADING and self.state.next is None:
            self._make_own(SEAL, members)
            self.stage = SEALED

    # Ends

    def stop(self, who_leads: NodeId | None) -> None:
        """It leads no more, and never again with this ballot: what is under way may or may not be done."""
        for _, who, answer in self._waiting:
            self._turn.answer(
                who, self._partition, answer._replace(status=UNKNOWN, detail=None, stamp=NO_RANK)
            )
        self._waiting.clear()
        if self.state is self._replica.state:  # else nobody knows here any more what came and went
            self.watchers.tell_all()
        for who, operation in self.take_held():
            self._turn.answer(who, self._partition, not_leader(operation, who_leads))

    def take_held(self) -> list[tuple[object, Operation]]:
        """Operations that are not done, and that may be done by the next leader, or in the next epoch."""
        held = [(read.who, read.operation) for read in self._reads]
        held += [(read.who, read.operation) for read in self._late]
        held += self._held
        held += self.watchers.take_all()
        self._reads, self._late, self._held = [], [], []
        return held

    def hold(self, held: list[tuple[object, Operation]]) -> None:
        """Take over operations that waited in the epoch before."""
        self._held += held

    def serve_held(self) -> None:
        """Do the operations that waited for the lead."""
        held, self._held = self._held, []
        for who, operation in held:
            self.do(who, operation)

    # Time

    def tick(self) -> bool:
        """Time has passed.

        :returns: whether it still leads: not when it has reached no majority for long.
        """
        now, settings = self._turn.now, self._settings
        if not self.has_waiting and self.stage == LEADING:
            self._progress = now
        elif now - self._progress > settings.majority_timeout_seconds:
            return False
        self._send_what_is_missing(now)
        if self.watchers and self.stage in (LEADING, SEALED):
            self.watchers.tell()
        if self._reads:
            self._turn.to_confirm.update(self.others)
        if self.stage == LEADING:
            self._forget_operations(now)
            self._expire_due()
        return True

    def _send_what_is_missing(self, now: float) -> None:
        newest = self._resend.due(now, self.newest)
        for member in self.others:
            have = self.acknowledged.get(member, -1)
            if have < newest and not self._turn.is_sending(member):
                self._send_missing(member, have)

    def keeps_up(self, member: NodeId) -> bool:
        """Whether a member has what was committed a while ago: of what is made all the time, some are told
        later than others (:class:`~chordtx.group.thrifty.Thrifty`)."""
        return self.acknowledged.get(member, -1) >= min(self._resend.expected, self.commit)

    def _expire_due(self) -> None:
        """One change removes all whose time is over."""
        if self._expiries.next_ms is not None:
            self.expire(self._expiries.due(self._time.now_ms()))

    def seconds_to_wake(self) -> float | None:
        """After how long it wants to be ticked at the latest; None when nothing is due, ever."""
        if self.has_waiting or self.stage != LEADING:
            return RESEND_SECONDS / 2
        if any(self.acknowledged.get(member, -1) < self.newest for member in self.others):
            return RESEND_SECONDS
        wakes = [self._marks.seconds_to_wake] if self.state.clients else []
        wakes += self.watchers.wakes(self._turn.now)
        if self._expiries.next_ms is not None:
            wakes.append(max(0.0, (self._expiries.next_ms - self._time.now_ms()) / 1000))
        return min(wakes, default=None)

    def _forget_operations(self, now: float) -> None:
        """Operations of clients that fell silent, once they are old enough."""
        if self.state.clients:
            self._marks.mark(now, self.committed_rank)
        upto = self._marks.old(now)
        if upto != NO_RANK and any(done.rank <= upto for _, _, done in done_in(self.state.clients)):
            self.evict(upto)
