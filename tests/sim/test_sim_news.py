"""What may be heard of keys that come and go, and what has to be."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from chordtx.sim.history import Kind, Operation
from chordtx.sim.news import News

KEY, BRIEF = b"key", b"brief 1"


class Service:
    """Somebody listens there. :ivar ready: fires when it misses nothing from then on."""

    def __init__(self) -> None:
        self.listeners: dict[str, Any] = {}
        self.ready: Deferred[None] = Deferred()

    def on(self, event: str, listener: Any) -> None:
        self.listeners[event] = listener

    def when_hearing(self) -> Deferred[None]:
        return self.ready

    def tell(self, key: bytes, *, is_gone: bool = False) -> None:
        self.listeners["delete" if is_gone else "add"](self, key)


class Ring:
    """A listener. :ivar now: the time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.news = News(lambda: self.now, lambda _: None)
        self.service = Service()
        self.news.listen("host", self.service)

    def ready(self, at: float) -> None:
        self.now = at
        self.service.ready.callback(None)

    def hears(self, at: float, *, is_gone: bool = False) -> None:
        self.now = at
        self.service.tell(KEY, is_gone=is_gone)

    def reset(self, at: float) -> None:
        self.now = at
        self.service.listeners["reset"](self.service)

    def missed(self, *operations: Operation, is_there: bool, without: object = None) -> list[str]:
        present = {KEY} if is_there else set()
        return self.news.missed(operations, present, lambda service: service is not without)


def deletion(value: object = True) -> Operation:
    return Operation("client", Kind.DELETE, KEY, value, 0.0)


def written(at: float = 0.0, *, is_answered: bool = True) -> Operation:
    operation = Operation("client", Kind.SET, KEY, 1, at)
    if is_answered:
        operation.ended_at = at + 1.0
    return operation


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


def test_what_is_heard_last_is_so() -> None:
    ring = Ring()
    ring.hears(20.0)
    assert ring.missed(written(), is_there=True) == []
    untrue = ["host hears last that b'key' came, which is not so"]
    assert ring.missed(written(), is_there=False) == untrue
    assert ring.missed(written(), is_there=False, without=ring.service) == []
    ring.hears(21.0, is_gone=True)
    assert ring.missed(written(), is_there=False) == []
    assert ring.missed(written(), is_there=True) == ["host hears last that b'key' went, which is not so"]


def test_what_comes_later_than_who_listens_is_heard() -> None:
    ring = Ring()
    ring.ready(5.0)
    nothing = ["host hears nothing of b'key'"]
    assert ring.missed(written(6.0), is_there=True) == nothing
    assert ring.missed(written(6.0), is_there=False) == nothing  # it came, and went
    assert ring.missed(written(6.0, is_answered=False), is_there=True) == nothing
    assert ring.missed(written(6.0, is_answered=False), is_there=False) == []
    assert ring.missed(written(4.0), written(6.0), is_there=True) == []


def test_who_was_told_of_a_reset_may_have_missed_what_was_before() -> None:
    ring = Ring()
    ring.ready(5.0)
    ring.hears(20.0)
    ring.reset(30.0)
    assert ring.missed(written(6.0), is_there=False) == []
    ring.hears(31.0)
    assert len(ring.missed(written(6.0), is_there=False)) == 1
    ring.reset(40.0)
    assert len(ring.missed(written(41.0), is_there=True)) == 1
