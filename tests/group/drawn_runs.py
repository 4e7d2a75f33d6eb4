"""The runs that are drawn in ``docs/groups.md``: played on a :class:`~chordtx.sim.group_world.GroupWorld`.

``python -m tests.group.drawn_runs`` prints them, ``--write`` puts them into the page. Each has one column for
a node, ``|`` while it follows, ``#`` while it serves as the leader, and nothing while it is down. A message
that is lost again and again is drawn once.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import msgpack

from chordtx.config import GroupSettings
from chordtx.group import operations
from chordtx.group.configuration import Member
from chordtx.group.groups import Groups
from chordtx.group.leader import SEALED
from chordtx.group.messages import (
    BUSY,
    FULL,
    NOT_LEADER,
    TOO_OLD,
    UNKNOWN,
    Accept,
    Accepted,
    Answer,
    Confirm,
    ConfirmAnswer,
    Gone,
    Install,
    Learn,
    Learned,
    Operation,
    Prepare,
    Promise,
    Refused,
)
from chordtx.group.rank import NO_RANK, Ballot, NodeId, Rank
from chordtx.group.state import SEAL
from chordtx.sim.group_clients import Clients
from chordtx.sim.group_watch import GroupWatch
from chordtx.sim.group_world import GroupWorld, Sent

PAGE = Path(__file__).parents[2] / "docs" / "groups.md"

#: In the order of preference; drawn by their last letters.
A, B, C, D = (b"CA", b"CB", b"CC", b"CD")
KEY = b"k"
#: One unit of the world's time, in seconds.
RATE = 0.1
_STATUSES = {
    operations.DONE: "DONE",
    operations.ABSENT: "ABSENT",
    NOT_LEADER: "NOT_LEADER",
    UNKNOWN: "UNKNOWN",
    TOO_OLD: "TOO_OLD",
    FULL: "FULL",
    BUSY: "BUSY",
}


def letter(id: NodeId) -> str:
    """What a node is called in a drawing."""
    return id.decode()[-1]


def ballot_text(ballot: Ballot) -> str:
    """``number.node``"""
    return f"{ballot.number}.{letter(ballot.node)}" if ballot.node else "none"


def rank_text(rank: Rank) -> str:
    """``epoch/number.node/sequence``"""
    if rank == NO_RANK:
        return "no rank"
    return f"{rank.epoch.number}/{ballot_text(rank.ballot)}/{rank.sequence}"


def label(message: object) -> str:
    """A message's name in the code, with what matters of it."""
    name = type(message).__name__
    if isinstance(message, Prepare):
        return f"{name} {ballot_text(message.ballot)}" + (" trial" if message.trial else "")
    if isinstance(message, Promise):
        return f"{name} {rank_text(message.rank)}"
    if isinstance(message, Refused):
        wait = f", {message.wait_seconds:.1f} s" if message.wait_seconds else ""
        return f"{name} {ballot_text(message.promised)}{wait}"
    if isinstance(message, Accept):
        if not message.changes:
            return f"{name} none"
        is_seal = message.changes[-1].kind == SEAL
        return f"{name} {message.after + len(message.changes)}" + (" SEAL" if is_seal else "")
    if isinstance(message, Accepted):
        return f"{name} {message.sequence}"
    if isinstance(message, Install | Learn | Learned):
        return f"{name} {rank_text(message.rank)}"
    if isinstance(message, Gone):
        return f"{name} epoch {message.configuration.epoch.number}"
    if isinstance(message, Confirm | ConfirmAnswer):
        return f"{name} {message.number}"
    return name


class Paper:
    """Rows of text, one column for each node. :param width: between two columns."""

    def __init__(self, nodes: Iterable[NodeId], width: int) -> None:
        self.nodes = tuple(nodes)
        self.lines: list[str] = []
        self._width = width
        self._time = ""
        header = " " * 7 + "".join(letter(id).ljust(width) for id in self.nodes)
        self.lines.append(header.rstrip())

    def place(self, id: NodeId) -> int:
        """Where a node's column is."""
        return 7 + self.nodes.index(id) * self._width

    def row(self, time: str, marks: dict[NodeId, str], note: str = "") -> list[str]:
        """One row as its characters; :meth:`put` takes it."""
        told = "" if time == self._time else time
        self._time = time
        row = list(told.ljust(self.place(self.nodes[-1]) + 1))
        for id, mark in marks.items():
            row[self.place(id)] = mark
        return [*row, "   ", note]

    def put(self, row: list[str]) -> None:
        """Add a row."""
        self.lines.append("".join(row).rstrip())

    def arrow(self, row: list[str], by: NodeId, to: NodeId, text: str, *, arrives: bool) -> None:
        """A message in a row."""
        here, there = self.place(by), self.place(to)
        step = 1 if there > here else -1
        end = there - step
        low, high = min(here + step, end), max(here + step, end)
        row[low : high + 1] = "-" * (high - low + 1)
        row[end] = "x" if not arrives else ">" if step > 0 else "<"
        told = f" {text} "
        first = here + 2 if step > 0 else here - self._width + 3
        row[first : first + len(told)] = told


class DrawnClients(Clients):
    """Clients that note what they are told."""

    def __init__(self, watch: GroupWatch) -> None:
        super().__init__(watch)
        self.notes: list[str] = []

    def answered(self, who: object, partition: int, answer: Answer) -> None:
        """An answer has come."""
        pending = self.pending.get(answer.client)
        what = operations.NAMES[pending[1].kind] if pending is not None else "operation"
        told = _STATUSES.get(answer.status, str(answer.status))
        if answer.status == operations.DONE and what == "get":
            told = repr(msgpack.unpackb(answer.detail[0]))
        elif answer.status == NOT_LEADER:
            told += f", ask {letter(answer.detail)}" if answer.detail else ", nobody known"
        self.notes.append(f"{answer.client.decode()}'s {what}: {told}")
        super().answered(who, partition, answer)


class Drawing(GroupWorld):
    """A world that draws itself while it lives by its timers.

    :ivar cut: pairs of nodes between which everything is lost.
    :ivar is_drawn: off while what happens is not to be drawn.
    """

    def __init__(self, members: tuple[NodeId, ...], spares: tuple[NodeId, ...] = (), width: int = 26) -> None:
        self.paper = Paper([*members, *spares], width)
        self.is_drawn = False
        self.cut: set[frozenset[NodeId]] = set()
        self._lost: set[tuple[NodeId, NodeId, type]] = set()
        self._roles: dict[NodeId, str] = {}
        self._leased: set[NodeId] = set()
        self._asked: list[str] = []
        self._notes: list[str] = []
        super().__init__(members, spares, settings=GroupSettings(), rate=RATE)
        self.clients: DrawnClients = DrawnClients(self.watch)

    # What is drawn

    def _role(self, id: NodeId) -> str:
        group = self.group(id)
        if group is None:
            return ""
        if group.leader is not None:
            stage, epoch = group.leader.stage, group.configuration.epoch.number
            return (
                stage
                if stage == SEALED
                else f"{stage} epoch {epoch}, ballot {ballot_text(group.leader.ballot)}"
            )
        if group.candidate is not None:
            return (
                "asks first"
                if group.candidate.trial
                else f"stands with {ballot_text(group.candidate.ballot)}"
            )
        return "left" if group.replica.state is None and group.replica.left.members else "follows"

    def _see(self, id: NodeId) -> None:
        """Note what is different with a node."""
        before, now = self._roles.get(id, "follows"), self._role(id)
        self._roles[id] = now
        if now not in (before, ""):
            if now == "follows":
                if before not in ("", "left"):
                    self._notes.append(f"{letter(id)} follows")
            elif now == "left":
                self._notes.append(f"{letter(id)} drops its state")
            else:
                self._notes.append(f"{letter(id)}: {now}")
        group = self.group(id)
        is_leased = group is not None and group.leader is not None and group.leader.is_leased()
        if id in self._leased and not is_leased and now.startswith("leading"):
            self._notes.append(f"{letter(id)}'s lease ends")
        (self._leased.add if is_leased else self._leased.discard)(id)

    def _marks(self) -> dict[NodeId, str]:
        leading = self.leading()
        return {
            id: " " if not host.is_up else "#" if id in leading else "|" for id, host in self.hosts.items()
        }

    def _row(self, marks: dict[NodeId, str]) -> list[str]:
        notes = [*self._asked, *self.clients.notes, *self._notes]
        self._forget()
        return self.paper.row(f"{self.time * RATE:.1f} s", marks, "; ".join(notes))

    def _forget(self) -> None:
        self._asked.clear()
        self.clients.notes.clear()
        self._notes.clear()

    def note(self, text: str = "") -> None:
        """Something that is no message."""
        if text:
            self._asked.append(text)
        if self.is_drawn and (self._asked or self._notes or self.clients.notes):
            self.paper.put(self._row(self._marks()))
        self._forget()

    # What happens

    def event(self, id: NodeId, what: Callable[[Groups], None]) -> None:
        """Something happens to a node."""
        super().event(id, what)
        self._see(id)

    def passes(self, sent: Sent) -> None:
        """A message arrives, or is lost."""
        arrives = frozenset((sent.by, sent.to)) not in self.cut and self.hosts[sent.to].is_up
        marks = self._marks()
        if arrives:
            self.deliver(sent)
        kind = (sent.by, sent.to, type(sent.message))
        if not arrives:
            if kind in self._lost:
                return  # again: once is enough
            self._lost.add(kind)
        row = self._row(marks)
        self.paper.arrow(row, sent.by, sent.to, label(sent.message), arrives=arrives)
        if self.is_drawn:
            self.paper.put(row)

    def settle(self, steps_max: int = 100_000, until: Callable[[], bool] = lambda: False) -> None:
        """All messages arrive or are lost, in order."""
        while self.net and not until():
            self.passes(self.net.pop(0))

    def live(self, seconds: float) -> None:
        """So much time passes."""
        for _ in range(round(seconds / RATE)):
            self.time += 1
            for id in self.hosts:
                self.event(id, lambda groups: groups.tick())
                self.note()
            self.settle()

    def asks(self, client: bytes, to: NodeId, kind: int, *arguments: object) -> None:
        """A client's operation arrives at a node."""
        operation = self.clients.call(client, kind, KEY, arguments)
        self._arrives(to, operation)

    def asks_again(self, client: bytes, to: NodeId) -> None:
        """The same operation, under the same id."""
        operation = self.clients.again(client)
        assert operation is not None
        self._arrives(to, operation)

    def _arrives(self, to: NodeId, operation: Operation) -> None:
        kind, client = operations.NAMES[operation.kind], operation.client.decode()
        self.do(to, operation)
        self.note(f"{client} asks {letter(to)}: {kind}")

    def set(self, client: bytes, to: NodeId, value: int) -> None:
        """A client writes."""
        self.asks(client, to, operations.SET, msgpack.packb(value), None)

    def get(self, client: bytes, to: NodeId) -> None:
        """A client reads."""
        self.asks(client, to, operations.GET)

    def lost_links(self, *pairs: tuple[NodeId, NodeId]) -> None:
        """Nodes notice that links are down."""
        for id, other in pairs:
            self.event(id, lambda groups, other=other: groups.lost(other))  # type: ignore[misc]
            self.note(f"{letter(id)} has lost {letter(other)}")

    def begin(self) -> None:
        """The first leader leads, and somebody has written: from here on it is drawn."""
        self.live(0.3)
        self.set(b"x", A, 1)
        self.settle()
        self.live(2)
        self.is_drawn = True

    def end(self) -> str:
        """What was drawn. :raises Violation: when something did not hold."""
        self.clients.must_be_linearizable()
        self.must_hold_leases()
        return "\n".join(self.paper.lines) + "\n"


def a_leader_dies() -> str:
    """The leader dies with a change under way that one member has; C has not noticed yet."""
    world = Drawing((A, B, C))
    world.begin()
    world.set(b"x", A, 2)
    world.settle()
    world.get(b"y", A)
    world.live(0.2)
    world.set(b"x", A, 3)
    world.cut.add(frozenset((A, C)))
    world.settle(until=lambda: any(isinstance(sent.message, Accepted) for sent in world.net))
    world.crash(A)
    world.net.clear()
    world.note("A crashes")
    world.cut.clear()
    world.lost_links((B, A))
    world.live(1.5)
    world.asks_again(b"x", B)
    world.settle()
    world.restart(A)
    world.note("A is started again")
    world.live(1.0)
    return world.end()


def members_change() -> str:
    """D comes in the place of C."""
    world = Drawing((A, B, C), (D,), width=24)
    world.begin()
    world.on_group(A, lambda group: group.change_members(map(Member, (A, B, D))))
    world.note("the members are to be A, B and D")
    world.settle(until=lambda: any(isinstance(sent.message, Prepare) for sent in world.net))
    world.set(b"x", A, 2)
    world.get(b"y", A)
    world.settle()
    return world.end()


def the_network_splits() -> str:
    """The leader is alone on one side; it has clients there."""
    world = Drawing((A, B, C))
    world.begin()
    world.get(b"y", A)
    world.settle()
    world.live(0.1)
    world.cut |= {frozenset((A, B)), frozenset((A, C))}
    world.note("the network splits: A alone, B and C")
    world.live(0.2)
    world.get(b"y", A)
    world.set(b"x", A, 2)
    world.settle()
    world.lost_links((B, A), (C, A))
    world.live(0.9)
    world.get(b"y", A)
    world.live(0.6)
    world.set(b"z", B, 3)
    world.settle()
    world.live(1.0)
    world.cut.clear()
    world.note("the split heals")
    world.live(0.6)
    world.asks_again(b"x", B)
    world.settle()
    return world.end()


RUNS: dict[str, Callable[[], str]] = {
    "A leader dies": a_leader_dies,
    "Members change": members_change,
    "The network splits": the_network_splits,
}


def _block(title: str) -> re.Pattern[str]:
    return re.compile(rf"(?<=^### {title}\n)(.*?^```text run\n)(.*?)(?=^```$)", re.MULTILINE | re.DOTALL)


def in_page(title: str, page: str) -> str:
    """The run that stands in a page below a heading."""
    found = _block(title).search(page)
    assert found is not None, f"there is no run below {title!r}"
    return found[2]


def main(arguments: list[str]) -> None:
    """Print the runs, or write them into the page."""
    page = PAGE.read_text() if "--write" in arguments else ""
    for title, run in RUNS.items():
        drawn = run()
        sys.stdout.write(f"{title}\n\n{drawn}\n")
        if page:
            assert in_page(title, page) is not None
            page = _block(title).sub(lambda found, drawn=drawn: found[1] + drawn, page)  # type: ignore[misc]
    if page:
        PAGE.write_text(page)


if __name__ == "__main__":
    main(sys.argv[1:])
