"""A process that stores records and says which are on disk, until it is killed: ``python writing.py FOLDER``.

Every line on standard output is the number of a save that was acknowledged.
"""

from __future__ import annotations

import sys

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.internet.threads import deferToThread

from chordtx.group.replica import Save
from chordtx.store.folder import DataFolder
from tests.store.group_turns import save

AT_ONCE = 50
PARTITION = 1


def numbered(number: int) -> Save:
    """The save of this number: its value is of another length, and known from the number."""
    return save(number, b"%d" % number, value=b"%d " % number * (number % 97))


async def write(_: object) -> None:
    """Without an end."""
    folder = DataFolder(sys.argv[1], "demo", deferToThread, reactor.callLater)  # type: ignore[attr-defined]
    list(folder.store.load())
    number = 0
    while True:
        batch = range(number, number + AT_ONCE)
        for number in batch:
            synced = folder.store.save({PARTITION: numbered(number)})
        await synced
        sys.stdout.write("".join(f"{each}\n" for each in batch))
        sys.stdout.flush()
        number += 1


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(write(reactor)))
