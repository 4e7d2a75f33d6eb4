"""Successor lists: the first members that the walk meets after a node, as far as it knows.

A list is a tuple of contacts that holds no member twice, stands in the order of the walk, never names
its owner, and is no longer than it may be. Both functions give such lists whatever they are given.
"""

from __future__ import annotations

from collections.abc import Iterable

from chordtx.ring.contact import Contact
from chordtx.ring.space import distance

Successors = tuple[Contact, ...]


def chain(me: int, contacts: Iterable[Contact], length: int) -> tuple[Successors, bool]:
    """The beginning of ``contacts`` that is a successor list of ``me``.

    It ends where the walk would come to ``me`` again: a ring no larger than the list is listed whole.

    :param me: id of the list's owner.
    :param contacts: in the order of the walk, as a node names itself and its own list.
    :param length: of the list, at most.
    :returns: the list, and whether the walk came round within ``contacts``, so that the list is everyone.
    """
    kept: list[Contact] = []
    reached = 0
    for contact in contacts:
        ahead = distance(me, contact.id)
        if ahead <= reached:
            return tuple(kept), True
        if len(kept) == length:
            break
        kept.append(contact)
        reached = ahead
    return tuple(kept), False


def merged(me: int, contacts: Iterable[Contact], length: int) -> Successors:
    """The first ``length`` of ``contacts``, whichever order they come in; of two with one id the first
    counts."""
    by_distance: dict[int, Contact] = {}
    for contact in contacts:
        if contact.id != me:
            by_distance.setdefault(distance(me, contact.id), contact)
    return tuple(by_distance[ahead] for ahead in sorted(by_distance)[:length])
