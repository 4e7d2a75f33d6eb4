"""Runs the code of a tutorial as it stands: what follows ``>>>`` and ``...``, in the order of the text.

``python tutorial.py FILE PORT OWN_PORT``: with a ``sock`` that is connected to a ring on ``PORT``. Ends with
status 0 and prints what the tutorial's own code printed, then ``blocks: N``.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path


def blocks(text: str) -> list[str]:
    """The tutorial's pieces of code."""
    found: list[list[str]] = []
    for line in map(str.strip, text.splitlines()):
        if line.startswith(">>>"):
            found.append([line[4:]])
        elif line.startswith("...") and found:
            found[-1].append(line[4:])
    return [textwrap.dedent("\n".join(lines)) + "\n" for lines in _whole(found)]


def _whole(found: list[list[str]]) -> list[list[str]]:
    """A decorator stands alone behind one prompt, and what it decorates behind the next."""
    whole: list[list[str]] = []
    for lines in found:
        if whole and whole[-1][-1].startswith("@"):
            whole[-1] += lines
        else:
            whole.append(lines)
    return whole


def main(file: str, port: str, own_port: str) -> None:
    from chordtx.blocking import ChordSocket

    sock = ChordSocket("127.0.0.1", int(own_port))  # the line that the tutorial leaves to the mesh's
    sock.connect("127.0.0.1", int(port))
    sock.join()
    names = {"sock": sock, "update_dict": {b"one": 1, b"two": [2, {"x": b"\x00"}]}}
    sock["test key"] = "there"  # what it asks for at first
    pieces = blocks(Path(file).read_text(encoding="utf-8"))
    for piece in pieces:
        if piece.startswith("del sock['test']"):
            sock["test"] = "to be deleted"
        exec(compile(piece, file, "exec"), names)
    assert sock["one"] == 1
    assert sock["two"] == [2, {"x": b"\x00"}]
    assert sock["测试"] == "test"
    assert "test" not in sock
    sock.close()
    print(f"blocks: {len(pieces)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
