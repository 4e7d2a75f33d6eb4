"""The settings of ``twistd chord``: their names, their defaults, and the TOML file that they may stand in."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
from twisted.python.usage import UsageError

from chordtx.config import OF_SERVICE, ChordSettings, GroupSettings, Limits, MeshSettings
from chordtx.tap.telling import one_line

LISTEN_DEFAULT = "tcp:44565:interface=127.0.0.1"

#: By the long names of the options.
DEFAULTS: Mapping[str, Any] = {
    "listen": LISTEN_DEFAULT,
    "advertise": None,
    "peer": [],
    "subnet": "chord",
    "encryption": "Plaintext",
    "leech": False,
    "data": None,
    "log-level": "info",
    "log-format": "text",
}
TABLES: Mapping[str, type[Any]] = {
    "chord": ChordSettings,
    "groups": GroupSettings,
    "mesh": MeshSettings,
    "limits": Limits,
}
_KINDS: Mapping[type[Any], str] = {bool: "true or false", int: "a whole number", float: "a number"}


def read_config(path: str) -> dict[str, Any]:
    """The values of a TOML file, with its names and their kinds checked, but not what they mean.

    :returns: by the long names of the options; in the file a name may have ``_`` for ``-``.
    :raises UsageError: when it cannot be read, is no TOML, or holds an unknown name or a value of the wrong
        kind.
    """
    try:
        with open(path, "rb") as file:
            said = tomllib.load(file)
    except OSError as error:
        raise UsageError(f"cannot read --config {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {path} is no TOML: {one_line(error)}") from error
    for name, value in said.items():
        _check_kind(name, value)
    return {_option(name): value for name, value in said.items()}


def _option(name: str) -> str:
    """The long name of the option: TOML's names have ``_`` between words, as the settings have."""
    return name.replace("_", "-")


def _check_kind(name: str, value: object) -> None:
    known = [*(option.replace("-", "_") for option in DEFAULTS), *TABLES]
    if _option(name) not in DEFAULTS and name not in TABLES:
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
    """The settings that the tables ``chord``, ``groups``, ``mesh`` and ``limits`` name, defaults elsewhere.

    :raises UsageError: on an unknown name (with the nearest known one) or a value that makes no sense.
    """
    known = {table: _settings_in(kind) for table, kind in TABLES.items()}
    for table, values in tables.items():
        for name, value in values.items():
            _check_setting(table, name, value, known[table])
    limits = Limits(**tables.get("limits", {}))
    mesh = MeshSettings(**tables.get("mesh", {}), limits=limits)
    groups = GroupSettings(**tables.get("groups", {}))
    try:
        return ChordSettings(**tables.get("chord", {}), mesh=mesh, groups=groups).validate()
    except ValueError as error:
        raise UsageError(f"bad setting: {error}") from error


def _settings_in(kind: type[Any]) -> dict[str, type[Any]]:
    """The settings of a class by name, with their types; those that are settings classes left out."""
    return {
        field.name: type(field.default)
        for field in attrs.fields(kind)
        if type(field.default) in _KINDS and OF_SERVICE not in field.metadata
    }


def _check_setting(table: str, name: str, value: object, known: Mapping[str, type[Any]]) -> None:
    if name not in known:
        raise UsageError(_unknown(name, known, f" in [{table}]"))
    wanted = known[name]
    allowed = (int, float) if wanted is float else (wanted,)
    if type(value) not in allowed:
        raise UsageError(f"setting {name!r} in [{table}] must be {_KINDS[wanted]}, not {value!r}")


def _unknown(name: str, known: Iterable[str], where: str = "") -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    return f"unknown setting {name!r}{where}" + (f": did you mean {near[0]!r}?" if near else "")
