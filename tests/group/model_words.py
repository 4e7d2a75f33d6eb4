"""What the specification and the real groups say and are, in the same words."""

from __future__ import annotations

from typing import Any

import msgpack

from chordtx.group.configuration import Configuration
from chordtx.group.group import Group
from chordtx.group.leader import INSTALLING, LEADING, PASSING, SEALED
from chordtx.group.messages import (
    TOO_OLD,
    Accept,
    Accepted,
    Answer,
    Confirm,
    ConfirmAnswer,
    Gone,
    Install,
    Newer,
    Prepare,
    Promise,
    Refused,
    Yours,
)
from chordtx.group.operations import ABSENT, DONE
from chordtx.group.rank import Ballot, Epoch, Rank
from chordtx.group.state import State, done_in
from chordtx.sim.group_world import Sent
from tests.group.model_nodes import node_id


def _ballot(ballot: Ballot | None) -> Any:
    return None if ballot is None else (ballot.number, int(ballot.node or b"0"))


def _rank(rank: Rank) -> Any:
    return (rank.epoch.number, _ballot(rank.ballot), rank.sequence)


def _members(members: Any) -> Any:
    return None if members is None else tuple(sorted(int(member.id) for member in members))


def _configuration(configuration: Configuration) -> Any:
    return (configuration.epoch.number, _members(configuration.members))


def _in_order(members: Any) -> Any:
    return None if members is None else tuple(sorted(members))


def real_rank(rank: Any) -> Rank:
    """A rank of the model's, as the real one has it."""
    epoch, (number, node), sequence = rank
    return Rank(Epoch(epoch), Ballot(number, node_id(node)), sequence)


def said_by_model(m: Any) -> Any:
    """A message of the model."""
    kind, by, to, *rest = m
    if kind == "prom":
        ballot, (rank, st, (epoch, members)) = rest
        following = _in_order(st.next) if st else None
        return (kind, by, to, ballot, rank, (epoch, _in_order(members)), following)
    if kind == "acc":
        ballot, epoch, previous, sequence = rest[:4]
        return (kind, by, to, ballot, epoch, previous, sequence)
    if kind in ("gone", "newer"):
        epoch, members = rest if kind == "gone" else rest[0]
        return (kind, by, to, (epoch, _in_order(members)))
    return (kind, by, to, *rest[:1]) if kind == "cack" else tuple(m)


def said_by_real(sent: Sent) -> Any:
    """The same of the real one; it fails for what the model does not know."""
    by, to, message = int(sent.by), int(sent.to), sent.message
    if isinstance(message, Prepare):
        asked = (_ballot(message.ballot), _ballot(message.released), message.epoch.number)
        return ("prep", by, to, *asked)
    if isinstance(message, Promise):
        told = _configuration(message.configuration)
        ballot = _ballot(message.ballot)
        return ("prom", by, to, ballot, _rank(message.rank), told, _members(message.next))
    if isinstance(message, Refused):
        return ("nack", by, to, _ballot(message.promised))
    if isinstance(message, Install):
        epoch, ballot, sequence = _rank(message.rank)
        return ("acc", by, to, ballot, epoch, None, sequence)
    if isinstance(message, Accept):
        after, ballot = message.after, _ballot(message.ballot)
        return ("acc", by, to, ballot, message.epoch.number, after, after + len(message.changes))
    if isinstance(message, Accepted):
        ballot, epoch = _ballot(message.ballot), message.epoch.number
        return ("ack", by, to, ballot, epoch, message.sequence, message.sent)
    if isinstance(message, Confirm | ConfirmAnswer):
        return ("conf" if isinstance(message, Confirm) else "cack", by, to, message.number)
    if isinstance(message, Yours):
        return ("yours", by, to, _ballot(message.ballot))
    assert isinstance(message, Gone | Newer)
    kind = "gone" if isinstance(message, Gone) else "newer"
    return (kind, by, to, _configuration(message.configuration))


def answered(answer: Answer, kind: str) -> Any:
    """What a client is told, as the model says it."""
    status, detail = answer.status, answer.detail
    result: Any = detail
    if status == TOO_OLD:
        result = "too old"
    elif kind == "get":
        result = None if status == ABSENT else msgpack.unpackb(detail[0])
    elif kind == "set":
        result = "ok"
    elif kind == "del":
        result = status == DONE
    opid = (answer.client.decode(), answer.number)
    return ("res", "c", opid, result, _rank(answer.stamp))


def role_of(group: Group) -> Any:
    """As the model calls it."""
    leader = group.leader
    if leader is None:
        return None if group.candidate is None else "cand"
    moves = group._move is not None
    if leader.stage == SEALED:
        return "move" if moves else "lead"
    if leader.stage == PASSING:
        return "pass" if moves else "reseal"
    return {INSTALLING: "sync", LEADING: "lead"}[leader.stage]


def real_node(group: Group) -> dict[str, Any]:
    """What a real node is."""
    replica, leader, state = group.replica, group.leader, group.replica.state
    is_committed = leader is not None and leader.commit >= leader.first
    found = {
        "role": role_of(group),
        "ballot": _ballot(group.own_ballot()),
        "promised": _ballot(replica.promised),
        "rank": _rank(replica.rank),
        "configuration": _configuration(replica.configuration),
        "commit": leader.commit if leader is not None and is_committed else -1,
        "is held": replica.lease_seconds_left(b"", None) > 0,
    }
    return found | ({} if state is None else _real_state(state))


def _real_state(state: State) -> dict[str, Any]:
    return {
        "next": _members(state.next),
        "evicted": _rank(state.evicted),
        "records": {
            int(key): (msgpack.unpackb(record.value), (*_ballot(record.rank.ballot), record.rank.sequence))
            for key, record in state.records.items()
        },
        "ids": {(id.decode(), number): _rank(done.rank) for id, number, done in done_in(state.clients)},
    }


def model_node(n: Any, w: Any) -> dict[str, Any]:
    """What a node of the model is."""
    epoch, members = n.report()[2]
    found = {
        "role": n.role,
        "ballot": n.b,
        "promised": n.promised,
        "rank": n.rank,
        "configuration": (epoch, _in_order(members)),
        "commit": n.commit,
        "is held": bool(n.held(w, (0, -1), None)),
    }
    if n.st is not None:
        found |= {
            "next": _in_order(n.st.next),
            "evicted": n.st.evicted,
            "records": {k: (value, ver) for k, (ver, value) in enumerate(n.st.recs) if value is not None},
            "ids": {opid: rank for opid, rank, _ in n.st.ids},
        }
    return found
