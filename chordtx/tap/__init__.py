"""``twistd chord``: the options, read from the command line and a TOML file, and the service made of them.

:class:`Options` reads what people say, :func:`makeService` makes the node of it; Twisted finds both here.
This package must know nothing of the ring itself: it only hands settings to ``ChordService``.
"""

from chordtx.tap.config import DEFAULTS, LISTEN_DEFAULT, TABLES, settings_of
from chordtx.tap.options import Options
from chordtx.tap.service import READY, GuardedNode, makeService
from chordtx.tap.telling import EXIT_CANNOT_START, EXIT_USAGE, TOLD

__all__ = [
    "DEFAULTS",
    "EXIT_CANNOT_START",
    "EXIT_USAGE",
    "LISTEN_DEFAULT",
    "READY",
    "TABLES",
    "TOLD",
    "GuardedNode",
    "Options",
    "makeService",
    "settings_of",
]
