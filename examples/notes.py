"""A web service with aiohttp: notes, which all of its servers share.

python examples/notes.py PORT [--listen NODE_PORT] [--peer HOST:PORT]

``curl -X PUT -d 'milk, bread' http://127.0.0.1:PORT/notes/shopping`` writes a note. Any of the servers gives
it to ``curl`` without ``-X PUT -d ...``, and deletes it with ``-X DELETE``. ``http://127.0.0.1:PORT/notes``
lists the names of all notes. Needs aiohttp.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from chordtx import NoMajority, ValueTooLarge
from chordtx.aio import ChordService

NODE = web.AppKey("node", ChordService)
routes = web.RouteTableDef()


@routes.get("/notes")
async def names(request: web.Request) -> web.Response:
    """The names of all notes, as JSON."""
    return web.json_response(sorted([key.decode() async for key in request.app[NODE]]))


@routes.get("/notes/{name}")
async def read(request: web.Request) -> web.Response:
    """One note."""
    try:
        return web.Response(text=await request.app[NODE][request.match_info["name"]])
    except KeyError:
        raise web.HTTPNotFound from None


@routes.put("/notes/{name}")
async def write(request: web.Request) -> web.Response:
    """A new note, or another text of one."""
    await request.app[NODE].set(request.match_info["name"], await request.text())
    return web.Response(status=204)


@routes.delete("/notes/{name}")
async def delete(request: web.Request) -> web.Response:
    """One note less."""
    try:
        await request.app[NODE].delete(request.match_info["name"])
    except KeyError:
        raise web.HTTPNotFound from None
    return web.Response(status=204)


@web.middleware
async def explained(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """What the ring cannot do, in the words of HTTP."""
    try:
        return await handler(request)
    except NoMajority as error:
        raise web.HTTPServiceUnavailable(text=str(error)) from error
    except ValueTooLarge as error:
        raise web.HTTPRequestEntityTooLarge(error.limit_bytes, error.size_bytes) from error


async def serve(port: int, listen: int, peers: list[str]) -> None:
    """Until it is interrupted."""

    async def node_of(app: web.Application) -> AsyncIterator[None]:
        """The node starts before the first request, and leaves after the last one."""
        async with ChordService(f"tcp:{listen}:interface=127.0.0.1", peers=peers, subnet="notes") as app[
            NODE
        ]:
            yield

    app = web.Application(middlewares=[explained])
    app.add_routes(routes)
    app.cleanup_ctx.append(node_of)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        host, port = runner.addresses[0]
        print(f"http://{host}:{port}/notes", flush=True)
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("port", type=int, help="of the web server; 0 takes any")
    parser.add_argument("--listen", type=int, default=0, help="port of the node")
    parser.add_argument("--peer", action="append", default=[], help="a node to join through")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(options.port, options.listen, options.peer))
