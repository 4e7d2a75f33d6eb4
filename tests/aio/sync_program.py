"""A dict that everybody has a copy of, in two nodes of one asyncio program."""

from __future__ import annotations

from loops import LOCAL, Raises, peer, run, until

from chordtx.aio import SyncService


async def main() -> None:
    async with SyncService(LOCAL) as first:
        await first.set("before", [1, b"2"])
        async with SyncService(LOCAL, peers=[peer(first)]) as second:
            assert await second["before"] == second.data[b"before"] == [1, b"2"]
            changes = first.events("update", "delete")
            second["key"] = "value"
            await second.flush()
            name, key, value, meta = await anext(changes)
            assert (name, key, value, meta) == ("update", b"key", "value", first.metadata[b"key"])
            with Raises(KeyError):  # it is leased by the other one
                await first.set("key", "another")
            await second.delete("key")
            assert (await anext(changes))[:2] == ("delete", b"key")
            await until(lambda: b"key" not in first.data)
            assert first.leasing
            assert second.protocol == ("sync1", "Plaintext")
            assert {key async for key in second} == {b"before"}
            assert await second.count() == 1
    print("done")


run(main)
