"""What operators see of a node's place in the ring."""

from __future__ import annotations

from typing import Any

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


def _named(contact: Contact | None) -> str | None:
    return None if contact is None else str(Address(contact.host, contact.port))
