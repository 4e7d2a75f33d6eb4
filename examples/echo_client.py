r"""Connects to a server by its name: nothing here says where it is.

    python examples/echo_client.py chord:echo 'hello'

The endpoint takes ``peer=HOST\:PORT``, ``subnet=`` and ``encryption=`` too, as in ``chord:echo:subnet=test``.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import react

from chordtx import ChordError


class Ask(Protocol):
    """Sends a text, and waits for as much."""

    def __init__(self, text: bytes) -> None:
        self.answer: Deferred[bytes] = Deferred()
        self._text = text
        self._got = b""

    def connectionMade(self) -> None:
        self.transport.write(self._text)

    def dataReceived(self, data: bytes) -> None:
        self._got += data
        if len(self._got) >= len(self._text):
            self.answer.callback(self._got)
            self.transport.loseConnection()


async def main(reactor: Any, endpoint: str, text: str) -> None:
    try:
        protocol = await clientFromString(reactor, endpoint).connect(
            Factory.forProtocol(lambda: Ask(text.encode()))
        )
    except (ConnectError, ChordError) as error:
        raise SystemExit(str(error)) from None
    print((await protocol.answer).decode())


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(main(reactor, *sys.argv[1:3])))
