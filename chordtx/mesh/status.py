"""What operators see of links."""

from __future__ import annotations

from typing import Any

from chordtx.mesh.connection import MeshConnection
from chordtx.mesh.handshake import Dialect


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
    """What the peer is: ``chordtx``, or a legacy peer by the dialect that it speaks."""
    if link.ours:
        return "chordtx"
    return "py2p" if link.dialect is Dialect.BIN else "js2p"
