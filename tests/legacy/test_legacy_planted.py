"""Faults planted in what is kept for legacy peers, each with a schedule that is to find it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from chordtx.legacy.entries import Place, Pointers
from chordtx.legacy.pointers import PointerTeller
from tests.legacy import test_legacy_scripted as scripted

Patch = pytest.MonkeyPatch


def some_pointers_are_forgotten(patch: Patch) -> None:
    """Of the keys that lie at a host's positions, it knows one in two."""
    add = Pointers.add

    def added(self: Pointers, places: Iterable[Place], key: bytes) -> None:
        if key[-1] % 2:
            add(self, places, key)

    patch.setattr(Pointers, "add", added)


def what_lies_elsewhere_is_not_told_anew(patch: Patch) -> None:
    """A host whose arc has grown counts as told."""
    tell = PointerTeller._tell_what_is_due

    async def told(self: PointerTeller, arcs: Any) -> None:
        if not any(self._told.values()):
            await tell(self, arcs)

    patch.setattr(PointerTeller, "_tell_what_is_due", told)


def changes_are_not_told(patch: Patch) -> None:
    """Of keys that come later no host hears."""
    patch.setattr(PointerTeller, "key_changed", lambda self, key, is_gone: None)


@pytest.mark.parametrize(
    ("plant", "schedule"),
    [
        (some_pointers_are_forgotten, lambda: scripted.test_hosts_change_as_nodes_join_and_leave(0)),
        (what_lies_elsewhere_is_not_told_anew, lambda: scripted.test_hosts_change_as_nodes_join_and_leave(0)),
        (changes_are_not_told, scripted.test_a_legacy_peer_deletes_and_writes_fields),
    ],
)
def test_a_planted_fault_is_found(
    plant: Callable[[Patch], None], schedule: Callable[[], None], monkeypatch: Patch
) -> None:
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        schedule()
