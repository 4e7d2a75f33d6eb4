"""A ring of five nodes on this machine that knows every named Unicode character.

Loads about 34,000 records through one node that stores nothing, reads 1,000 of them back one at a time
through different nodes, and stays up to be asked until it is interrupted.
"""

from __future__ import annotations

import random
import statistics
import sys
import unicodedata
from collections.abc import Iterator
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import click
from twisted.internet.defer import Deferred

from chordtx.chord import ChordService
from chordtx.cli import running
from chordtx.cli.client import Client
from chordtx.cli.local import PORT_DEFAULT, PORT_MAX, asking_command, tell_of_end, until_interrupted
from chordtx.cli.local_ring import LocalRing
from chordtx.cli.meter import Meter
from chordtx.cli.pipeline import Pipeline
from chordtx.cli.running import Failed, PortTaken

NODES = 5
UNDER_WAY_MAX = 256
SAMPLE_RECORDS = 1000
SEED = 44565
OTHER_PORT = 20_000  # below those that systems give to outgoing connections
SUBNET, ENCRYPTION = "chord", "Plaintext"
Character = dict[str, str]


def named_characters() -> Iterator[tuple[str, Character]]:
    """Every character that Unicode has named: its name, and what the ring shall know of it."""
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        name = unicodedata.name(character, "")
        # Han and Hangul names are made up of their codes and sounds: a hundred thousand that say nothing.
        if name and not name.startswith(("CJK UNIFIED", "HANGUL SYLLABLE", "TANGUT IDEOGRAPH")):
            about = {
                "code": f"U+{code:04X}",
                "character": character,
                "category": unicodedata.category(character),
            }
            yield name, about


async def load(node: ChordService, characters: dict[str, Character], meter: Meter) -> None:
    """Store every character under its name."""
    async with Pipeline(UNDER_WAY_MAX) as pipeline:
        for name, about in characters.items():
            await pipeline.add(name, partial(_store, node, name, about, meter))


def _store(node: ChordService, name: str, about: Character, meter: Meter) -> Deferred[None]:
    storing = node.set(name, about)
    storing.addCallback(lambda _: meter.advance())
    return storing


async def read_sample(
    reactor: Any, nodes: list[ChordService], characters: dict[str, Character]
) -> list[float]:
    """Read some characters back one at a time, each through another node than the one before.

    :returns: how long each took, in seconds.
    :raises Failed: when one is not what was stored.
    """
    latencies_seconds = []
    names = random.Random(SEED).sample(sorted(characters), SAMPLE_RECORDS)
    for name, node in zip(names, cycle(nodes), strict=False):
        started_seconds = reactor.seconds()
        about = await node.get(name, None)
        latencies_seconds.append(reactor.seconds() - started_seconds)
        if about != characters[name]:
            raise Failed(f"{name} came back as {about!r}")
    return latencies_seconds


async def demonstrate(reactor: Any, ring: LocalRing) -> None:
    """Load the ring, and read a sample back through each of its nodes."""
    characters = dict(named_characters())
    async with Clients(reactor, ring.addresses[:1]) as [node]:
        with Meter("loaded", reactor.seconds, len(characters)) as meter:
            await load(node, characters, meter)
    async with Clients(reactor, ring.addresses) as nodes:
        latencies_seconds = await read_sample(reactor, nodes, characters)
    click.echo(
        f"read {SAMPLE_RECORDS:,} of them back, one at a time, through {len(nodes)} nodes in turn: "
        f"all as stored; median {statistics.median(latencies_seconds) * 1000:.2f} ms"
    )


class Clients:
    """One leeching node for each address, joined through it; for the length of an ``async with``."""

    def __init__(self, reactor: Any, addresses: list[str]) -> None:
        self._reactor = reactor
        self._clients = [
            Client(peers=(address,), subnet=SUBNET, encryption=ENCRYPTION) for address in addresses
        ]
        self._nodes: list[ChordService] = []

    async def __aenter__(self) -> list[ChordService]:
        try:
            for client in self._clients:
                node = client.start(self._reactor)
                self._nodes.append(node)
                await node.when_joined()
        except BaseException:
            await self.__aexit__()
            raise
        return self._nodes

    async def __aexit__(self, *error: object) -> None:
        for node in self._nodes:
            await node.stopService()


@click.command(help=__doc__)
@click.option(
    "--port",
    type=click.IntRange(1, PORT_MAX + 1 - NODES),
    default=PORT_DEFAULT,
    show_default=True,
    help="The first.",
)
@click.option("--once", is_flag=True, help="End after the sample instead of staying up.")
def main(port: int, once: bool) -> None:
    """Run the demonstration."""

    async def work(reactor: Any) -> None:
        ring = LocalRing(reactor, NODES, port, subnet=SUBNET, encryption=ENCRYPTION, on_end=tell_of_end)
        try:
            click.echo(f"starting {NODES} nodes")
            await ring.start()
            click.echo("up: " + ", ".join(ring.addresses))
            await demonstrate(reactor, ring)
            if not once:
                click.echo(directions(ring.addresses[0]))
                await until_interrupted(ring)
        except PortTaken as error:
            raise Failed(f"{error}: {other_ports(port)}", error.status) from error
        finally:
            await ring.stop()

    running.run(work)


def other_ports(port: int) -> str:
    """What to do when one of the ports from ``port`` on is taken."""
    other = OTHER_PORT if port != OTHER_PORT else OTHER_PORT + NODES
    return f"take other ports, as with make run PORT={other}"


def directions(address: str) -> str:
    """How to ask the ring, with the command that stands beside this interpreter."""
    folder = Path(sys.executable).parent
    if folder.is_relative_to(Path.cwd()):
        folder = folder.relative_to(Path.cwd())
    ask = str(folder / asking_command(address, SUBNET, ENCRYPTION))
    return f"""Ask it from another terminal:
  {ask} get 'GREEK SMALL LETTER ALPHA'
  {ask} keys --prefix 'GREEK SMALL'
  {ask} ring
Ctrl-C stops it."""


if __name__ == "__main__":
    main()
