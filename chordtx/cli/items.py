"""``get``, ``set``, ``delete`` and ``keys``: one record, or the names of all."""

from __future__ import annotations

import os
import sys
from typing import Any, BinaryIO

import click

from chordtx.chord import ChordService
from chordtx.cli.client import Client
from chordtx.cli.jsonform import FORMS_HELP, dumps, json_text, key_to_json, loads
from chordtx.cli.running import Failed, NoSuchKey
from chordtx.escaping import escaped, escaped_lines

MISSING = object()


@click.command(epilog=FORMS_HELP)
@click.argument("key")
@click.option("--json", "as_json", is_flag=True, help="Write JSON whatever the value is.")
@click.pass_obj
def get(client: Client, key: str, as_json: bool) -> None:
    """Write KEY's value to standard output.

    Text and bytes are written as they are (on a terminal with control characters escaped), anything else as
    JSON.
    """

    async def work(reactor: Any, node: ChordService) -> None:
        value = await node.get(os.fsencode(key), MISSING)
        if value is MISSING:
            raise NoSuchKey(key)
        out = sys.stdout.buffer
        out.write(_printable(value, as_json, out.isatty()))

    client.run(work)


def _printable(value: Any, as_json: bool, terminal: bool) -> bytes:
    if as_json or not isinstance(value, str | bytes):
        return dumps(value).encode() + b"\n"
    if terminal:
        return escaped_lines(value).encode() + b"\n"
    return value.encode() if isinstance(value, str) else value


@click.command("set", epilog=FORMS_HELP)
@click.argument("key")
@click.argument("value", required=False)
@click.option("--json", "as_json", is_flag=True, help="VALUE is JSON.")
@click.option(
    "--file", type=click.File("rb"), help="Store this file's bytes instead of VALUE; - is standard input."
)
@click.option(
    "--ttl", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="Forget it after so long."
)
@click.pass_obj
def set_(
    client: Client, key: str, value: str | None, as_json: bool, file: BinaryIO | None, ttl: float | None
) -> None:
    """Store VALUE under KEY, as text."""
    stored = _value_to_store(value, as_json, file)

    async def work(reactor: Any, node: ChordService) -> None:
        try:
            await node.set(os.fsencode(key), stored, ttl=ttl)
        except (TypeError, UnicodeEncodeError) as error:
            raise Failed(f"this value cannot be stored: {error}") from error

    client.run(work)


def _value_to_store(value: str | None, as_json: bool, file: BinaryIO | None) -> Any:
    if (value is None) == (file is None):
        raise click.UsageError("Give either VALUE or --file.")
    if file is not None:
        content = file.read()
        return _parsed(content) if as_json else content
    return _parsed(value) if as_json else value


def _parsed(text: str | bytes | None) -> Any:
    assert text is not None
    try:
        return loads(text)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"VALUE is no JSON: {error}") from error


@click.command()
@click.argument("key")
@click.pass_obj
def delete(client: Client, key: str) -> None:
    """Delete KEY."""

    async def work(reactor: Any, node: ChordService) -> None:
        try:
            await node.delete(os.fsencode(key))
        except KeyError as error:
            raise NoSuchKey(key) from error

    client.run(work)


@click.command(epilog='With --json a key that is no UTF-8 is {"$bytes": BASE64}.')
@click.option("--prefix", default="", help="Only the keys that begin with this.")
@click.option("--json", "as_json", is_flag=True, help="Write each key as JSON.")
@click.pass_obj
def keys(client: Client, prefix: str, as_json: bool) -> None:
    """Write every key on a line of its own, in no particular order."""
    start = os.fsencode(prefix)

    async def work(reactor: Any, node: ChordService) -> None:
        out = sys.stdout.buffer
        async for key in node.keys():
            if key.startswith(start):
                out.write(_line_of(key, as_json, out.isatty()) + b"\n")

    client.run(work)


def _line_of(key: bytes, as_json: bool, terminal: bool) -> bytes:
    if as_json:
        return json_text(key_to_json(key)).encode()
    return escaped(key).encode() if terminal else key


COMMANDS = (get, set_, delete, keys)
