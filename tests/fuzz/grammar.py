"""What nodes say to each other, said right: the arguments of each method, the payloads of each sub-flag."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, nan
from typing import Any

import msgpack

from chordtx.wire import flags
from tests.fuzz.members import rows_of
from tests.fuzz.words import Words
from tests.mesh.fuzz import broken_bytes, mutated

MANY_SHARE = 0.06
#: Of the frames that members of groups send one another.
MUTATED_FRAMES_SHARE = 0.3
BROKEN_FRAMES_SHARE = 0.05
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
        "find": lambda w: [w.position(), w.rng.randrange(70), w.rng.choice([2, 0.5, 0, -1, nan, inf])],
        "neighbours": _none,
        "notify": _none,
        "nudge": _none,
        "left": _none,
        "status": _none,
        "may_begin": _none,
        "rival": lambda w: [w.rng.choice(["10.7.7.7:4000", "", w.key()])],
        "led_groups": _none,
        "set_aside": _none,
        "read_set_aside": lambda w: [w.partition(), w.rng.choice([0, 7]), w.rng.choice([None, w.key()])],
        "leave": _none,
        "recover": _none,
        "force": _none,
        "do": lambda w: w.operation(),
        "pass_on": lambda w: [w.node_bytes(), *w.operation()],
        "place": lambda w: [w.row(), w.partitions()],
        "leads": lambda w: [w.partitions()],
        "legacy_store": lambda w: _legacy_store(w),
        "legacy_retrieve": lambda w: [w.place_to_wire(w.place()), w.position()],
        "legacy_hint": lambda w: [w.key()],
        "legacy_refresh": lambda w: [w.key()],
        "legacy_keys": lambda w: [w.position(), some(w.key, w), w.partitions()],
        "legacy_changed": lambda w: [w.position(), some(lambda: [w.key(), w.rng.random() < 0.3], w)],
        "legacy_opinion": lambda w: [w.key(), w.place_to_wire(w.place())],
        "legacy_settled": lambda w: [
            w.key(),
            w.place_to_wire(w.place()),
            w.rng.randrange(99),
            w.rng.random() < 0.5,
            w.rng.choice([None, w.rank()]),
        ],
    },
    "sync": {
        "sync_tree": lambda w: [w.digest()],
        "sync_leaves": lambda w: [w.rng.sample(range(256), w.rng.choice([0, 1, 256]))],
        "sync_fetch": lambda w: [some(w.key, w)],
        "sync_take": lambda w: [some(lambda: [w.foreign_key(), w.entry()], w)],
    },
}


def _legacy_store(words: Words) -> list[Any]:
    is_delta = words.rng.random() < 0.3
    packed = msgpack.packb(words.map()) if is_delta else words.packed()
    return [words.place_to_wire(words.place_written()), is_delta, packed, words.position()]


#: What is said to answer a call of each method, right where it is known what was asked.
RESULTS: list[Make] = [
    _none,
    lambda w: [None],
    lambda w: w.answer(),
    lambda w: [w.position(), [w.contact() for _ in range(3)], 1],
    lambda w: [None, [w.contact()]],
    lambda w: [[[w.partition(), w.rng.choice([None, w.node_bytes()])]]],
    lambda w: [[w.key(), w.entry()]],
    lambda w: [w.digest() * 256],
    lambda w: [[w.key(), w.digest()]],
    lambda w: [0, 1, 2],
    lambda w: [w.opinion()],
    lambda w: [w.packed()],
    lambda w: [[[w.partition(), [w.node_bytes()], [True]]]],
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
        *[(flags.GROUPS, lambda w, text: [groups_frame(w)])] * 4,
        *[(flags.STANDING, lambda w, text: [w.standing()])] * 2,
        (flags.REFUSAL, lambda w, text: ["because\x1b[2J"]),
        (flags.LEGACY, lambda w, text: []),
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


def groups_frame(words: Words) -> bytes:
    """A frame of what members tell, as it is or changed."""
    rows = rows_of(some(words.told, words))
    if words.rng.random() < MUTATED_FRAMES_SHARE:
        rows = [*mutated((None, *rows), words.rng)[1:]]
    packed: bytes = msgpack.packb(rows)
    return broken_bytes(packed, words.rng) if words.rng.random() < BROKEN_FRAMES_SHARE else packed


#: How what has a sub-flag travels, where it is not whispered or broadcast.
RENEGOTIATED = (flags.COMPRESSION, flags.RESEND)


def methods_of(service: str) -> dict[str, Make]:
    """Those of a service: its own, and those of any mesh node."""
    return METHODS["mesh"] | METHODS[service]


def payloads_of(service: str) -> list[tuple[int, Say]]:
    """The same for payloads, its own ones more often."""
    return PAYLOADS["mesh"] + (2 * PAYLOADS[service] if service != "mesh" else [])
