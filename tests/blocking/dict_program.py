"""``python dict_program.py PORT OWN_PORT ANOTHER_PORT``: all that a chord socket does; a ring is on PORT."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from chordtx import Stopped, ValueTooLarge
from chordtx.blocking import ChordSocket, bridge


def raises(kind: type[BaseException], work: Callable[[], Any]) -> None:
    """Fail unless ``work`` raises ``kind``."""
    try:
        result = work()
    except kind:
        return
    raise AssertionError(f"{result!r}, and no {kind.__name__}")


def eventually(is_so: Callable[[], bool]) -> None:
    """Fail unless it comes to be so."""
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def main(port: int, own_port: int, another_port: int) -> None:
    sock = ChordSocket("127.0.0.1", own_port)
    assert sock.leeching
    assert sock.protocol == ("chord", "Plaintext")
    assert sock.out_addr == ("127.0.0.1", own_port)
    sock.connect("127.0.0.1", port)
    sock["before"] = "it stores"
    sock.join()
    assert not sock.leeching
    assert sock.next is not None
    assert sock.prev is not None
    eventually(lambda: len(sock.routing_table) == 5)

    assert sock["before"] == "it stores"
    raises(KeyError, lambda: sock["nothing"])
    raises(KeyError, lambda: sock.__delitem__("nothing"))
    raises(KeyError, lambda: sock.pop("nothing"))
    raises(TypeError, lambda: sock[3])
    raises(TypeError, lambda: sock.set("key", object()))
    raises(TypeError, lambda: sock.apply_delta("before", {"a": 1}))
    raises(ValueTooLarge, lambda: sock.set("key", b"x" * (9 << 20)))
    assert sock.get("nothing") is None
    assert sock.get("nothing", ifError=1) == 1
    assert "before" in sock
    assert "nothing" not in sock

    many = {b"%d" % number: number for number in range(700)}
    sock.update(many)
    assert sock.get_many([b"1", b"2", "nothing"]) == {b"1": 1, b"2": 2}
    expected = {**many, b"before": "it stores"}
    assert len(sock) == len(expected)
    assert sorted(sock) == sorted(sock.keys()) == sorted(expected)
    assert dict(sock.items()) == sock.copy() == expected
    assert sorted(map(str, sock.values())) == sorted(map(str, expected.values()))
    for key in sock.keys():  # not to its end
        assert key in expected
        break
    thrown_away_under_a_lock(sock)
    assert sock.apply_delta("map", {"a": 1}) == {"a": 1}
    assert sock.apply_delta("map", {"b": 2}) == {"a": 1, "b": 2}
    assert sock.pop("map") == {"a": 1, "b": 2}
    assert sock.pop("map", "gone") == "gone"
    key, value = sock.popitem()
    assert expected.pop(key) == value
    sock["for a while"] = 1
    sock.set("for a while", None)
    assert "for a while" not in sock

    threads_at_once(sock)
    listeners_may_ask(sock)

    sock.unjoin()
    assert sock.leeching
    assert sock["before"] == "it stores"
    sock.close()
    raises(Stopped, lambda: sock["before"])

    with ChordSocket("127.0.0.1", another_port) as alone:
        alone.join()  # a ring of its own
        alone["key"] = "value"
        assert alone["key"] == "value"
    print("done")


def thrown_away_under_a_lock(sock: ChordSocket) -> None:
    """A half-read iterator may go while its thread holds what the reactor's thread waits for."""
    ours, theirs = threading.Lock(), threading.Event()

    def wait_for_it() -> None:
        with ours:
            theirs.set()

    iterator = iter(sock.keys())
    next(iterator)
    with ours:
        bridge.reactor().callFromThread(wait_for_it)
        del iterator
    assert theirs.wait(20)


def threads_at_once(sock: ChordSocket) -> None:
    failures: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for number in range(20):
                sock[f"{name} {number}"] = number
                assert sock[f"{name} {number}"] == number
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(f"thread {number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def listeners_may_ask(sock: ChordSocket) -> None:
    heard: list[tuple[str, bytes, Any]] = []
    told = threading.Semaphore(0)

    @sock.on("add")
    def added(conn: ChordSocket, key: bytes) -> None:
        if key == b"new":  # others that were added just before may be told yet
            heard.append(("add", key, conn[key]))
            told.release()

    @sock.once("delete")
    def deleted(conn: ChordSocket, key: bytes) -> None:
        heard.append(("delete", key, conn.get(key)))
        told.release()

    sock["new"] = 1
    assert told.acquire(timeout=20)
    del sock["new"]
    assert told.acquire(timeout=20)
    assert heard == [("add", b"new", 1), ("delete", b"new", None)]
    sock.remove_listener("add", added)
    raises(KeyError, lambda: sock.remove_listener("add", added))
    sock.on("add", added)
    sock.on("add", added)
    sock.remove_listener("add", added)
    raises(KeyError, lambda: sock.remove_listener("add", added))
    assert not sock._service._has_listeners("add")
    raises(TypeError, lambda: sock.on("add", 3))
    raises(ValueError, lambda: sock.on("ad", added))
    raises(ValueError, lambda: sock.once("ad"))

    async def awaited(conn: ChordSocket, key: bytes) -> None:
        pass

    raises(TypeError, lambda: sock.on("add", awaited))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
