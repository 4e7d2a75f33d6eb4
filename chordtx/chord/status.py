"""What operators see of a node's place in the ring."""

from __future__ import annotations

from chordtx.chord.hosting import Hosting
from chordtx.chord.ring_identity import RingIdentity
from chordtx.mesh import Address
from chordtx.ring import Contact, RingNode


def status_of_ring(ring: RingNode) -> dict[str, object]:
    """A node's place in the ring, fit for JSON: ``next``, ``prev``, ``successors`` and ``arc``."""
    arc = None
    if ring.predecessor is not None:
        arc = [f"{ring.predecessor.id:096x}", f"{ring.me.id:096x}"]
    return {
        "next": _named(ring.successor),
        "prev": _named(ring.predecessor),
        "successors": [_named(contact) for contact in ring.successors],
        "arc": arc,
    }


def status_of_groups(identity: RingIdentity | None, hosting: Hosting | None) -> dict[str, object]:
    """What a node keeps, fit for JSON.

    ``groups`` that it has records of, and ``filling`` ones that it has none of yet; of how many it ``leads``,
    and of how many of those the members are ``changing``; in how many nobody leads as far as it knows
    (``leaderless``); and ``epoch``: how often the members of some group have changed at most.
    """
    if identity is None:
        return {"ring": None}
    told = {"ring": identity.text, "partitions": identity.partitions, "replicas": identity.replicas}
    if hosting is None:
        nothing = ("groups", "filling", "leads", "changing", "leaderless", "epoch", "records", "bytes")
        return {**told, **dict.fromkeys(nothing, 0)}
    groups = [each for each in hosting.groups.groups.values() if hosting.me.id in each.configuration.ids]
    states = [group.replica.state for group in groups if group.replica.state is not None]
    return {
        **told,
        "groups": len(states),
        "filling": len(groups) - len(states),
        "leads": len(hosting.leads),
        "changing": sum(group.is_changing for group in groups),
        "leaderless": sum(group.leader is None and group.who_leads() is None for group in groups),
        "epoch": max((group.configuration.epoch.number for group in groups), default=0),
        "records": sum(len(state.records) for state in states),
        "bytes": hosting.groups.bytes_used,
    }


def _named(contact: Contact | None) -> str | None:
    return None if contact is None else str(Address(contact.host, contact.port))
