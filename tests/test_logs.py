"""Lines of the log, for people and for programs."""

from __future__ import annotations

import json
from io import BytesIO, StringIO, TextIOWrapper
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import LogEvent, Logger, LogLevel, LogPublisher
from twisted.python import log
from twisted.python.failure import Failure

from chordtx.logs import from_level, json_line, text_line, to_stream

NOON = 1_800_000_000.25


def event(**fields: Any) -> LogEvent:
    """An event as a logger makes it."""
    return {"log_time": NOON, "log_level": LogLevel.info, "log_namespace": "chordtx.tap", **fields}


def as_object(told: LogEvent) -> Any:
    """What the line of JSON holds."""
    line = json_line(told)
    assert line is not None
    assert line.endswith("\n")
    assert line.count("\n") == 1
    assert line.isascii()
    assert line.rstrip("\n").isprintable()
    return json.loads(line)


def test_a_line_of_json_has_time_level_namespace_text_and_the_fields() -> None:
    told = event(log_format="{who} has {count}", who="node", count=3, ratio=0.5, keys=[b"k"], found=None)
    assert as_object(told) == {
        "time": "2027-01-15T08:00:00.250000Z",
        "level": "info",
        "namespace": "chordtx.tap",
        "text": "node has 3",
        "who": "node",
        "count": 3,
        "ratio": 0.5,
        "keys": ["k"],
        "found": None,
    }


def test_a_field_called_as_one_of_the_lines_own_is_kept() -> None:
    told = as_object(event(log_format="{text} {time}", text="a", time=1))
    assert (told["text"], told["text_"], told["time_"]) == ("a 1", "a", 1)


def test_a_failure_has_its_traceback() -> None:
    try:
        raise ValueError("odd")
    except ValueError:
        told = event(log_format="it failed", log_failure=Failure())
    assert as_object(told)["text"] == "it failed"
    assert "ValueError: odd" in as_object(told)["traceback"]
    line = text_line(told)
    assert line is not None
    assert "it failed" in line
    # What follows a first line cannot be taken for one.
    assert all(each.startswith("\t") for each in line.splitlines()[1:])


def test_a_text_of_several_lines_cannot_forge_another() -> None:
    told = event(log_format="{said}", said="a\n2027-01-15T08:00:00+0000 [chordtx#info] b")
    line = text_line(told)
    assert line is not None
    assert line.splitlines()[1].startswith("\t")
    as_object(told)


class Awkward:
    def __str__(self) -> str:
        raise ZeroDivisionError


def test_what_json_has_no_form_for_is_written_as_text() -> None:
    nan, circle = float("nan"), []  # type: ignore[var-annotated]
    circle.append(circle)
    told = as_object(event(log_format="x", a=nan, b=Awkward(), c=circle, d={1: {b"\xff"}}, e=ValueError("v")))
    assert (told["a"], told["b"], told["e"]) == ("nan", "<Awkward>", "v")
    assert told["d"] == {"1": ["\\xff"]}


@given(st.text(), st.binary(), st.floats(), st.integers())
def test_any_value_makes_one_line(text: str, data: bytes, number: float, count: int) -> None:
    as_object(event(log_format="{text} {data}", text=text, data=data, number=number, count=count))


def test_what_says_nothing_is_no_line() -> None:
    assert json_line(event()) is None
    assert text_line(event()) is None


def test_the_older_logging_is_understood() -> None:
    seen: list[LogEvent] = []
    observer = log.LogPublisher(publishPublisher=LogPublisher(seen.append))
    observer.msg("hello", system="here", extra=4)
    [told] = seen
    assert as_object(told)["text"] == "hello"
    assert as_object(told)["extra"] == 4
    assert as_object(told)["level"] == "info"


def test_a_stream_without_a_character_gets_the_line_all_the_same() -> None:
    for stream in (TextIOWrapper(BytesIO(), "ascii"), TextIOWrapper(BytesIO(), "utf-8")):
        to_stream(stream, text_line)(event(log_format="\udcff\u20ac"))
        stream.seek(0)
        assert "\\udcff" in stream.read()


def test_what_is_less_important_is_left_out() -> None:
    stream = StringIO()
    logger = Logger("here", observer=from_level(to_stream(stream, text_line), "warn"))
    for level in LogLevel.iterconstants():
        logger.emit(level, "{name}", name=level.name)
    assert [line.split()[-1] for line in stream.getvalue().splitlines()] == ["warn", "error", "critical"]
