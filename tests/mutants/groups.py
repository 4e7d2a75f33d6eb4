"""Faults to be planted in :mod:`chordtx.group`, one small patch each: every one of them has to be caught.

The first 28 are mistakes that one can make in the protocol, as its specification lists them; the others are
mistakes that one can make in this implementation of it.
"""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """One fault.

    :ivar file: in ``chordtx/group``. :ivar changes: what stands there, once, and what is put in its place.
    :ivar what: is wrong then.
    """

    name: str
    file: str
    what: str
    changes: tuple[tuple[str, str], ...]


MUTANTS = (
    Mutant(
        "forget_lease",
        "replica.py",
        "after a restart it does not keep the lease that it may have granted",
        (
            (
                "            self._granted = Granted(self.promised, turn.now + settings.lease_seconds)\n        self._pending",
                "            pass\n        self._pending",
            ),
        ),
    ),
    Mutant(
        "lease_from_ack",
        "leader.py",
        "a lease is counted from when the acknowledgement came",
        (
            (
                "self._held_lease.granted(by, min(sent, self._turn.now))",
                "self._held_lease.granted(by, self._turn.now)",
            ),
        ),
    ),
    Mutant(
        "no_drift_allowance",
        "../config.py",
        "the whole lease is counted, as if clocks ran alike",
        (("self.lease_seconds * (1 - self.drift_allowance)", "self.lease_seconds"),),
    ),
    Mutant(
        "prepare_ignores_lease",
        "replica.py",
        "a promise is given against a lease that runs",
        (
            (
                "if ballot < self.promised or wait or self.is_lost:",
                "if ballot < self.promised or self.is_lost:",
            ),
        ),
    ),
    Mutant(
        "serve_before_majority",
        "leader.py",
        "a leader serves before a majority has its state",
        (
            (
                "needed = self._majority",
                "needed = 1 if self.stage == INSTALLING else self._majority",
            ),
        ),
    ),
    Mutant(
        "accept_below_promise",
        "replica.py",
        "changes of a smaller ballot than promised are accepted",
        (
            (
                "        if ballot < self.promised:\n            self._turn.send(by, self.partition, Refused(self.history.mark, ballot, self.promised, 0.0))\n            return False\n",
                "",
            ),
        ),
    ),
    Mutant(
        "ids_lost",
        "group.py",
        "a new leader forgets what was done",
        (
            (
                "        first, held = self._sequence, []",
                "        state.clients = {}\n        first, held = self._sequence, []",
            ),
        ),
    ),
    Mutant(
        "activate_at_one",
        "leader.py",
        "the next epoch is active once one member has its state",
        (
            (
                "needed = self._majority",
                "needed = (\n"
                "            1 if self.stage == INSTALLING and self.configuration.epoch.number else self._majority\n"
                "        )",
            ),
        ),
    ),
    Mutant(
        "no_prepare_in_next",
        "group.py",
        "the next epoch begins without promises of a majority of it",
        (("        if not move.is_promised:\n            return\n", ""),),
    ),
    Mutant(
        "seal_at_one",
        "leader.py",
        "an epoch is over once one member knows so",
        (
            (
                "needed = self._majority",
                "needed = 1 if self.state.next else self._majority",
            ),
        ),
    ),
    Mutant(
        "install_union",
        "copying.py",
        "records that the leader lacks stay",
        (
            (
                "self.state = State(self._differs.header, self._records, self._clients)",
                "self.state = State(self._differs.header, self._base | self._records, self._clients)",
            ),
        ),
    ),
    Mutant(
        "lists_without_a_lease",
        "leader.py",
        "whoever led goes on to list keys",
        (
            (
                "        if now < self._held_lease.until or self.is_leased():\n",
                "        if now < self._held_lease.until or self.is_leased() or operation.kind != GET:\n",
            ),
        ),
    ),
    Mutant(
        "read_uncommitted",
        "leader.py",
        "reads see what a majority does not have yet",
        (("self._uncommitted.record(key, self.state.records)", "self.state.records.get(key)"),),
    ),
    Mutant(
        "renew_in_activate",
        "group.py",
        "the old epoch is read, and its leases renewed, while the next one begins",
        (
            (
                "        self.candidate = self._move = None\n        if self.me.id",
                "        self.candidate = self._move = None\n"
                "        self.before = self.leader\n"
                "        if self.before is not None:\n"
                "            self.before.state = self.before.state.copy()\n"
                "        if self.me.id",
            ),
            ("        self._pairs.leads_no_more(self.partition)\n        self.leader.hold(held)\n", ""),
            (
                '        """A client\'s operation. A member that does not lead names who does, as far as it knows."""\n',
                "        before = getattr(self, 'before', None)\n"
                "        if before is not None and operation.kind == 0 and self.leader is not None:\n"
                "            before.do(who, operation)\n"
                "            return\n",
            ),
            (
                "        if self.leader is not None:\n            self.leader.confirmed()\n",
                "        if self.leader is not None:\n            self.leader.confirmed()\n"
                "            if getattr(self, 'before', None) is not None:\n"
                "                self.before.confirmed()\n",
            ),
        ),
    ),
    Mutant(
        "old_confirm",
        "leader.py",
        "a confirm that was sent before the read came counts for it",
        (
            (
                "Read(self._pairs.latest_number, who, operation)",
                "Read(self._pairs.latest_number - 2, who, operation)",
            ),
        ),
    ),
    Mutant(
        "known_uncommitted",
        "leader.py",
        "an operation that is known is answered again before it is committed",
        (("        if is_committed:\n", "        if True:\n"),),
    ),
    Mutant(
        "no_change_unlogged",
        "leader.py",
        "an operation that changes nothing is answered at once",
        (
            (
                "        if after is not None and after is not before:\n",
                "        if after is before:\n"
                "            answer = Answer(client, number, *result, rank, self.committed_rank)\n"
                "            self._turn.answer(who, self._partition, answer)\n"
                "            return\n"
                "        if after is not None and after is not before:\n",
            ),
        ),
    ),
    Mutant(
        "merge",
        "replica.py",
        "of a state that is installed, and the one that is there, the newer records are kept",
        (
            (
                "        state.configuration, state.evicted, state.now_ms, state.next = pending.header\n",
                "        state.configuration, state.evicted, state.now_ms, state.next = pending.header\n"
                "        for key, mine in ({} if self.state is None else self.state.records).items():\n"
                "            if key not in state.records or mine.rank > state.records[key].rank:\n"
                "                state.records[key] = mine\n",
            ),
        ),
    ),
    Mutant(
        "nogap",
        "replica.py",
        "changes are applied whatever they follow",
        (
            (
                "if rank.sequence == told.after and rank.ballot == ballot and rank.epoch == epoch:",
                "if self.state is not None and rank.sequence <= told.after and rank.ballot == ballot and rank.epoch == epoch:",
            ),
        ),
    ),
    Mutant(
        "version_without_node",
        "state.py",
        "a record's version does not tell whose ballot it is of",
        (
            (
                "record = named(Record, (change.value, change.expires_ms, rank, now_ms))",
                "record = Record(change.value, change.expires_ms, "
                "rank._replace(ballot=rank.ballot._replace(node=b'')), now_ms)",
            ),
        ),
    ),
    Mutant(
        "retired_blank",
        "replica.py",
        "who has dropped its state forgets for which epoch",
        (
            (
                "        self._drop(configuration)\n        return True",
                "        self._drop(NO_CONFIGURATION)\n        return True",
            ),
        ),
    ),
    Mutant(
        "resealer_reads",
        "group.py",
        "who finds an epoch sealed reads in it",
        (("                leader.stage = PASSING\n", "                leader.stage = SEALED\n"),),
    ),
    Mutant(
        "sequence_restarts",
        "group.py",
        "a ballot's sequence begins anew in the next epoch",
        (
            (
                "            return\n        self._sequence = leader.newest + 1\n",
                "            return\n        self._sequence = 0\n",
            ),
        ),
    ),
    Mutant(
        "promise_not_synced",
        "replica.py",
        "a promise is not on disk before it is told",
        (("return Stored(self.promised, self.left,", "return Stored(self.rank.ballot, self.left,"),),
    ),
    Mutant(
        "ballot_not_synced",
        "group.py",
        "a candidate does not promise itself before it asks",
        (
            (
                "            replica.promise(ballot)  # its own promise first: no ballot is used twice\n",
                "            replica.promised = ballot\n",
            ),
        ),
    ),
    Mutant(
        "no_stamp",
        "leader.py",
        "operations are done though it is forgotten whether they were",
        (("        if stamp < state.evicted:\n", "        if False:\n"),),
    ),
    Mutant(
        "rank_by_sequence",
        "candidate.py",
        "the state with the most changes is taken, whosever they are",
        (
            (
                "key=lambda id: (answers[id].rank, id == self.me)",
                "key=lambda id: (answers[id].rank.sequence, answers[id].rank, id == self.me)",
            ),
        ),
    ),
    Mutant(
        "commit_at_one",
        "leader.py",
        "a change is committed once one member has it",
        (("needed = self._majority", "needed = 1"),),
    ),
    Mutant(
        "hand_without_stop",
        "group.py",
        "a leader hands its lead over, and leads on",
        (
            (
                "        leader.flush()\n        self._step_down()\n",
                "        leader.flush()\n",
            ),
        ),
    ),
    # Of this implementation
    Mutant(
        "turns_share_their_messages",
        "groups.py",
        "what waits for one turn's disk is joined by what the next turns say",
        (
            (
                "        turn.when_synced, turn.answers, turn.news = {}, [], []\n        return ended",
                "        turn.answers, turn.news = [], []\n"
                "        if turn.when_synced:\n"
                "            turn.when_synced = {}\n"
                "        return ended",
            ),
        ),
    ),
    Mutant(
        "promise_of_any_history",
        "group.py",
        "a promise counts in another history than it was given in",
        (
            (
                "        if answer.configuration.epoch.mark != self.replica.history.mark and not answer.trial:\n"
                "            return  # a promise of another history\n",
                "",
            ),
        ),
    ),
    Mutant(
        "handed_over_in_any_history",
        "group.py",
        "a lead is taken over that was handed over in another history",
        (
            (
                "(self.replica.promised, self.replica.history.mark) == told",
                "self.replica.promised == told.ballot",
            ),
        ),
    ),
    Mutant(
        "newer_is_a_promise",
        "group.py",
        "who tells of a later configuration is counted as if it had promised",
        (
            (
                "            candidate.knows(told.configuration)\n",
                "            candidate.answers[by] = Promise(\n"
                "                candidate.ballot, candidate.trial, NO_RANK, told.configuration, None, 0\n"
                "            )\n",
            ),
        ),
    ),
    Mutant(
        "follows_and_stands",
        "replica.py",
        "who has promised another ballot answers confirms as before",
        (
            (
                "            self.promised = ballot\n            self._changed()\n",
                "            self.promised = ballot\n            self._turn.unsaved.add(self.partition)\n",
            ),
        ),
    ),
    Mutant(
        "lost_and_promising",
        "replica.py",
        "who has lost its state gives promises",
        (("if ballot < self.promised or wait or self.is_lost:", "if ballot < self.promised or wait:"),),
    ),
    Mutant(
        "ack_before_sync",
        "replica.py",
        "an acknowledgement does not wait for the disk",
        (
            (
                "        turn.send(by, self.partition, told)",
                "        turn.send_at_once((by,), self.partition, told)",
            ),
        ),
    ),
    Mutant(
        "confirm_lease_from_answer",
        "confirming.py",
        "a lease is counted from when the answer to a confirm came",
        (("sent._replace(entries=entries)", "sent._replace(entries=entries, sent=self._turn.now)"),),
    ),
    Mutant(
        "confirm_grants_nothing",
        "confirming.py",
        "who answers a confirm does not keep the lease",
        (("        self._granted[by] = self._turn.now + self._settings.lease_seconds\n", ""),),
    ),
    Mutant(
        "confirm_counts_all",
        "confirming.py",
        "a confirm counts for partitions that the other node did not list",
        (
            (
                "            entries = {each: entry for each, entry in entries.items() if theirs.get(each) == entry}\n",
                "",
            ),
        ),
    ),
    Mutant(
        "watermark_ignored",
        "leader.py",
        "an operation is done though its client has had the answer",
        (("            if number <= known.answered:\n", "            if False:\n"),),
    ),
    Mutant(
        "watermark_early",
        "state.py",
        "what was done is forgotten though its client waits for the answer",
        (("if each <= answered:", "if each <= number:"),),
    ),
    Mutant(
        "copy_of_what_moves",
        "replica.py",
        "a copy is given of a state that goes on meanwhile",
        (("Source(self.state.copy(), self.rank, self", "Source(self.state, self.rank, self"),),
    ),
    Mutant(
        "base_of_anything",
        "leader.py",
        "a member that has the state that the leader began with is told that it has the newest",
        (("base = self.base if self.newest == self.first else NO_RANK", "base = self.base"),),
    ),
    Mutant(
        "missed_with_a_gap",
        "replica.py",
        "changes that came during a copy are applied though one between them is lacking",
        (
            (
                "            if (told.ballot, told.epoch, told.after) == (rank.ballot, rank.epoch, rank.sequence):\n",
                "            if (told.ballot, told.epoch) == (rank.ballot, rank.epoch) and told.after >= rank.sequence:\n",
            ),
        ),
    ),
    Mutant(
        "expired_at_once",
        "leader.py",
        "an expired record is answered as gone before a change has removed it",
        (
            (
                "                self._read_late(who, operation, now_ms, [key])\n",
                "                self.answer(who, operation, *operations.get(None))\n",
            ),
        ),
    ),
    Mutant(
        "time_goes_back",
        "partition_time.py",
        "the partition's time follows the wall clocks back",
        (
            (
                "int(max(advanced, self._walls.median_ms(self._members)))",
                "int(self._walls.median_ms(self._members))",
            ),
        ),
    ),
    Mutant(
        "gone_too_soon",
        "group.py",
        "who leaves drops its state before the next epoch is active",
        (
            (
                "        self.leader.hold(held)\n        self.leader.begin()\n",
                "        self.leader.hold(held)\n        self.leader.begin()\n        self._retire(self.leader)\n",
            ),
        ),
    ),
    Mutant(
        "uncommitted_undone_once",
        "uncommitted.py",
        "of several changes of one key that are not committed, reads see what was there before the first",
        (
            (
                "            was = replaced.popleft()\n",
                "            was = replaced.pop()\n",
            ),
        ),
    ),
    Mutant(
        "watchers_miss_a_gap",
        "watchers.py",
        "a watcher is not told that its leader does not know all that came and went since",
        (("or after < recent.since:", "or after < recent.since < after:"),),
    ),
    Mutant(
        "watchers_hear_too_early",
        "leader.py",
        "watchers go on from the newest change, which may never be committed",
        (
            (
                "self._replica.touched.keys, self.committed_rank)",
                "self._replica.touched.keys, self.rank)",
            ),
        ),
    ),
    Mutant(
        "watchers_hear_of_no_deletion",
        "watchers.py",
        "of keys that went watchers are not told",
        (("    if went is None or went[1] == ADDED:\n", "    if went is None or went[1] != UPDATED:\n"),),
    ),
    Mutant(
        "watchers_after_a_cut",
        "replica.py",
        "who takes over a whole state goes on as if it had seen all that led to it",
        (
            (
                "        self.touched.keys.copied(recent or Recent(rank, ()), rank if base == NO_RANK else base)\n",
                "",
            ),
        ),
    ),
    Mutant(
        "forced_without_mark",
        "group.py",
        "a history that was begun by force has no mark",
        (("        mark = 1 + self._rng.getrandbits(_MARK_BITS)\n", "        mark = 0\n"),),
    ),
)
