"""One node's part in one partition's group: a replica, and a candidate or leader at times.

What the node hears of goes in as events; what it wants done is gathered in a
:class:`~chordtx.group.turn.Turn`.

A lead begins like this: the group *tries* (asks whether a majority would promise, itself included, so that
nobody who was cut off deposes a good leader), *stands* (promises itself, and asks for promises), *copies* the
state of the greatest rank when that is another's, *installs* it everywhere, and leads.

An epoch ends like this: newcomers *learn* the records, the leader *seals*, gets promises for the same ballot
in the next epoch, installs the state there, leads on, and tells those who are in it no more that they are
*gone*.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import ClassVar, Never

from chordtx.config import GroupSettings
from chordtx.group.candidate import Candidate, Choice
from chordtx.group.configuration import Configuration, Member, by_preference
from chordtx.group.leader import INSTALLING, LEADING, PASSING, SEALED, Leader
from chordtx.group.learning import Learning
from chordtx.group.lease import PairLeases
from chordtx.group.messages import (
    Accept,
    Accepted,
    Compare,
    Differs,
    Fetch,
    FetchClients,
    Give,
    GiveClients,
    Gone,
    Install,
    Learn,
    Learned,
    Moved,
    Newer,
    Operation,
    Prepare,
    Promise,
    Refused,
    Yours,
    not_leader,
)
from chordtx.group.moving import Move
from chordtx.group.partition_time import WallClocks
from chordtx.group.rank import COUNT_MAX, NO_BALLOT, NO_RANK, Ballot, NodeId, Rank
from chordtx.group.recovery import Survivors, forced
from chordtx.group.replica import Aside, Replica, Stored
from chordtx.group.state import State
from chordtx.group.tries import Tries
from chordtx.group.turn import Randomness, Turn

_MARK_BITS = 62


class Group:
    """See the module.

    :param me: the node, as a member. :param turn: what it wants done goes there.
    :param rng: for moments that nobody else chooses too, and the marks of forced epochs.
    :param stored: what it had before a restart, with ``state`` when it had one.
    """

    def __init__(
        self,
        partition: int,
        me: Member,
        turn: Turn,
        pairs: PairLeases,
        settings: GroupSettings,
        rng: Randomness,
        stored: Stored | None = None,
        state: State | None = None,
        asides: Mapping[int, Aside] = MappingProxyType({}),
    ) -> None:
        self.partition = partition
        self.me = me
        self.replica = Replica(partition, me.id, turn, pairs, settings, stored, state, asides)
        self.candidate: Candidate | None = None
        self.leader: Leader | None = None
        self.tries = Tries(turn, rng)
        self._survivors = Survivors(partition, me.id, turn, settings)
        self._move: Move | None = None
        self._learning: Learning | None = None
        self._is_forcing = False
        self._sequence = 0
        self._number_seen = 0
        self._leaving: set[NodeId] = set()
        self._redirected: tuple[bytes, int] | None = None
        self._walls = WallClocks(me.id, turn)
        self._turn = turn
        self._pairs = pairs
        self._settings = settings
        self._rng = rng

    # What is known

    @property
    def configuration(self) -> Configuration:
        """The configuration of its state, or the newest that it has left."""
        return self.replica.configuration

    @property
    def is_leading(self) -> bool:
        """Whether it serves."""
        return self.leader is not None and self.leader.stage in (LEADING, SEALED)

    @property
    def is_changing(self) -> bool:
        """Whether it leads, and its members are being changed."""
        leader = self.leader
        return leader is not None and (self._learning is not None or leader.stage != LEADING)

    def who_leads(self) -> NodeId | None:
        """Who else leads, as far as it knows."""
        promised = self.replica.promised
        if self.leader is not None or promised == NO_BALLOT or promised.node == self.me.id:
            return None
        return promised.node

    # Messages

    def _prepare(self, by: NodeId, asked: Prepare) -> None:
        leader = self.leader
        if leader is not None and leader.stage == LEADING and _is_behind(by, asked, leader.configuration):
            if self._learning is not None and self._learning.is_of(by):
                self._stop_learning()  # it forgets what it has copied, and may not be there any more soon
            self._turn.send(by, self.partition, Gone(leader.configuration))
            return
        self.replica.prepare(by, asked)
        self._check_overruled()

    def _promise(self, by: NodeId, answer: Promise) -> None:
        if answer.configuration.epoch.mark != self.replica.history.mark and not answer.trial:
            return  # a promise of another history
        if by != self.me.id:
            self._walls.told(by, answer.wall_ms)
        election = self.candidate or (None if self._move is None else self._move.candidate)
        if election is not None:
            election.answered(by, answer)
            self._evaluate()

    def _refused(self, by: NodeId, told: Refused) -> None:
        if told.mark != self.replica.history.mark:
            return
        self._number_seen = max(self._number_seen, told.promised.number)
        mine = self.candidate
        if mine is not None and mine.ballot == told.ballot and (told.wait_seconds or mine.trial):
            self.tries.after(told.wait_seconds + self.tries.apart())
        ballot = self.own_ballot()
        if ballot is not None and told.promised > ballot:
            self.replica.promise(told.promised)
            self._check_overruled()

    def _accept(self, by: NodeId, told: Accept) -> None:
        self.replica.accept(by, told)
        if self.tries.at is not None or self.leader is not None or self.candidate is not None:
            self._leader_spoke()

    def _install(self, by: NodeId, told: Install) -> None:
        self.replica.install(by, told)
        self._leader_spoke()

    def _leader_spoke(self) -> None:
        self._check_overruled()
        if self.candidate is None and self.leader is None:
            self.tries.stop()

    def _accepted(self, by: NodeId, told: Accepted) -> None:
        leader = self.leader
        if leader is not None and leader.accepted(by, told):
            leader.read_on()
            if leader.stage != LEADING:
                self._committed_more(leader)

    def _newer(self, by: NodeId, told: Newer) -> None:
        epoch = told.configuration.epoch
        if epoch.mark != self.replica.history.mark:
            if epoch > self.replica.history:
                self.replica.change_history(epoch)
                self._check_overruled()
            return
        candidate = self.candidate
        if candidate is not None:
            candidate.knows(told.configuration)
            self._ask(candidate, told.configuration.ids)
            self._evaluate()

    def _learn(self, by: NodeId, told: Learn) -> None:
        self.replica.learn(by, told)

    def _learned(self, by: NodeId, told: Learned) -> None:
        if self._learning is not None and told.ballot == self.own_ballot():
            self._learning.learned(by)
            self._seal_when_learned()

    def _yours(self, by: NodeId, told: Yours) -> None:
        if (self.replica.promised, self.replica.history.mark) == told:
            self.stand(released=told.ballot, trial=False)

    def _gone(self, by: NodeId, told: Gone) -> None:
        if self.replica.gone(told.configuration):
            self._step_down()
            self.tries.stop()

    def _asked_for_copy(self, by: NodeId, question: Compare | Fetch | FetchClients) -> None:
        self.replica.asked_for_copy(by, question)
        if self.leader is not None:
            self.leader.is_copied_by(by)

    def _copy_answered(self, by: NodeId, answer: Differs | Give | GiveClients | Moved) -> None:
        has_it = self.replica.copy_answered(by, answer)
        self._check_overruled()
        candidate = self.candidate
        if candidate is not None and (self._is_forcing or not candidate.trial):
            if not has_it:  # any more: others may
                candidate.answers.pop(by, None)
            self._evaluate()

    #: What takes each kind of message, and no other, from another member or from this node to itself.
    HANDLERS: ClassVar[dict[type, Callable[[Group, NodeId, Never], None]]] = {
        Prepare: _prepare,
        Promise: _promise,
        Refused: _refused,
        Accept: _accept,
        Install: _install,
        Accepted: _accepted,
        Newer: _newer,
        Learn: _learn,
        Learned: _learned,
        Yours: _yours,
        Gone: _gone,
        Compare: _asked_for_copy,
        Fetch: _asked_for_copy,
        FetchClients: _asked_for_copy,
        Differs: _copy_answered,
        Give: _copy_answered,
        GiveClients: _copy_answered,
        Moved: _copy_answered,
    }

    # Operations

    def do(self, who: object, operation: Operation) -> None:
        """A client's operation. A member that does not lead names who does, as far as it knows."""
        leader = self.leader
        if leader is not None:
            leader.do(who, operation)
            return
        named = self.who_leads()
        asked = (operation.client, operation.number)
        if named is None or asked == self._redirected:  # it was there, and is back
            self.tries.hurry()
            self.want_leader(gone=named)
        self._redirected = None if named is None else asked
        self._turn.answer(who, self.partition, not_leader(operation, named))

    def confirmed(self) -> None:
        """A member has answered a confirm for this partition."""
        if self.leader is not None:
            self.leader.confirmed()

    def forgotten_by(self, member: NodeId) -> None:
        """A member that this node leads says that it does not follow."""
        if self.leader is not None:
            self.leader.forgotten_by(member)

    # Standing

    def want_leader(self, gone: NodeId | None = None) -> None:
        """Nobody leads, as far as it knows: it tries, soon or a little later, as it is preferred.

        :param gone: who has led, and is not reached any more.
        """
        if self.leader is not None or self.candidate is not None or self.tries.at is not None:
            return
        if self.me.id in self.configuration.ids and not self.replica.is_lost:
            self.tries.after(self._place(gone) * self.tries.apart())

    def reached(self, node: NodeId) -> bool:
        """There is a link to a node again. :returns: whether there is something to do for that."""
        self._survivors.lives(node)
        if self.leader is not None and Member(node, has_disk=True) in self.configuration.members:
            self.leader.doubt(node)
            return True
        if self.tries.at is None or node not in self.configuration.ids:
            return False
        self.tries.hurry()
        return True

    def _place(self, gone: NodeId | None) -> int:
        """How many are preferred to it, of those who are not gone."""
        others = [id for id in self.configuration.ids if id not in (gone, self.me.id)]
        return by_preference(self.partition, [*others, self.me.id]).index(self.me.id)

    def lost(self, node: NodeId, *, has_ended: bool = False) -> None:
        """The link to a node broke, or fell silent. :param has_ended: its process is known to have ended."""
        if has_ended:
            self._survivors.ended(node)
        if self.replica.promised.node == node and node != self.me.id:
            self.want_leader(gone=node)

    def stand(self, *, released: Ballot | None = None, trial: bool = True) -> None:
        """Become leader, if a majority agrees.

        :param released: the ballot of a leader that has stopped by itself.
        :param trial: ask first.
        """
        replica = self.replica
        if replica.is_lost or not replica.configuration.members:
            return  # its own promise would not count, or it knows of nobody to ask
        wait = replica.lease_seconds_left(self.me.id, released)
        if wait:  # for all members until about the same moment
            self.tries.after(wait + (1 + self._place(replica.promised.node)) * self.tries.apart())
            return
        self._step_down()
        self.tries.at = None
        number = max(replica.promised.number, self._number_seen) + 1
        if number > COUNT_MAX:
            return  # somebody has lied, for nobody counts so far: what is said with it would break links
        ballot = Ballot(number, self.me.id)
        if not trial:
            replica.promise(ballot)  # its own promise first: no ballot is used twice
            self._sequence = 0
        own = replica.report(ballot, trial=trial)
        candidate = Candidate(self.me.id, ballot, own, released=released, trial=trial, since=self._turn.now)
        self.candidate = candidate
        self._ask(candidate)
        if trial:
            self._evaluate()
        else:  # its own promise counts once it is on disk, as anybody's
            self._turn.send(self.me.id, self.partition, own)

    def _ask(self, candidate: Candidate, others: Iterable[NodeId] = ()) -> None:
        new = candidate.to_ask(others)
        asked = Prepare(candidate.ballot, candidate.latest.epoch, candidate.released, candidate.trial)
        if candidate.trial:
            self._turn.send_at_once(new, self.partition, asked)
        else:
            for id in new:
                self._turn.send(id, self.partition, asked)

    def _evaluate(self) -> None:
        """Go on, if enough have answered."""
        if self._move is not None:
            self._evaluate_move(self._move)
        candidate = self.candidate
        if candidate is None:
            return
        self._ask(candidate)
        choice = candidate.best if self._is_forcing else candidate.choice
        if choice is None:
            return
        if not candidate.has_place_in(choice):
            self._step_down()
        elif candidate.trial and not self._is_forcing:
            self.stand(released=candidate.released, trial=False)
        else:
            self._go_on_with(candidate, choice)

    def _go_on_with(self, candidate: Candidate, choice: Choice) -> None:
        """Go on with a chosen state, once it is here."""
        replica, rank = self.replica, choice.report.rank
        state = replica.state if choice.source == self.me.id else replica.copied(rank)
        if state is None:
            replica.copy_from(choice.source, rank)
            return
        if self._is_forcing:
            self._force_with(candidate, state, rank)
            return
        self._leaving |= {id for id, each in candidate.answers.items() if each.rank != NO_RANK}
        self._adopt(candidate.ballot, state, rank)

    def _adopt(self, ballot: Ballot, state: State, base: Rank) -> None:
        """From here on it is the leader of this state's epoch, and serves once a majority has the state."""
        first, held = self._sequence, [] if self.leader is None else self.leader.take_held()
        rank = Rank(state.configuration.epoch, ballot, first)
        replica = self.replica
        self.candidate = self._move = None
        if self.me.id in state.configuration.ids:
            if state is replica.state:
                replica.rename(rank, state.header)
            else:
                replica.take(rank, state, base, replica.copied_recent)
        replica.forget_copy()
        self.leader = Leader(
            replica, self._turn, self._pairs, self._settings, ballot, state, first, base, self._walls
        )
        self._pairs.leads_no_more(self.partition)
        self.leader.hold(held)
        self.leader.begin()

    # Leading

    def _committed_more(self, leader: Leader) -> None:
        """A majority has the state that it began with, or all of a sealed epoch."""
        if leader.stage == INSTALLING and leader.commit >= leader.first:
            if leader.state.next is not None:
                leader.stage = PASSING
            elif not leader.is_member:
                self._retire(leader)
                return
            else:
                leader.stage = LEADING
                self._retire(leader)
                leader.serve_held()
        if leader.stage in (SEALED, PASSING) and leader.commit == leader.newest and self._move is None:
            self._move = Move(leader, self.replica, self._turn, self._settings)
            self._evaluate()

    def _retire(self, leader: Leader) -> None:
        """Its epoch is active: members of the one before that are not in it may forget."""
        told = Gone(leader.configuration)
        self._turn.send_at_once(sorted(self._leaving - leader.configuration.ids), self.partition, told)
        self._leaving = set()
        if not leader.is_member:  # it carried out the change, and is not in the group any more
            have_it = [id for id, sequence in leader.acknowledged.items() if sequence >= leader.first]
            preferred = by_preference(self.partition, have_it)[0]  # who has no state yet could not stand
            leader.make_way_for(preferred)
            self.replica.gone(leader.configuration)
            self._step_down()

    def _evaluate_move(self, move: Move) -> None:
        leader, following = self.leader, move.following
        assert leader is not None
        if move.has_begun:
            self._begun_already(move, leader)
            return
        if not move.is_promised:
            return
        self._sequence = leader.newest + 1
        self._leaving |= leader.configuration.ids
        base = leader.rank if not leader.is_member else self.replica.rank
        state = leader.state
        if self.me.id in following.ids:
            state.configuration, state.next = following, None
        else:
            state = state.succeed(following)
        self._adopt(leader.ballot, state, base)

    def _begun_already(self, move: Move, leader: Leader) -> None:
        """Somebody has been in the next epoch: its state counts, and this leader of the one before reads no
        more."""
        self._sequence = leader.newest + 1
        self._leaving |= leader.configuration.ids
        leader.stop(None)
        self.leader = None
        self._pairs.leads_no_more(self.partition)
        self._move, self.candidate = None, move.candidate

    def change_members(self, members: Iterable[Member]) -> None:
        """The group is to consist of these: newcomers learn the records first."""
        leader, wanted = self.leader, tuple(sorted(members))
        assert wanted, "a group has members"
        if leader is None or leader.stage != LEADING:
            return
        if self._learning is None or self._learning.members != wanted:
            self._stop_learning()
            if wanted != leader.configuration.members:
                self._learning = Learning(leader, wanted, self._settings, self._turn.now)
                self._learning.teach(self._turn.now)
                self._seal_when_learned()

    def _seal_when_learned(self) -> None:
        learning, leader = self._learning, self.leader
        if learning is not None and leader is not None and not learning.newcomers:
            self._learning = None
            leader.seal(learning.members)

    def _stop_learning(self) -> None:
        if self._learning is not None:
            self._learning.give_up()
            self._learning = None

    def seal(self, members: Iterable[Member]) -> None:
        """As :meth:`change_members`, but newcomers have to copy everything afterwards."""
        if self.leader is not None:
            self._stop_learning()
            self.leader.seal(tuple(sorted(members)))

    def hand_over(self, to: NodeId) -> None:
        """Another member is to lead: this one stops first, so that its leases are in nobody's way."""
        leader = self.leader
        if leader is None or leader.stage != LEADING or to not in leader.configuration.ids - {self.me.id}:
            return
        leader.flush()
        self._step_down()
        leader.make_way_for(to)
        self.tries.after(self._settings.majority_timeout_seconds)  # that one may be gone; else it stops this

    def own_ballot(self) -> Ballot | None:
        """With which it leads, or is about to."""
        if self.leader is not None:
            return self.leader.ballot
        return None if self.candidate is None or self.candidate.trial else self.candidate.ballot

    def _check_overruled(self) -> None:
        """Told of a greater ballot, or of another history, it steps down for good."""
        ballot = self.own_ballot()
        if ballot is not None and self.replica.promised != ballot:
            self._step_down()
        elif self.candidate is not None and self.candidate.trial:
            is_late = self.replica.promised.number >= self.candidate.ballot.number
            if is_late or self.candidate.answers[self.me.id].rank != self.replica.rank:
                self._step_down()  # somebody else leads

    def _step_down(self) -> None:
        """What is under way is unknown; this ballot serves no more."""
        leader, self.leader, self.candidate, self._move = self.leader, None, None, None
        self._learning = None
        self._is_forcing = False
        self._leaving = set()
        if leader is not None:
            leader.stop(self.who_leads())
            self._pairs.leads_no_more(self.partition)
            self.replica.release()

    # By force

    def force(self) -> None:
        """Go on with those who answer, though they are no majority: what only the others have is lost.

        Asks first; :meth:`force_now` goes on with those who have answered by then.
        """
        self._number_seen = max(self._number_seen, self.replica.promised.number)
        self.stand(trial=True)

    def force_now(self) -> bool:
        """Begin a history of its own with those who have answered.

        :returns: whether it has; not yet, where the best of their states is to be copied first.
        """
        if self.candidate is not None and self.candidate.trial and self.candidate.best.report.rank != NO_RANK:
            self._is_forcing = True
            self._evaluate()
        return self.leader is not None

    def _force_with(self, candidate: Candidate, state: State, base: Rank) -> None:
        mark = 1 + self._rng.getrandbits(_MARK_BITS)
        state = forced(state, base, candidate.answers, mark)
        self._step_down()
        self.replica.change_history(state.configuration.epoch)
        ballot = Ballot(1, self.me.id)
        self.replica.promise(ballot)
        self._sequence = 0
        self._adopt(ballot, state, base)

    # Time

    def tick(self) -> None:
        """Time has passed."""
        now = self._turn.now
        self.replica.ask_for_copy()
        leader = self.leader
        if leader is not None:
            if not leader.tick():
                self._step_down()
                self.tries.again()
            elif self._move is not None:
                self._move.tick()
            if self._learning is not None and not self._learning.teach(now):
                self._stop_learning()
        elif (
            self.candidate is not None
            and now > self.candidate.since + self._settings.majority_timeout_seconds
        ):
            self._step_down()
            self.tries.again()
        if self.leader is None and self.tries.is_due():
            self.stand()
        if (left := self._survivors.of(self.configuration)) is not None:
            if self.candidate is None:  # a leader steps down by this
                self.stand()
            elif self.candidate.trial and left <= self.candidate.answers.keys():
                self.force_now()

    def seconds_to_wake(self) -> float | None:
        """After how long it wants to be ticked at the latest; None for never."""
        wakes = []
        if self.tries.at is not None:
            wakes.append(max(0.0, self.tries.at - self._turn.now))
        if self.candidate is not None or self.replica.copy is not None or self._move is not None:
            wakes.append(self._settings.copy_timeout_seconds / 2)
        if self._learning is not None:
            wakes.append(self._settings.copy_timeout_seconds)
        if self.leader is not None and (seconds := self.leader.seconds_to_wake()) is not None:
            wakes.append(seconds)
        if self._survivors.are_counted(self.configuration):
            wakes.append(self._settings.recover_after_seconds / 2)
        return min(wakes, default=None)


def _is_behind(by: NodeId, asked: Prepare, active: Configuration) -> bool:
    """Whether a candidate is not in the active epoch, and of one that is over, though it may know of it."""
    return asked.epoch <= active.epoch and by not in active.ids
