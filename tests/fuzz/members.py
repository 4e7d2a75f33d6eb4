"""What members of groups tell one another, said right: near what is so in some group of the node, or not."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import msgpack

from chordtx.group import frames
from chordtx.group.configuration import Configuration, Member
from chordtx.group.copying import LEAVES_AT_ONCE
from chordtx.group.digest import DIGEST_BYTES, LEAVES
from chordtx.group.messages import (
    NODE_LEVEL,
    Accept,
    Accepted,
    Compare,
    Confirm,
    ConfirmAnswer,
    Differs,
    Fetch,
    FetchClients,
    Give,
    GiveClients,
    Gone,
    Install,
    Learn,
    Learned,
    Message,
    Moved,
    Newer,
    Prepare,
    Promise,
    Refused,
    Yours,
)
from chordtx.group.operations import ADDED, DELETED, DELTA, DONE, EXPIRED, INCREMENT, SET
from chordtx.group.rank import COUNT_MAX, NO_BALLOT, NO_RANK, Ballot, Epoch, Rank
from chordtx.group.recent_keys import Recent, Step
from chordtx.group.record import Record
from chordtx.group.replica import Replica
from chordtx.group.state import EVICT, EXPIRE, KEEP, REMOVE, SEAL, STORE, Change, Client, Done, Header

#: Few, for what is remembered of clients is no matter here.
CLIENTS = [b"client %d" % number for number in range(5)]
#: No msgpack, or not all of it: a member may say that this is what a record holds.
BROKEN_VALUES = [b"", b"\xc1", b"\x92\x01", b"\xdf\xff\xff\xff\xff"]


class Telling:
    """What a member might tell of one group.

    :param id: the member's. :param nodes: ids of honest ones. :param replica: the node's part in the group,
        if it has one. :param keys: what records are of. :param values: and what they hold, packed.
    """

    def __init__(
        self,
        rng: Random,
        id: bytes,
        nodes: list[bytes],
        replica: Replica | None,
        now_ms: int,
        keys: list[bytes],
        values: list[bytes],
    ) -> None:
        self._rng = rng
        self._id = id
        self._nodes = nodes
        self._now_ms = now_ms
        self._keys = keys
        self._values = values
        known = replica is not None
        self._promised = replica.promised if known else NO_BALLOT
        self._rank = replica.rank if known else NO_RANK
        self._epoch = replica.epoch if known else Epoch(0)
        self._configuration = replica.configuration if known else Configuration(Epoch(0), ())
        self._tree = [bytes(LEAVES * DIGEST_BYTES), b"", rng.randbytes(LEAVES * DIGEST_BYTES)]

    def message(self) -> Message:
        """Any of them."""
        make: Callable[[Telling], Message] = self._rng.choice(_TELLS)
        return make(self)

    # Who and when

    def _may_be(self) -> bool:
        return self._rng.random() < 0.5

    def _number(self) -> int:
        rng, near = self._rng, self._promised.number
        return rng.choice([*[near] * 20, *[near + 1] * 20, near + 2, 0, rng.getrandbits(40), COUNT_MAX])

    def own_ballot(self) -> Ballot:
        return Ballot(self._number(), self._id)

    def ballot(self) -> Ballot:
        """One that was promised here, or another one."""
        return self._rng.choice([self._promised, self._promised, self.own_ballot(), NO_BALLOT])

    def epoch(self) -> Epoch:
        """That of the group, or another one."""
        epoch, rng = self._epoch, self._rng
        others = [
            Epoch(-1),
            Epoch(0),
            Epoch(epoch.number + 1, rng.randrange(1, 9)),
            Epoch(rng.getrandbits(40)),
        ]
        return rng.choice([epoch] * 5 + [epoch.successor()] * 2 + others)

    def _sequence(self) -> int:
        near = self._rank.sequence
        return self._rng.choice([near] * 4 + [near + 1, max(0, near - 1), 0, COUNT_MAX])

    def rank(self) -> Rank:
        """That of the state that is here, or another one."""
        rank = self._rank
        near = rank._replace(sequence=min(COUNT_MAX, rank.sequence + 1))
        return self._rng.choice(
            [rank, rank, near, NO_RANK, Rank(self.epoch(), self.ballot(), self._sequence())]
        )

    def _own_rank(self) -> Rank:
        return Rank(self.epoch(), self.own_ballot(), self._sequence())

    def _now(self) -> int:
        return self._rng.choice([self._now_ms, self._now_ms, 0, self._now_ms + 10**7, COUNT_MAX])

    def _seconds(self) -> float:
        return self._rng.choice([0.0, 1.5, -1e9, 1e300, 7])

    # Who is in it

    def members(self) -> tuple[Member, ...]:
        """Honest ones and this one, or nobody."""
        rng = self._rng
        ids = rng.sample([*self._nodes, self._id, b"", b"nobody"], rng.randrange(4))
        return rng.choice(
            [tuple(sorted(Member(id, self._may_be()) for id in ids)), self._configuration.members]
        )

    def configuration(self) -> Configuration:
        """That of the group, or another one."""
        base = self._rng.choice([NO_RANK, NO_RANK, self.rank()])
        return self._rng.choice([self._configuration, Configuration(self.epoch(), self.members(), base)])

    def header(self) -> Header:
        """Of a state."""
        following = self._rng.choice([None, None, self.members()])
        return Header(self.configuration(), self.rank(), self._now(), following)

    # What is in it

    def _key(self) -> bytes:
        return self._rng.choice(self._keys)

    def _value(self) -> bytes:
        return self._rng.choice(BROKEN_VALUES if self._rng.random() < 0.1 else self._values)

    def _record(self) -> Record:
        return Record(self._value(), self._rng.choice([0, 0, self._now()]), self.rank(), self._now())

    def _records(self) -> dict[bytes, Record]:
        return {self._key(): self._record() for _ in range(self._rng.randrange(3))}

    def _result(self) -> tuple[int, Any]:
        return self._rng.randrange(5), self._rng.choice([None, 5, 2.5, b"\x01", self.rank()])

    def _change(self) -> Change:
        rng = self._rng
        own: tuple[int, Any] = rng.choice(
            [(SEAL, self.members()), (EVICT, self.rank()), (EXPIRE, (self._key(),) * rng.randrange(3))]
        )
        if rng.random() < 0.2:
            return Change(own[0], b"", KEEP, b"", 0, b"", 0, 0, own[1])
        number = rng.randrange(9)
        kind, effect = rng.choice([SET, DELTA, INCREMENT]), rng.choice([KEEP, STORE, STORE, REMOVE])
        expires_ms = rng.choice([0, 0, self._now()])
        client = rng.choice(CLIENTS)
        return Change(
            kind,
            self._key(),
            effect,
            self._value(),
            expires_ms,
            client,
            number,
            rng.randrange(9),
            self._result(),
        )

    def _client(self) -> Client:
        rng = self._rng
        done = {rng.randrange(9): Done(self.rank(), SET, self._key(), (DONE, None)) for _ in range(2)}
        return Client(rng.randrange(9), self.rank(), done)

    def _clients(self) -> dict[bytes, Client]:
        return {id: self._client() for id in self._rng.sample(CLIENTS, self._rng.randrange(3))}

    # Copies

    def _digest(self) -> bytes:
        return self._rng.randbytes(DIGEST_BYTES)

    def _digests(self) -> bytes:
        return self._digest() * self._rng.choice([0, 1, 2, 300])

    def _leaves(self) -> tuple[int, ...]:
        count = self._rng.choice([0, 1, 3, LEAVES])
        return tuple(sorted(self._rng.sample(range(LEAVES), count)))

    def _wanted(self) -> tuple[tuple[int, bytes], ...]:
        leaves = self._rng.sample(range(LEAVES), self._rng.choice([1, 2, LEAVES_AT_ONCE]))
        return tuple((leaf, self._digests()) for leaf in sorted(leaves))

    def _after(self) -> bytes:
        return self._rng.choice([b"", self._digest()])

    def _client_or_none(self) -> bytes | None:
        return self._rng.choice([None, *CLIENTS])

    def give(self) -> Give:
        """A page of records."""
        records = self._records()
        whole = self._rng.randrange(not records, 4)
        return Give(
            self.rank(),
            self._rng.randrange(LEAVES),
            self._after(),
            records,
            self._digests(),
            whole,
            self._after(),
        )

    def give_clients(self) -> GiveClients:
        """A page of clients."""
        clients = self._clients()
        return GiveClients(self.rank(), self._client_or_none(), clients, bool(clients) and self._may_be())

    def accept(self) -> Accept:
        """Changes, of this member's lead mostly."""
        ballot = self._rng.choice([self.own_ballot(), self._promised])
        changes = tuple(self._change() for _ in range(self._rng.randrange(4)))
        after = min(self._sequence(), COUNT_MAX - len(changes))
        return Accept(ballot, self.epoch(), after, self._now(), changes, self._seconds())

    def accepted(self) -> Accepted:
        """An acknowledgement."""
        sequence = self._rng.choice([-1, self._sequence()])
        return Accepted(self.ballot(), self.epoch(), sequence, self._seconds(), self._now(), self._may_be())

    def promise(self) -> Promise:
        """An answer to a candidate."""
        following = self._rng.choice([None, self.members()])
        return Promise(
            self.ballot(), self._may_be(), self.rank(), self.configuration(), following, self._now()
        )

    def confirm_answer(self) -> ConfirmAnswer:
        """What this member follows."""
        followed = tuple(
            (self._rng.randrange(20), self._number(), self.epoch()) for _ in range(self._rng.randrange(3))
        )
        return ConfirmAnswer(self._rng.randrange(99), self._rng.choice([None, followed]))

    def differs(self) -> Differs:
        """Where states differ."""
        steps = sorted(self._step() for _ in range(self._rng.randrange(4)))
        recent = Recent(steps[0][0] if steps else self.rank(), tuple(steps))
        tree, clients = self._digest(), self._digest()
        return Differs(self.rank(), self._digest(), self.header(), self._leaves(), clients, tree, recent)

    def _step(self) -> Step:
        return self.rank(), self._key(), self._rng.choice([ADDED, DELETED, EXPIRED])

    def install(self) -> Install:
        """A state that is to be here."""
        rank = self._rng.choice([self._own_rank(), self._own_rank(), self.rank()])
        return Install(rank, self.rank(), self.header(), self._seconds())


_TELLS: list[Callable[[Telling], Message]] = [
    lambda t: Prepare(t.own_ballot(), t.epoch(), t._rng.choice([None, t.ballot()]), t._may_be()),
    Telling.promise,
    lambda t: Refused(t.epoch().mark, t.ballot(), t.ballot(), t._rng.choice([0, 0.5, 1e300])),
    *[Telling.accept] * 3,
    *[Telling.install] * 2,
    Telling.accepted,
    lambda t: Newer(t.configuration()),
    lambda t: Learn(t.own_ballot(), t.rank()),
    lambda t: Learned(t.ballot(), t.rank()),
    lambda t: Yours(t._rng.choice([t.own_ballot(), t.ballot()]), t.epoch().mark),
    lambda t: Gone(t.configuration()),
    lambda t: Compare(t.rank(), t._rng.choice(t._tree)),
    Telling.differs,
    lambda t: Fetch(t.rank(), t._wanted(), t._after()),
    *[Telling.give] * 2,
    lambda t: FetchClients(t.rank(), t._client_or_none()),
    Telling.give_clients,
    lambda t: Moved(t.rank()),
    lambda t: Confirm(t._rng.randrange(99), t._rng.getrandbits(64)),
    Telling.confirm_answer,
]


def rows_of(told: list[tuple[int, Message]]) -> list[Any]:
    """A frame of these, as msgpack reads it: to be changed."""
    about = [
        (NODE_LEVEL if isinstance(message, Confirm | ConfirmAnswer) else partition, message)
        for partition, message in told
    ]
    rows: list[Any] = msgpack.unpackb(frames.to_wire(about))
    return rows
