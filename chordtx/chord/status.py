"""What operators see of a node's place in the ring."""

from __future__ import annotations

from typing import Any

from chordtx.chord.hosting import Hosting
from chordtx.chord.ring_identity import RingIdentity
from chordtx.mesh import Address
from chordtx.ring import Contact, RingNode


def status_of_ring(ring: RingNode) -> dict[str, Any]:
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


def status_of_groups(identity: RingIdentity | None, hosting: Hosting | None) -> dict[str, Any]:
    """What a node keeps, fit for JSON."""
    if identity is None:
        return {"ring": None}
    told = {"ring": identity.text, "partitions": identity.partitions, "replicas": identity.replicas}
    if hosting is None:
        return {**told, "groups": 0, "leads": 0, "records": 0, "bytes": 0}
    states = [group.replica.state for group in hosting.groups.groups.values() if group.replica.state]
    return {
        **told,
        "groups": len(states),
        "leads": len(hosting.leads),
        "records": sum(len(state.records) for state in states),
        "bytes": hosting.groups.bytes_used,
    }


def _named(contact: Contact | None) -> str | None:
    return None if contact is None else str(Address(contact.host, contact.port))
