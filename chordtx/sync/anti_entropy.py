"""Anti-entropy: two nodes find out which entries differ, and exchange them.

Done as a link opens, now and then with some neighbour, and with all others after one brought news: so what a
broken link or a partition kept from somebody arrives all the same. Entries merge, so it does not matter who
begins, nor how often.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore

from chordtx.errors import ChordError
from chordtx.mesh import MeshConnection
from chordtx.mesh.deferreds import Gate
from chordtx.sync.bulk import entries_from_wire, fetch_all, first_piece_of, pieces_of
from chordtx.sync.entry import Entry
from chordtx.sync.replica import Replica
from chordtx.sync.tree import (
    batches,
    digest_from_wire,
    digest_to_wire,
    leaf_numbers_from_wire,
    leaves_from_wire,
    listed_from_wire,
    listed_to_wire,
)

_AT_ONCE = 2
_CALL_SECONDS = 20.0


class AntiEntropy:
    """One node's comparisons.

    :param node: the service: ``_background``, ``_keep``, ``routing_table``, ``_rng``, ``_methods``.
    :param received: called with a key, an entry that came, and the link that it came by; tells whether it
        was news.
    """

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
        self._under_way: dict[MeshConnection, Gate] = {}
        self._again: set[MeshConnection] = set()
        node._methods.update(
            sync_tree=self._tree, sync_leaves=self._leaves, sync_fetch=self._fetch, sync_take=self._take
        )

    def go_on(self) -> None:
        """Compare with one neighbour or another, now and then."""
        self._node._keep("anti-entropy", self._begin_somewhere, self._pause_seconds, self._pause_seconds())

    def _pause_seconds(self) -> float:
        drawn: float = self._node._rng.random()
        return self._interval_seconds * (0.5 + drawn)

    def _begin_somewhere(self) -> None:
        ours = self._ours()
        if ours:
            self.begin(self._node._rng.choice(ours))

    def _ours(self) -> list[MeshConnection]:
        return [link for link in self._node.routing_table.values() if link.ours and not link.closed]

    def begin(self, link: MeshConnection) -> Gate:
        """Compare with a neighbour; once more, when that is being done already.

        :returns: opens when that is done.
        """
        ended = self._under_way.get(link)
        if ended is not None:
            self._again.add(link)
            return ended
        ended = self._under_way[link] = Gate()
        self._node._background(self._until_done(link, ended))
        return ended

    def compared(self, link: MeshConnection) -> Deferred[None]:
        """Fires once all that a neighbour has is here; fails with a ``ChordError`` when it does not tell."""
        return (self._under_way.get(link) or self.begin(link)).when_open()

    def spread(self, source: MeshConnection) -> None:
        """``source`` brought news that no broadcast brings: compare with all others."""
        for link in self._ours():
            if link is not source:
                self.begin(link)

    async def _until_done(self, link: MeshConnection, ended: Gate) -> None:
        try:
            while True:
                self._again.discard(link)
                await self._at_once.run(lambda: Deferred.fromCoroutine(self._compare(link)))
                if link not in self._again:
                    break
            ended.opened()
        except ChordError as error:
            text = "could not compare with {link}: {error}"
            self._node._limited_log.debug(text, link=link, error=str(error))
            ended.failed(error)
        except Exception as error:
            ended.failed(ChordError(f"could not compare: {error!r}"))
            raise
        finally:
            self._under_way.pop(link, None)
            self._again.discard(link)

    async def _compare(self, link: MeshConnection) -> None:
        root = digest_to_wire(self._replica.tree.root)
        reply = await link.call("sync_tree", root, timeout_seconds=_CALL_SECONDS)
        if not reply:
            return
        differing = self._replica.tree.differing(leaves_from_wire(reply[0]))
        has_news = False
        for some in batches(differing, len(self._replica)):
            has_news = await self._exchange(link, some) or has_news
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

        async def fetch(wanted: list[bytes]) -> set[bytes]:
            nonlocal has_news
            entries = await link.call("sync_fetch", wanted, timeout_seconds=_CALL_SECONDS)
            has_news = self._keep(entries, link) or has_news
            return {entry[0] for entry in entries}

        await fetch_all(keys, fetch)
        return has_news

    async def _give_to(self, link: MeshConnection, keys: Iterable[bytes]) -> None:
        for piece in pieces_of(keys, self._found):
            await link.call("sync_take", piece, timeout_seconds=_CALL_SECONDS)

    def _found(self, key: bytes) -> tuple[list[Any], int] | None:
        entry = self._replica.get(key)
        return None if entry is None else (entry.to_wire(), len(key) + entry.record.cost_bytes)

    def _keep(self, entries: Any, link: MeshConnection) -> bool:
        has_news = False
        for key, wire in entries_from_wire(entries):
            has_news = self._received(key, Entry.from_wire(wire), link) or has_news
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
        return first_piece_of(keys, self._found)

    def _take(self, caller: MeshConnection, entries: Any) -> list[Any]:
        """``sync_take([[key, entry], ...])``: what the caller has otherwise."""
        if self._keep(entries, caller):
            self.spread(caller)
        return []
