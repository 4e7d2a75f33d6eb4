"""Sessions that end when they were not used for a while. To use one refreshes it, and rewrites nothing.

    python examples/session_store.py --peer HOST:PORT login ann
    python examples/session_store.py --peer HOST:PORT who TOKEN

``login`` prints a token, ``who`` whose it is. Without ``--peer`` it begins a ring of its own, for a try.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
from typing import Any

from chordtx.aio import ChordService


class SessionStore:
    """Sessions in a ring. :param lifetime_seconds: from the last use to the end of a session."""

    def __init__(self, node: ChordService, lifetime_seconds: float = 1800.0) -> None:
        self._node = node
        self._lifetime_seconds = lifetime_seconds

    async def begin(self, data: dict[str, Any]) -> str:
        """A new session. :returns: the token that its user shows from then on."""
        token = secrets.token_hex(16)  # an argument of a command may not begin with a dash
        await self._node.set(f"session:{token}", data, ttl=self._lifetime_seconds)
        return token

    async def use(self, token: str) -> dict[str, Any]:
        """The data of a session, whose lifetime begins anew. KeyError when there is none, or no more."""
        key = f"session:{token}"
        # Only the time is sent, and not the data: others may change these meanwhile.
        await self._node.touch(key, ttl=self._lifetime_seconds)
        data: dict[str, Any] = await self._node[key]
        return data

    async def change(self, token: str, changes: dict[str, Any]) -> None:
        """Set some fields of the data. What others set at the same time in other fields stays.

        KeyError when there is no such session: one that has ended does not come back.
        """

        def changed(data: Any) -> Any:
            if data is None:
                raise KeyError(token)
            return {**data, **changes}

        await self._node.modify(f"session:{token}", changed, ttl=self._lifetime_seconds)

    async def end(self, token: str) -> None:
        """Log out. KeyError when there is no such session."""
        await self._node.delete(f"session:{token}")


async def main(given: argparse.Namespace) -> None:
    listen = None if given.peer else "tcp:0:interface=127.0.0.1"
    async with ChordService(listen, peers=given.peer, leech=bool(given.peer)) as node:
        store = SessionStore(node, given.lifetime)
        if given.command == "login":
            print(await store.begin({"user": given.word}), flush=True)
        else:
            try:
                print((await store.use(given.word))["user"], flush=True)
            except KeyError:
                print("nobody", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("command", choices=["login", "who"])
    parser.add_argument("word", metavar="NAME_OR_TOKEN")
    parser.add_argument("--lifetime", type=float, default=1800.0, help="seconds")
    parser.add_argument("--peer", action="append", default=[], metavar="HOST:PORT")
    asyncio.run(main(parser.parse_args()))
