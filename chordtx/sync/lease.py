"""Who may change a key where keys are leased, and which of two holders all nodes settle on. Pure.

Source: the p2p-project 0.7 protocol, "Sync". Its rule alone does not make nodes agree: it depends on the
order in which two holders are met. So a lease has a *term*, and leases have an order that every node works
out alike: a later term wins, within a term who began first, within a second the smaller id (as text, for the
published peers decide so).
"""

from __future__ import annotations

from attrs import frozen

#: How long nobody else may change a key, from its last change: the published peers' hour.
LEASE_SECONDS = 3600


@frozen
class Lease:
    """One node's hold on one key, from when it takes the key to when it deletes it or the time runs out.

    :ivar term: 1 for the key's first holder; one more for who takes it when it is free again.
    :ivar began: when it was taken: whole seconds, UTC. :ivar owner: the holder's id, base58.
    """

    term: int
    began: int
    owner: bytes

    def beats(self, other: Lease) -> bool:
        """Whether this one stands when both are met."""
        return (-self.term, self.began, self.owner) < (-other.term, other.began, other.owner)


#: For all keys of a network without leases.
NO_LEASE = Lease(0, 0, b"")
