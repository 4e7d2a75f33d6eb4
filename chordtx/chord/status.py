"""What operators see of one node."""

from __future__ import annotations

from typing import Any

from chordtx.mesh import Address, Dialect, MeshConnection
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


def status_of_link(link: MeshConnection) -> dict[str, Any]:
    """An open link, fit for JSON."""
    return {
        "id": link.id,
        "address": str(link.address),
        "kind": kind_of(link),
        "leeching": link.leeching,
        "outgoing": link.outgoing,
        "round_trip_ms": round(link.roundtrip.mean_seconds * 1000, 3) if link.ours else None,
    }


def kind_of(link: MeshConnection) -> str:
    """What the peer is: ``chordtx``, or an old peer by the dialect that it speaks."""
    if link.ours:
        return "chordtx"
    return "py2p" if link.dialect is Dialect.BIN else "js2p"


def _named(contact: Contact | None) -> str | None:
    return None if contact is None else str(Address(contact.host, contact.port))
