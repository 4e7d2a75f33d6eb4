"""What may be heard of keys that come and go, and what has to be."""

from __future__ import annotations

from typing import Any

from chordtx.sim.history import Kind, Operation
from chordtx.sim.news import News

KEY, BRIEF = b"key", b"brief 1"


class Service:
    """Somebody listens there."""

    def __init__(self) -> None:
        self.listeners: dict[str, Any] = {}

    def on(self, event: str, listener: Any) -> None:
        self.listeners[event] = listener

    def tell(self, key: bytes, *, is_gone: bool = False) -> None:
        self.listeners["delete" if is_gone else "add"](self, key)


class Ring:
    """A listener, and who announces. :ivar now: the time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.news = News(lambda: self.now, lambda _: None)
        self.service, self.leader = Service(), object()
        self.news.listen("host", self.service)

    def announce(self, at: float, *, is_gone: bool = False) -> None:
        self.now = at
        self.news.announced(self.leader, int(at), [[KEY, int(is_gone)]])

    def missed(self, at: float = 200.0, without: object = None) -> list[str]:
        self.now = at
        return self.news.missed(lambda service: service is not without)


def deletion(value: object = True) -> Operation:
    return Operation("client", Kind.DELETE, KEY, value, 0.0)


def written() -> Operation:
    return Operation("client", Kind.SET, KEY, 1, 0.0)


def test_a_key_comes_once_more_than_it_was_deleted() -> None:
    ring = Ring()
    ring.service.tell(KEY)
    assert ring.news.untrue([written()]) == []
    ring.service.tell(KEY)
    assert ring.news.untrue([written()]) == ["host hears 2 times that b'key' came"]
    assert ring.news.untrue([written(), deletion(value=False)]) == ["host hears 2 times that b'key' came"]
    assert ring.news.untrue([written(), deletion()]) == []


def test_a_key_goes_as_often_as_it_was_deleted() -> None:
    ring = Ring()
    ring.service.tell(KEY, is_gone=True)
    assert ring.news.untrue([written()]) == ["host hears 1 times that b'key' went"]
    assert ring.news.untrue([written(), deletion(value=None)]) == []


def test_what_expires_comes_and_goes_once() -> None:
    ring = Ring()
    for is_gone in (False, True):
        ring.service.tell(BRIEF, is_gone=is_gone)
    assert ring.news.untrue([]) == []
    ring.service.tell(BRIEF, is_gone=True)
    assert ring.news.untrue([]) == ["host hears 2 times that b'brief 1' went"]


def test_what_is_announced_is_heard() -> None:
    ring = Ring()
    ring.announce(20.0)
    assert len(ring.missed()) == 1
    ring.service.tell(KEY)
    assert ring.missed() == []
    ring.announce(21.5, is_gone=True)
    ring.announce(23.0)
    assert len(ring.missed()) == 2


def test_the_same_in_the_same_second_is_heard_once() -> None:
    ring = Ring()
    ring.announce(20.1)
    ring.announce(20.9)
    ring.service.tell(KEY)
    assert ring.missed() == []


def test_nobody_has_to_hear_of_what_is_too_new_or_too_old_or_of_who_is_gone() -> None:
    ring = Ring()
    ring.announce(1.0)  # nobody knew yet that somebody listens
    assert ring.missed() == []
    ring.announce(100.0)
    assert ring.missed(at=110.0) == []
    assert ring.missed(without=ring.leader) == []
    assert ring.missed(without=ring.service) == []
    assert len(ring.missed()) == 1
