"""A mesh of three nodes in one asyncio program: messages, handlers, links, events."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

from loops import LOCAL, Raises, peer, run, until

from chordtx import Stopped
from chordtx.aio import Link, MeshService, Message
from chordtx.wire import flags


async def main() -> None:
    async with MeshService(LOCAL) as first, MeshService(LOCAL, peers=[peer(first)]) as second:
        third = MeshService(LOCAL, peers=[peer(second)])
        connects = third.events("connect")
        async with third:
            assert await anext(connects) == ("connect",)
            await until(lambda: all(len(node.routing_table) == 2 for node in (first, second, third)))
            await messages(first, second, third)
            await handlers(first, second)
            await links(first, second, third)
            await listeners(first, second)
            await iterators(first, second)
            late = third.events("connect", "message")
        assert [event async for event in late] == []  # it ends with its node
        await stopped_in_a_listener(first, second)
    await started_while_it_stops()
    print("done")


async def messages(first: MeshService, second: MeshService, third: MeshService) -> None:
    first.send("to all", 1)
    await until(lambda: second._service._inbox._kept and third._service._inbox._kept)
    (message,) = second.recv(5)  # type: ignore[misc, union-attr]
    assert isinstance(message, Message)
    assert (message.packets, message.sender) == ((0, "to all", 1), first.id)
    await message.reply("thanks")
    await until(lambda: first._service._inbox._kept)
    reply = first.recv()
    assert isinstance(reply, Message)
    assert reply.packets == (2, "thanks")
    assert first.recv() is None
    await second.send_to(third.id, "whispered")
    await until(lambda: len(third._service._inbox._kept) == 2)
    assert [each.packets for each in third.recv(9)] == [(0, "to all", 1), (2, "whispered")]  # type: ignore


async def handlers(first: MeshService, second: MeshService) -> None:
    """An ``async def`` handler is a task of the loop, and what it answers decides."""
    told: list[Any] = []

    async def takes_questions(message: Message, link: Link) -> bool:
        await asyncio.sleep(0.01)
        if message.packets[1] != "question":
            return False
        told.append(link.id)
        await message.reply("answer")
        return True

    second.register_handler(takes_questions)
    second.register_handler(lambda message, link: message.packets[1] == "for the second")
    with Raises(ValueError, "two arguments"):
        second.register_handler(lambda message: True)  # type: ignore
    for text in ("question", "for the second", "for nobody"):
        first.send(text)
    await until(lambda: second._service._inbox._kept and first._service._inbox._kept)
    assert told == [first.id]
    assert first.recv().packets == (2, "answer")  # type: ignore[union-attr]
    assert [each.packets[1] for each in second.recv(5)] == ["for nobody"]  # type: ignore


async def links(first: MeshService, second: MeshService, third: MeshService) -> None:
    link = first.routing_table[second.id]
    assert link == await first.connect(*second.out_addr) == await link.when_open()
    assert (link.id, str(link.address), link.closed) == (second.id, peer(second), False)
    assert link != first.routing_table[third.id]
    assert len({link, first.routing_table[second.id]}) == 1
    assert first.awaiting_ids == []
    assert {*first.incoming, *first.outgoing} == {second.id, third.id}
    link.send(flags.WHISPER, "over the link")
    await until(lambda: second._service._inbox._kept)
    assert second.recv().packets == (2, "over the link")  # type: ignore[union-attr]
    first.disconnect(link)
    assert link.closed
    await until(lambda: first.id not in second.routing_table)
    assert await first.connect(*second.out_addr) != link
    second.disconnect(first.id)
    with Raises(KeyError):
        second.disconnect("nobody")
    await until(lambda: second.id not in first.routing_table)
    await second.connect(*first.out_addr)
    first.request_peers()


async def listeners(first: MeshService, second: MeshService) -> None:
    told: list[Any] = []

    @second.on("message")
    async def slowly(node: MeshService) -> None:
        message = node.recv()
        await asyncio.sleep(0.01)
        told.append(message.packets[1])  # type: ignore[union-attr]

    once = second.once("message", lambda node: told.append(node is second))
    for number in range(3):
        first.send(number)
    await until(lambda: len(told) == 4)
    assert told == [True, 0, 1, 2]  # one at a time, in order
    assert second.on("connect", told.append) == told.append
    second.remove_listener("connect", told.append)
    second.remove_listener("message", slowly)
    for listener in (slowly, once):
        with Raises(KeyError):
            second.remove_listener("message", listener)
    with Raises(ValueError, "do you mean 'message'"):
        second.on("mesage")
    with Raises(TypeError, "cannot be"):
        second.on("message", 5)  # type: ignore[arg-type]


async def iterators(first: MeshService, second: MeshService) -> None:
    events = second.events("message")
    for number in range(3):
        first.send("event", number)  # a broadcast with the same content, in the same second, is the same one
    numbers = []
    async for event in events:
        assert event == ("message",)
        numbers.append(second.recv().packets[2])  # type: ignore[union-attr]
        if len(numbers) == 3:
            break
    assert numbers == [0, 1, 2]
    waiting = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    first.send("after one was cancelled")
    assert await anext(events) == ("message",)
    del events, waiting
    assert not second._service._has_listeners("message")  # what nobody holds hears of nothing
    await collected_elsewhere(second)
    ended = second.events("message")
    waiting = asyncio.ensure_future(anext(ended, None))
    await asyncio.sleep(0)
    ended.close()
    assert await waiting is None
    ended.close()
    with Raises(ValueError, "no event"):
        second.events("message", "nothing like it")
    assert not second._service._has_listeners("message")
    second.recv(9)


async def collected_elsewhere(node: MeshService) -> None:
    """Whichever thread collects an iterator, the node hears of it on its loop."""
    threads: list[int] = []
    changed = node._service._listeners_changed
    node._service._listeners_changed = lambda: (threads.append(threading.get_ident()), changed())  # type: ignore
    circle: list[object] = [node.events("message")]
    circle.append(circle)
    del circle
    await asyncio.to_thread(gc.collect)
    await until(lambda: not node._service._has_listeners("message"))
    del node._service._listeners_changed
    assert set(threads) == {threading.get_ident()}


async def started_while_it_stops() -> None:
    """It is up again when it has been down; and what else is made then does not disturb it."""
    node = MeshService(LOCAL, subnet="again")
    node.start()
    await node.when_joined()
    stopping = asyncio.ensure_future(node.stop())
    await asyncio.sleep(0)
    node.start()
    await stopping
    await node.when_joined()
    async with MeshService(None, subnet="again", peers=[peer(node)]) as other:
        await until(lambda: node.id in other.routing_table)
    await node.stop()


async def stopped_in_a_listener(first: MeshService, second: MeshService) -> None:
    """What a listener is busy with is cancelled when its node stops."""
    ended: list[str] = []

    @second.on("message")
    async def busy(_: MeshService) -> None:
        try:
            ended.append("begun")
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    first.send("begin")
    await until(lambda: ended)
    await second.stop()
    assert ended == ["begun", "cancelled"]
    with Raises(Stopped):
        await second.send_to(first.id, "too late")


run(main)
