"""Whatever strangers say, to whichever service: no bug shows, no turn is long, and what they took comes back.

Here is a short run of each kind; ``make fuzz`` does a million inputs. And the fuzzer finds what is planted.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, get_args

import msgpack
import pytest

from chordtx.chord.placement import Placement
from chordtx.chord.serving import Serving
from chordtx.config import Limits
from chordtx.group.frames import from_wire
from chordtx.group.messages import Message
from chordtx.group.replica import Replica
from chordtx.mesh.peer_exchange import PeerExchange
from chordtx.mesh.receive_buffer import ReceiveBuffer
from chordtx.sync.replica import Replica as SyncReplica
from chordtx.wire import encode_id
from tests.fuzz.grammar import methods_of
from tests.fuzz.guest import KINDS
from tests.fuzz.members import rows_of
from tests.fuzz.run import run
from tests.fuzz.words import Words
from tests.fuzz.world import PARTITION_BITS, Failed, World

INPUTS = 1250
PLANTED_INPUTS = 2000


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_found(kind: str) -> None:
    run(kind, seed=list(KINDS).index(kind), count=INPUTS)


def test_run_is_the_same_each_time() -> None:
    runs = [run("chord-ours-stores", 1, 300) for _ in range(2)]
    assert runs[0].links == runs[1].links


@pytest.mark.parametrize("service", ["mesh", "chord", "sync"])
def test_every_method_is_called(service: str) -> None:
    world = World(service, 0, has_short_turns=False)
    assert sorted(methods_of(service)) == sorted(world.node._methods)
    world.stop()


def test_all_that_members_tell_is_said() -> None:
    """And it is right before it is changed."""
    world = World("chord", 0, has_short_turns=False)
    told: set[type] = set()
    for seed in range(1500):
        words = Words(Random(seed), [world.node, *world.others], encode_id(5))
        data = msgpack.packb(rows_of([words.told() for _ in range(3)]))
        told |= {type(message) for _, message in from_wire(data, Limits(), 10_000, 1 << PARTITION_BITS)}
    world.stop()
    assert told == set(get_args(Message))


# What is planted is found

Plant = Callable[[pytest.MonkeyPatch], None]


def an_error_for_one_argument(patch: pytest.MonkeyPatch) -> None:
    do = Serving.do

    def planted(self: Serving, caller: Any, partition: Any, *told: Any) -> Any:
        if any(type(each) is str for each in told):  # none belongs there
            raise IndexError("planted")
        return do(self, caller, partition, *told)

    patch.setattr(Serving, "do", planted)


def an_error_nobody_waits_for(patch: pytest.MonkeyPatch) -> None:
    from twisted.internet.defer import fail

    led = Placement.led

    def planted(self: Placement, caller: Any, partitions: Any) -> Any:
        if partitions == []:
            fail(KeyError("planted"))
        return led(self, caller, partitions)

    patch.setattr(Placement, "led", planted)


def an_error_for_what_a_member_tells(patch: pytest.MonkeyPatch) -> None:
    answered = Replica.copy_answered

    def planted(self: Replica, by: Any, answer: Any) -> Any:
        if self.copy is not None and self.copy.source == by:
            raise IndexError("planted")
        return answered(self, by, answer)

    patch.setattr(Replica, "copy_answered", planted)


def a_link_that_is_held(patch: pytest.MonkeyPatch) -> None:
    held: list[Any] = []
    stop = ReceiveBuffer.stop

    def planted(self: ReceiveBuffer) -> None:
        held.append(self._link)
        stop(self)

    patch.setattr(ReceiveBuffer, "stop", planted)


def a_buffer_that_is_kept(patch: pytest.MonkeyPatch) -> None:
    kept: list[bytes] = []
    received = ReceiveBuffer.received

    def planted(self: ReceiveBuffer, data: bytes) -> None:
        kept.append(bytes(data))
        received(self, data)

    patch.setattr(ReceiveBuffer, "received", planted)


def a_loop_within_a_loop(patch: pytest.MonkeyPatch) -> None:
    received = PeerExchange.peers_received

    def planted(self: PeerExchange, link: Any, message: Any) -> None:
        told = message.payload[-1]
        if isinstance(told, list):
            assert sum(one == other for one in told for other in told) >= 0
        received(self, link, message)

    patch.setattr(PeerExchange, "peers_received", planted)


def a_change_that_is_dropped(patch: pytest.MonkeyPatch) -> None:
    merge = SyncReplica.merge

    def planted(self: SyncReplica, key: bytes, entry: Any) -> Any:
        if key == b"foreign":
            self.forget(b"honest 1")
        return merge(self, key, entry)

    patch.setattr(SyncReplica, "merge", planted)


PLANTS: list[tuple[str, Plant, str]] = [
    ("chord-ours", an_error_for_one_argument, "planted"),
    ("chord-ours-stores", an_error_nobody_waits_for, "planted"),
    ("chord-ours-stores", an_error_for_what_a_member_tells, "planted"),
    ("mesh-bin", a_link_that_is_held, "closed links are held"),
    ("mesh-str", a_buffer_that_is_kept, "more are held"),
    ("mesh-bin", a_loop_within_a_loop, "a turn took"),
    ("sync-ours", a_change_that_is_dropped, "'honest 1' is"),
]


@pytest.mark.parametrize(("kind", "plant", "text"), PLANTS)
def test_what_is_planted_is_found(
    kind: str,
    plant: Plant,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    flush_logged_errors: Callable[..., list[Any]],
) -> None:
    plant(monkeypatch)
    found = found_by(kind)
    assert text in found
    assert found.startswith(f"python -m tests.fuzz --kind {kind} --seed 0 --count ")
    flush_logged_errors(IndexError, KeyError)


def found_by(kind: str) -> str:
    """What a run of a kind finds. (Only the text: the error would hold the run's world.)"""
    try:
        run(kind, 0, PLANTED_INPUTS)
    except Failed as error:
        return str(error)
    return "nothing"
