"""A process that stores records and says which are on disk, until it is killed: ``python writing.py FOLDER``.

Every line on standard output is the number of a record that was acknowledged.
"""

from __future__ import annotations

import sys

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.internet.threads import deferToThread

from chordtx.records import Record, Version
from chordtx.store import DataFolder

AT_ONCE = 50


def value(number: int) -> bytes:
    """What is stored under ``b"%d" % number``: of different lengths, and known from the number."""
    return b"%d " % number * (number % 97)


async def write(_: object) -> None:
    """Without an end."""
    folder = DataFolder(sys.argv[1], "demo", deferToThread, reactor.callLater)  # type: ignore[attr-defined]
    number = 0
    while True:
        batch = range(number, number + AT_ONCE)
        for number in batch:
            folder.store.merge(b"%d" % number, Record(Version(1, b"w"), value(number)))
        synced = folder.store.synced()
        assert synced is not None
        await synced
        sys.stdout.write("".join(f"{each}\n" for each in batch))
        sys.stdout.flush()
        number += 1


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(write(reactor)))
