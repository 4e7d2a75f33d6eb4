"""What nodes say to each other, said right: the arguments of each method, the payloads of each sub-flag."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack

from chordtx.wire import flags
from tests.fuzz.words import Words

MANY_SHARE = 0.06
Make = Callable[[Words], list[Any]]


def some(make: Callable[[], Any], words: Words, most: int = 4) -> list[Any]:
    """A few of a kind; now and then so many that a loop within a loop would show."""
    if words.rng.random() < MANY_SHARE:
        return [make() for _ in range(20)] * words.rng.choice([20, 200, 200])
    return [make() for _ in range(words.rng.randrange(most + 1))]


def _none(words: Words) -> list[Any]:
    return []


#: The arguments of each method. What writes takes a key that no honest node has.
METHODS: dict[str, dict[str, Make]] = {
    "mesh": {
        "ping": _none,
        "echo": lambda w: [w.value()],
        "farewell": _none,
        "broadcasts": lambda w: [b"".join(some(w.digest, w)), w.rng.choice([0, 5.0, 1e9])],
    },
    "chord": {
        "find": lambda w: [w.position(), w.rng.randrange(70)],
        "neighbours": _none,
        "notify": _none,
        "nudge": _none,
        "left": _none,
        "missed": _none,
        "status": _none,
        "may_begin": _none,
        "ring_age": lambda w: [*w.rng.choice([[None, None], [5000, 5000], [10**12, 1]])],
        "read": lambda w: [w.key(), w.tag()],
        "version": lambda w: [w.key(), w.tag()],
        "write": lambda w: [w.foreign_key(), w.record(), w.tag()],
        "keys": lambda w: [w.position(), w.position(), w.rng.choice([1, 3, 500, 10**9])],
        "fetch": lambda w: [some(w.key, w)],
        "offer": lambda w: [some(lambda: [w.key(), w.digest()], w)],
        "take": lambda w: [some(lambda: [w.foreign_key(), w.record()], w)],
        "tree": lambda w: [w.ids(), w.rng.random() < 0.5, w.digest()],
        "leaves": lambda w: [w.rng.sample(range(256), w.rng.choice([0, 1, 256]))],
        "old_store": lambda w: _old_store(w),
        "old_retrieve": lambda w: [w.place_to_wire(w.place()), w.position()],
        "old_opinion": lambda w: [w.key(), w.place_to_wire(w.place())],
        "old_settled": lambda w: [
            w.key(),
            w.place_to_wire(w.place()),
            w.rng.choice([None, [w.clock(), w.writer()]]),
        ],
        "old_hint": lambda w: [w.key()],
        "old_refresh": lambda w: [w.key()],
    },
    "sync": {
        "sync_tree": lambda w: [w.digest()],
        "sync_leaves": lambda w: [w.rng.sample(range(256), w.rng.choice([0, 1, 256]))],
        "sync_fetch": lambda w: [some(w.key, w)],
        "sync_take": lambda w: [some(lambda: [w.foreign_key(), w.entry()], w)],
    },
}


def _old_store(words: Words) -> list[Any]:
    is_delta = words.rng.random() < 0.3
    packed = msgpack.packb(words.map()) if is_delta else words.packed()
    return [words.place_to_wire(words.place_written()), is_delta, packed, words.position()]


#: What is said to answer a call of each method, right where it is known what was asked.
RESULTS: list[Make] = [
    _none,
    lambda w: [None],
    lambda w: [w.record(), False, True],
    lambda w: [w.clock(), w.writer(), True, True],
    lambda w: [False, True],
    lambda w: [w.position(), [[w.position(), *w.address()] for _ in range(3)], 1],
    lambda w: [None, [[w.position(), *w.address()]]],
    lambda w: [[w.key(), w.record()], [w.foreign_key(), w.record()]],
    lambda w: [[w.key(), w.entry()]],
    lambda w: [w.digest() * 256],
    lambda w: [[w.key(), w.digest()]],
    lambda w: [0, 1, 2],
    lambda w: [None, some(w.key, w), True],
    lambda w: [5000, 5000],
    lambda w: [[False, w.packed(), [w.clock(), w.writer()], None]],
    lambda w: [True],
]

Say = Callable[[Words, Callable[[str], Any]], list[Any]]

#: The payloads of each sub-flag: ``text`` writes an id or a name in the peer's dialect.
PAYLOADS: dict[str, list[tuple[int, Say]]] = {
    "mesh": [
        (flags.BROADCAST, lambda w, text: some(w.value, w)),
        (flags.WHISPER, lambda w, text: some(w.value, w)),
        (flags.WHISPER, lambda w, text: [w.value()] * 20),
        (flags.PEERS, lambda w, text: [some(lambda: [w.address(), text(w.id_text())], w, 9)]),
        (flags.REQUEST, lambda w, text: [text("*")]),
        (flags.REQUEST, lambda w, text: [text(w.id_text()), text(w.id_text())]),
        (flags.RESPONSE, lambda w, text: [text(w.id_text()), [w.address(), text(w.id_text())]]),
        (flags.COMPRESSION, lambda w, text: [w.rng.sample([*range(16, 20), 32, 99], 3)]),
        (flags.RESEND, lambda w, text: []),
        (flags.HELLO, lambda w, text: [1]),
        (flags.HANDSHAKE, lambda w, text: [text(w.id_text()), text(w.id_text()), w.address(), [19, 32]]),
        (flags.PING, lambda w, text: []),
        (0x33, lambda w, text: some(w.value, w)),
    ],
    "chord": [
        (flags.HANDSHAKE, lambda w, text: [w.rng.choice("01")]),
        (flags.NOTIFY, lambda w, text: [w.key()]),
        (flags.NOTIFY, lambda w, text: [w.key(), text("del")]),
        (flags.STORE, lambda w, text: [*map(text, w.place_to_old(w.place_written())), w.value()]),
        (flags.STORE, lambda w, text: [*map(text, w.place_to_old(w.place_written())), None]),
        (flags.DELTA, lambda w, text: [*map(text, w.place_to_old(w.place_written())), w.map()]),
        (flags.RETRIEVE, lambda w, text: [*map(text, w.place_to_old(w.place()))]),
        (flags.RETRIEVED, lambda w, text: [*map(text, w.place_to_old(w.place())), w.value()]),
        (flags.ANNOUNCE, lambda w, text: [some(lambda: [w.key(), w.rng.randrange(2)], w)]),
    ],
    "sync": [
        (flags.STORE, lambda w, text: [w.foreign_key(), w.value()]),
        (
            flags.STORE,
            lambda w, text: [w.foreign_key(), w.value(), [w.clock(), w.expiry_ms(), 1, w.seconds()]],
        ),
        (flags.STORE, lambda w, text: [w.foreign_key(), w.value(), text(w.id_text()), w.seconds()]),
        (flags.DELTA, lambda w, text: [w.foreign_key(), w.map()]),
        (flags.DELTA, lambda w, text: [w.foreign_key(), w.map(), [w.clock(), None, 0, 0]]),
    ],
}
#: How what has a sub-flag travels, where it is not whispered or broadcast.
RENEGOTIATED = (flags.COMPRESSION, flags.RESEND)


def methods_of(service: str) -> dict[str, Make]:
    """Those of a service: its own, and those of any mesh node."""
    return METHODS["mesh"] | METHODS[service]


def payloads_of(service: str) -> list[tuple[int, Say]]:
    """The same for payloads, its own ones more often."""
    return PAYLOADS["mesh"] + (2 * PAYLOADS[service] if service != "mesh" else [])
