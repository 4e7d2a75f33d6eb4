"""No text of a peer reaches a log, an error or a terminal as it came, whichever way it takes.

A peer says a string of all characters that do something to a terminal or a log, in every place of everything
that can be said, and answers every call with it; what is logged, raised and shown is looked at.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from random import Random
from typing import Any

import pytest
from twisted.logger import LogEvent, LogLevel, eventAsText, globalLogPublisher

from chordtx import ChordError, ChordService, ChordSettings, MeshService, MeshSettings, SyncService
from chordtx.cli import items, local, ring_table, running
from chordtx.cli.jsonform import dumps
from chordtx.logs import text_line
from chordtx.mesh import limited_log
from chordtx.wire import Message, flags
from chordtx.wire.frame import frame
from tests.mesh.fuzz import KINDS as DIALECTS
from tests.mesh.fuzz import Stranger
from tests.sim.cluster import Cluster
from tests.test_escaping import UNFIT, is_fit

SERVICES = [MeshService, ChordService, SyncService]
#: UTF-8 knows no halves of pairs, so no peer can say them.
EVIL = "".join(each for each in UNFIT if not "\ud800" <= each <= "\udfff") + "\n2026-01-01 fake line"
FLAGS = [*range(0x14), 0x30, flags.HELLO, flags.CALL, flags.REPLY, flags.ANNOUNCE, EVIL]
FIELDS = [EVIL, EVIL.encode(), b"\xff\x9b" + EVIL.encode()]


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[LogEvent]]:
    """All that is logged, nothing dropped."""
    monkeypatch.setattr(limited_log, "LINES_AT_ONCE", 10**9)
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


def all_is_fit(logged: list[LogEvent]) -> None:
    """What any observer would write, and what one that takes the fields apart would."""
    assert logged
    for event in logged:
        assert is_fit(eventAsText(event)), ascii(eventAsText(event))
        assert all(is_fit(value) for value in event.values() if isinstance(value, str))


# What strangers say


def greetings(stranger: Stranger) -> Iterator[tuple[Any, ...]]:
    """Handshakes with something foreign in one of their places."""
    text = stranger.dialect.text
    good = [text(stranger.id), text(stranger.node._protocol_id), ["127.0.0.1", 0], []]
    for field in FIELDS:
        for place in range(len(good)):
            for odd in (field, [field], [field, 0], ["127.0.0.1", field]):
                yield (flags.HANDSHAKE, *good[:place], odd, *good[place + 1 :])
        yield (flags.HELLO, field)
        yield (field, field)


def sayings() -> Iterator[tuple[Any, ...]]:
    """Every sub-flag with something foreign in its arguments, in the shapes that there are."""
    for field in FIELDS:
        shapes = [
            *((field,) * count for count in range(1, 6)),
            ([field],),
            ([[field, field]],),
            ([[1, field, field]],),
            (None, [[1, 6, field]]),
            ([[["127.0.0.1", 1], field]],),
            ([[[field, 1], field]],),
            (field, {field: field}),
            (field, field, [1, field, field, field]),
        ]
        for flag in FLAGS:
            for shape in shapes:
                yield (flag, *shape)


def node_of(service: Any) -> tuple[Cluster, Any]:
    """A node that takes as much as comes."""
    world = Cluster(service)
    settings = MeshSettings(decoded_bytes_per_second_max=1 << 40, turn_seconds_max=1e6, accepted_max=10**9)
    node = world.start() if service is not MeshService else world.start(settings=settings)
    world.run(2)
    return world, node


def say_all(world: Cluster, node: Any, dialect: str, rng: Random) -> None:
    """Everything, each link used until it is ended."""
    for greeting in greetings(Stranger(node, dialect, rng)):
        stranger = Stranger(node, dialect, rng)
        if dialect == "ours":
            stranger.say(flags.HELLO, 1)
        stranger.say(*greeting)
        stranger.end()
    stranger = Stranger(node, dialect, rng)
    stranger.greet()
    for payload in sayings():
        for kind in (flags.WHISPER, flags.BROADCAST, flags.RENEGOTIATE):
            if stranger.gone:
                stranger = Stranger(node, dialect, rng)
                stranger.greet()
            stranger.say(*payload, type=kind)
            world.run(0.001)  # to answer
    stranger.end()
    world.run(5)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("service", SERVICES)
def test_what_strangers_say(service: Any, dialect: str, logged: list[LogEvent]) -> None:
    world, node = node_of(service)
    say_all(world, node, dialect, Random(1))
    all_is_fit(logged)
    for message in node.recv(1000):
        assert is_fit(repr(message))
        assert is_fit(message.sender)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("service", SERVICES)
def test_lines_that_strangers_cause_are_limited_whatever_they_say(
    service: Any, dialect: str, flush_logged_errors: Callable[..., list[Any]]
) -> None:
    world, node = node_of(service)
    kinds: Counter[tuple[Any, Any]] = Counter()

    def count(event: LogEvent) -> None:
        kinds[event["log_level"], event["log_format"]] += 1

    def fails(*_: Any) -> None:
        raise ZeroDivisionError

    globalLogPublisher.addObserver(count)
    node._methods["fails"] = fails
    node.register_handler(fails)
    node.on("message", fails)
    began = world.time.now
    for number in range(3):
        say_all(world, node, dialect, Random(number))
    stranger = Stranger(node, "ours", Random(7))
    stranger.greet()
    for number in range(100):
        stranger.say(flags.CALL, [[number, "fails"]])
        stranger.say(flags.WHISPER, "asked of the handler")
    stranger.end()
    globalLogPublisher.removeObserver(count)
    told = kinds.pop((LogLevel.info, limited_log.DROPPED), 0)
    limit = limited_log.LINES_AT_ONCE + (world.time.now - began) * limited_log.LINES_PER_SECOND
    assert told
    assert {kind: lines for kind, lines in kinds.items() if lines > limit} == {}
    assert len(flush_logged_errors(ZeroDivisionError)) <= 3 * limit  # of a method, a handler, and a listener


@pytest.mark.parametrize("sender", FIELDS)
def test_sender_of_a_message(sender: str | bytes, logged: list[LogEvent]) -> None:
    world = Cluster(MeshService)
    node = world.start()
    world.run(1)
    stranger = Stranger(node, "ours", Random(1))
    stranger.greet()
    for flag in FLAGS:
        for kind in (flags.WHISPER, flags.BROADCAST):
            message = Message.build(kind, sender, node._now_whole_seconds(), (flag, EVIL))
            stranger.write(frame(message.data))
            world.run(0.1)
    received = node.recv(1000)
    assert received
    for each in received:
        assert is_fit(repr(each))
        assert is_fit(each.sender)
        with pytest.raises(ChordError) as caught:
            world.result(each.reply("to nobody"))
        assert is_fit(str(caught.value))
    stranger.end()
    all_is_fit(logged)


# What is answered to calls


class Evil(ChordError):
    """An error whose text goes onto the wire as it is."""

    def __str__(self) -> str:
        return EVIL


QUICK = ChordSettings(
    operation_timeout_seconds=1.0, join_timeout_seconds=2.0, call_timeout_seconds=0.5, partition_bits=4
)
METHODS = {
    service: sorted(Cluster(service).start()._methods.keys() - {"ping", "farewell"}) for service in SERVICES
}


def answers(node: Any, method: str, answer: Callable[..., Any]) -> None:
    """From now on, ``node`` answers calls of ``method`` so."""
    node._methods[method] = answer


def refuses(*_: Any) -> Any:
    raise Evil


async def listed(node: Any) -> list[bytes]:
    return [key async for key in node.keys()]


async def outcome(asked: Awaitable[Any]) -> list[str]:
    """What the command would write of a result, or of an error."""
    try:
        result = await asked
    except (ChordError, OSError, KeyError) as error:
        return [str(error), running.text_of(error)]
    lines = [dumps(result)]
    for each in result if isinstance(result, list) else []:
        if isinstance(each, dict):
            lines += [ring_table.line_of(each), *ring_table.table([each], 80), dumps(each)]
        else:
            lines.append(items._line_of(each, as_json=False, is_escaped=True).decode())
    return lines


def looked_at(world: Cluster, node: Any) -> None:
    """All that users ask of a node: its results as the command shows them, its errors as they are told."""
    asked: list[Callable[[], Any]] = [
        *(lambda: node.get("key"), lambda: node.set("key", 1), lambda: node.delete("key")),
        *(lambda: node.apply_delta("map", {"a": 1}), lambda: listed(node), lambda: node.copy()),
    ]
    if isinstance(node, ChordService):
        asked += [node.when_joined, node.ring]
    for ask in asked:
        shown = world.result(outcome(ask()))
        assert [line for line in shown if not is_fit(line)] == []
    assert is_fit(dumps(node.status))


WORDS: list[Callable[..., Any]] = [
    refuses,
    lambda *_: [EVIL],
    lambda *_: [{"id": EVIL, "address": EVIL, EVIL: EVIL, "records": [EVIL], "legacy_peers": [{"id": EVIL}]}],
    lambda *_: [{"bytes": float("nan"), "legacy_peers": {"a": EVIL}}],
    lambda *_: [None, [EVIL.encode()], True],
    lambda *_: [EVIL, [[EVIL, EVIL, 1]], 1],
]


@pytest.mark.parametrize("word", range(len(WORDS)))
@pytest.mark.parametrize(
    ("service", "method"),
    [(service, method) for service in (ChordService, SyncService) for method in METHODS[service]],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_what_calls_are_answered(service: Any, method: str, word: int, logged: list[LogEvent]) -> None:
    world = Cluster(service)
    options = {"settings": QUICK} if service is ChordService else {}
    liar = world.start(**options)
    world.run(2)
    world.result(liar.set("key", 1))
    answers(liar, method, WORDS[word])
    node = world.start(liar, **options)
    world.run(5)
    looked_at(world, node)
    if service is ChordService:
        looked_at(world, world.start(liar, listen=None, leech=True, **options))
    all_is_fit(logged)


# Terminals


def test_terminal_is_shown_keys_and_values_escaped_and_a_pipe_has_them_as_they_are() -> None:
    for key in (EVIL.encode(), b"\x9b\xff"):
        assert is_fit(items._line_of(key, as_json=False, is_escaped=True).decode())
        assert items._line_of(key, as_json=False, is_escaped=False) == key
        assert is_fit(items._line_of(key, as_json=True, is_escaped=False).decode())
    for value in (EVIL, EVIL.encode(), b"\x9b\xff", {"a": EVIL, EVIL: [EVIL]}):
        shown = items._printable(value, as_json=False, is_escaped=True).decode()
        assert is_fit(shown.replace("\n", "").replace("\t", ""))
        assert is_fit(items._printable(value, as_json=True, is_escaped=False).decode().rstrip("\n"))
    assert items._printable(EVIL, as_json=False, is_escaped=False) == EVIL.encode()
    assert items._printable(b"\x9b\xff", as_json=False, is_escaped=False) == b"\x9b\xff"
    assert json.loads(items._printable({"a": EVIL}, as_json=False, is_escaped=False)) == {"a": EVIL}


def test_text_of_several_lines_is_shown_as_such() -> None:
    assert items._printable("a\n\tb", as_json=False, is_escaped=True) == b"a\n\tb\n"


def test_errors_are_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for error in (running.NoSuchKey(EVIL), running.Failed(EVIL), OSError(EVIL), Evil(EVIL)):
        assert is_fit(running.text_of(error))
    local.tell_of_end(running.Failed(EVIL))
    local._echo_line("127.0.0.1:1", EVIL)
    assert all(is_fit(line) for line in capsys.readouterr().err.split("\n"))


def test_lines_of_the_log_are_fit_whatever_is_logged() -> None:
    text = text_line({"log_format": "{text}", "text": EVIL, "log_time": 0.0, "log_namespace": EVIL})
    assert text is not None
    lines = text.removesuffix("\n").split("\n")
    assert all(is_fit(line.replace("\t", "")) for line in lines)
    assert all(line.startswith("\t") for line in lines[1:])  # no other line begins as one of its own
