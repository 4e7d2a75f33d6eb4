"""The commands, against a ring that is a dict."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.python.failure import Failure

from chordtx import Entry, Event
from chordtx import chord as chord_package
from chordtx.chord.set_aside import Kept
from chordtx.cli import app, items, running
from chordtx.errors import NoMajorityTimeout, NotJoined, StorageFull, ValueTooLarge, WrongSubnet
from chordtx.group.rank import FIRST_RANK, version_of
from tests.cli_fake import FakeChord, ReadyReactor

Command = Callable[..., Result]


def run_at_once(work: running.Work) -> None:
    """``running.run`` without a reactor: for work that nothing holds up."""
    statuses: list[int] = []
    working = Deferred.fromCoroutine(work(ReadyReactor()))
    working.addCallbacks(lambda _: running.EXIT_DONE, running.report).addCallback(statuses.append)
    assert statuses, "the command is still waiting for something"
    sys.exit(statuses[0])


@pytest.fixture
def chord(monkeypatch: pytest.MonkeyPatch) -> type[FakeChord]:
    fake = FakeChord.fresh()
    monkeypatch.setattr(chord_package, "ChordService", fake)
    return fake


@pytest.fixture
def chordtx(chord: type[FakeChord], monkeypatch: pytest.MonkeyPatch) -> Command:
    """``chordtx(*arguments, input=None)`` runs the command line, which must stop every node that it made."""
    monkeypatch.setattr(running, "run", run_at_once)
    for name in ("CHORDTX_PEER", "CHORDTX_SUBNET"):
        monkeypatch.delenv(name, raising=False)

    def command(*arguments: str, **options: str) -> Result:
        result = CliRunner().invoke(app.command, arguments, prog_name="chordtx", **options)
        assert all(node.stopped for node in chord.made)
        assert not result.exception or isinstance(result.exception, SystemExit), result.exc_info
        return result

    return command


def test_get_writes_text_and_bytes_as_they_are(chord: type[FakeChord], chordtx: Command) -> None:
    chord.records |= {
        b"text": "gr\u00fcn",
        b"bytes": b"\x00\xff\n",
        b"map": {"a": [1]},
        "ü".encode(): "umlaut",
    }
    assert chordtx("get", "text").stdout_bytes == "gr\u00fcn".encode()
    assert chordtx("get", "bytes").stdout_bytes == b"\x00\xff\n"
    assert chordtx("get", "map").stdout == '{"a": [1]}\n'
    assert chordtx("get", "ü").stdout == "umlaut"


def test_get_json_always_writes_json(chord: type[FakeChord], chordtx: Command) -> None:
    chord.records |= {b"text": "a", b"bytes": b"a"}
    assert chordtx("get", "--json", "text").stdout == '"a"\n'
    assert chordtx("get", "--json", "bytes").stdout == '{"$bytes": "YQ=="}\n'


def test_missing_keys(chordtx: Command) -> None:
    for name in ("get", "delete"):
        result = chordtx(name, "nothing")
        assert result.exit_code == 1
        assert (result.stdout, result.stderr) == ("", "chordtx: no such key: nothing\n")


def test_set_stores_text(chord: type[FakeChord], chordtx: Command) -> None:
    assert chordtx("set", "key", "5").exit_code == 0
    assert chord.records == {b"key": "5"}
    assert chord.made[-1].ttls == [None]


def test_set_json_file_and_ttl(chord: type[FakeChord], chordtx: Command, tmp_path: Path) -> None:
    path = tmp_path / "value"
    path.write_bytes(b"\xff\x00")
    assert chordtx("set", "json", "--json", '{"a": {"$bytes": "YQ=="}}').exit_code == 0
    assert chordtx("set", "file", "--file", str(path)).exit_code == 0
    assert chordtx("set", "stdin", "--file", "-", "--ttl", "2.5", input="in").exit_code == 0
    assert chordtx("set", "both", "--json", "--file", "-", input="[1]").exit_code == 0
    assert chord.records == {b"json": {"a": b"a"}, b"file": b"\xff\x00", b"stdin": b"in", b"both": [1]}
    assert chord.made[2].ttls == [2.5]


@pytest.mark.parametrize(
    "arguments",
    [
        ["set", "key"],
        ["set", "key", "value", "--file", "-"],
        ["set", "key", "{", "--json"],
        *(["set", "key", "value", f"--ttl={ttl}"] for ttl in ("0", "-1", "nan", "inf", "1e300", "soon", "")),
        ["set", "key", "--file", "/nowhere/to/be/found"],
        ["get"],
        ["--peer", "nowhere", "get", "key"],
        ["--encryption", "none", "get", "key"],
        *(["--timeout", seconds, "get", "key"] for seconds in ("0", "nan", "inf", "1e9")),
        ["set", "key", "-", "--file", "-"],
        ["keys", "--limit", "0"],
        ["keys", "-0", "--json"],
        ["get", "key", "--json", "--version"],
        ["set", "key", "value", "--if-absent", "--if-version", "kwA"],
        ["set", "key", "value", "--if-version", "7"],
        ["delete", "key", "--if-version", "7"],
        *(["incr", "key", by] for by in ("", "one", "nan", "-inf", "1e999", "-1e999", "-x", "0x10")),
        ["incr", "key", "1", "2"],
        ["touch", "key", "--ttl", "0"],
        ["lock", "name"],
        ["lock", "name", "--"],
        ["lock", "name", "ls", "-l"],
        ["lock", "name", "--ttl", "1e9", "--", "true"],
        ["lock", "name", "--kill-after", "0", "--", "true"],
        ["watch", "key", "--prefix", "k"],
        ["watch", "--since", "kwA"],
        ["watch", "key", "--since", "7"],
        ["watch", "--limit", "0"],
        ["touch", "key", "--ttl", "1e12"],
        ["local", "0"],
        ["local", "3", "--port", "65534"],
        ["nonsense"],
    ],
)
def test_usage_errors(chord: type[FakeChord], chordtx: Command, arguments: list[str]) -> None:
    result = chordtx(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Error: " in result.stderr
    assert chord.made == []


def test_delete(chord: type[FakeChord], chordtx: Command) -> None:
    chord.records[b"key"] = 1
    assert chordtx("delete", "key").exit_code == 0
    assert chord.records == {}


def test_the_version_is_written_alone(chord: type[FakeChord], chordtx: Command) -> None:
    chord.records[b"key"] = "value"
    assert chordtx("get", "key", "--version").stdout == chord.version(b"key") + "\n"
    missing = chordtx("get", "nothing", "--version")
    assert (missing.exit_code, missing.stdout, missing.stderr) == (1, "", "chordtx: no such key: nothing\n")


def test_set_if_absent(chord: type[FakeChord], chordtx: Command) -> None:
    assert chordtx("set", "key", "first", "--if-absent", "--ttl", "5").exit_code == 0
    assert (chord.records, chord.made[-1].ttls) == ({b"key": "first"}, [5])
    second = chordtx("set", "key", "second", "--if-absent")
    assert (second.exit_code, second.stdout) == (1, "")
    expected = f"chordtx: not as expected: key is there, with version {chord.version(b'key')}\n"
    assert second.stderr == expected
    assert chord.records == {b"key": "first"}


def test_set_and_delete_if_version(chord: type[FakeChord], chordtx: Command) -> None:
    chord.records[b"key"] = 1
    first = chord.version(b"key")
    assert chordtx("set", "key", "2", "--json", "--if-version", first).exit_code == 0
    assert chord.records == {b"key": 2}
    for late in (["set", "key", "3", "--if-version", first], ["delete", "key", "--if-version", first]):
        result = chordtx(*late)
        assert result.exit_code == 1
        assert result.stderr.endswith(f"key is there, with version {chord.version(b'key')}\n")
        assert chord.records == {b"key": 2}
    assert chordtx("delete", "key", "--if-version", chord.version(b"key")).exit_code == 0
    assert chord.records == {}
    for late in (["set", "key", "3", "--if-version", first], ["delete", "key", "--if-version", first]):
        result = chordtx(*late)
        assert (result.exit_code, result.stderr) == (1, "chordtx: no such key: key\n")
        assert chord.records == {}


def test_incr(chord: type[FakeChord], chordtx: Command) -> None:
    for arguments, number in (
        (["key"], "1"),
        (["key", "10"], "11"),
        (["key", "-5"], "6"),
        (["key", "-.5"], "5.5"),
        (["--", "key", "-5"], "0.5"),
        (["--", "-5"], "1"),
        (["--", "-5", "2"], "3"),
    ):
        result = chordtx("incr", *arguments)
        assert (result.exit_code, result.stdout, result.stderr) == (0, number + "\n", ""), arguments
    assert chord.records == {b"key": 0.5, b"-5": 3}


def test_incr_of_no_number(chord: type[FakeChord], chordtx: Command) -> None:
    chord.records |= {b"text": "5", b"great": 1 << 64}
    result = chordtx("incr", "text")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "chordtx: not as expected: text has no number\n"
    result = chordtx("incr", "great")
    assert (result.exit_code, result.stderr) == (2, "chordtx: the number would not fit\n")
    assert chordtx("incr", "-5").exit_code == 2  # a key after --, as everywhere
    assert chord.records == {b"text": "5", b"great": 1 << 64}


def test_touch(chord: type[FakeChord], chordtx: Command) -> None:
    chord.records[b"key"] = 1
    assert chordtx("touch", "key", "--ttl", "2.5").exit_code == 0
    assert chord.made[-1].ttls == [2.5]
    assert chordtx("touch", "key").exit_code == 0
    assert chord.made[-1].ttls == [None]
    missing = chordtx("touch", "nothing")
    assert (missing.exit_code, missing.stderr) == (1, "chordtx: no such key: nothing\n")


def test_a_command_that_is_not_there_asks_for_no_lock(chord: type[FakeChord], chordtx: Command) -> None:
    result = chordtx("lock", "name", "--", "/nowhere/to/be\nfound")
    assert (result.exit_code, result.stdout) == (127, "")
    assert result.stderr == "chordtx: no such command: /nowhere/to/be\\x0afound\n"
    assert chord.made == []


def test_watch_writes_json_lines(chord: type[FakeChord], chordtx: Command) -> None:
    chord.events += [
        Event("add", b"key", {"a": b"a"}, "v1"),
        Event("update", b"\xff", "text\x1b", "v2"),
        Event("delete", b"key", None, "v3"),
        Event("reset"),
    ]
    result = chordtx("watch")
    assert result.stdout == (
        '{"kind": "add", "key": "key", "value": {"a": {"$bytes": "YQ=="}}, "version": "v1"}\n'
        '{"kind": "update", "key": {"$bytes": "/w=="}, "value": "text\\u001b", "version": "v2"}\n'
        '{"kind": "delete", "key": "key", "value": null, "version": "v3"}\n'
        '{"kind": "reset", "key": null, "value": null, "version": null}\n'
    )
    assert result.exit_code == 3
    assert result.stderr == "watching; Ctrl-C ends it\nchordtx: the node has stopped\n"
    assert chordtx("watch", "--limit", "2").stdout == "".join(result.stdout.splitlines(True)[:2])


def test_what_is_watched(chord: type[FakeChord], chordtx: Command) -> None:
    chord.events.append(Event("delete", b"key", None, "v3"))
    version = version_of(FIRST_RANK)
    for arguments, watched in (
        (["key"], (b"key", b"", None)),
        (["key", "--since", version], (b"key", b"", version)),
        (["--prefix", "k"], (None, b"k", None)),
        ([], (None, b"", None)),
    ):
        assert chordtx("watch", "--limit", "1", *arguments).exit_code == 0
        assert chord.made[-1].watched == watched


def test_keys(chord: type[FakeChord], chordtx: Command) -> None:
    chord.records |= {b"ab": 1, b"a\xff": 2, b"b": 3}
    assert chordtx("keys").stdout_bytes == b"ab\na\xff\nb\n"
    assert chordtx("keys", "--prefix", "a").stdout_bytes == b"ab\na\xff\n"
    assert chordtx("keys", "--json").stdout == '"ab"\n{"$bytes": "Yf8="}\n"b"\n'


def test_keys_up_to_a_limit(chord: type[FakeChord], chordtx: Command) -> None:
    chord.records |= {b"a%d" % number: number for number in range(10)} | {b"b": 1}
    assert chordtx("keys", "--limit", "3").stdout_bytes == b"a0\na1\na2\n"
    assert len(chordtx("keys", "--limit", "30", "--prefix", "a").stdout.splitlines()) == 10
    assert chordtx("keys", "--limit", "1", "--prefix", "b").stdout_bytes == b"b\n"


def test_keys_page_by_page(chord: type[FakeChord], chordtx: Command) -> None:
    chord.records |= {b"a%d" % number: number for number in range(10)}
    assert chordtx("keys", "--limit", "2", "--after", "a4").stdout_bytes == b"a5\na6\n"
    assert chordtx("keys", "--after", "a9").stdout_bytes == b""
    assert chordtx("keys", "--limit", "1", "--after", "").stdout_bytes == b"a0\n"


def test_keys_for_xargs(chord: type[FakeChord], chordtx: Command) -> None:
    chord.records |= {b"a\nb": 1, b"\xff\x1b": 2}
    assert chordtx("keys", "-0").stdout_bytes == b"a\nb\0\xff\x1b\0"
    assert chordtx("keys", "--null").stdout_bytes == b"a\nb\0\xff\x1b\0"


def test_a_hyphen_is_standard_input(chord: type[FakeChord], chordtx: Command) -> None:
    assert chordtx("set", "bytes", "-", input="in\n").exit_code == 0
    assert chordtx("set", "json", "--json", "-", input='{"a": 1}').exit_code == 0
    assert chordtx("set", "text", "--json", '"-"').exit_code == 0
    assert chord.records == {b"bytes": b"in\n", b"json": {"a": 1}, b"text": "-"}


@pytest.mark.parametrize("arguments", [["set", "key", "-5"], ["get", "-x"], ["delete", "--key"]])
def test_what_looks_like_an_option_and_may_be_a_value(
    chord: type[FakeChord], chordtx: Command, arguments: list[str]
) -> None:
    result = chordtx(*arguments)
    assert result.exit_code == 2
    assert "No such option" in result.stderr
    assert "put -- before it" in result.stderr
    assert chord.made == []


def test_no_such_hint_where_it_is_no_help(chord: type[FakeChord], chordtx: Command) -> None:
    for arguments in (["set", "key", "--jsno", "1"], ["keys", "-5"]):
        result = chordtx(*arguments)
        assert result.exit_code == 2
        assert "No such option" in result.stderr
        assert "before it" not in result.stderr


def test_after_two_hyphens_it_is_a_value(chord: type[FakeChord], chordtx: Command) -> None:
    assert chordtx("set", "--", "-k", "-5").exit_code == 0
    assert chord.records == {b"-k": "-5"}


def test_status_and_ring(chordtx: Command) -> None:
    told = json.loads(chordtx("--peer", "10.0.0.1:1", "--peer", "10.0.0.2:2", "status").stdout)
    assert (told["what"], told["of"], told["id"]) == ("status", "10.0.0.1:1", "abc")
    assert chordtx("ring").stdout == "abc  127.0.0.1:1  chordtx  -  3  0  -\n"
    assert json.loads(chordtx("ring", "--json").stdout)["records"] == 0


@pytest.mark.parametrize(
    ("error", "status"),
    [(NotJoined("no ring at a:1"), 3), (WrongSubnet("another subnet"), 3), (ZeroDivisionError("bug"), 70)],
)
def test_errors_while_joining(
    chord: type[FakeChord], chordtx: Command, error: Exception, status: int
) -> None:
    chord.join_failure = error
    result = chordtx("get", "key")
    assert result.exit_code == status
    assert result.stderr.endswith(f"chordtx: {error}\n")
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NoMajorityTimeout("2 of 5 answered", 3, 2), 4),
        (ValueTooLarge("too large", 9, 8), 2),
        (TypeError("a set cannot be packed"), 2),
    ],
)
def test_errors_while_storing(
    chord: type[FakeChord], chordtx: Command, error: Exception, status: int
) -> None:
    chord.set_failure = error
    result = chordtx("set", "key", "value")
    assert result.exit_code == status
    assert str(error) in result.stderr


def test_how_the_ring_is_reached(
    chord: type[FakeChord], chordtx: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    chordtx("keys")
    arguments = chord.made[-1].arguments
    assert arguments["peers"] == ["127.0.0.1:44565"]
    assert (arguments["listen"], arguments["leech"], arguments["subnet"]) == (None, True, "chord")
    assert arguments["settings"].join_retries is False
    monkeypatch.setenv("CHORDTX_SUBNET", "env")
    for text in ("a:1 [::1]:2", "a:1,[::1]:2", " a:1, [::1]:2,\n"):
        monkeypatch.setenv("CHORDTX_PEER", text)
        chordtx("keys")
        assert chord.made[-1].arguments["peers"] == ["a:1", "[::1]:2"]
    assert chord.made[-1].arguments["subnet"] == "env"
    chordtx(
        "--peer", "b:1", "--peer", "b:2", "--subnet", "line", "--encryption", "SSL", "--timeout", "2", "keys"
    )
    arguments = chord.made[-1].arguments
    assert (arguments["peers"], arguments["subnet"], arguments["encryption"]) == (
        ["b:1", "b:2"],
        "line",
        "SSL",
    )
    settings = arguments["settings"]
    assert (settings.join_timeout_seconds, settings.operation_timeout_seconds) == (2, 2)


def test_load_and_dump_lose_nothing(chord: type[FakeChord], chordtx: Command, tmp_path: Path) -> None:
    records = {b"k%d" % number: {"n": number, "b": b"\xff"} for number in range(1000)} | {b"\xff": {1: 2}}
    chord.records |= records
    path = tmp_path / "dump.jsonl"
    assert chordtx("dump", str(path)).exit_code == 0
    assert len(path.read_text().splitlines()) == 1001
    chord.records.clear()
    result = chordtx("load", str(path))
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith("loaded 1,001 records in ")
    assert chord.records == records


def test_load_if_absent_leaves_alone_what_is_there(
    chord: type[FakeChord], chordtx: Command, tmp_path: Path
) -> None:
    path = tmp_path / "load.jsonl"
    path.write_text('{"key": "there", "value": 1}\n{"key": "new", "value": 2}\n{"key": "new", "value": 3}\n')
    chord.records[b"there"] = 0
    result = chordtx("load", "--if-absent", str(path))
    assert result.exit_code == 0
    assert result.stderr.startswith("loaded 1 records in ")
    assert "left 2 as they are that are there" in result.stderr
    assert chord.records == {b"there": 0, b"new": 2}


def test_what_was_set_aside_is_written_where_the_ring_has_it_not(
    chord: type[FakeChord], chordtx: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    path = tmp_path / "lost.jsonl"
    chord.records |= {b"same": 1, b"other": 1, b"true": True}
    chord.kept += [Kept(key, 1, None) for key in (b"same", b"other", b"true", b"gone", b"gone")]
    chord.kept[1] = Kept(b"other", 2, 1001.0)
    chord.kept.append(Kept(b"expired", 1, 999.0))
    assert chordtx("recover", "--export", str(path)).exit_code == 0
    assert path.read_text().splitlines() == [
        '{"key": "other", "value": 2, "expires": 1001.0}',
        '{"key": "true", "value": 1}',
        '{"key": "gone", "value": 1}',
    ]
    chord.kept.clear()
    result = chordtx("recover", "--export", "-")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no node has set aside anything that the ring has not" in result.stderr


def test_it_is_said_when_a_node_could_not_be_asked_what_it_has_set_aside(
    chord: type[FakeChord], chordtx: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [{"id": "b", "address": "10.0.0.2:1", "error": "it hangs"}]
    monkeypatch.setattr(chord, "ring", lambda self: succeed(nodes))
    result = chordtx("recover", "--export", "-")
    assert result.exit_code != 0
    assert "these do not answer: 10.0.0.2:1" in result.stderr


def test_dump_to_standard_output(chord: type[FakeChord], chordtx: Command) -> None:
    chord.records[b"key"] = "value"
    assert chordtx("dump").stdout == '{"key": "key", "value": "value"}\n'


def test_expiry_travels(
    chord: type[FakeChord], chordtx: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    chord.records |= {b"soon": 1, b"later": 2, b"never": 3}
    chord.expiries |= {b"soon": 1010.25, b"later": 1100.5}
    path = tmp_path / "dump.jsonl"
    assert chordtx("dump", str(path)).exit_code == 0
    told = {line["key"]: line.get("expires") for line in map(json.loads, path.read_text().splitlines())}
    assert told == {"soon": 1010.25, "later": 1100.5, "never": None}
    assert '"expires": null' not in path.read_text()

    chord.records.clear()
    monkeypatch.setattr(time, "time", lambda: 1010.25)
    result = chordtx("load", str(path))
    assert result.exit_code == 0
    assert chord.records == {b"later": 2, b"never": 3}
    assert chord.made[-1].ttls == [90.25, None]
    assert result.stderr.startswith("loaded 2 records in ")
    assert result.stderr.endswith("; left out 1 that have expired\n")


def test_a_dump_that_cannot_begin_leaves_the_last_one_alone(
    chord: type[FakeChord], chordtx: Command, tmp_path: Path
) -> None:
    path = tmp_path / "dump.jsonl"
    path.write_text("the last one")
    chord.join_failure = NotJoined("no ring at a:1")
    assert chordtx("dump", str(path)).exit_code == 3
    assert path.read_text() == "the last one"
    chord.join_failure = None
    assert chordtx("dump", str(tmp_path / "no" / "folder")).exit_code == 2


@pytest.mark.parametrize("is_there", [True, False])
def test_a_dump_that_fails_on_its_way_leaves_the_last_one_alone(
    chord: type[FakeChord], chordtx: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    async def entries(_: FakeChord) -> AsyncIterator[Entry]:
        yield Entry(b"key", "value", "", None)
        raise NoMajorityTimeout("nobody leads")

    path = tmp_path / "dump.jsonl"
    if is_there:
        path.write_text("the last one")
    monkeypatch.setattr(chord, "entries", entries)
    assert chordtx("dump", str(path)).exit_code == 4
    assert [each.read_text() for each in tmp_path.iterdir()] == ["the last one"] * is_there


def test_a_dump_takes_the_place_of_the_last_one(
    chord: type[FakeChord], chordtx: Command, tmp_path: Path
) -> None:
    chord.records[b"key"] = "value"
    path, link = tmp_path / "dump.jsonl", tmp_path / "latest"
    path.write_text("the last one")
    path.chmod(0o640)
    link.symlink_to(path)
    assert chordtx("dump", str(link)).exit_code == 0
    assert path.read_text() == '{"key": "key", "value": "value"}\n'
    assert path.stat().st_mode & 0o777 == 0o640
    assert link.is_symlink()
    assert len(list(tmp_path.iterdir())) == 2


def test_an_expiry_that_cannot_be_is_named(chordtx: Command, tmp_path: Path) -> None:
    path = tmp_path / "load.jsonl"
    path.write_text('{"key": "key", "value": 1, "expires": 1' + "0" * 400 + "}\n")
    result = chordtx("load", str(path))
    assert result.exit_code == 2
    assert 'line 1: "expires" is later than can be' in result.stderr


def test_a_full_ring_is_no_ring_that_was_not_reached(chord: type[FakeChord], chordtx: Command) -> None:
    chord.set_failure = StorageFull("a member holds as much as it may")
    assert chordtx("set", "key", "value").exit_code == 2


def test_interrupted_before_a_ring_is_asked(chordtx: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(items, "_standard_input", interrupted)
    assert chordtx("set", "key", "-", "--if-absent").exit_code == 130


@pytest.mark.parametrize("said", ["", "n\n"])
def test_recover_that_nobody_confirms(chord: type[FakeChord], chordtx: Command, said: str) -> None:
    assert chordtx("recover", input=said).exit_code == 130
    assert chord.made == []


def test_load_takes_blank_lines_and_no_last_line_end(
    chord: type[FakeChord], chordtx: Command, tmp_path: Path
) -> None:
    path = tmp_path / "load.jsonl"
    path.write_text('{"key": "a", "value": 1}\r\n\n{"value": 2, "key": {"$bytes": "/w=="}}')
    assert chordtx("load", str(path)).exit_code == 0
    assert chord.records == {b"a": 1, b"\xff": 2}


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[1, 2]",
        '{"key": "a"}',
        '{"key": "a", "value": 1, "ttl": 5}',
        '{"key": 5, "value": 1}',
        '{"key": "a", "value": 1, "expires": "soon"}',
        '{"key": "a", "value": 1, "expires": null}',
        '{"key": "a", "value": 1, "expires": true}',
        '{"key": "a", "value": 1, "expires": NaN}',
        '{"key": "a", "value": 1, "expires": Infinity}',
        '{"key": "a", "value": 1, "expires": -1}',
        '{"key": "a", "expires": 1}',
        '{"key": "a", "value": {"$bytes": 5}}',
        "[" * 100_000,
        '{"key": "\\ud800", "value": 1}',
    ],
)
def test_load_names_the_line_that_is_wrong(
    chord: type[FakeChord], chordtx: Command, tmp_path: Path, line: str
) -> None:
    path = tmp_path / "load.jsonl"
    path.write_text('{"key": "good", "value": 1}\n' + line + "\n")
    result = chordtx("load", str(path))
    assert result.exit_code == 2
    assert "chordtx: line 2: " in result.stderr
    assert chord.records == {b"good": 1}


def test_load_stops_at_the_first_failure(chord: type[FakeChord], chordtx: Command, tmp_path: Path) -> None:
    path = tmp_path / "load.jsonl"
    path.write_text('{"key": "good", "value": 1}\n')
    chord.set_failure = NoMajorityTimeout("2 of 5 answered", 3, 2)
    assert chordtx("load", str(path)).exit_code == 4
    chord.set_failure = TypeError("no such type")
    assert "line 1: this record cannot be stored: no such type" in chordtx("load", str(path)).stderr


def test_interruption_and_broken_pipe_have_their_usual_statuses() -> None:
    assert running.report(Failure(CancelledError())) == 130
    assert running.report(Failure(BrokenPipeError())) == 141


@pytest.mark.parametrize("name", ["get", "set", "load", "dump"])
def test_help_tells_the_forms(chordtx: Command, name: str) -> None:
    assert '{"$bytes": BASE64}' in chordtx(name, "--help").stdout
