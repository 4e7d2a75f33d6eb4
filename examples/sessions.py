"""A web app whose sessions live in a ring: any of its servers may answer any request, and any may die.

    python examples/sessions.py 8081 --listen 4001
    python examples/sessions.py 8082 --listen 4002 --peer 127.0.0.1:4001

Each process is a web server and a node of the ring. A session is a map in the ring that expires when it was
not used for a while.
"""

from __future__ import annotations

import argparse
import json
import secrets
from typing import Any

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.task import react
from twisted.web.server import Site

from chordtx import ChordService, NoMajority

COOKIE = "session"
LIFETIME_SECONDS = 1800.0


class Sessions:
    """Sessions in a ring."""

    def __init__(self, node: ChordService) -> None:
        self._node = node

    async def of(self, request: Any) -> tuple[str, dict[str, Any]]:
        """The name and the data of a request's session; a new one when it has none."""
        name = (request.getCookie(COOKIE.encode()) or b"").decode("ascii", "replace")
        data = await self._node.get(f"session:{name}") if name else None
        return (name, data) if isinstance(data, dict) else (secrets.token_urlsafe(24), {})

    async def keep(self, request: Any, name: str, data: dict[str, Any]) -> None:
        """Store a session, for :data:`LIFETIME_SECONDS` from now."""
        await self._node.set(f"session:{name}", data, ttl=LIFETIME_SECONDS)
        request.addCookie(COOKIE, name, path="/", httpOnly=True, sameSite="lax")


class App:
    """The web app: it counts a visitor's visits, and remembers a name."""

    app = Klein()

    def __init__(self, node: ChordService) -> None:
        self._sessions = Sessions(node)

    @app.route("/")
    async def index(self, request: Any) -> str:
        name, session = await self._sessions.of(request)
        session["visits"] = session.get("visits", 0) + 1
        await self._sessions.keep(request, name, session)
        return self._json(request, session)

    @app.route("/name", methods=["POST"])
    async def rename(self, request: Any) -> str:
        name, session = await self._sessions.of(request)
        session["name"] = request.args.get(b"name", [b""])[0].decode("utf-8", "replace")[:100]
        await self._sessions.keep(request, name, session)
        return self._json(request, session)

    @app.handle_errors(NoMajority)
    def unavailable(self, request: Any, failure: Any) -> str:
        request.setResponseCode(503)
        return self._json(request, {"error": "the sessions cannot be reached now"})

    @staticmethod
    def _json(request: Any, value: Any) -> str:
        request.setHeader("content-type", "application/json")
        return json.dumps(value)


async def main(reactor: Any, port: int, listen: int, peers: list[str]) -> None:
    node = ChordService(reactor, listen=f"tcp:{listen}:interface=127.0.0.1", peers=peers, subnet="sessions")
    node.startService()
    reactor.addSystemEventTrigger("before", "shutdown", node.stopService)
    await node.when_joined()
    endpoint = serverFromString(reactor, f"tcp:{port}:interface=127.0.0.1")
    web = await endpoint.listen(Site(App(node).app.resource()))
    print(f"http://127.0.0.1:{web.getHost().port}/", flush=True)
    await Deferred()  # until the reactor ends


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A web app whose sessions live in a ring.")
    parser.add_argument("port", type=int)
    parser.add_argument("--listen", type=int, default=0, metavar="PORT")
    parser.add_argument("--peer", action="append", default=[], metavar="HOST:PORT")
    given = parser.parse_args()
    react(lambda reactor: Deferred.fromCoroutine(main(reactor, given.port, given.listen, given.peer)))
