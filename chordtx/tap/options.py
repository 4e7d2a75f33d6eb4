"""The options of ``twistd chord``, from the command line and from the file that it names."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from chordtx.logs import LEVELS, LINES
from chordtx.mesh.arguments import check_advertise, check_encryption, check_listen, check_peers
from chordtx.mesh.endpoints import Outward
from chordtx.tap.config import DEFAULTS, LISTEN_DEFAULT, TABLES, read_config, settings_of
from chordtx.tap.runner import Runner
from chordtx.tap.telling import EXIT_USAGE, tell


class Options(UsageOptions):
    """The options of ``twistd chord``; once parsed, ``self["settings"]`` is the :class:`ChordSettings`.

    :ivar runner: twistd or twist, which parsed its own options before these.
    """

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
        ("log-level", None, None, f"The least that is logged: {', '.join(LEVELS)}. [default: info]"),
        ("log-format", None, None, "text, or json: one JSON object a line. [default: text]"),
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

    @property
    def runner(self) -> Runner:
        """What runs the node."""
        return Runner(self.parent)

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
            tell(str(error))
            sys.exit(EXIT_USAGE)

    def postOptions(self) -> None:
        """Fill in the file's values and the defaults, and check every value."""
        said = read_config(self["config"]) if self["config"] else {}
        tables = {name: said.pop(name, {}) for name in TABLES}
        defaults = {**DEFAULTS, **self.runner.log_defaults()}
        for name, default in defaults.items():
            if not self[name] and self[name] != "":
                self[name] = said.get(name, default)
        self["leech"] = bool(self["leech"])
        self["settings"] = settings_of(tables)
        self._check()

    def _check(self) -> None:
        from twisted.internet import reactor

        _checked(check_encryption, self["encryption"])
        advertised = _checked(check_advertise, self["advertise"])
        _checked(check_peers, self["peer"], argument="peers", option="peer")
        unneeded = self["leech"] or advertised is not None
        _checked(check_listen, reactor, self["listen"], Outward.UNUSED if unneeded else Outward.NEEDED)
        self["log-level"] = _one_of("log-level", self["log-level"], LEVELS)
        self["log-format"] = _one_of("log-format", self["log-format"], tuple(LINES))
        self.runner.check_log()


def _checked(check: Callable[..., Any], *given: Any, argument: str = "", option: str = "") -> Any:
    """Check as the service does, and name the option where it names its argument."""
    try:
        return check(*given)
    except ValueError as error:
        said = str(error)
        raise UsageError(f"--{option}{said.removeprefix(argument)}" if option else f"--{said}") from error


def _one_of(name: str, said: str, known: Sequence[str]) -> str:
    if said.lower() not in known:
        raise UsageError(f"--{name} must be {', '.join(known[:-1])} or {known[-1]}, not {said!r}")
    return said.lower()
