"""``python exact_program.py PORT OWN_PORT``: threads that change one key at once; a ring is on PORT."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from chordtx import ABSENT, Conflict, Event, LockLost
from chordtx.blocking import ChordSocket, bridge

E = TypeVar("E", bound=BaseException)
THREADS = 10
TIMES = 10


def raises(kind: type[E], work: Callable[[], Any]) -> E:
    """Fail unless ``work`` raises ``kind``. :returns: what it raises."""
    try:
        result = work()
    except kind as error:
        return error
    raise AssertionError(f"{result!r}, and no {kind.__name__}")


def main(port: int, own_port: int) -> None:
    with ChordSocket("127.0.0.1", own_port) as sock:
        sock.connect("127.0.0.1", port)
        by_version(sock)
        numbers(sock)
        modified(sock)
        counted_by_threads(sock)
        prefixes(sock)
        locked(sock)
        locked_by_threads(sock)
        interrupted(sock)
        watched(sock)
    print("done")


def by_version(sock: ChordSocket) -> None:
    raises(KeyError, lambda: sock.entry("key"))
    first = sock.compare_and_set("key", [1], ABSENT)
    raises(Conflict, lambda: sock.compare_and_set("key", [2], ABSENT))
    entry = sock.entry("key")
    assert (entry.key, entry.value, entry.version, entry.expires) == (b"key", [1], first, None)
    second = sock.compare_and_set("key", [2], first, ttl=1000)
    assert sock.entry("key").expires is not None
    raises(Conflict, lambda: sock.compare_and_set("key", [3], first))
    raises(Conflict, lambda: sock.delete("key", first))
    raises(ValueError, lambda: sock.delete("key", "no version"))
    raises(TypeError, lambda: sock.compare_and_set("key", [3], None))
    assert sock["key"] == [2]
    sock.delete("key", second)
    raises(KeyError, lambda: sock.delete("key"))
    assert raises(Conflict, lambda: sock.compare_and_set("key", [3], second)).version is ABSENT


def numbers(sock: ChordSocket) -> None:
    assert sock.increment("number") == 1
    assert sock.increment("number", -5) == -4
    assert sock.increment("number", 0.5) == -3.5
    sock["text"] = "5"
    raises(TypeError, lambda: sock.increment("text"))
    raises(TypeError, lambda: sock.increment("number", True))
    raises(OverflowError, lambda: sock.increment("number", 1 << 64))
    sock.touch("number", 1000)
    assert sock.entry("number").expires is not None
    sock.touch("number")
    assert sock.entry("number").expires is None
    raises(KeyError, lambda: sock.touch("nothing"))


def modified(sock: ChordSocket) -> None:
    callers: list[threading.Thread] = []

    def appended(value: list[int]) -> list[int]:
        callers.append(threading.current_thread())
        if len(callers) == 1:  # somebody comes between, and the function may ask
            sock["list"] = [*sock.get("list", []), 5]
        return [*value, 7]

    assert sock.modify("list", appended, default=[], ttl=1000) == [5, 7]
    assert callers == [threading.current_thread()] * 2
    expires = sock.entry("list").expires
    assert expires is not None
    assert sock.modify("list", lambda value: (*value, 8)) == [5, 7, 8]  # as it is stored
    assert sock.entry("list").expires == expires
    raises(ZeroDivisionError, lambda: sock.modify("list", lambda value: 1 / 0))
    raises(TypeError, lambda: sock.modify("list", 5))  # type: ignore[arg-type]
    raises(TypeError, lambda: sock.modify("list", lambda value: object()))
    assert sock["list"] == [5, 7, 8]
    assert sock.modify("list", lambda value: None) is None
    assert sock.modify("list", lambda value: value) is None
    assert "list" not in sock


def in_threads(work: Callable[[], None]) -> None:
    """Call ``work`` in ten threads at once; what one of them raises is raised."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def counted_by_threads(sock: ChordSocket) -> None:
    def count() -> None:
        for _ in range(TIMES):
            sock.increment("incremented")
            sock.modify("modified", lambda value: value + 1, default=0)

    in_threads(count)
    assert sock["incremented"] == sock["modified"] == THREADS * TIMES


def prefixes(sock: ChordSocket) -> None:
    sock.update({"p:1": 1, "p:2": 2, "q": 3})
    assert sorted(sock.keys("p:")) == [b"p:1", b"p:2"]
    assert sorted(sock.values(prefix=b"p:")) == [1, 2]
    assert dict(sock.items("q")) == {b"q": 3}
    raises(TypeError, lambda: sock.keys(5))  # type: ignore[arg-type]


def locked(sock: ChordSocket) -> None:
    with sock.lock("lock", ttl=30) as lock:
        assert lock.is_held
        other = sock.lock("lock")
        assert not other.acquire(wait=False)
        assert not other.acquire(timeout=0)
        assert not other.acquire(timeout=0.2)
        raises(RuntimeError, other.release)
        raises(RuntimeError, lock.acquire)
    assert not lock.is_held
    assert other.acquire(timeout=30)
    assert other.token > lock.token > 0
    other.release()
    sock["lock:taken"] = "text"
    raises(TypeError, lambda: sock.lock("taken").acquire())
    raises(ValueError, lambda: sock.lock("lock", ttl=0))

    def fails() -> None:
        with sock.lock("lock"):
            raise ZeroDivisionError

    raises(ZeroDivisionError, fails)
    assert sock.lock("lock").acquire(wait=False)

    def loses() -> None:
        with sock.lock("lost") as lock:
            tokens.append(lock.token)
            del sock["lock:lost"]

    tokens: list[int] = []
    assert raises(LockLost, loses).token == tokens[0]


def locked_by_threads(sock: ChordSocket) -> None:
    inside: list[int] = []
    tokens: list[int] = []

    def work() -> None:
        with sock.lock("threads") as lock:
            inside.append(lock.token)
            tokens.append(lock.token)
            sock["shared"] = sock.get("shared", 0) + 1
            assert inside == [lock.token]
            inside.clear()

    in_threads(work)
    assert sock["shared"] == THREADS
    assert tokens == sorted(set(tokens))


def interrupted(sock: ChordSocket) -> None:
    """Ctrl-C in the moment when there is a result."""

    def call(*arguments: Any) -> Any:
        as_ever(*arguments)
        raise KeyboardInterrupt

    as_ever = bridge.call
    with sock.watch("i") as watch:
        sock["i"] = 1
        first, second = sock.lock("i"), sock.lock("i")
        bridge.call = call
        try:
            raises(KeyboardInterrupt, first.acquire)
            raises(KeyboardInterrupt, lambda: next(watch))
        finally:
            bridge.call = as_ever
        assert next(watch).value == 1
    assert second.acquire(timeout=30)
    second.release()


def watched(sock: ChordSocket) -> None:
    with sock.watch(prefix="w:") as watch:
        sock["w:1"] = 1
        added = next(watch)
        assert added == Event("add", b"w:1", 1, sock.entry("w:1").version)
        sock["other"] = 2
        del sock["w:1"]
        gone = next(watch)
        assert (gone.kind, gone.key, gone.value) == ("delete", b"w:1", None)
    assert list(watch) == []

    watch = sock.watch("w:1")
    read: list[Any] = []
    reader = threading.Thread(target=lambda: read.extend(watch))
    reader.start()
    watch.close()  # wakes who waits
    reader.join()
    assert read == []

    sock["w:2"] = 1
    version = sock.entry("w:2").version
    sock["w:2"] = 2
    event = next(sock.watch("w:2", since=version))
    assert (event.kind, event.value) == ("update", 2)
    # That one was thrown away without being closed.
    assert bridge.call(lambda: len(sock._service._watches._all)) == 0
    raises(ValueError, lambda: sock.watch("w:2", prefix="w:"))
    raises(ValueError, lambda: sock.watch(since=version))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
