"""Addresses to find the network again by: bounded; those that once answered are kept apart. Pure."""

from __future__ import annotations

from random import Random

from chordtx.mesh.address import Address


class KnownPeers:
    """Addresses of peers.

    :param count_max: most that are kept of each kind: those we had a link to, and those we were told of.
    """

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._met: dict[Address, None] = {}
        self._named: dict[Address, None] = {}

    def met(self, address: Address) -> None:
        """There is a link to whoever is reached there."""
        self._named.pop(address, None)
        self._keep(self._met, address)

    def named(self, address: Address) -> None:
        """Somebody says that there is a peer: which anybody can say of any address."""
        if address not in self._met:
            self._keep(self._named, address)

    def those_met(self) -> list[Address]:
        """Those that once answered, the latest last."""
        return list(self._met)

    def choose(self, count: int, rng: Random) -> list[Address]:
        """Up to ``count`` of them, in another order each time; those met come first."""
        chosen: list[Address] = []
        for kind in (self._met, self._named):
            chosen += rng.sample(list(kind), min(count - len(chosen), len(kind)))
        return chosen

    def _keep(self, kind: dict[Address, None], address: Address) -> None:
        if not address.reachable:
            return
        kind.pop(address, None)
        kind[address] = None
        if len(kind) > self._count_max:
            del kind[next(iter(kind))]
