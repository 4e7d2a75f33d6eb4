"""One stranger of a kind, and what it does: input by input, each drawn from a seed and its number alone.

Mostly it says something that the grammar has, as it is or changed in one place or more.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from attrs import frozen

from chordtx.wire import Message, compression, flags, light_frame
from chordtx.wire.frame import frame
from chordtx.wire.packing import pack
from tests.fuzz.grammar import RENEGOTIATED, RESULTS, groups_frame, methods_of, payloads_of
from tests.fuzz.words import Words
from tests.fuzz.world import World
from tests.mesh.fuzz import ODD, Stranger, broken_body, broken_bytes, mutated, odd_payloads, odd_value

MUTATED_SHARE = 0.45
#: How much of what a member says goes to groups.
GROUPS_SHARE = 0.4
LINKS = 4
#: Where those that store are said to be. Few, for addresses are remembered.
HOSTS = 20
#: One input in so many is a call frame of many calls, or of what costs most for its bytes.
MANY = [1] * 40 + [2, 5, 5, 20, 20, 300]
KNOWN_FLAGS = [*range(0x12), 0x30, *range(flags.HELLO, flags.LEGACY + 1), 0x50]
TYPES = [flags.WHISPER] * 5 + [flags.BROADCAST] * 3
LENGTHS = [0, 1, 31, 32, 33, 4096, 4097, 1 << 24, (1 << 24) + 1, (1 << 31) - 1, (1 << 32) - 1]
COMPRESSIONS = [flags.ZLIB, flags.GZIP, flags.SNAPPY, flags.BZ2, flags.LZMA]
#: What small things expand to, or nest into.
COSTLY: list[Callable[[], bytes]] = [
    lambda: b"\x91" * 5000 + b"\xc0",
    lambda: b"\xdd\xff\xff\xff\xff" * 1000,
    lambda: b"\xdd\x00\x00\x75\x30" + b"\x90" * 30_000,
    lambda: b"\xdf\x00\x00\x03\xe8" + b"\x90\xc0" * 1000,
    lambda: b"\xc6\x7f\xff\xff\xff",
]


@frozen
class Kind:
    """A kind of stranger.

    :ivar service: what it comes to. :ivar dialect: ``ours``, ``bin`` (as py2p), or ``str`` (as js2p).
    :ivar stores: whether it says that it stores, and names an address.
    """

    service: str
    dialect: str
    stores: bool = False

    @property
    def is_in_groups(self) -> bool:
        """Whether groups listen to it."""
        return self.service == "chord" and self.dialect == "ours" and self.stores

    def __str__(self) -> str:
        return f"{self.service}-{self.dialect}" + ("-stores" if self.stores else "")


KINDS = {
    str(kind): kind
    for kind in [
        *(
            Kind(service, dialect)
            for service in ("mesh", "chord", "sync")
            for dialect in ("ours", "bin", "str")
        ),
        *(Kind("chord", dialect, stores=True) for dialect in ("ours", "bin", "str")),
    ]
}


class Guest(Stranger):
    """A stranger of a kind, which greets as such.

    :param number: which of all, for its address.
    """

    def __init__(self, world: World, kind: Kind, rng: Random, number: int) -> None:
        super().__init__(world.node, kind.dialect, rng)
        self._address = [f"10.8.0.{number % HOSTS + 1}", 4000]
        self._is_storing = kind.stores
        self._meter = world.meter
        self.rest = b""
        self.asked: list[Any] = []

    def write(self, data: bytes) -> None:
        """See :class:`~tests.mesh.fuzz.Stranger`: what the service does about it at once is its turn."""
        super_write = super().write
        self._meter.measure(lambda: super_write(data))

    def greet(self) -> None:
        """See :class:`~tests.mesh.fuzz.Stranger`."""
        text = self.dialect.text
        if self.kind == "ours":
            self.say(flags.HELLO, 1)  # 2 would have its calls answered in what it cannot read
        address = self._address if self._is_storing else ["127.0.0.1", 0]
        self.say(flags.HANDSHAKE, text(self.id), text(self.node._protocol_id), address, [19, 17, 32])
        ring = getattr(self.node, "_identity", None)
        if self.kind == "ours" and ring is not None and not self.gone:
            self.say(flags.STANDING, [ring.to_wire(), False, False, False, 0, True, False])
        if self._is_storing and not self.gone:
            self.say(flags.HANDSHAKE, "0")

    def listen(self) -> None:
        """Note what the service asks."""
        for message in self.heard():
            if message.type == flags.BROADCAST:
                continue  # another stranger's, maybe
            flag = message.payload[0]
            if flag == flags.CALL:
                self.asked += message.payload[1]
            elif flag == flags.RETRIEVE:
                self.asked.append(message.payload[1:])
        del self.asked[:-100]


class Guests:
    """All strangers of one run, a few links at a time.

    :param world: whose node they come to. :param seed: with an input's number, decides all about it.
    :ivar links: how many have come.
    """

    def __init__(self, world: World, kind: Kind, seed: int) -> None:
        self._world = world
        self._kind = kind
        self._seed = seed
        self._places: list[Guest | None] = [None] * LINKS
        self._methods = methods_of(kind.service)
        self._payloads = payloads_of(kind.service)
        self.links = 0
        self._inputs: list[tuple[float, Callable[[Guest, Words], None]]] = [
            (0.52, self._say),
            (0.07, self._answer),
            (0.05, self._compress),
            (0.07, self._break),
            (0.06, self._tear),
            (0.05, self._glue),
            (0.04, self._say_anything),
            (0.03, self._cost),
            (0.05, self._be_light),
            (0.03, self._pass_on),
            (0.02, self._claim_length),
            (0.02, self._end_in_the_middle),
            (0.02, self._greet_oddly),
            (0.02, self._end),
        ]
        self._shares = [share for share, _ in self._inputs]

    @property
    def may_overwrite(self) -> bool:
        """Whether they are members of the ring, who are trusted with the records and with who keeps them."""
        return self._kind.stores

    def act(self, number: int) -> None:
        """The input of this number."""
        rng = Random(f"{self._kind} {self._seed} {number}")
        guest = self._guest(rng)
        words = Words(rng, [self._world.node, *self._world.others], guest.id)
        act = rng.choices(self._inputs, self._shares)[0][1]
        act(guest, words)

    def _guest(self, rng: Random) -> Guest:
        place = rng.randrange(LINKS)
        guest = self._places[place]
        if guest is None or guest.gone:
            self.links += 1
            guest = self._places[place] = Guest(self._world, self._kind, rng, self.links)
            guest.greet()
        guest.listen()
        return guest

    def leave(self) -> None:
        """All links end."""
        for guest in self._places:
            if guest is not None:
                guest.end()
        self._places = [None] * LINKS

    # Inputs

    def _say(self, guest: Guest, words: Words) -> None:
        guest.write(self._frame(guest, words))

    def _frame(self, guest: Guest, words: Words) -> bytes:
        """Something of the grammar, as it is or changed."""
        rng = words.rng
        if self._kind.is_in_groups and rng.random() < GROUPS_SHARE:
            return guest.data(flags.GROUPS, groups_frame(words))
        if self._kind.dialect == "ours" and rng.random() < 0.7:
            return self._calls(guest, words)
        flag, make = rng.choice(self._payloads)
        payload = self._changed((flag, *make(words, guest.dialect.text)), rng)
        kind = flags.RENEGOTIATE if flag in RENEGOTIATED else rng.choice(TYPES)
        if rng.random() < 0.02:
            kind = rng.choice([flags.RENEGOTIATE, 3, 77, -1])
        return guest.data(*payload, type=kind)

    def _calls(self, guest: Guest, words: Words) -> bytes:
        rng = words.rng
        first = rng.choice([0, 0, rng.getrandbits(20), 2**63, -5])
        calls = []
        for place in range(rng.choice(MANY)):
            name = rng.choice([*self._methods])
            number = first if rng.random() < 0.02 else first + place
            call = self._changed((name, *self._methods[name](words)), rng)
            calls.append([number, *call])
        payload: tuple[Any, ...] = (flags.CALL, calls)
        return guest.data(*(self._changed(payload, rng) if rng.random() < 0.1 else payload))

    def _changed(self, payload: tuple[Any, ...], rng: Random) -> tuple[Any, ...]:
        if rng.random() < MUTATED_SHARE:
            for _ in range(rng.choice([1, 1, 1, 2, 4])):
                payload = mutated(payload, rng)
        return payload

    def _answer(self, guest: Guest, words: Words) -> None:
        """Answer what the service has asked, or something else."""
        rng = words.rng
        if not guest.asked or rng.random() < 0.1:
            guest.asked.append([rng.randrange(9), "ping"])
        asked = guest.asked.pop(rng.randrange(len(guest.asked)))
        if self._kind.dialect != "ours":
            place = asked if len(asked) == 2 else ("sha1", "2")
            guest.say(*self._changed((flags.RETRIEVED, *place, words.value()), rng))
            return
        status = rng.choice([0, 0, 0, 0, *range(1, 9), odd_value(rng)])
        results = self._changed((None, *rng.choice(RESULTS)(words)), rng)[1:]
        arc_start = rng.choice([None, words.position(), odd_value(rng)])
        guest.say(flags.REPLY, arc_start, [[asked[0], status, *results]])

    def _compress(self, guest: Guest, words: Words) -> None:
        rng = words.rng
        data = compression.compress(self._frame(guest, words)[4:], rng.choice(COMPRESSIONS))
        what = rng.randrange(5)
        if what == 0:
            data = compression.compress(data, rng.choice(COMPRESSIONS))
        elif what == 1:
            data += rng.randbytes(5)
        elif what == 2:
            data = broken_bytes(data, rng)
        guest.write(frame(data))

    def _break(self, guest: Guest, words: Words) -> None:
        breaking = words.rng.choice([broken_bytes, broken_body])
        guest.write(breaking(self._frame(guest, words), words.rng))

    def _tear(self, guest: Guest, words: Words) -> None:
        """Say the rest of what was begun, and begin something."""
        data = self._frame(guest, words)
        place = words.rng.randrange(len(data))
        guest.write(guest.rest)
        guest.write(data[:place])
        guest.rest = data[place:]
        if words.rng.random() < 0.5:
            self._world.run(0.01)
        if words.rng.random() < 0.8:
            guest.write(guest.rest)
            guest.rest = b""

    def _glue(self, guest: Guest, words: Words) -> None:
        frames = [self._frame(guest, words) for _ in range(words.rng.randrange(2, 12))]
        data = b"".join(frames)
        for place in range(0, len(data), step := words.rng.choice([7000, 100_000, 10**9])):
            guest.write(data[place : place + step])

    def _say_anything(self, guest: Guest, words: Words) -> None:
        for payload in odd_payloads(words.rng, KNOWN_FLAGS, 1):
            guest.say(*payload, type=words.rng.choice(TYPES))

    def _cost(self, guest: Guest, words: Words) -> None:
        """Something small that expands, or is nested, or names more than there is."""
        from hashlib import sha256

        rng = words.rng
        body = b"\x94\x02\xa1x\x00" + rng.choice(COSTLY)()
        data = sha256(body).digest() + body
        if rng.random() < 0.5:
            data = bytes(rng.choice([1 << 18, 1 << 20, 1 << 22]))
        if rng.random() < 0.7:
            data = compression.compress(data, rng.choice(COMPRESSIONS))
        guest.write(frame(data))

    def _be_light(self, guest: Guest, words: Words) -> None:
        """A light frame: as one of ours would send it, or anything."""
        rng = words.rng
        flag = rng.choice([flags.CALL, flags.REPLY, flags.GROUPS, rng.randrange(256)])
        if flag == flags.GROUPS:
            body = groups_frame(words)
        else:
            entry = (rng.randrange(9), *rng.choice([("ping",), (0,), (odd_value(rng),)]))
            body = pack(self._changed(([entry],), rng)[0])
        body = rng.choice([body, body, body[1:], broken_bytes(body, rng), b""])
        data = light_frame(flag, body)
        guest.write(data if rng.random() < 0.9 else data[:4] + data[5:])

    def _pass_on(self, guest: Guest, words: Words) -> None:
        """A broadcast that somebody else is to have made."""
        flag, make = words.rng.choice(self._payloads)
        text = guest.dialect.text
        payload = self._changed((flag, *make(words, text)), words.rng)
        sender = words.rng.choice([text(words.id_text()), b"2another", "", "\0" * 70])
        message = Message.build(flags.BROADCAST, sender, words.seconds(), payload)
        guest.write(frame(message.data))

    def _claim_length(self, guest: Guest, words: Words) -> None:
        length = words.rng.choice(LENGTHS)
        guest.write(length.to_bytes(4, "big") + self._frame(guest, words)[: words.rng.randrange(2000)])

    def _end_in_the_middle(self, guest: Guest, words: Words) -> None:
        data = self._frame(guest, words)
        guest.write(data + data[: words.rng.randrange(len(data))])
        guest.end()

    def _end(self, guest: Guest, words: Words) -> None:
        guest.end()

    def _greet_oddly(self, guest: Guest, words: Words) -> None:
        """Another link that begins otherwise."""
        rng = words.rng
        text = guest.dialect.text
        newcomer = Stranger(guest.node, self._kind.dialect, rng)
        greeting = (
            *(flags.HANDSHAKE, text(rng.choice([words.id_text(), guest.id, newcomer.id]))),
            *(text(guest.node._protocol_id), words.address(), [19]),
        )
        for payload in rng.choices([(flags.HELLO, 1), greeting, (rng.choice(ODD),)], [2, 4, 1], k=3):
            newcomer.say(*self._changed(payload, rng))
        newcomer.write(rng.randbytes(rng.randrange(60)))
        if rng.random() < 0.8:
            newcomer.end()
