"""``twistd chord``: its options, and what is made of them."""

from __future__ import annotations

import os
import subprocess
import sys
import syslog
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from twisted.application.service import Application
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogLevel
from twisted.python.failure import Failure
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from chordtx import ChordService, tap
from chordtx.config import ChordSettings
from chordtx.errors import Stopped
from chordtx.tap import runner, service
from tests.cli_fake import FakeChord, ReadyReactor
from tests.test_arguments import EVERYWHERE, WHO_KNOWS


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
    monkeypatch.setattr(service, "ChordService", fake)
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
        (["--listen", "carrier-pigeon:1"], "--listen: 'carrier-pigeon:1'"),
        (["--listen", "tcp:x"], "--listen: 'tcp:x'"),
        (["--listen", "tcp"], "--listen: 'tcp'"),
        (["--listen", ""], "--listen: ''"),
        (["--peer", "example.org"], "--peer"),
        (["--peer", "example.org:0"], "--peer"),
        (["--peer", "::1:4444"], "--peer"),
        (["--peer", "a:1", "--peer", "b:65536"], "b:65536"),
        (["--advertise", ":44"], "--advertise: "),
        (["--advertise", "0.0.0.0:44"], "--advertise: '0.0.0.0:44' stands for every address"),
        (["--listen", "ssl:44"], "SSL as the encryption"),
        (["--listen", "unix:node.socket"], "say one with advertise"),
        (
            ["--log-level", "warning"],
            "--log-level must be debug, info, warn, error or critical, not",
        ),
        (["--log-format", "xml"], "--log-format must be text or json, not 'xml'"),
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
    options.parent = UsageOptions()
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
        log_level = "WARN"
        log-format = "json"
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
    assert (options["log-level"], options["log-format"]) == ("warn", "json")
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
        ("[chord]\ncall_timeout_seconds = 'soon'", "must be a number"),
        ("[groups]\nleases = 1", "'leases' in [groups] must be true or false, not 1"),
        (
            "[groups]\nlease_second = 1",
            "unknown setting 'lease_second' in [groups]: did you mean 'lease_seconds'?",
        ),
        ("[groups]\nvalue_bytes_max = 1", "unknown setting 'value_bytes_max' in [groups]"),
        ("[groups]\ndrift_allowance = 1.5", "drift_allowance is 1.5, and must be below 1"),
        ("[limits]\ndepth_max = 0", "depth_max must be above 0"),
        ("[chord]\nreplicas = 20", "replicas may be at most"),
        ("leech = 1", "must be true or false"),
        ('peer = "a:1"', "must be a list of texts"),
        ("subnet = 1", "must be a text"),
        ("mesh = 1", "must be a table"),
        ("log_level = 3", "setting 'log_level' must be a text"),
        ('log_level = "all"', "--log-level must be debug"),
        ('logformat = "json"', "did you mean 'log_format'?"),
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
    made = tap.makeService(parse(*arguments), reactor=ReadyReactor())
    assert made.node.arguments == {
        "listen": tap.LISTEN_DEFAULT,
        "advertise": None,
        "peers": ["a:1"],
        "subnet": "demo",
        "encryption": "Plaintext",
        "leech": True,
        "settings": ChordSettings(),
        "data": "somewhere",
    }
    assert not made.node.running


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
    monkeypatch.setattr(service, "tell", told.append)
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
    monkeypatch.setattr(service, "_leads_nowhere", lambda descriptor: True)
    guarded.node.listen_failure = CannotListenError("127.0.0.1", 80, OSError("in use"))
    with pytest.raises(service.CannotStart, match="in use"):
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
    assert ended.stderr == "chord: --encryption: must be Plaintext or SSL, not 'none'\n"


@pytest.mark.parametrize("listen", [*EVERYWHERE, *WHO_KNOWS, "unix:/nowhere/node.sock"])
def test_what_a_service_refuses_is_refused_with_the_same_words(listen: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse("--listen", listen)
    with pytest.raises(ValueError) as refused:
        ChordService(Clock(), listen=listen)
    assert str(raised.value) == f"--{refused.value}"
    assert parse("--listen", listen, "--advertise", "node.example:1")["advertise"] == "node.example:1"
    assert parse("--listen", listen, "--leech")["leech"]


def under(options: UsageOptions, *arguments: str) -> tap.Options:
    """The options of ``chord``, parsed after those of twistd or twist."""
    chord = tap.Options()
    chord.parent = options
    chord.parseOptions(arguments)
    return chord


def twist(**options: object) -> UsageOptions:
    parsed = UsageOptions()
    parsed.update({"logLevel": LogLevel.info, "logFormat": "text", "fileLogObserverFactory": None, **options})
    return parsed


def test_twists_own_options_of_the_log_count_where_ours_say_nothing() -> None:
    asked = twist(logLevel=LogLevel.debug, logFormat="json")
    options = under(asked)
    assert (options["log-level"], options["log-format"]) == ("debug", "json")
    assert options.runner.log_as(options["log-level"], options["log-format"]) is None
    assert asked["logLevel"] is LogLevel.debug
    options = under(asked, "--log-level", "error", "--log-format", "text")
    options.runner.log_as(options["log-level"], options["log-format"])
    assert asked["logLevel"] is LogLevel.error
    file = StringIO()
    asked["fileLogObserverFactory"](file)({"log_format": "hello {whom}", "whom": "you"})
    assert file.getvalue() == "- [-#-] hello you\n"


def twistd(**options: object) -> UsageOptions:
    parsed = UsageOptions()
    parsed.update({"logfile": None, "nodaemon": True, "logger": None, "syslog": False, **options})
    return parsed


def test_twistd_is_given_an_observer(tmp_path: Path) -> None:
    made = tap.makeService(under(twistd(logfile=str(tmp_path / "log"))), reactor=ReadyReactor())
    application = Application("chord")
    made.setServiceParent(application)
    observer = application.getComponent(ILogObserver)
    observer({"log_format": "one", "log_level": LogLevel.debug, "log_namespace": "x"})
    observer({"log_format": "two", "log_level": LogLevel.info, "log_namespace": "x"})
    assert (tmp_path / "log").read_text() == "- [x#info] two\n"


def test_another_observer_of_twistds_stays() -> None:
    made = tap.makeService(under(twistd(logger=print)), reactor=ReadyReactor())
    application = Application("chord")
    made.setServiceParent(application)
    assert application.getComponent(ILogObserver) is None


def test_a_daemon_cannot_log_to_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        under(twistd(logfile="-", nodaemon=False))


def test_a_log_that_cannot_be_written_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(runner, "tell", told.append)
    make = under(twistd(logfile="/nowhere/to/be/log")).runner.log_as("info", "text")
    assert make is not None
    with pytest.raises(SystemExit) as raised:
        make(ReadyReactor())
    assert raised.value.code == tap.EXIT_CANNOT_START
    assert told == ["cannot log to /nowhere/to/be/log: No such file or directory"]


def test_the_system_log_gets_lines_with_priorities(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[int, str]] = []
    monkeypatch.setattr(syslog, "syslog", lambda *arguments: written.append(arguments))
    monkeypatch.setattr(syslog, "openlog", lambda *arguments: None)
    make = under(twistd(syslog=True, prefix="node")).runner.log_as("info", "text")
    assert make is not None
    observer = make(ReadyReactor())
    event = {"log_namespace": "x", "log_time": 1.0}
    observer({"log_format": "no", "log_level": LogLevel.debug, **event})
    observer({"log_format": "a\nb", "log_level": LogLevel.error, **event})
    assert written == [(syslog.LOG_ERR, "[x#error] a"), (syslog.LOG_ERR, "\tb")]
