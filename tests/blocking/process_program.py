"""``python process_program.py SCENARIO PORT``: sockets, and what the process that they are in does."""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from twisted.logger import Logger, globalLogPublisher

from chordtx import Stopped
from chordtx.blocking import ChordSocket, MeshSocket, Protocol, SyncSocket

HOST = "127.0.0.1"
SOON_SECONDS = 5.0


def error_of(work: Callable[[], Any]) -> BaseException | None:
    try:
        work()
    except BaseException as error:
        return error
    return None


def ring_of_one(name: str) -> ChordSocket:
    sock = ChordSocket(HOST, 0, Protocol(name))
    sock.join()
    return sock


@contextmanager
def standard_error() -> Iterator[io.StringIO]:
    kept, sys.stderr = sys.stderr, io.StringIO()
    try:
        yield sys.stderr
    finally:
        sys.stderr = kept


# The log


def log() -> None:
    """Lines come once, and as long as somebody wants them."""
    MeshSocket(HOST, 0).close()
    observers = len(globalLogPublisher._observers)  # with that of crochet, which comes with the first socket
    log = Logger("tests")
    with standard_error() as written:
        warns, informs = MeshSocket(HOST, 0, debug_level=1), MeshSocket(HOST, 0, debug_level=2)
        silent = SyncSocket(HOST, 0, debug_level=0)
        log.info("all are open")
        informs.close()
        log.info("informs is closed")
        log.warn("warns is open")
        warns.close()
        warns.close()
        log.warn("only silent is open")
        silent.close()
        assert isinstance(error_of(lambda: MeshSocket(HOST, 70000, debug_level=3)), ValueError)
        log.debug("one was not even opened")
        lines = Counter(line.partition("] ")[2] for line in written.getvalue().splitlines())
    assert lines["all are open"] == lines["warns is open"] == 1, lines
    assert not {"informs is closed", "only silent is open", "one was not even opened"} & set(lines), lines
    assert len(globalLogPublisher._observers) == observers

    with standard_error() as gone:
        sockets = [MeshSocket(HOST, 0, debug_level=3) for _ in range(5)]
        gone.close()
        began = time.monotonic()
        for number in range(200):
            log.warn("nobody can read this: {number}", number=number)
        for sock in sockets:
            sock.close()
        assert time.monotonic() - began < SOON_SECONDS
    assert len(globalLogPublisher._observers) == observers
    print("done")


# Forks


def fork() -> None:
    """In the child everything fails at once; in the parent it goes on."""
    with ring_of_one("fork") as sock, MeshSocket(HOST, 0, debug_level=1):
        observers = len(globalLogPublisher._observers)
        sock["key"] = "value"
        half_read = sock.keys()
        assert next(half_read) == b"key"
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            with sock:
                errors = [
                    error_of(lambda: sock["key"]),
                    error_of(lambda: sock.set("key", 1)),
                    error_of(lambda: list(sock)),
                    error_of(lambda: sock.on("add", print)),
                    error_of(lambda: MeshSocket(HOST, 0)),
                ]
            del half_read
            assert len(globalLogPublisher._observers) == observers - 1  # that of standard error is gone
            told = all(isinstance(each, RuntimeError) and "forked" in str(each) for each in errors)
            os._exit(42 if told else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
        assert sock["key"] == "value"
    assert isinstance(error_of(lambda: sock["key"]), Stopped)
    print("done")


def first_after_fork() -> None:
    """A process may be forked before it makes a socket."""
    worker = multiprocessing.get_context("fork").Process(target=_uses_one)
    worker.start()
    worker.join(20)
    assert worker.exitcode == 0
    _uses_one()
    print("done")


def _uses_one() -> None:
    with ring_of_one("first after fork") as sock:
        sock["key"] = 1
        assert sock["key"] == 1


# Beside the program's own reactor


def in_the_reactor() -> None:
    """The program runs the reactor: its other threads may use sockets, and its own may not."""
    from twisted.internet import reactor
    from twisted.internet.threads import deferToThread

    run: Any = reactor
    errors: list[BaseException | None] = []

    def in_thread() -> None:
        _uses_one()
        sock = ring_of_one("in the reactor")
        run.callFromThread(lambda: errors.append(error_of(lambda: sock.set("key", 1))))
        sock["other"] = 2
        run.callFromThread(run.stop)
        errors.append(error_of(lambda: [sock.get("other") for _ in range(100_000)]))

    run.callWhenRunning(lambda: errors.append(error_of(lambda: MeshSocket(HOST, 0))))
    run.callWhenRunning(lambda: deferToThread(in_thread).addErrback(errors.append))
    run.run()
    errors.append(error_of(lambda: MeshSocket(HOST, 0)))
    for error in errors:
        print(type(error).__name__, str(error).partition(":")[0])


# Interrupts, and ends


def interrupted() -> None:
    """Ctrl-C ends a call that waits, and the socket goes on."""
    sock = ChordSocket(HOST, 0, Protocol("interrupted"))  # in no ring
    threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    began = time.monotonic()
    assert isinstance(error_of(lambda: sock["key"]), KeyboardInterrupt)
    assert time.monotonic() - began < SOON_SECONDS
    sock.join()
    sock["key"] = 1
    assert sock.pop("key") == 1
    sock.close()
    print("done")


def left_open(port: str) -> None:
    """The program ends, and has not closed its sockets."""
    sock = ChordSocket(HOST, 0)
    sock.connect(HOST, int(port))
    sock.join()
    sock.update({f"{number}": number for number in range(200)})
    deadline = time.monotonic() + 30
    while sock.status["groups"] < sock.status["partitions"]:  # in a group of two each matters
        assert time.monotonic() < deadline
        time.sleep(0.05)
    print("done")


def after_the_end() -> None:
    """A thread that lives longer than the main one is told that there is no reactor any more."""
    sock = ring_of_one("after the end")

    def outlives() -> None:
        threading.main_thread().join()
        deadline = time.monotonic() + 20
        while (error := error_of(lambda: sock.get("key"))) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        print(type(error).__name__)
        sock.close()

    threading.Thread(target=outlives).start()


# What is handed over


class Told(Mapping[str, int]):
    """A mapping that says in which threads it is read."""

    threads: set[int]

    def __init__(self) -> None:
        self.threads = set()

    def __getitem__(self, key: str) -> int:
        self.threads.add(threading.get_ident())
        return ord(key)

    def __iter__(self) -> Iterator[str]:
        self.threads.add(threading.get_ident())
        return iter("abc")

    def __len__(self) -> int:
        return 3


def handed_over() -> None:
    """What is given to a socket is read in the thread that gives it."""
    told, own = Told(), {threading.get_ident()}
    for sock in ring_of_one("handed over"), SyncSocket(HOST, 0):
        sock.update(told)
        sock.update((key, told[key]) for key in "de")
        assert sock.apply_delta("map", told) == {"a": 97, "b": 98, "c": 99}
        assert sock.get_many(key for key in told) == {b"a": 97, b"b": 98, b"c": 99}
        assert told.threads == own
        sock.close()

    with ring_of_one("one") as one, ring_of_one("two") as two:
        one.update({f"{number}": number for number in range(600)})
        two.update(one)
        assert two == one
        assert one.get_many(two.keys()) == one
        two["0"] = "another"
        assert two != one
        assert (one | two)[b"0"] == (two | {})[b"0"] == "another"
        assert ({b"0": 1, b"more": 2} | one)[b"0"] == 0
        one |= [("0", "first"), (b"0", "last"), (bytearray(b"0"), "very last"), (memoryview(b"1"), "one")]
        assert (one[b"0"], one["1"]) == ("very last", "one")

        begun, go_on = threading.Event(), threading.Event()

        def slow() -> Iterator[str]:
            begun.set()
            assert go_on.wait(20)
            yield "0"

        asking = threading.Thread(target=one.get_many, args=(slow(),))
        asking.start()
        assert begun.wait(20)
        assert two["0"] == "another"  # and does not wait
        go_on.set()
        asking.join()
        one.clear()
        assert len(one) == 0
        assert one  # all the same
    print("done")


def handlers() -> None:
    """A handler that would have to wait is told so, whatever it asks."""
    with ring_of_one("handlers") as sock, ChordSocket(HOST, 0, Protocol("handlers")) as other:
        errors: list[BaseException | None] = []
        asked = threading.Event()

        @other.register_handler
        def asks(message: Any, link: Any) -> bool:
            errors.extend(map(error_of, [lambda: list(other.items()), lambda: other["x"], other.clear]))
            asked.set()
            return True

        other.connect(*sock.out_addr)
        sock.send("hello")
        assert asked.wait(20)
    assert all(isinstance(each, RuntimeError) and "wait" in str(each) for each in errors), errors
    print("done")


# What it says of itself


def speaks() -> None:
    """Texts, and errors for arguments that make no sense."""
    with MeshSocket(HOST, 0, ("spoken of", "Plaintext")) as sock:
        assert repr(sock) == f"<MeshSocket {HOST}:{sock.out_addr[1]} subnet='spoken of'>"
        assert isinstance(error_of(lambda: pickle.dumps(sock)), TypeError)
        assert hash(sock) == hash(sock)
    assert "spoken of" in repr(sock)
    for arguments in [("demo",), (None, HOST), (None, None, "2"), (["demo"],)]:
        assert isinstance(error_of(lambda given=arguments: MeshSocket(HOST, 0, *given)), TypeError)
    for text in ("bad", None, Protocol("x", "TLS")):
        assert isinstance(error_of(lambda given=text: MeshSocket(HOST, given)), ValueError | TypeError)
    print("done")


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
