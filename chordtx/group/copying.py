"""Copying a state from who has it: compare digests, and fetch what is lacking, page by page.

A state is named by its rank, and equal rank is equal state. So a copy that is put together of many answers is
the state of that rank, whoever gave them and however the givers went on meanwhile; and who has that rank no
more says so. Nothing of a copy is used before all of it is there.
"""

from __future__ import annotations

from hashlib import blake2b
from itertools import islice

from chordtx.group.configuration import NO_CONFIGURATION
from chordtx.group.digest import DIGEST_BYTES, Digests, clients_digest
from chordtx.group.messages import Compare, Differs, Fetch, FetchClients, Give, GiveClients, Moved
from chordtx.group.rank import NodeId, Rank
from chordtx.group.recent_keys import Recent
from chordtx.group.record import Record
from chordtx.group.state import Client, Header, State

LEAVES_AT_ONCE = 32
#: Of digests in one request, and of records in one answer (which may be one record longer).
PAGE_BYTES = 256 << 10

Request = Compare | Fetch | FetchClients


class Copy:
    """A copy under way.

    :param source: whom it is copied from. :param rank: of the state.
    :param base: what there is already, when there is anything: of whatever rank.
    :ivar state: the finished copy.
    :ivar is_broken: it cannot be finished: the source has this state no more, or gave what is not it.
    """

    def __init__(self, source: NodeId, rank: Rank, base: State | None) -> None:
        self.source = source
        self.rank = rank
        self._base = {} if base is None else dict(base.records)
        self._base_clients = {} if base is None else {id: each.copy() for id, each in base.clients.items()}
        self.state: State | None = None
        self.is_broken = False
        self._digests = Digests(self._base)
        self._tree = self._digests.tree if self._base else b""
        self._records = dict(self._base)
        self._clients: dict[bytes, Client] | None = None
        self._differs: Differs | None = None
        self._leaves: list[int] = []
        self._after = b""
        self._clients_after: bytes | None = None

    @property
    def recent(self) -> Recent | None:
        """Which keys came and went of late before the state that is copied; None while that is not known."""
        return None if self._differs is None else self._differs.recent

    def request(self) -> Request | None:
        """What to ask next, or again; None when all is there."""
        if self._differs is None:
            return Compare(self.rank, self._tree)
        if self._leaves:
            return Fetch(self.rank, tuple(self._wanted()), self._after)
        if self._clients is not None and self.state is None:
            return FetchClients(self.rank, self._clients_after)
        return None

    def _wanted(self) -> list[tuple[int, bytes]]:
        wanted, size_bytes = list[tuple[int, bytes]](), 0
        for leaf in islice(self._leaves, LEAVES_AT_ONCE):
            have = b"".join(self._digests.leaves[leaf])
            size_bytes += len(have)
            if wanted and size_bytes > PAGE_BYTES:
                break
            wanted.append((leaf, have))
        return wanted

    def answered(self, answer: Differs | Give | GiveClients | Moved) -> bool:
        """The source has answered.

        :returns: whether that was asked for: what came twice answers no question that is open.
        """
        if answer.rank != self.rank or self.state is not None:
            return False
        if isinstance(answer, Differs):
            return self._compared(answer)
        if isinstance(answer, Give):
            return self._given(answer)
        if isinstance(answer, GiveClients):
            return self._clients_given(answer)
        self.is_broken = True
        return True

    def so_far(self) -> State:
        """What came of it: a part of the state, to compare another copy with."""
        clients = self._base_clients if self._clients is None else self._clients
        return State(Header(NO_CONFIGURATION), self._records, clients)

    def _compared(self, answer: Differs) -> bool:
        if self._differs is not None or answer.compared != _digest(self._tree):
            return False
        self._differs = answer
        self._leaves = list(answer.leaves)
        if answer.clients != clients_digest(self._base_clients):
            self._clients = {}
        self._finish_if_whole()
        return True

    def _given(self, answer: Give) -> bool:
        if [answer.leaf, answer.began] != [*self._leaves[:1], self._after]:
            return False
        self._records.update(answer.records)
        gone = {answer.surplus[i : i + DIGEST_BYTES] for i in range(0, len(answer.surplus), DIGEST_BYTES)}
        for leaf in self._leaves[: answer.whole + 1]:
            for digest in gone & self._digests.leaves[leaf].keys():
                self._remove(self._digests.leaves[leaf][digest])
        del self._leaves[: answer.whole]
        self._after = answer.after
        self._finish_if_whole()
        return True

    def _remove(self, key: bytes) -> None:
        """A record of the base is not in the state; but another one of its key may have come instead."""
        if self._records.get(key) is self._base.get(key):
            self._records.pop(key, None)

    def _clients_given(self, answer: GiveClients) -> bool:
        if self._clients is None or self._leaves or answer.began != self._clients_after:
            return False
        self._clients.update((id, client.copy()) for id, client in answer.clients.items())
        self._clients_after = max(self._clients, default=b"")
        if not answer.more:
            self._finish()
        return True

    def _finish_if_whole(self) -> None:
        if not self._leaves and self._clients is None:
            self._clients = {id: client.copy() for id, client in self._base_clients.items()}
            self._finish()

    def _finish(self) -> None:
        assert self._differs is not None
        assert self._clients is not None
        is_tree = _digest(Digests(self._records).tree) == self._differs.tree
        if is_tree and clients_digest(self._clients) == self._differs.clients:
            self.state = State(self._differs.header, self._records, self._clients)
        else:
            self.is_broken = True


def _digest(tree: bytes) -> bytes:
    return blake2b(tree, digest_size=DIGEST_BYTES).digest()


class Source:
    """Gives others copies of a state that stands still.

    :param state: which is not changed any more, or only after this is forgotten.
    :param recent: which keys came and went of late; None when that is not known.
    :ivar is_live: whether it is the present state of a replica, and holds only while that has this rank.
    """

    def __init__(
        self, state: State, rank: Rank, recent: Recent | None = None, *, is_live: bool = False
    ) -> None:
        self.rank = rank
        self._recent = Recent(rank, ()) if recent is None else recent
        self.is_live = is_live
        self._header = state.header
        self._records = state.records
        self._clients = state.clients
        self._made: Digests | None = None

    def _digests(self) -> Digests:
        if self._made is None:
            self._made = Digests(self._records)
        return self._made

    def compare(self, question: Compare) -> Differs:
        """Where another state differs."""
        digests = self._digests()
        leaves = tuple(digests.leaves_unlike(question.tree))
        clients = clients_digest(self._clients)
        compared, tree = _digest(question.tree), _digest(digests.tree)
        return Differs(self.rank, compared, self._header, leaves, clients, tree, self._recent)

    def fetch(self, question: Fetch) -> Give:
        """As much of what another state lacks as goes into one page."""
        records: dict[bytes, Record] = {}
        surplus: list[bytes] = []
        room, after = PAGE_BYTES, question.after
        begun = (question.leaves[0][0] if question.leaves else 0, question.after)
        for whole, (leaf, have) in enumerate(question.leaves):
            mine = self._digests().leaves[leaf]
            theirs = {have[i : i + DIGEST_BYTES] for i in range(0, len(have), DIGEST_BYTES)}
            for digest in sorted(mine.keys() - theirs):
                if digest <= after:
                    continue
                if records and room <= 0:
                    return Give(self.rank, *begun, records, b"".join(surplus), whole, after)
                key = mine[digest]
                record = records[key] = self._records[key]
                room -= len(key) + len(record.value) + 64
                after = digest
            surplus += theirs - mine.keys()
            after = b""
        return Give(self.rank, *begun, records, b"".join(surplus), len(question.leaves), b"")

    def fetch_clients(self, question: FetchClients) -> GiveClients:
        """As many clients as go into one page."""
        clients: dict[bytes, Client] = {}
        room = PAGE_BYTES
        for id in sorted(self._clients):
            if question.after is not None and id <= question.after:
                continue
            if room <= 0:
                return GiveClients(self.rank, question.after, clients, True)
            client = clients[id] = self._clients[id].copy()
            room -= 64 + sum(_cost(done.result[1]) for done in client.done.values())
        return GiveClients(self.rank, question.after, clients, False)


def _cost(detail: object) -> int:
    return 128 + (len(detail) if isinstance(detail, bytes) else 0)
