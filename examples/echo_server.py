"""A server that clients find by its name, wherever it runs: see echo_client.py.

twistd -n chord &
python examples/echo_server.py --peer 127.0.0.1:44565
"""

from __future__ import annotations

import argparse
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import react

from chordtx import ChordService
from chordtx.discovery import PEER, Advertisement


class Echo(Protocol):
    """Sends back what it gets."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


async def main(reactor: Any, name: str, peer: str) -> None:
    node = ChordService(reactor, listen=None, peers=[peer], leech=True)
    node.startService()
    await node.when_joined()
    port = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(Factory.forProtocol(Echo))
    address = f"127.0.0.1:{port.getHost().port}"
    advertisement = Advertisement(node, name, address)
    await advertisement.say()
    advertisement.startService()
    print(f"{name} is served at {address}", flush=True)

    async def leave() -> None:
        await advertisement.stopService()
        await node.stopService()

    reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(leave()))
    await Deferred()  # until the reactor ends


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="An echo server that is found by its name.")
    parser.add_argument("--name", default="echo")
    parser.add_argument("--peer", default=PEER, metavar="HOST:PORT")
    given = parser.parse_args()
    react(lambda reactor: Deferred.fromCoroutine(main(reactor, given.name, given.peer)))
