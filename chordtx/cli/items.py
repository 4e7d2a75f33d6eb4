"""``get``, ``set``, ``delete`` and ``keys``: one record, or the names of all."""

from __future__ import annotations

import os
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from chordtx.cli.client import Client
from chordtx.cli.jsonform import FORMS_HELP, dumps, json_text, key_to_json, loads
from chordtx.cli.parameters import VERSION, SecondsType
from chordtx.cli.running import EXIT_NO_SUCH_KEY, Failed, NoSuchKey
from chordtx.cli.streams import InputFile, standard_output
from chordtx.errors import Conflict
from chordtx.escaping import escaped, escaped_lines
from chordtx.values import ABSENT, TTL_SECONDS_MAX, Version

if TYPE_CHECKING:
    from chordtx.chord import ChordService

MISSING = object()
STANDARD_INPUT = "-"


@click.command(epilog=FORMS_HELP)
@click.argument("key")
@click.option("--json", "as_json", is_flag=True, help="Write JSON whatever the value is.")
@click.option(
    "--version", "as_version", is_flag=True, help="Write the version instead, for --if-version and --since."
)
@click.pass_obj
def get(client: Client, key: str, as_json: bool, as_version: bool) -> None:
    """Write KEY's value to standard output.

    Text and bytes are written as they are (on a terminal with control characters escaped), anything else as
    JSON. The version is another one after each change of KEY: get it before the value that you change.
    """
    if as_json and as_version:
        raise click.UsageError("Give either --json or --version.")
    out = standard_output()

    async def work(reactor: Any, node: ChordService) -> None:
        if as_version:
            out.line(await _version_of(node, key))
            return
        value = await node.get(os.fsencode(key), MISSING)
        if value is MISSING:
            raise NoSuchKey(key)
        out.write(_printable(value, as_json, out.is_terminal))

    client.run(work)


async def _version_of(node: ChordService, key: str) -> str:
    try:
        entry = await node.entry(os.fsencode(key))
    except KeyError as error:
        raise NoSuchKey(key) from error
    return entry.version


def _printable(value: Any, as_json: bool, is_escaped: bool) -> bytes:
    if as_json or not isinstance(value, str | bytes):
        return dumps(value).encode() + b"\n"
    if is_escaped:
        return escaped_lines(value).encode() + b"\n"
    return value.encode() if isinstance(value, str) else value


@click.command("set", epilog=FORMS_HELP)
@click.argument("key")
@click.argument("value", required=False)
@click.option("--json", "as_json", is_flag=True, help="VALUE is JSON.")
@click.option("--file", type=InputFile(), help="Store this file's bytes instead of VALUE.")
@click.option("--ttl", type=SecondsType(TTL_SECONDS_MAX), help="Forget it after so long.")
@click.option("--if-absent", is_flag=True, help="Store it only if KEY is not there.")
@click.option("--if-version", type=VERSION, help="Store it only if KEY still has this version.")
@click.pass_obj
def set_(
    client: Client,
    key: str,
    value: str | None,
    as_json: bool,
    file: BinaryIO | None,
    ttl: float | None,
    if_absent: bool,
    if_version: str | None,
) -> None:
    """Store VALUE under KEY, as text. The VALUE -, as --file -, is what comes from standard input, as bytes.

    A VALUE that begins with a hyphen comes after --, as in: set KEY -- -5
    """
    if if_absent and if_version is not None:
        raise click.UsageError("Give either --if-absent or --if-version.")
    expected: Version | None = ABSENT if if_absent else if_version
    stored = _value_to_store(value, as_json, file)

    async def work(reactor: Any, node: ChordService) -> None:
        known = os.fsencode(key)
        try:
            if expected is None:
                await node.set(known, stored, ttl=ttl)
            else:
                await node.compare_and_set(known, stored, expected, ttl=ttl)
        except Conflict as error:
            raise _not_as_expected(key, error) from error
        except (TypeError, ValueError) as error:
            raise Failed(f"this value cannot be stored: {error}") from error

    client.run(work)


def _value_to_store(value: str | None, as_json: bool, file: BinaryIO | None) -> Any:
    if (value is None) == (file is None):
        raise click.UsageError("Give either VALUE or --file.")
    if value == STANDARD_INPUT:
        file = _standard_input()
    if file is not None:
        content = file.read()
        return _parsed(content) if as_json else content
    return _parsed(value) if as_json else value


def _standard_input() -> BinaryIO:
    if sys.stdin is None:
        raise click.UsageError("standard input is closed")
    return sys.stdin.buffer


def _parsed(text: str | bytes | None) -> Any:
    assert text is not None
    try:
        return loads(text)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"VALUE is no JSON: {error}") from error


def _not_as_expected(key: str, error: Conflict) -> Exception:
    if error.version is ABSENT:
        return NoSuchKey(key)
    return Failed(f"not as expected: {escaped(key)} is there, with version {error.version}", EXIT_NO_SUCH_KEY)


@click.command()
@click.argument("key")
@click.option("--if-version", type=VERSION, help="Delete it only if it still has this version.")
@click.pass_obj
def delete(client: Client, key: str, if_version: str | None) -> None:
    """Delete KEY."""

    async def work(reactor: Any, node: ChordService) -> None:
        try:
            await node.delete(os.fsencode(key), if_version)
        except Conflict as error:
            raise _not_as_expected(key, error) from error
        except KeyError as error:
            raise NoSuchKey(key) from error

    client.run(work)


@click.command(epilog='With --json a key that is no UTF-8 is {"$bytes": BASE64}.')
@click.option("--prefix", default="", help="Only the keys that begin with this.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="No more than N of them.")
@click.option(
    "--after",
    metavar="KEY",
    help="Go on behind this key, the last one of an earlier list. Empty: from the beginning.",
)
@click.option("--json", "as_json", is_flag=True, help="Write each key as JSON.")
@click.option(
    "-0", "--null", is_flag=True, help="Write each key as it is, with a zero byte after it, as for xargs -0."
)
@click.pass_obj
def keys(
    client: Client, prefix: str, limit: int | None, after: str | None, as_json: bool, null: bool
) -> None:
    """Write every key on a line of its own. The order is the same each time, but not that of the alphabet.

    On a terminal control characters in keys are escaped.
    """
    if as_json and null:
        raise click.UsageError("Give either --json or --null.")
    start, behind = os.fsencode(prefix), os.fsencode(after) if after else None
    out = standard_output()
    is_escaped = out.is_terminal and not null

    async def work(reactor: Any, node: ChordService) -> None:
        listing = node.keys(start, after=behind, limit=limit)
        async with aclosing(listing) as found:  # type: ignore[type-var]  # it is a generator
            async for key in found:
                out.write(key + b"\0" if null else _line_of(key, as_json, is_escaped) + b"\n")

    client.run(work)


def _line_of(key: bytes, as_json: bool, is_escaped: bool) -> bytes:
    if as_json:
        return json_text(key_to_json(key)).encode()
    return escaped(key).encode() if is_escaped else key


COMMANDS = (get, set_, delete, keys)
