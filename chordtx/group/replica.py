"""What one member of a group holds and has promised, and how it answers.

On disk, where there is one, synced before it answers: the greatest ballot it has promised; its state and its
rank, or none; and, when it has dropped its state, the configuration that it has left for good. In memory
only: the lease that it has granted. After a start it acts as if it had just granted one to the ballot in
``promised``.

Rules of this file:

1. Nothing with a smaller ballot than promised is accepted; and nothing is promised against a lease that runs.
2. A change is applied on the rank just before it. Anything else is made good by a whole state, copied aside
   and put in place in one step: a replica with a rank always has the whole state of that rank.
3. What belongs to an older epoch is answered with the newer configuration, and does nothing else.
4. A message of another history (:mod:`chordtx.group.recovery`) counts only when its epoch is the greater one;
   then what is here is set aside, and this replica begins there as one without rank.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from attrs import frozen

from chordtx.config import GroupSettings
from chordtx.group.configuration import NO_CONFIGURATION, Configuration
from chordtx.group.copying import Copy, Source
from chordtx.group.lease import NEVER, Granted, PairLeases
from chordtx.group.messages import (
    Accept,
    Accepted,
    Compare,
    Differs,
    Fetch,
    FetchClients,
    Give,
    GiveClients,
    Install,
    Learn,
    Learned,
    Moved,
    Newer,
    Prepare,
    Promise,
    Refused,
)
from chordtx.group.rank import NO_BALLOT, NO_EPOCH, NO_RANK, Ballot, Epoch, NodeId, Rank, named
from chordtx.group.recent_keys import Recent, RecentKeys
from chordtx.group.record import Record
from chordtx.group.state import Change, Client, Done, Header, State, Touched, done_in
from chordtx.group.turn import Turn

#: Old states that are kept while others copy them.
_SOURCES_MAX = 2
#: In all of them something was promised: none may be forgotten. More are not entered.
_HISTORIES_MAX = 8


@frozen
class Stored:
    """What a replica has on disk, all but records and clients.

    :ivar left: the newest configuration that it has left for good.
    :ivar header: of its state; None where it has none.
    :ivar entered: the epoch with which it came to its history.
    :ivar is_lost: its state was damaged, and is left out. What it had accepted may be missing elsewhere, so
        until a leader has installed a state it promises nothing, and counts for nothing.
    """

    promised: Ballot = NO_BALLOT
    left: Configuration = NO_CONFIGURATION
    rank: Rank = NO_RANK
    header: Header | None = None
    entered: Epoch = NO_EPOCH
    is_lost: bool = False


class Save(NamedTuple):
    """What has to be on disk, together, before anything that follows from it is said.

    :ivar records: to be stored, or None to be deleted.
    :ivar clients: (client, number) -> (answered, operation), or None to be deleted.
    :ivar asides: by mark; None to be deleted.
    """

    stored: Stored
    records: dict[bytes, Record | None]
    clients: dict[tuple[bytes, int], tuple[int, Done] | None]
    asides: dict[int, Aside | None]


class Aside(NamedTuple):
    """All that a replica was in a history that it has left for a greater one: read only, but not forgotten.
    Should that history be the greater one again, it is as if the replica had only been away."""

    stored: Stored
    state: State | None


class Replica:
    """See the module.

    :param me: its node's id. :param turn: what it wants done goes there.
    :param stored: what it had before a restart, with ``state`` when it had one.
    """

    def __init__(
        self,
        partition: int,
        me: NodeId,
        turn: Turn,
        pairs: PairLeases,
        settings: GroupSettings,
        stored: Stored | None = None,
        state: State | None = None,
        asides: Mapping[int, Aside] = MappingProxyType({}),
    ) -> None:
        stored = Stored() if stored is None else stored
        self.partition = partition
        self.me = me
        self.promised = stored.promised
        self.left = stored.left
        self.rank = stored.rank
        self.state = state
        self.entered = stored.entered
        self.asides = dict(asides)
        self.copy: Copy | None = None
        self._draft: State | None = None
        self.is_lost = stored.is_lost
        self._turn = turn
        self._pairs = pairs
        self._settings = settings
        self._granted = Granted(NO_BALLOT, NEVER)
        if self.promised != NO_BALLOT:
            self._granted = Granted(self.promised, turn.now + settings.lease_seconds)
        self._pending: Install | Learn | None = None
        self._missed: list[Accept] = []
        self._missed_bytes = 0
        self._copy_asked = NEVER
        self._sources: dict[Rank, Source] = {}
        self._asides_unsaved: dict[int, Aside | None] = {}
        self.touched = Touched([], [], RecentKeys(self.rank))

    # What it knows

    @property
    def configuration(self) -> Configuration:
        """The configuration of its state; without a state, the newest that it has left."""
        return self.left if self.state is None else self.state.configuration

    @property
    def epoch(self) -> Epoch:
        """The epoch of its configuration."""
        return self.configuration.epoch

    @property
    def history(self) -> Epoch:
        """The greatest epoch of its history that it knows: it tells which of two histories is the greater."""
        return max(self.epoch, self.entered)

    @property
    def follows(self) -> tuple[Ballot, Epoch] | None:
        """The ballot and epoch in which it has a leader's state, and has promised nobody else anything."""
        rank = self.rank
        if rank.ballot != self.promised or rank.ballot.node == self.me or rank.ballot == NO_BALLOT:
            return None
        return rank.ballot, rank.epoch

    def ask_whether_gone(self, members: Iterable[NodeId]) -> None:
        """This node ought not to be in the group: if it is not, and is not to come either, whoever leads says
        so."""
        asked = Prepare(Ballot(0, self.me), self.epoch, None, trial=True)
        self._turn.send_at_once(members, self.partition, asked)

    def lease_seconds_left(self, asked_by: NodeId, released: Ballot | None) -> float:
        """How long a lease is in the way of a promise to a node: 0 when none is."""
        ballot, until = self._granted
        left = 0.0
        if ballot.node != asked_by and ballot != released:
            left = until - self._turn.now
        promised = self.promised
        # A node with a promise and nothing more may have given up: its confirms for other partitions do not
        # count here.
        if promised.node != asked_by and promised != released and self.follows is not None:
            left = max(left, self._pairs.granted_until(promised.node) - self._turn.now)
        return left if left > 0 else 0.0

    def report(self, ballot: Ballot, *, trial: bool) -> Promise:
        """What it tells a candidate."""
        following = None if self.state is None else self.state.next
        return Promise(ballot, trial, self.rank, self.configuration, following, self._turn.wall_ms)

    # Promises

    def prepare(self, by: NodeId, asked: Prepare) -> None:
        """A candidate asks for a promise."""
        if not self._is_of_this_history(by, asked.epoch, is_binding=not asked.trial):
            return
        ballot = asked.ballot
        wait = self.lease_seconds_left(ballot.node, asked.released)
        if ballot < self.promised or wait or self.is_lost:
            self._turn.send(by, self.partition, Refused(self.history.mark, ballot, self.promised, wait))
            return
        if not asked.trial:
            self.promise(ballot)
        self._turn.send(by, self.partition, self.report(ballot, trial=asked.trial))

    def promise(self, ballot: Ballot) -> None:
        """Accept nothing smaller from now on."""
        if ballot > self.promised:
            self.promised = ballot
            self._changed()
            self._give_up_copy_of_older()

    def _give_up_copy_of_older(self) -> None:
        if self._pending is not None and self._ballot_of(self._pending) < self.promised:
            self._abandon_copy()

    @staticmethod
    def _ballot_of(pending: Install | Learn) -> Ballot:
        return pending.rank.ballot if isinstance(pending, Install) else pending.ballot

    def grant(self) -> None:
        """The lease of who has the promise begins anew."""
        self._granted = Granted(self.promised, self._turn.now + self._settings.lease_seconds)

    def _may_accept(self, by: NodeId, ballot: Ballot, epoch: Epoch) -> bool:
        """Whether something of a leader's counts; if so, it is promised."""
        if not self._is_of_this_history(by, epoch, is_binding=True):
            return False
        if ballot < self.promised:
            self._turn.send(by, self.partition, Refused(self.history.mark, ballot, self.promised, 0.0))
            return False
        if epoch < self.epoch:
            self._turn.send(by, self.partition, Newer(self.configuration))
            return False
        self.promise(ballot)
        return True

    # Changes

    def accept(self, by: NodeId, told: Accept) -> None:
        """The leader's next changes."""
        ballot, epoch = told.ballot, told.epoch
        if (ballot != self.promised or epoch != self.rank.epoch) and not self._may_accept(by, ballot, epoch):
            return
        rank = self.rank
        if rank.sequence == told.after and rank.ballot == ballot and rank.epoch == epoch:
            if told.changes:
                self._apply(told)
        elif self._pending is not None:
            self._keep_for_copy(told, self._pending)
        self._acknowledge(by, ballot, epoch, told.sent)

    def _keep_for_copy(self, told: Accept, pending: Install | Learn) -> None:
        """The state that is being copied is the one before these changes. What has no room here, the leader
        sends again."""
        is_new = all(kept.after != told.after for kept in self._missed)
        is_its = told.ballot == pending.rank.ballot and told.epoch == pending.rank.epoch
        size = sum(128 + len(change.key) + len(change.value) for change in told.changes)
        if is_its and is_new and self._missed_bytes + size <= self._settings.log_bytes_max:
            self._missed.append(told)
            self._missed_bytes += size

    def _apply(self, told: Accept) -> None:
        assert self.state is not None
        apply, touched, now_ms = self.state.apply, self.touched, told.now_ms
        ballot, epoch, sequence = told.ballot, told.epoch, told.after
        rank = self.rank
        for change in told.changes:
            sequence += 1
            rank = named(Rank, (epoch, ballot, sequence))
            apply(change, rank, now_ms, touched)
        self.rank = rank
        self._turn.unsaved.add(self.partition)

    def apply_own(self, change: Change, rank: Rank, now_ms: int) -> None:
        """A change that this node makes as the leader; it counts once the node tells itself so, from disk."""
        assert self.state is not None
        self.state.apply(change, rank, now_ms, self.touched)
        self.rank = rank
        self._granted = named(Granted, (rank.ballot, self._turn.now + self._settings.lease_seconds))
        self._turn.unsaved.add(self.partition)

    def _acknowledge(self, by: NodeId, ballot: Ballot, epoch: Epoch, sent: float) -> None:
        turn, rank = self._turn, self.rank
        self._granted = named(Granted, (ballot, turn.now + self._settings.lease_seconds))
        sequence = rank.sequence if rank.ballot == ballot and rank.epoch == epoch else -1
        told = named(Accepted, (ballot, epoch, sequence, sent, turn.wall_ms, turn.is_full))
        turn.send(by, self.partition, told)

    # Whole states

    def install(self, by: NodeId, told: Install) -> None:
        """The leader wants its whole state to be here."""
        rank = told.rank
        if not self._may_accept(by, rank.ballot, rank.epoch):
            return
        if self.rank >= rank:
            self._acknowledge(by, rank.ballot, rank.epoch, told.sent)
        elif self.rank == told.base and self.state is not None:
            self.rename(rank, told.header)
            self._acknowledge(by, rank.ballot, rank.epoch, told.sent)
        else:
            self._begin_copy(by, told)

    def learn(self, by: NodeId, told: Learn) -> None:
        """It is about to be a member: the sooner it has the records, the better."""
        if self._turn.is_leaving() or told.ballot < self.promised or self.rank >= told.rank:
            self._say_learned(by, told)
        else:
            self._begin_copy(by, told)

    def _say_learned(self, to: NodeId, told: Learn) -> None:
        """It has the records. Who is about to leave does not say so, for it would count as one that comes."""
        if self._turn.is_leaving():
            self.ask_whether_gone((to,))
        else:
            self._turn.send(to, self.partition, Learned(told.ballot, told.rank))

    def _begin_copy(self, by: NodeId, pending: Install | Learn) -> None:
        """Begin a copy; one of the same state goes on."""
        copy, self._pending = self.copy, pending
        if copy is not None and copy.rank == pending.rank and copy.source == by and copy.state is None:
            self.ask_for_copy()
        elif isinstance(pending, Install) and copy is not None and copy.state and copy.rank == pending.base:
            self._take_copy(by, copy.state, pending)
        else:
            self._copy(by, pending.rank, pending)

    def _copy(self, source: NodeId, rank: Rank, pending: Install | Learn | None) -> None:
        """Begin a copy, compared with whatever is here already."""
        self._abandon_copy()
        self._pending = pending
        base = self.state if self._draft is None else self._draft
        if base is None and self.asides:
            base = next(reversed(self.asides.values())).state
        self.copy = Copy(source, rank, base)
        self.ask_for_copy(at_once=True)

    def _abandon_copy(self) -> None:
        """Stop copying; the next copy is compared with what there is of this one."""
        if self.copy is not None:
            self._draft = self.copy.so_far()
        self.copy = self._pending = None
        self._missed, self._missed_bytes = [], 0

    def copy_from(self, source: NodeId, rank: Rank) -> None:
        """For a candidate: copy the state that another one has."""
        if self.copy is None or (self.copy.source, self.copy.rank) != (source, rank):
            self._copy(source, rank, None)

    def copied(self, rank: Rank) -> State | None:
        """The finished copy of the state of this rank."""
        return self.copy.state if self.copy is not None and self.copy.rank == rank else None

    @property
    def copied_recent(self) -> Recent | None:
        """Which keys came and went of late, as the source of the copy told."""
        return None if self.copy is None else self.copy.recent

    def forget_copy(self) -> None:
        """The finished copy is not needed any more."""
        self.copy = self._pending = self._draft = None
        self._missed, self._missed_bytes = [], 0

    def ask_for_copy(self, *, at_once: bool = False) -> None:
        """Ask for the next page, or again for one that did not come."""
        copy, now = self.copy, self._turn.now
        if copy is None or not (at_once or now >= self._copy_asked + self._settings.copy_timeout_seconds):
            return
        question = copy.request()
        if question is not None:
            self._copy_asked = now
            self._turn.send_at_once((copy.source,), self.partition, question)

    def copy_answered(self, by: NodeId, answer: Differs | Give | GiveClients | Moved) -> bool:
        """The source of the copy has answered. Afterwards :meth:`copied` may have it.

        :returns: whether the source has that state; if not, nothing is being copied any more.
        """
        copy = self.copy
        if copy is None or copy.source != by or copy.rank != answer.rank:
            return True
        is_awaited = copy.answered(answer)
        if copy.is_broken:
            self._abandon_copy()
            return False
        if copy.state is None:
            self.ask_for_copy(at_once=is_awaited)
        elif is_awaited and self._pending is not None:
            self._copy_finished(by, copy.state, self._pending)
        return True

    def _copy_finished(self, by: NodeId, state: State, pending: Install | Learn) -> None:
        if isinstance(pending, Learn):
            self._pending = None
            self._say_learned(by, pending)
        else:
            self._take_copy(by, state, pending)

    def _take_copy(self, by: NodeId, state: State, pending: Install) -> None:
        missed, recent = self._missed, self.copied_recent
        self.forget_copy()
        if (
            pending.rank <= self.rank
            or pending.rank.ballot < self.promised
            or pending.rank.epoch < self.epoch
        ):
            return
        state.configuration, state.evicted, state.now_ms, state.next = pending.header
        self.take(pending.rank, state, pending.base, recent)
        sent = pending.sent
        for told in missed:
            rank = self.rank
            if (told.ballot, told.epoch, told.after) == (rank.ballot, rank.epoch, rank.sequence):
                self._apply(told)
                sent = told.sent
        self._acknowledge(by, pending.rank.ballot, pending.rank.epoch, sent)

    def take(self, rank: Rank, state: State, base: Rank = NO_RANK, recent: Recent | None = None) -> None:
        """Put a whole state in place, in one step.

        :param base: a rank with the same records, if one is known. :param recent: came along with them.
        """
        before = self.state
        records = {} if before is None else before.records
        for key, record in records.items():
            if key not in state.records:
                self.touched.records.append((key, record, None))
        for key, after in state.records.items():
            if (present := records.get(key)) is not after and present != after:
                self.touched.records.append((key, present, after))
        self._touch_clients({} if before is None else before.clients, state)
        self.touched.keys.copied(recent or Recent(rank, ()), rank if base == NO_RANK else base)
        self.rank, self.state = rank, state
        self.is_lost = False
        self._sources.clear()
        self._changed()

    def _touch_clients(self, before: dict[bytes, Client], state: State) -> None:
        for id, number, _ in done_in(before):
            if id not in state.clients or number not in state.clients[id].done:
                self.touched.clients.append((id, number, None))
        for id, number, done in done_in(state.clients):
            if (
                id not in before
                or before[id].done.get(number) != done
                or before[id].answered != state.clients[id].answered
            ):
                self.touched.clients.append((id, number, done))

    def rename(self, rank: Rank, header: Header) -> None:
        """The same records and clients under another rank."""
        assert self.state is not None
        self.state.configuration, self.state.evicted, self.state.now_ms, self.state.next = header
        self.rank = rank
        self.forget_copy()
        self._changed()

    # Giving copies

    def retain(self) -> None:
        """The state as it is now will be asked for, though it goes on."""
        assert self.state is not None
        if self.rank not in self._sources or self._sources[self.rank].is_live:
            self._sources[self.rank] = Source(self.state.copy(), self.rank, self.touched.keys.sent())
            while len(self._sources) > _SOURCES_MAX:
                del self._sources[next(iter(self._sources))]

    def offer(self, rank: Rank, state: State, base: Rank) -> None:
        """A state that is not this replica's own will be asked for. :param base: has the same records."""
        self._sources[rank] = Source(state, rank, self.touched.keys.sent() if base == self.rank else None)

    def release(self) -> None:
        """Nobody copies an old state any more."""
        self._sources.clear()

    def asked_for_copy(self, by: NodeId, question: Compare | Fetch | FetchClients) -> None:
        """Another one copies the state of some rank from here."""
        source = self._sources.get(question.rank)
        if source is None and self.rank == question.rank and self.state is not None:
            source = Source(self.state, self.rank, self.touched.keys.sent(), is_live=True)
            self._sources = {rank: each for rank, each in self._sources.items() if not each.is_live}
            self._sources[self.rank] = source
        if source is None or (source.is_live and self.rank != source.rank):
            self._turn.send_at_once((by,), self.partition, Moved(question.rank))
            return
        answer: Differs | Give | GiveClients
        if isinstance(question, Compare):
            answer = source.compare(question)
        elif isinstance(question, Fetch):
            answer = source.fetch(question)
        else:
            answer = source.fetch_clients(question)
        self._turn.send(by, self.partition, answer)

    # Ends

    def gone(self, configuration: Configuration) -> bool:
        """A majority of a later epoch is active, and this node is not in it.

        :returns: whether the state was dropped for that.
        """
        if self.me in configuration.ids:
            return False
        if self.history >= configuration.epoch:
            if self.configuration == configuration and not isinstance(self._pending, Install):
                self.forget_copy()  # it was to come again
            return False
        if configuration.epoch.mark != self.history.mark and not self.change_history(configuration.epoch):
            return False
        if self.epoch >= configuration.epoch:
            return False
        self._drop(configuration)
        return True

    def _drop(self, left: Configuration) -> None:
        if self.state is not None:
            self.take(NO_RANK, State(Header(left)))
        self.rank, self.state, self.left, self.is_lost = NO_RANK, None, left, False
        self.forget_copy()
        self._changed()

    # Histories

    def _is_of_this_history(self, by: NodeId, epoch: Epoch, *, is_binding: bool) -> bool:
        """Whether something of this epoch is of this replica's history, which it may have become by this."""
        if epoch.mark == self.history.mark:
            return True
        if epoch < self.history:
            told = self.configuration
            if told.epoch < self.history:
                told = Configuration(self.history, told.members, told.base)
            self._turn.send(by, self.partition, Newer(told))
            return False
        return not is_binding or self.change_history(epoch)

    def change_history(self, epoch: Epoch) -> bool:
        """Another history is the greater one. A replica that has never been in it has no rank there, and has
        promised nothing; one that has been is there as after a restart.

        :returns: whether it is there now: not when there were too many histories already.
        """
        if epoch.mark not in self.asides and len(self.asides) >= _HISTORIES_MAX:
            return False
        self._set_aside()
        known = self.asides.pop(epoch.mark, None)
        if known is None:
            known = Aside(Stored(left=Configuration(Epoch(-1, epoch.mark), ())), None)
        else:
            self._asides_unsaved[epoch.mark] = None
        stored, state = known
        self.promised, self.entered = stored.promised, max(stored.entered, epoch)
        self._granted = Granted(NO_BALLOT, NEVER)
        if self.promised != NO_BALLOT:
            self.grant()
        self._drop(stored.left)
        self.is_lost = stored.is_lost
        if state is not None:
            self.take(stored.rank, state.copy())  # it may be on its way to the disk as it was
        return True

    def _set_aside(self) -> None:
        stored = self._stored()
        if stored != Stored():
            state = None if self.state is None else self.state.copy()
            self.asides[self.history.mark] = self._asides_unsaved[self.history.mark] = Aside(stored, state)

    # What has to be saved

    def _changed(self) -> None:
        """What it has promised, or which state it has, is different: that has to be on disk, and whom it
        follows may be another one."""
        self._turn.unsaved.add(self.partition)
        self._pairs.follows(self.partition, self.follows)

    def take_save(self) -> Save:
        """What has to be saved since it was last asked for."""
        state, touched = self.state, self.touched
        records = {key: after for key, _, after in touched.records}
        clients: dict[tuple[bytes, int], tuple[int, Done] | None] = {}
        for id, number, done in touched.clients:
            answered = 0 if state is None or id not in state.clients else state.clients[id].answered
            clients[id, number] = None if done is None else (answered, done)
        touched.records.clear()
        touched.clients.clear()
        asides, self._asides_unsaved = self._asides_unsaved, {}
        return Save(self._stored(), records, clients, asides)

    def _stored(self) -> Stored:
        header = None if self.state is None else self.state.header
        return Stored(self.promised, self.left, self.rank, header, self.entered, self.is_lost)
