"""Keeping copies whole: a node finds out what it missed, and until then does not vote on it.

Two nodes compare what they share (see :class:`~chordtx.chord.shares.Shares`), and each gives the other what
is newer; merging by version makes the outcome the same whoever begins, and however often.

**Who votes.** After a change of the ring a node may keep keys that it did not keep before. It has missed what
was written under them, so it compares with everyone else first, and has no vote on these keys until it is
done. (On what it kept before and keeps now it votes all along, while sets are of full size. A set that has
become smaller has a smaller majority, which the old majorities need not meet: then nobody votes before it
has compared.) Everyone else, because a key's replicas may be anywhere; and only with those that see its
neighbourhood as it does itself: they acknowledge no more writes that reckon without it, so nothing
slips through behind the comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, DeferredSemaphore
from twisted.logger import Logger

from chordtx.chord.replica import Replica
from chordtx.chord.routing import ID_BYTES, Routing, position_from_wire, positions_of
from chordtx.chord.shares import Shares
from chordtx.chord.transfer import Transfer
from chordtx.config import ChordSettings
from chordtx.errors import ChordError, NotJoined, ProtocolError, ValueTooLarge
from chordtx.mesh import MeshConnection
from chordtx.mesh.loop import Loop
from chordtx.mesh.waiting import Gate
from chordtx.records import (
    Neighbourhood,
    batches,
    digest_from_wire,
    digest_to_wire,
    leaf_numbers_from_wire,
    leaves_from_wire,
    listed_from_wire,
    listed_to_wire,
)
from chordtx.ring import Contact, RingNode

_LOOK_SECONDS = 0.2
_RETRY_SECONDS = 0.1
_AT_ONCE = 8
_EXCHANGES_AT_ONCE = 2
_KNOWN_KEPT_MAX = 20_000
_SLICE_KEYS = 500
_SLICE_PAUSE_SECONDS = 0.002
_FORGETS_IN_TOMBSTONE_TIME = 20


class Repair:
    """One node's comparisons with others, and what it may vote on.

    :param node: the service: ``reactor``, ``_background``, ``_keep``, ``_call_contact``, ``sleep``, ``_rng``.
    """

    _log = Logger()

    def __init__(
        self,
        node: Any,
        ring: RingNode,
        routing: Routing,
        replica: Replica,
        shares: Shares,
        transfer: Transfer,
        settings: ChordSettings,
    ) -> None:
        self._node = node
        self._ring = ring
        self._routing = routing
        self._replica = replica
        self._shares = shares
        self._transfer = transfer
        self._settings = settings
        self._stopped = False
        # All that was written to what we kept in `_settled` is here, up to the changes in `_pending`.
        self._settled: Neighbourhood | None = None
        self._pending: list[Neighbourhood] = []
        self._seen: Neighbourhood | None = None
        self._seen_epoch = -1
        self._known: dict[bytes, bool] = {}
        self._doubts = 0
        self._forget_due_at = 0.0
        self._compare_due_at = 0.0
        self._patience_until: float | None = None
        self._loop: Loop | None = None
        # With few at once: what one has given need not come from the others too.
        self._exchanging = DeferredSemaphore(_EXCHANGES_AT_ONCE)
        self._first = Gate()
        replica.knows = self.knows
        node._methods.update(tree=self._tree, leaves=self._leaves, missed=self._missed)

    # What we may vote on

    @property
    def is_settled(self) -> bool:
        """Whether everything is here that ought to be."""
        self._look()
        return self._settled is not None and self._seen is not None and not self._pending

    @property
    def has_caught_up(self) -> bool:
        """Whether we have compared with everyone at all since we joined."""
        return self._settled is not None

    def when_caught_up(self) -> Deferred[None]:
        """Fires once :attr:`has_caught_up`."""
        return self._first.when_open()

    def knows(self, key: bytes) -> bool:
        """Whether whatever was written under ``key`` is here, so that we may vote on it."""
        self._look()
        if self._settled is None or self._seen is None:
            return False
        if not self._pending:
            return True
        known = self._known.get(key)
        if known is None:
            if len(self._known) > _KNOWN_KEPT_MAX:
                self._known.clear()
            known = self._known[key] = self._kept_all_along(key)
        return known

    def _kept_all_along(self, key: bytes) -> bool:
        views = [view for view in (self._settled, *self._pending) if view is not None]
        if any(view.is_whole for view in views):
            return False
        positions = positions_of(key)
        return all(view.keeps(positions) for view in views)

    def _look(self) -> None:
        """See whether our neighbourhood has changed since we looked last."""
        if self._seen_epoch == self._routing.arcs.epoch and self._seen is not None:
            return
        self._seen_epoch = self._routing.arcs.epoch
        view = self._routing.neighbourhood()
        if view is None:
            # Somebody before us is gone, and we do not know yet who is there instead.
            self._seen = None
            return
        if view == self._seen:
            return
        last = self._pending[-1] if self._pending else self._settled
        self._seen = view
        if last is None or view == last:
            return
        self._known.clear()
        if self._has_gained_nothing(view):
            self._settled, self._pending = view, []
        else:
            self._pending.append(view)

    def _has_gained_nothing(self, view: Neighbourhood) -> bool:
        """Whether we keep nothing in ``view`` that we did not keep all along, and voted on.

        Who has come takes keys from us, and gives us none. So it is too when somebody was gone and is back:
        what was ours before was ours meanwhile.
        """
        views = [each for each in (self._settled, *self._pending) if each is not None]
        if self._pending and any(each.is_whole for each in (*views, view)):
            return False  # sets had another size meanwhile
        return not any(each.has_lost(view) for each in views)

    # Comparing

    def begin_ring(self) -> None:
        """There is nobody else: what we have is all there is."""
        self._settled = Neighbourhood((self._ring.me.id,), True)
        self._first.opened()

    def lost(self, key: bytes) -> None:
        """A record is gone from the store by itself: nothing is certain before we have compared again."""
        self._shares.dropped(key)
        self._doubt()

    def _missed(self, caller: MeshConnection) -> list[Any]:
        """``missed()``: the caller had given us up, and may have seen to writes without us -> nothing."""
        self._node._calling_member(caller)
        self._doubt()
        return []

    def _doubt(self) -> None:
        self._doubts += 1
        self._settled, self._pending = None, []
        self._known.clear()

    def stop(self) -> None:
        """No more comparisons."""
        self._stopped = True
        if self._loop is not None:
            self._loop.stop()

    def keep_whole(self) -> None:
        """Compare with everyone after each change that may have given us keys, and now and then."""
        self._compare_due_at = self._node.reactor.seconds()
        self._loop = self._node._keep("repair", self._round, lambda: _LOOK_SECONDS)

    async def _round(self) -> None:
        if not self.is_settled:
            await self._wait_for_a_restart()
            await self._settle()
            return
        self._patience_until = None
        if self._node.reactor.seconds() >= self._compare_due_at:
            await self._compare_with(await self._others(), is_all_needed=False)
            await self._tidy()
            await self._forget()
            interval = self._settings.repair_interval_seconds
            self._compare_due_at = self._node.reactor.seconds() + interval * (0.5 + self._node._rng.random())

    async def _wait_for_a_restart(self) -> None:
        """Whoever is gone may be back at once. Those that keep its keys in its stead have no vote on them
        until then; the others have theirs, but where everyone keeps everything: there nobody waits."""
        late = self._node.reactor.seconds() + self._settings.restart_grace_seconds
        while not self._stopped and self._node.reactor.seconds() < late:
            views = [self._settled, *self._pending]
            if self._seen == self._settled or any(view is None or view.is_whole for view in views):
                return
            await self._node.sleep(_LOOK_SECONDS)
            self._look()

    async def _settle(self) -> None:
        if self._patience_until is None:
            self._patience_until = self._node.reactor.seconds() + self._settings.settle_timeout_seconds
        while not self._stopped and not self.is_settled:
            try:
                await self._routing.find_neighbourhood()
            except ChordError as error:
                self._log.debug("the neighbourhood is not known: {error}", error=str(error))
            self._look()
            view = self._seen
            if view is not None:
                is_late = self._node.reactor.seconds() > self._patience_until
                pending, doubts = list(self._pending), self._doubts
                others = await self._others()
                if others is not None and await self._compare_with(others, not is_late):
                    self._look()
                    if (self._seen, self._pending, self._doubts) == (view, pending, doubts):
                        self._settled_in(view, is_late)
                        return
                    continue
            await self._node.sleep(_RETRY_SECONDS * (0.5 + self._node._rng.random()))

    def _settled_in(self, view: Neighbourhood, is_late: bool) -> None:
        if is_late:
            self._log.warn("not everyone could be compared with in time: going on with what there is")
        if self._settled is None:
            self._log.info("caught up: {count} records", count=len(self._replica.store))
        self._patience_until = None
        self._settled = view
        self._pending = []
        self._known.clear()
        self._first.opened()
        self._node._background(self._tidy())

    async def _others(self) -> list[Contact] | None:
        try:
            return (await self._routing.everyone(self._ring.me))[1:]
        except ChordError as error:
            self._log.debug("the ring could not be walked: {error}", error=str(error))
            return None

    async def _compare_with(self, others: Sequence[Contact] | None, is_all_needed: bool) -> bool:
        """Compare with several.

        :returns: whether it was done with all, or with all that can be reached where that is enough.
        """
        waiting = iter(others or ())
        failed: list[Contact] = []

        async def one_after_another() -> None:
            for contact in waiting:
                try:
                    await self._compare(contact)
                except ChordError as error:
                    failed.append(contact)
                    text = "could not compare with {host}:{port}: {error}"
                    self._log.debug(text, host=contact.host, port=contact.port, error=str(error))

        workers = [Deferred.fromCoroutine(one_after_another()) for _ in range(_AT_ONCE)]
        outcomes: list[tuple[bool, Any]] = await DeferredList(workers, consumeErrors=True)
        for succeeded, result in outcomes:
            if not succeeded:
                result.raiseException()
        return not failed or not is_all_needed

    async def _compare(self, contact: Contact) -> None:
        """Compare with one member, and exchange what differs.

        :raises ChordError: when it does not answer to the end, or sees our neighbourhood otherwise.
        """
        await self._shares.refresh()
        view = self._seen or Neighbourhood((self._ring.me.id,), False)
        ids = [id.to_bytes(ID_BYTES, "big") for id in view.ids]
        tree = self._shares.tree(contact.id)
        root = digest_to_wire(tree.root)
        reply = await self._transfer.ask(contact, "tree", ids, view.is_whole, root)
        if reply:
            theirs = leaves_from_wire(reply[0])
            await self._exchanging.run(lambda: Deferred.fromCoroutine(self._exchange_all(contact, theirs)))

    async def _exchange_all(self, contact: Contact, theirs: list[int]) -> None:
        differing = self._shares.tree(contact.id).differing(theirs)
        for some in batches(differing, len(self._replica.store)):
            await self._exchange(contact, some)

    async def _exchange(self, contact: Contact, leaves: list[int]) -> None:
        try:
            listed = await self._transfer.ask(contact, "leaves", leaves)
        except ValueTooLarge:  # long keys
            if len(leaves) == 1:
                raise
            for half in (leaves[: len(leaves) // 2], leaves[len(leaves) // 2 :]):
                await self._exchange(contact, half)
            return
        theirs = dict(map(listed_from_wire, listed))
        ours = {key: digest for leaf in leaves for key, digest in self._shares.listed(contact.id, leaf)}
        wanted = [key for key, digest in theirs.items() if self._shares.digest(key) != digest]
        await self._transfer.fetch_from(contact, wanted)
        given = [key for key in {**ours, **theirs} if self._shares.digest(key) != theirs.get(key)]
        try:
            await self._transfer.give_to(contact, given)
        except ValueTooLarge as error:  # which no further try can mend
            self._log.info("a record stays as it is elsewhere: {error}", error=str(error))

    # What others ask

    def _tree(self, caller: MeshConnection, ids: Any, is_whole: Any, root: Any) -> Deferred[list[Any]]:
        """``tree(neighbourhood, is it the whole ring, root)`` -> nothing when all that we share is the same;
        else the leaves. Refused when we see the caller's neighbourhood otherwise."""
        self._node._calling_member(caller)
        if not isinstance(ids, list) or not 0 < len(ids) <= self._settings.replicas + 1:
            raise ProtocolError("tree takes a neighbourhood and a root")
        view = [position_from_wire(id) for id in ids]
        return Deferred.fromCoroutine(
            self._answer_tree(caller.id_10, view, bool(is_whole), digest_from_wire(root))
        )

    async def _answer_tree(self, caller_id: int, ids: list[int], is_whole: bool, root: int) -> list[Any]:
        if not await self._routing.shares_view(ids, is_whole):
            raise NotJoined("that part of the ring looks otherwise from here")
        await self._shares.refresh()
        tree = self._shares.tree(caller_id)
        return [] if tree.root == root else [tree.leaves_to_wire()]

    def _leaves(self, caller: MeshConnection, leaves: Any) -> list[Any]:
        """``leaves(numbers)`` -> ``[key, digest], ...``: what we share with the caller in these leaves."""
        self._node._calling_member(caller)
        return [
            listed_to_wire(key, digest)
            for leaf in leaf_numbers_from_wire(leaves)
            for key, digest in self._shares.listed(caller.id_10, leaf)
        ]

    # What is not ours

    async def _tidy(self) -> None:
        """Pass on what is others' to keep, and forget it once they have it."""
        try:
            await self._shares.refresh()
            await self._transfer.pass_on(self._shares.strays())
        except ChordError as error:
            self._log.info("not everything could be passed on: {error}", error=str(error))

    async def _forget(self) -> None:
        """Drop what was deleted or has expired long ago; looked for a slice at a time, and not often."""
        now = self._node.reactor.seconds()
        if now < self._forget_due_at:
            return
        self._forget_due_at = now + self._settings.tombstone_seconds / _FORGETS_IN_TOMBSTONE_TIME
        for count, key in enumerate(self._replica.store.keys(), start=1):
            if count % _SLICE_KEYS == 0:
                await self._node.sleep(_SLICE_PAUSE_SECONDS)
            record = self._replica.store.get(key)
            if record is not None and self._replica.is_forgettable(record):
                self._replica.store.drop(key)
                self._shares.dropped(key)
