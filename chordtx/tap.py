"""``twistd chord``: the options, read from the command line and a TOML file, and the service made of them.

:func:`makeService` does no input or output. What goes wrong once the reactor runs (a port that is taken, a
ring that nobody answers from) is seen by :class:`GuardedNode`, which says it in one line and ends the process
with a status other than 0. This module must know nothing of the ring itself: it only hands settings to
``ChordService``.
"""

from __future__ import annotations

import atexit
import difflib
import gc
import os
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import attrs
from twisted.application.service import IService, Service
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from chordtx.chord.service import ChordService
from chordtx.config import ChordSettings, Limits, MeshSettings
from chordtx.errors import ChordError
from chordtx.mesh.address import Address
from chordtx.mesh.arguments import ENCRYPTIONS

LISTEN_DEFAULT = "tcp:44565:interface=127.0.0.1"
# What a program that starts nodes (cli.local_ring) looks for in their log and on their standard error.
READY = "Ready: in the ring"
TOLD = "chord: "
_SWITCH_SECONDS = 0.001
EXIT_CANNOT_START = 1
EXIT_USAGE = 2

DEFAULTS: Mapping[str, Any] = {
    "listen": LISTEN_DEFAULT,
    "advertise": None,
    "peer": [],
    "subnet": "chord",
    "encryption": "Plaintext",
    "leech": False,
    "data": None,
}
TABLES: Mapping[str, type[Any]] = {"chord": ChordSettings, "mesh": MeshSettings, "limits": Limits}

_log = Logger()


class Options(UsageOptions):
    """The options of ``twistd chord``; once parsed, ``self["settings"]`` is the :class:`ChordSettings`."""

    synopsis = "[options]"
    longdesc = (
        "Runs a node of a Chord ring: a dict that many machines share. Without --peer it starts a ring of "
        "its own. Ask it with the chordtx command."
    )
    # No defaults here: a value that is None was not given, so that the file may say it.
    optParameters = (
        ("listen", None, None, f"Twisted server endpoint to accept peers on. [default: {LISTEN_DEFAULT}]"),
        (
            "advertise",
            None,
            None,
            "HOST:PORT, the outward address that peers are told. [default: from --listen]",
        ),
        ("subnet", None, None, "The network's name; nodes of another are refused. [default: chord]"),
        ("encryption", None, None, "Plaintext or SSL. [default: Plaintext]"),
        ("data", None, None, "Folder to keep id, peers and records in. [default: in memory]"),
        (
            "config",
            None,
            None,
            "TOML file with the same settings and, in [chord], [mesh] and [limits], all others.",
        ),
    )
    optFlags = (("leech", None, "Use the ring, store nothing."),)

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self["peer"] = []

    def opt_peer(self, address: str) -> None:
        """HOST:PORT or [V6]:PORT of a node to join through; may be given again."""
        self["peer"].append(address)

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse and check; the command line wins over the file.

        :raises UsageError: with one line that says what is wrong and why.
        """
        try:
            super().parseOptions(options)  # type: ignore[no-untyped-call]
        except UsageError as error:
            if self.parent is None:
                raise
            # twistd would print its whole help around the line, and the reason would be lost in it.
            _tell(str(error))
            sys.exit(EXIT_USAGE)

    def postOptions(self) -> None:
        """Fill in the file's values and the defaults, and check every value."""
        said = read_config(self["config"]) if self["config"] else {}
        tables = {name: said.pop(name, {}) for name in TABLES}
        for name, default in DEFAULTS.items():
            if not self[name] and self[name] != "":
                self[name] = said.get(name, default)
        self["leech"] = bool(self["leech"])
        self["settings"] = settings_of(tables)
        self._check()

    def _check(self) -> None:
        _check_endpoint(self["listen"])
        for peer in self["peer"]:
            _check_address(peer, "--peer")
        if self["advertise"] is not None:
            _check_address(self["advertise"], "--advertise")
        elif not self["leech"] and listens_everywhere(self["listen"]):
            raise UsageError(
                f"--listen {self['listen']!r} is on every address of this machine:"
                " say with --advertise HOST:PORT which one peers are to be told"
            )
        if self["encryption"] not in ENCRYPTIONS:
            raise UsageError(f"--encryption must be {' or '.join(ENCRYPTIONS)}, not {self['encryption']!r}")


def _check_address(text: str, name: str) -> None:
    try:
        Address.parse(text)
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from error


def listens_everywhere(description: str) -> bool:
    """Whether a TCP server endpoint names no single interface: nothing says then where peers find it."""
    kind, _, rest = description.partition(":")
    if kind not in ("tcp", "tcp6"):
        return False
    parts = rest.replace("\\:", "\0").split(":")
    named = dict(part.split("=", 1) for part in parts if "=" in part)
    return named.get("interface", "").replace("\0", ":") in ("", "0.0.0.0", "::")


def _check_endpoint(description: str) -> None:
    from twisted.internet import reactor

    try:
        serverFromString(reactor, description)
    except Exception as error:  # endpoint parsers are plugins: they raise what they like
        raise UsageError(f"--listen {description!r} is no server endpoint: {_one_line(error)}") from error


def read_config(path: str) -> dict[str, Any]:
    """The values of a TOML file, with its names and their kinds checked, but not what they mean.

    :raises UsageError: when it cannot be read, is no TOML, or holds an unknown name or a value of the wrong
        kind.
    """
    try:
        with open(path, "rb") as file:
            said = tomllib.load(file)
    except OSError as error:
        raise UsageError(f"cannot read --config {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {path} is no TOML: {_one_line(error)}") from error
    for name, value in said.items():
        _check_kind(name, value)
    return said


def _check_kind(name: str, value: object) -> None:
    known = [*DEFAULTS, *TABLES]
    if name not in known:
        raise UsageError(_unknown(name, known))
    if name in TABLES:
        wanted, fits = "a table", isinstance(value, dict)
    elif name == "peer":
        wanted = "a list of texts"
        fits = isinstance(value, list) and all(isinstance(peer, str) for peer in value)
    elif name == "leech":
        wanted, fits = "true or false", isinstance(value, bool)
    else:
        wanted, fits = "a text", isinstance(value, str)
    if not fits:
        raise UsageError(f"setting {name!r} must be {wanted}, not {value!r}")


def settings_of(tables: Mapping[str, Mapping[str, Any]]) -> ChordSettings:
    """The settings that the tables ``chord``, ``mesh`` and ``limits`` name, defaults elsewhere.

    :raises UsageError: on an unknown name (with the nearest known one) or a value that makes no sense.
    """
    known = {table: _numbers(kind) for table, kind in TABLES.items()}
    for table, values in tables.items():
        for name, value in values.items():
            _check_number(table, name, value, known[table])
    limits = Limits(**tables.get("limits", {}))
    mesh = MeshSettings(**tables.get("mesh", {}), limits=limits)
    try:
        return ChordSettings(**tables.get("chord", {}), mesh=mesh).validate()
    except ValueError as error:
        raise UsageError(f"bad setting: {error}") from error


def _numbers(kind: type[Any]) -> dict[str, type[Any]]:
    """The settings of a class by name, with their types; those that are settings classes left out."""
    return {
        field.name: type(field.default) for field in attrs.fields(kind) if type(field.default) in (int, float)
    }


def _check_number(table: str, name: str, value: object, known: Mapping[str, type[Any]]) -> None:
    if name not in known:
        raise UsageError(_unknown(name, known, f" in [{table}]"))
    allowed = (int,) if known[name] is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, allowed):
        wanted = "a whole number" if known[name] is int else "a number"
        raise UsageError(f"setting {name!r} in [{table}] must be {wanted}, not {value!r}")


def _unknown(name: str, known: Any, where: str = "") -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    return f"unknown setting {name!r}{where}" + (f": did you mean {near[0]!r}?" if near else "")


def _tell(line: str) -> None:
    """Write to standard error itself: ``sys.stderr`` is a part of the log once twistd has started it."""
    if sys.__stderr__ is not None:
        sys.__stderr__.write(f"{TOLD}{line}\n")
        sys.__stderr__.flush()


def _one_line(error: BaseException) -> str:
    """An error's text in one line, or its kind when it has none."""
    return " ".join(str(error).split()) or type(error).__name__


class CannotStart(ChordError):
    """The node could not start; for twistd, which passes it on to the one who started the daemon."""


class GuardedNode(Service):
    """Runs a node, and ends the process when it cannot start.

    :ivar node: the :class:`ChordService`, or anything with its starting and stopping methods.
    """

    def __init__(self, reactor: Any, node: Any, end: Callable[[Any, int], None]) -> None:
        """:param end: called with the reactor and a status other than 0 when the start failed."""
        self.node = node
        self._reactor = reactor
        self._end = end
        self._failure: CannotStart | None = None
        self._watching: Deferred[None] = succeed(None)

    def startService(self) -> None:
        """Start the node, and watch until it is in the ring.

        :raises CannotStart: in a daemon only, when binding failed at once: twistd tells its starter.
        """
        super().startService()  # type: ignore[no-untyped-call]
        self.node.startService()
        self._watching = Deferred.fromCoroutine(self._watch())
        self._watching.addErrback(lambda failure: _log.failure("Watching the start failed", failure))
        if self._failure is not None and _leads_nowhere(2):
            _log.critical("Cannot start: {why}", why=str(self._failure))
            raise self._failure

    def stopService(self) -> Deferred[None]:
        """Leave the ring politely; fires when that is done."""
        super().stopService()  # type: ignore[no-untyped-call]
        self._watching.cancel()
        stopped: Deferred[None] = self.node.stopService()
        return stopped

    async def _watch(self) -> None:
        try:
            await self.node.when_listening()
            await self.node.when_joined()
        except CancelledError:
            return
        except (ChordError, CannotListenError, OSError) as error:
            self._failed(_one_line(error))
        except Exception as error:
            _log.failure("The node could not start for a reason that nobody thought of")
            self._failed(f"{type(error).__name__}: {_one_line(error)}")
        else:
            status = self.node.status
            _log.info(
                READY + " of subnet {subnet} as {id} at {address}",
                subnet=status.get("subnet"),
                id=status.get("id"),
                address=status.get("address"),
            )

    def _failed(self, why: str) -> None:
        if not self.running:
            return
        self._failure = CannotStart(why)
        # twist begins its log only with the reactor, and what is logged before goes to standard error.
        self._reactor.callWhenRunning(self._tell_and_end, why)

    def _tell_and_end(self, why: str) -> None:
        _log.critical("Cannot start: {why}", why=why)
        _tell(f"cannot start: {why}")
        self._end(self._reactor, EXIT_CANNOT_START)


def makeService(options: Mapping[str, Any], reactor: Any = None) -> IService:
    """The node that the options describe.

    :param options: parsed :class:`Options`.
    :param reactor: the global one when None.
    """
    if reactor is None:
        from twisted.internet import reactor
    reactor.callWhenRunning(collect_less)
    node = ChordService(
        reactor,
        listen=options["listen"],
        advertise=options["advertise"],
        peers=options["peer"],
        subnet=options["subnet"],
        encryption=options["encryption"],
        leech=options["leech"],
        settings=options["settings"],
        data=options["data"],
    )
    return GuardedNode(reactor, node, end_process)


def collect_less() -> None:
    """Have Python look for cyclic garbage less often, not in what was loaded at the start, and switch threads
    sooner.

    For a node, not for a program that embeds one. With Python's own thresholds a loaded node spends up to a
    quarter of its time looking, in pauses of up to 50 ms: hundreds of requests under way at once, and ever
    more records, all of which live on.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    # The thread that commits to the disk gets Python's lock within this time, however busy the reactor is.
    sys.setswitchinterval(_SWITCH_SECONDS)


def end_process(reactor: Any, status: int) -> None:
    """Stop the reactor, and let the process end with ``status`` once everything else is done.

    Neither twistd nor twist can be told an exit status, and the reactor swallows SystemExit. So the status is
    set by the last thing that runs, after the services have stopped and twistd has removed its PID file.
    """
    atexit.register(_exit_now, status)
    reactor.callWhenRunning(reactor.stop)


def _exit_now(status: int) -> NoReturn:
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            stream.flush()
    os._exit(status)


def _leads_nowhere(descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(os.devnull))
    except OSError:
        return True
