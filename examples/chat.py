"""A chat over the mesh: everybody reads what anybody types.

    python examples/chat.py Ann --listen 4001
    python examples/chat.py Bob --listen 4002 --peer 127.0.0.1:4001

``/who`` lists the neighbours, ``/reply TEXT`` answers the last message, to its author alone.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.stdio import StandardIO
from twisted.internet.task import react
from twisted.protocols.basic import LineReceiver

from chordtx import ChordError, MeshService
from chordtx.escaping import escaped


class Terminal(LineReceiver):
    """What is typed, line by line. :ivar done: fires at its end."""

    delimiter = os.linesep.encode()

    def __init__(self, mesh: MeshService, name: str) -> None:
        self.done: Deferred[None] = Deferred()
        self._mesh = mesh
        self._name = name
        self._last: Any = None
        mesh.register_handler(self.heard)

    def heard(self, message: Any, link: Any) -> bool:
        """A message came: a broadcast has flag 0, a reply flag 2."""
        flag, *words = message.packets
        if len(words) != 2 or not all(isinstance(word, str) for word in words):
            return False  # not ours: anybody may send anything
        name, text = words
        self.say(f"{name} (to you): {text}" if flag else f"{name}: {text}")
        self._last = message
        return True

    def lineReceived(self, line: bytes) -> None:
        text = line.decode(errors="replace").strip()
        if text == "/who":
            self.say(f"{len(self._mesh.routing_table)} neighbours")
        elif text.startswith("/reply ") and self._last is not None:
            answer = self._last.reply(self._name, text.removeprefix("/reply "))
            answer.addErrback(lambda failure: self.say(failure.getErrorMessage()))
        elif text:
            self._mesh.send(self._name, text)

    def say(self, text: str) -> None:
        self.sendLine(escaped(text).encode())  # others may say what a terminal would obey

    def connectionLost(self, reason: Any = None) -> None:
        self.done.callback(None)


async def main(reactor: Any, name: str, port: int, peers: list[str]) -> None:
    mesh = MeshService(reactor, listen=f"tcp:{port}:interface=127.0.0.1", peers=peers, subnet="chat")
    terminal = Terminal(mesh, name)
    mesh.on("connect", lambda _: terminal.say("connected"))
    mesh.startService()
    try:
        await mesh.when_listening()
        StandardIO(terminal)
        await terminal.done
    except ChordError as error:
        print(error)
    finally:
        await mesh.stopService()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A chat over the mesh.")
    parser.add_argument("name")
    parser.add_argument("--listen", type=int, default=0, metavar="PORT")
    parser.add_argument("--peer", action="append", default=[], metavar="HOST:PORT")
    given = parser.parse_args()
    react(lambda reactor: Deferred.fromCoroutine(main(reactor, given.name, given.listen, given.peer)))
