"""What members of a group tell one another about one partition.

Each is sent to one member, together with the partition's number; many travel in one frame
(:mod:`chordtx.group.frames`). They may be lost, repeated or overtaken by others.

In the order of a group's life: a candidate prepares, and members promise or refuse; the leader installs its
state, and members who are too far behind copy it first; changes are accepted; a sealed epoch is followed by
the next one, and who is in it no more is told that it is gone.
"""

from __future__ import annotations

from typing import NamedTuple

from chordtx.group.configuration import Configuration, Member
from chordtx.group.rank import NO_RANK, Ballot, Epoch, NodeId, Rank
from chordtx.group.recent_keys import Recent
from chordtx.group.record import Record
from chordtx.group.state import Change, Client, Header


class Prepare(NamedTuple):
    """A candidate asks for a promise to its ballot.

    :ivar epoch: the newest that the candidate knows of.
    :ivar released: a ballot whose leader has stopped by itself, so that its leases are in nobody's way.
    :ivar trial: asks only whether the receiver would promise; it promises nothing.
    """

    ballot: Ballot
    epoch: Epoch
    released: Ballot | None
    trial: bool


class Promise(NamedTuple):
    """Nothing with a smaller ballot will be accepted any more (or, of a trial: it would not).

    :ivar rank: of the receiver's state; NO_RANK where it has none.
    :ivar configuration: of its state; without one, the newest that it has left for good, or NO_CONFIGURATION.
    :ivar next: of its state, once sealed.
    :ivar wall_ms: by its wall clock.
    """

    ballot: Ballot
    trial: bool
    rank: Rank
    configuration: Configuration
    next: tuple[Member, ...] | None
    wall_ms: int


class Refused(NamedTuple):
    """It will not promise, or not accept.

    :ivar mark: of the history that the ballots are of.
    :ivar ballot: that was refused. :ivar promised: the greatest that was promised.
    :ivar wait_seconds: how long a lease that stands in the way runs yet; 0 where none does.
    """

    mark: int
    ballot: Ballot
    promised: Ballot
    wait_seconds: float


class Accept(NamedTuple):
    """The leader's next changes.

    :ivar after: the sequence that they follow. :ivar now_ms: their time.
    :ivar changes: none, where the leader only asks how far the receiver is.
    :ivar sent: when, by the leader's lease clock; it is sent back.
    """

    ballot: Ballot
    epoch: Epoch
    after: int
    now_ms: int
    changes: tuple[Change, ...]
    sent: float


class Install(NamedTuple):
    """The receiver's state is to be the leader's.

    :ivar rank: of that state. :ivar header: its header.
    :ivar base: a rank with the very same records and clients: a member that has that one copies nothing.
    :ivar sent: as in :class:`Accept`.
    """

    rank: Rank
    base: Rank
    header: Header
    sent: float


class Accepted(NamedTuple):
    """The receiver's promise is to this ballot, and its lease is granted from when it received what was sent.

    :ivar sequence: up to which it has everything that the leader made; -1 for nothing.
    :ivar sent: of what it answers. :ivar wall_ms: by its wall clock.
    :ivar full: whether it is to hold no more than it does.
    """

    ballot: Ballot
    epoch: Epoch
    sequence: int
    sent: float
    wall_ms: int
    full: bool


class Newer(NamedTuple):
    """There is a later configuration than the one that was spoken of."""

    configuration: Configuration


class Learn(NamedTuple):
    """The receiver is about to be a member: it copies the leader's state beforehand.

    :ivar ballot: the leader's. :ivar rank: of the state to be copied.
    """

    ballot: Ballot
    rank: Rank


class Learned(NamedTuple):
    """The newcomer has the records. :ivar rank: of the state that it has a copy of."""

    ballot: Ballot
    rank: Rank


class Yours(NamedTuple):
    """From a leader that has stopped by itself: the receiver is to stand.

    :ivar ballot: that it led with, and whose leases are in nobody's way any more.
    :ivar mark: of the history that the ballot is of.
    """

    ballot: Ballot
    mark: int


class Gone(NamedTuple):
    """A majority of this configuration is active, and the receiver is not in it."""

    configuration: Configuration


# Copying a state


class Compare(NamedTuple):
    """Where does the state of this rank differ from the sender's?

    :ivar tree: the sender's digests, empty when it has no records.
    """

    rank: Rank
    tree: bytes


class Differs(NamedTuple):
    """The states differ in these leaves.

    :ivar compared: a digest of the tree that the state was compared with.
    :ivar leaves: their numbers.
    :ivar clients: a digest of the state's clients. :ivar tree: and one of its own tree: both for the finished
        copy.
    :ivar recent: which keys came and went of late.
    """

    rank: Rank
    compared: bytes
    header: Header
    leaves: tuple[int, ...]
    clients: bytes
    tree: bytes
    recent: Recent


class Fetch(NamedTuple):
    """Asks for what the sender lacks in some leaves.

    :ivar leaves: (leaf, digests of the sender's records in it, one after the other).
    :ivar after: in the first of them, only records with digests above this one.
    """

    rank: Rank
    leaves: tuple[tuple[int, bytes], ...]
    after: bytes


class Give(NamedTuple):
    """Some of what was asked for.

    :ivar leaf: the first that was asked for. :ivar began: after what, in it.
    :ivar records: by key. :ivar surplus: digests of records that are not in the state of this rank.
    :ivar whole: how many of the leaves that were asked for are complete with this.
    :ivar after: how far the next one is, when that is begun.
    """

    rank: Rank
    leaf: int
    began: bytes
    records: dict[bytes, Record]
    surplus: bytes
    whole: int
    after: bytes


class FetchClients(NamedTuple):
    """Asks for clients with greater ids than ``after``, or all when it is None."""

    rank: Rank
    after: bytes | None


class GiveClients(NamedTuple):
    """Some clients, by id.

    :ivar began: after which, as asked. :ivar more: whether there are others with greater ids.
    """

    rank: Rank
    began: bytes | None
    clients: dict[bytes, Client]
    more: bool


class Moved(NamedTuple):
    """The sender has no state of this rank any more."""

    rank: Rank


# Two nodes, about all partitions that one leads and the other follows it in


class Confirm(NamedTuple):
    """Renew the leases of everything that you follow me in.

    :ivar number: counts up. :ivar digest: of the list of partitions.
    """

    number: int
    digest: int


class ConfirmAnswer(NamedTuple):
    """The leases are renewed. :ivar followed: (partition, ballot number, epoch), where the digest was another
    one."""

    number: int
    followed: tuple[tuple[int, int, Epoch], ...] | None


#: In place of a partition's number, for these.
NODE_LEVEL = -1

# Clients


class Operation(NamedTuple):
    """One operation of a client.

    :ivar client: its random id. :ivar number: of the operation, among this client's.
    :ivar answered: up to which number it has its answers.
    :ivar stamp: the greatest committed rank that an answer has told the client, NO_RANK at first.
    """

    client: bytes
    number: int
    answered: int
    stamp: Rank
    kind: int
    key: bytes
    arguments: tuple[object, ...]


class Answer(NamedTuple):
    """What became of an operation.

    :ivar client: whose. :ivar number: which.
    :ivar status: one of :mod:`chordtx.group.operations`, or of the below.
    :ivar detail: what comes with the status.
    :ivar rank: of the change, for a change: the version of what it wrote.
    :ivar stamp: a committed rank, for the client's next operation.
    """

    client: bytes
    number: int
    status: int
    detail: object
    rank: Rank
    stamp: Rank


#: It was not done and never will be: the receiver leads no more, or not yet. Detail: who leads, as far as it
#: knows, or None.
NOT_LEADER = 32


def not_leader(operation: Operation, who_leads: NodeId | None) -> Answer:
    """The answer of who does not lead. :param who_leads: as far as it knows."""
    return Answer(operation.client, operation.number, NOT_LEADER, who_leads, NO_RANK, NO_RANK)


#: It may have been done or not: the leader lost its lead meanwhile. The same id may be sent again.
UNKNOWN = 33
#: Too long ago, or answered already: whether it was done is not known any more.
TOO_OLD = 34
#: A member holds as much as it may.
FULL = 35
#: Too many wait already. It was not done.
BUSY = 36

Message = (
    Prepare
    | Promise
    | Refused
    | Accept
    | Install
    | Accepted
    | Newer
    | Learn
    | Learned
    | Yours
    | Gone
    | Compare
    | Differs
    | Fetch
    | Give
    | FetchClients
    | GiveClients
    | Moved
    | Confirm
    | ConfirmAnswer
)
