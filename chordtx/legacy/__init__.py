"""py2p and js2p nodes as members of a ring of ours.

They hold no copy of any group. Each position has a *host*: the node of ours that would own it without them.
Leaders tell hosts which keys lie at their positions (*pointers*). Hosts answer legacy peers from the groups,
keep the tables of legacy peers in step, and turn what legacy peers store into operations on groups. While no
legacy peer is known, nothing of this runs.
"""

from chordtx.legacy.peers import LEGACY_CLIENT, LegacyPeers

__all__ = ["LEGACY_CLIENT", "LegacyPeers"]
