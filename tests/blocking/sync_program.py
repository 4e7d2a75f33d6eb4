"""``python sync_program.py PORT ANOTHER``: all that a sync socket does, between two of them."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from chordtx import Stopped
from chordtx.blocking import Protocol, SyncSocket


def raises(kind: type[BaseException], work: Callable[[], Any]) -> None:
    """Fail unless ``work`` raises ``kind``."""
    try:
        result = work()
    except kind:
        return
    raise AssertionError(f"{result!r}, and no {kind.__name__}")


def until(is_so: Callable[[], Any]) -> None:
    """Wait until ``is_so()`` holds."""
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)


def main(port: int, another: int) -> None:
    first = SyncSocket("127.0.0.1", port)
    second = SyncSocket("127.0.0.1", another, Protocol("sync", "Plaintext"))
    assert first.protocol == ("sync", "Plaintext")
    heard: list[tuple[Any, ...]] = []
    deleted = threading.Event()

    @second.on("update")
    def updated(sock: SyncSocket, key: bytes, value: Any, meta: Any) -> None:
        assert sock is second
        heard.append((key, sock.get(key, value), value, meta.owner))

    @second.once("delete")
    def gone(sock: SyncSocket, key: bytes) -> None:
        heard.append((key,))
        deleted.set()

    second.connect("127.0.0.1", port)
    first["test key"] = "value"
    first[b"\xff"] = {"a": [1, None, b"x"]}
    until(lambda: second.get("test key") == "value" and b"\xff" in second)
    assert second[b"test key"] == "value"
    assert dict(second.items()) == second.copy() == second.data
    assert len(second) == 2
    assert sorted(second) == sorted(second.keys()) == [b"test key", b"\xff"]
    assert second.metadata[b"test key"].owner == first.id
    raises(KeyError, lambda: second.set("test key", "not yours"))
    raises(KeyError, lambda: second.__delitem__("test key"))
    raises(KeyError, lambda: second["nothing"])
    raises(TypeError, lambda: first.set("key", object()))
    raises(TypeError, lambda: first.apply_delta("test key", {"a": 1}))
    assert first.apply_delta(b"\xff", {"b": 2}) == {"a": [1, None, b"x"], "b": 2}
    del first["test key"]
    assert deleted.wait(20)
    second["test key"] = "free again"
    until(lambda: first.get("test key") == "free again")
    assert second.pop("test key") == "free again"
    until(lambda: "test key" not in first)
    assert first.popitem()[0] == b"\xff"
    until(lambda: len(heard) == 5)
    value = {"a": [1, None, b"x"]}
    assert heard[0] == (b"test key", "value", "value", first.id)
    assert heard[1][0] == b"\xff"
    assert heard[1][2:] == (value, first.id)
    assert heard[3] == (b"test key",)

    with SyncSocket("127.0.0.1", 0, Protocol("free", "Plaintext"), leasing=False) as alone:
        alone.update({"a": 1, "b": 2})
        assert alone.data == {b"a": 1, b"b": 2}
        assert (alone.status["id"], alone.status["records"], alone.status["peers"]) == (alone.id, 2, [])
    raises(Stopped, lambda: alone.get("a"))
    first.close()
    second.close()
    print("done")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
