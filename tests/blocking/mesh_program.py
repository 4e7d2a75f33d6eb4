"""``python mesh_program.py PORT PORT PORT``: three mesh sockets that send, answer and listen."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.error import CannotListenError, ConnectError

from chordtx import WrongSubnet
from chordtx.blocking import MeshSocket, Message, Protocol


def soon(ask: Callable[[], Any]) -> Any:
    """Ask until there is an answer."""
    late = time.monotonic() + 20
    while not (answer := ask()):
        assert time.monotonic() < late
        time.sleep(0.01)
    return answer


def raises(kind: type[BaseException], work: Callable[[], Any]) -> None:
    """Fail unless ``work`` raises ``kind``."""
    try:
        work()
    except kind:
        return
    raise AssertionError(f"no {kind.__name__}")


def main(*ports: int) -> None:
    bob = Protocol("bob", "Plaintext")
    a, b = (MeshSocket("127.0.0.1", port, prot=bob) for port in ports[:2])
    connected: list[MeshSocket] = []
    a.on("connect", connected.append)
    raises(CannotListenError, lambda: MeshSocket("127.0.0.1", ports[0], prot=bob))
    b.connect("127.0.0.1", ports[0])
    soon(lambda: a.routing_table and connected)
    assert connected == [a]
    assert list(a.routing_table) == [b.id] == a.incoming
    assert (a.outgoing, b.outgoing, a.awaiting_ids) == ([], [a.id], [])
    with MeshSocket("0.0.0.0", ports[2], out_addr=("127.0.0.1", ports[2])) as other:
        assert other.out_addr == ("127.0.0.1", ports[2])
        raises(WrongSubnet, lambda: other.connect("127.0.0.1", ports[0]))
    raises(ConnectError, lambda: a.connect("127.0.0.1", ports[2]))

    assert b.recv() is None
    a.send("hello", b"\x00", {"a": [1]})
    message: Message = soon(b.recv)
    assert message.packets == (0, "hello", b"\x00", {"a": [1]})
    assert message.sender == a.id
    message.reply("hello back", 3)
    assert soon(a.recv).packets == (2, "hello back", 3)
    for number in range(3):
        a.send(number)
    together: list[Message] = []
    soon(lambda: together.extend(b.recv(10)) or len(together) == 3)  # type: ignore[arg-type, func-returns-value]
    assert [each.packets[1] for each in together] == [0, 1, 2]

    def answers(message: Message, link: Any) -> bool:
        if message.packets[1] == "question":
            message.reply("answer")
        return bool(message.packets[1] == "question")

    b.register_handler(answers)
    a.send("question")
    assert soon(a.recv).packets == (2, "answer")
    a.send("no question")
    assert soon(b.recv).packets == (0, "no question")
    raises(TypeError, lambda: a.send(object()))
    raises(ValueError, lambda: a.register_handler(lambda: None))
    assert (b.status["id"], b.status["kind"], len(b.status["peers"])) == (b.id, "chordtx", 1)
    a.request_peers()
    a.disconnect(b.id)
    soon(lambda: not a.routing_table)
    a.close()
    b.close()
    print("done")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
