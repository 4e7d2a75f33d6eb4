"""``twistd chord``: its options, and what is made of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.python.failure import Failure
from twisted.python.usage import UsageError

from chordtx import tap
from chordtx.config import ChordSettings
from chordtx.errors import Stopped
from tests.cli_fake import FakeChord, ReadyReactor


def parse(*arguments: str) -> tap.Options:
    options = tap.Options()
    options.parseOptions(arguments)
    return options


@pytest.fixture
def config(tmp_path: Path) -> Callable[[str], str]:
    """``config(text)`` is the path of a file with that text."""

    def write(text: str) -> str:
        path = tmp_path / "chord.toml"
        path.write_text(text)
        return str(path)

    return write


@pytest.fixture
def chord(monkeypatch: pytest.MonkeyPatch) -> type[FakeChord]:
    fake = FakeChord.fresh()
    monkeypatch.setattr(tap, "ChordService", fake)
    return fake


def test_defaults() -> None:
    options = parse()
    assert {name: options[name] for name in tap.DEFAULTS} == dict(tap.DEFAULTS)
    assert options["settings"] == ChordSettings()


def test_options_are_independent_of_each_other() -> None:
    parse("--peer", "a:1")
    assert parse()["peer"] == []


def test_all_options() -> None:
    options = parse(
        *("--listen", "tcp:0", "--advertise", "example.org:4444", "--peer", "a:1", "--peer", "[::1]:2"),
        *("--subnet", "demo", "--encryption", "SSL", "--leech", "--data", "somewhere"),
    )
    assert options["data"] == "somewhere"
    assert options["listen"] == "tcp:0"
    assert options["advertise"] == "example.org:4444"
    assert options["peer"] == ["a:1", "[::1]:2"]
    assert (options["subnet"], options["encryption"], options["leech"]) == ("demo", "SSL", True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--listen", "carrier-pigeon:1"], "--listen 'carrier-pigeon:1'"),
        (["--listen", "tcp:x"], "--listen 'tcp:x'"),
        (["--listen", "tcp"], "--listen 'tcp'"),
        (["--listen", ""], "--listen ''"),
        (["--peer", "example.org"], "--peer"),
        (["--peer", "example.org:0"], "--peer"),
        (["--peer", "::1:4444"], "--peer"),
        (["--peer", "a:1", "--peer", "b:65536"], "b:65536"),
        (["--advertise", ":44"], "--advertise"),
        (["--encryption", "ROT13"], "Plaintext or SSL, not 'ROT13'"),
        (["--config", "/nowhere/to/be.found"], "/nowhere/to/be.found: No such file"),
        (["--nonsense"], "nonsense"),
        (["nonsense"], ""),
    ],
)
def test_bad_options_say_what_and_why_in_one_line(arguments: list[str], said: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse(*arguments)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_under_twistd_the_line_stands_alone(capfd: pytest.CaptureFixture[str]) -> None:
    options = tap.Options()
    options.parent = tap.UsageOptions()
    with pytest.raises(SystemExit) as raised:
        options.parseOptions(["--peer", "x"])
    assert raised.value.code == tap.EXIT_USAGE


def test_config_file(config: Callable[[str], str]) -> None:
    path = config(
        """
        listen = "tcp:1"
        advertise = "a:2"
        peer = ["b:3", "c:4"]
        subnet = "from file"
        encryption = "SSL"
        leech = true
        data = "somewhere"
        [chord]
        replicas = 3
        call_timeout_seconds = 1
        [mesh]
        connections_max = 7
        [limits]
        depth_max = 9
        """
    )
    options = parse("--config", path)
    names = ("listen", "advertise", "peer", "subnet", "encryption", "leech", "data")
    said = ["tcp:1", "a:2", ["b:3", "c:4"], "from file", "SSL", True, "somewhere"]
    assert [options[name] for name in names] == said
    settings = options["settings"]
    assert (settings.replicas, settings.call_timeout_seconds) == (3, 1)
    assert settings.mesh.connections_max == 7
    assert settings.mesh.limits.depth_max == 9


def test_command_line_wins_over_file(config: Callable[[str], str]) -> None:
    path = config('subnet = "file"\nencryption = "SSL"\npeer = ["b:3"]')
    options = parse("--config", path, "--subnet", "line", "--peer", "a:1")
    assert (options["subnet"], options["encryption"], options["peer"]) == ("line", "SSL", ["a:1"])


def test_empty_subnet_is_a_name(config: Callable[[str], str]) -> None:
    assert parse("--config", config('subnet = "file"'), "--subnet", "")["subnet"] == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('lisen = "tcp:1"', "unknown setting 'lisen': did you mean 'listen'?"),
        ("[chord]\nreplica = 3", "unknown setting 'replica' in [chord]: did you mean 'replicas'?"),
        ("[mesh]\nconections_max = 3", "did you mean 'connections_max'?"),
        ("[chord]\nmesh = 3", "unknown setting 'mesh'"),
        ("[chord]\nreplicas = 2.5", "'replicas' in [chord] must be a whole number, not 2.5"),
        ("[chord]\nreplicas = true", "must be a whole number"),
        ("[chord]\nhedge_seconds = 'soon'", "must be a number"),
        ("[limits]\ndepth_max = 0", "depth_max must be above 0"),
        ("[chord]\nreplicas = 20", "replicas may be at most"),
        ("leech = 1", "must be true or false"),
        ('peer = "a:1"', "must be a list of texts"),
        ("subnet = 1", "must be a text"),
        ("mesh = 1", "must be a table"),
        ('encryption = "none"', "Plaintext or SSL"),
        ("= 1", "is no TOML"),
        ("# \udcff", "is no TOML"),
    ],
)
def test_bad_config_says_what_and_why_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "chord.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UsageError) as raised:
        parse("--config", str(path))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_service_gets_what_was_said(chord: type[FakeChord]) -> None:
    arguments = ("--subnet", "demo", "--peer", "a:1", "--leech", "--data", "somewhere")
    service = tap.makeService(parse(*arguments), reactor=ReadyReactor())
    assert service.node.arguments == {
        "listen": tap.LISTEN_DEFAULT,
        "advertise": None,
        "peers": ["a:1"],
        "subnet": "demo",
        "encryption": "Plaintext",
        "leech": True,
        "settings": ChordSettings(),
        "data": "somewhere",
    }
    assert not service.node.running


@pytest.fixture
def statuses() -> list[int]:
    return []


@pytest.fixture
def guarded(chord: type[FakeChord], statuses: list[int]) -> tap.GuardedNode:
    return tap.GuardedNode(ReadyReactor(), chord(None), lambda reactor, status: statuses.append(status))


def test_guard_starts_and_stops_the_node(guarded: tap.GuardedNode, statuses: list[int]) -> None:
    guarded.startService()
    assert guarded.node.running
    guarded.stopService()
    assert guarded.node.stopped
    assert statuses == []


@pytest.mark.parametrize(
    ("failing", "error", "said"),
    [
        ("listen_failure", CannotListenError("127.0.0.1", 80, OSError("in use")), "127.0.0.1:80: in use"),
        ("join_failure", OSError("nobody at a:1\nnor elsewhere"), "nobody at a:1 nor elsewhere"),
    ],
)
def test_guard_tells_why_and_ends(
    guarded: tap.GuardedNode,
    statuses: list[int],
    monkeypatch: pytest.MonkeyPatch,
    failing: str,
    error: Exception,
    said: str,
) -> None:
    told: list[str] = []
    monkeypatch.setattr(tap, "_tell", told.append)
    setattr(guarded.node, failing, error)
    guarded.startService()
    assert statuses == [tap.EXIT_CANNOT_START]
    [line] = told
    assert said in line
    assert "\n" not in line


def test_guard_tells_of_a_bug_too(
    guarded: tap.GuardedNode, statuses: list[int], flush_logged_errors: Callable[..., list[Failure]]
) -> None:
    guarded.node.join_failure = ZeroDivisionError("half")
    guarded.startService()
    assert statuses == [tap.EXIT_CANNOT_START]
    assert len(flush_logged_errors(ZeroDivisionError)) == 1


def test_stopping_while_joining_is_no_failure(
    guarded: tap.GuardedNode, statuses: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    joining: Deferred[None] = Deferred(lambda deferred: deferred.errback(Stopped("stopped")))
    monkeypatch.setattr(guarded.node, "when_joined", lambda: joining)
    guarded.startService()
    guarded.stopService()
    assert statuses == []


def test_daemon_is_told_at_once(guarded: tap.GuardedNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tap, "_leads_nowhere", lambda descriptor: True)
    guarded.node.listen_failure = CannotListenError("127.0.0.1", 80, OSError("in use"))
    with pytest.raises(tap.CannotStart, match="in use"):
        guarded.startService()


@pytest.mark.parametrize("program", ["twistd -n --pidfile=", "twist"])
def test_bad_option_ends_the_program(program: str, tmp_path: Path) -> None:
    name, *options = program.split()
    beside = Path(sys.executable).parent / name
    ended = subprocess.run(
        [beside, *options, "chord", "--encryption", "none"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},  # finds the plugin, installed or not
    )
    assert ended.returncode == tap.EXIT_USAGE
    assert ended.stderr == "chord: --encryption must be Plaintext or SSL, not 'none'\n"


@pytest.mark.parametrize("listen", ["tcp:4444", "tcp:4444:interface=0.0.0.0", "tcp6:4444:interface=\\:\\:"])
def test_listening_everywhere_wants_an_address_to_tell(listen: str) -> None:
    options = tap.Options()
    with pytest.raises(UsageError, match="--advertise"):
        options.parseOptions(["--listen", listen])
    options = tap.Options()
    options.parseOptions(["--listen", listen, "--advertise", "node.example:4444"])
    assert options["advertise"] == "node.example:4444"
