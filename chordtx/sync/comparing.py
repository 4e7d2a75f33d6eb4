"""Two nodes find out what they do not have alike, and exchange it.

Done as a link opens, now and then with some neighbour, and with all others after one brought news: so what a
broken link or a partition kept from somebody arrives all the same. Entries merge, so it does not matter who
begins, nor how often.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.logger import Logger

from chordtx.errors import ChordError, ProtocolError
from chordtx.mesh import MeshConnection
from chordtx.records import (
    LEAVES,
    digest_from_wire,
    digest_to_wire,
    leaf_numbers_from_wire,
    leaves_from_wire,
    listed_from_wire,
    listed_to_wire,
)
from chordtx.sync.entry import Entry
from chordtx.sync.replica import Replica

_AT_ONCE = 2
_LISTED_AT_ONCE = 8_000  # keys, about
_FETCHED_AT_ONCE = 500
_ANSWER_BYTES = 1 << 20
_CALL_SECONDS = 20.0


class Comparing:
    """One node's comparisons.

    :param node: the service: ``background``, ``routing_table``, ``rng``, ``sleep``, ``methods``.
    :param received: called with a key, an entry that came, and the link that it came by; tells whether it
        was news.
    """

    _log = Logger()

    def __init__(
        self,
        node: Any,
        replica: Replica,
        interval_seconds: float,
        received: Callable[[bytes, Entry, MeshConnection], bool],
    ) -> None:
        self._node = node
        self._replica = replica
        self._interval_seconds = interval_seconds
        self._received = received
        self._at_once = DeferredSemaphore(_AT_ONCE)
        self._under_way: set[MeshConnection] = set()
        self._again: set[MeshConnection] = set()
        node.methods.update(
            sync_tree=self._tree, sync_leaves=self._leaves, sync_fetch=self._fetch, sync_take=self._take
        )

    async def go_on(self) -> None:
        """Compare with one neighbour or another, now and then."""
        while True:
            await self._node.sleep(self._interval_seconds * (0.5 + self._node.rng.random()))
            ours = self._ours()
            if ours:
                self.begin(self._node.rng.choice(ours))

    def _ours(self) -> list[MeshConnection]:
        return [link for link in self._node.routing_table.values() if link.ours and not link.closed]

    def begin(self, link: MeshConnection) -> None:
        """Compare with a neighbour; once more, when that is being done already."""
        if link in self._under_way:
            self._again.add(link)
            return
        self._under_way.add(link)
        self._node.background(self._until_done(link))

    def spread(self, source: MeshConnection) -> None:
        """``source`` brought news that no broadcast brings: compare with all others."""
        for link in self._ours():
            if link is not source:
                self.begin(link)

    async def _until_done(self, link: MeshConnection) -> None:
        try:
            while True:
                self._again.discard(link)
                await self._at_once.run(lambda: Deferred.fromCoroutine(self._compare(link)))
                if link not in self._again:
                    return
        except ChordError as error:
            self._log.debug("could not compare with {link}: {error}", link=link, error=str(error))
        finally:
            self._under_way.discard(link)
            self._again.discard(link)

    async def _compare(self, link: MeshConnection) -> None:
        root = digest_to_wire(self._replica.tree.root)
        reply = await link.call("sync_tree", root, timeout_seconds=_CALL_SECONDS)
        if not reply:
            return
        differing = self._replica.tree.differing(leaves_from_wire(reply[0]))
        at_once = max(1, _LISTED_AT_ONCE * LEAVES // (len(self._replica) + 1))
        has_news = False
        for place in range(0, len(differing), at_once):
            has_news = await self._exchange(link, differing[place : place + at_once]) or has_news
        if has_news:
            self.spread(link)

    async def _exchange(self, link: MeshConnection, leaves: list[int]) -> bool:
        listed = await link.call("sync_leaves", leaves, timeout_seconds=_CALL_SECONDS)
        theirs = dict(map(listed_from_wire, listed))
        wanted = [key for key, digest in theirs.items() if self._replica.digest(key) != digest]
        has_news = await self._fetch_from(link, wanted)
        ours = dict(self._replica.listed(leaves))
        await self._give_to(link, [key for key, digest in ours.items() if digest != theirs.get(key)])
        return has_news

    async def _fetch_from(self, link: MeshConnection, keys: list[bytes]) -> bool:
        has_news = False
        for place in range(0, len(keys), _FETCHED_AT_ONCE):
            wanted = keys[place : place + _FETCHED_AT_ONCE]
            while wanted:
                entries = await link.call("sync_fetch", wanted, timeout_seconds=_CALL_SECONDS)
                has_news = self._keep(entries, link) or has_news
                got = {entry[0] for entry in entries}
                if not got:
                    break
                wanted = [key for key in wanted if key not in got]
        return has_news

    async def _give_to(self, link: MeshConnection, keys: Iterable[bytes]) -> None:
        chunk: list[Any] = []
        size = 0
        for key in keys:
            entry = self._replica.get(key)
            if entry is None:
                continue
            chunk.append([key, entry.to_wire()])
            size += len(key) + entry.record.cost_bytes
            if size > _ANSWER_BYTES:
                await link.call("sync_take", chunk, timeout_seconds=_CALL_SECONDS)
                chunk, size = [], 0
        if chunk:
            await link.call("sync_take", chunk, timeout_seconds=_CALL_SECONDS)

    def _keep(self, entries: Any, link: MeshConnection) -> bool:
        if not isinstance(entries, list):
            raise ProtocolError("entries come as a list")
        has_news = False
        for item in entries:
            if not isinstance(item, list) or len(item) != 2 or not isinstance(item[0], bytes):
                raise ProtocolError("an entry comes as [key, entry]")
            has_news = self._received(item[0], Entry.from_wire(item[1]), link) or has_news
        return has_news

    # What others ask

    def _tree(self, caller: MeshConnection, root: Any) -> list[Any]:
        """``sync_tree(root)`` -> nothing when all is the same; else the leaves."""
        tree = self._replica.tree
        return [] if digest_from_wire(root) == tree.root else [tree.leaves_to_wire()]

    def _leaves(self, caller: MeshConnection, leaves: Any) -> list[Any]:
        """``sync_leaves(numbers)`` -> ``[key, digest], ...``"""
        return [listed_to_wire(*each) for each in self._replica.listed(leaf_numbers_from_wire(leaves))]

    def _fetch(self, caller: MeshConnection, keys: Any) -> list[Any]:
        """``sync_fetch(keys)`` -> ``[key, entry], ...``: as many as fit into an answer, at least one."""
        if not isinstance(keys, list):
            raise ProtocolError("fetch takes a list of keys")
        found: list[Any] = []
        size = 0
        for key in keys:
            entry = self._replica.get(key) if isinstance(key, bytes) else None
            if entry is not None:
                found.append([key, entry.to_wire()])
                size += len(key) + entry.record.cost_bytes
                if size > _ANSWER_BYTES:
                    break
        return found

    def _take(self, caller: MeshConnection, entries: Any) -> list[Any]:
        """``sync_take([[key, entry], ...])``: what the caller has otherwise."""
        if self._keep(entries, caller):
            self.spread(caller)
        return []
