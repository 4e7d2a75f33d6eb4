"""Who is sent from one node to the next: none of them leads, and each names another one."""

from __future__ import annotations

from collections.abc import Callable, Container, Coroutine
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater

from chordtx.chord.client import GroupClient, _Asking
from chordtx.chord.leaders import node_id_of
from chordtx.errors import NoMajority, NotJoined
from chordtx.group import operations
from chordtx.group.messages import NOT_LEADER
from chordtx.mesh.calls import Asker
from chordtx.ring import Contact

SECONDS = 10.0
CIRCLE = [Contact(id, f"10.0.0.{id}", 4000) for id in (1, 2, 3)]
#: A pause of at most 0.4 s follows after each of the circle was asked once; the first ones are shorter.
ASKED_MAX = 200


class Circle:
    """Nodes that follow one another, and what a client needs to ask them."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.asked = 0
        self._known: dict[int, Contact] = {}
        self._client = GroupClient(self, self, bytes(16), SECONDS, 1000)  # type: ignore[arg-type]

    def get(self) -> list[Any]:
        """What comes of a get within a long time."""
        came: list[Any] = []
        self._client.do(0, operations.GET, b"key", ()).addBoth(came.append)
        for _ in range(round(2 * SECONDS / 0.001)):
            self.clock.advance(0.001)
        return came

    # As a node

    def ask(self, asker: Asker, contact: Contact, method: str, arguments: tuple[object, ...]) -> None:
        self.asked += 1
        named = CIRCLE[(CIRCLE.index(contact) + 1) % len(CIRCLE)]
        self.clock.callLater(0.001, asker.answered, contact, [NOT_LEADER, node_id_of(named.id)])

    def hosting(self) -> None:
        return None

    def own_id(self) -> int:
        return 0

    def seconds(self) -> float:
        return self.clock.seconds()

    def sleep(self, seconds: float) -> Deferred[None]:
        return deferLater(self.clock, seconds, lambda: None)

    def background(self, work: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        return Deferred.fromCoroutine(work)

    def random(self) -> float:
        return 0.5

    # As what is known of leaders

    def known(self, partition: int) -> Contact | None:
        return self._known.get(partition)

    def learned(self, partition: int, leader: Contact) -> None:
        self._known[partition] = leader

    def forget(self, partition: int, leader: Contact) -> None:
        self._known.pop(partition, None)

    async def contact(self, id: bytes) -> Contact:
        return CIRCLE[int.from_bytes(id, "big") - 1]

    async def find(self, partition: int, without: Container[int]) -> Contact:
        for contact in CIRCLE:
            if contact.id not in without:
                return contact
        raise NotJoined("all were asked")


def test_it_asks_each_once_and_then_pauses_until_its_time_is_over() -> None:
    circle = Circle()
    (came,) = circle.get()
    assert isinstance(came.value, NoMajority)
    assert circle.asked < ASKED_MAX


def test_who_goes_wherever_it_is_sent_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted fault: or the test above would say nothing."""
    redirected: Callable[..., None] = _Asking._redirected

    def everywhere(self: _Asking, peer: Contact, leader: object) -> None:
        self._asked.clear()
        redirected(self, peer, leader)

    monkeypatch.setattr(_Asking, "_redirected", everywhere)
    circle = Circle()
    assert circle.get() == []
    assert circle.asked > ASKED_MAX
