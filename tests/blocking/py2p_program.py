"""``python py2p_program.py FOLDER``: py2p's own tests of its mesh and sync sockets, over ours.

FOLDER is ``py2p/test`` as the published package has it. Its tests run as they are; what they import is made
of our sockets here. They name fixed ports: any others that are free take their places. They sleep most of
the time, so all run at once.
"""

from __future__ import annotations

import io
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from importlib import import_module
from threading import Lock
from types import ModuleType
from typing import Any

from chordtx import ChordError, blocking
from chordtx.wire import flags


class Ports:
    """Which port is listened on in the place of one that a test names."""

    def __init__(self) -> None:
        self._ports: dict[int, int] = {}
        self._lock = Lock()

    def opened(self, named: int, port: int) -> None:
        with self._lock:
            assert named not in self._ports, "two tests name one port"
            self._ports[named] = port

    def of(self, named: int) -> int:
        with self._lock:
            return self._ports[named]


ports = Ports()


def named_as_in_py2p(kind: Any) -> Any:
    """Our socket on another port; and one that finds another network says so in its log, not by an error."""

    class Socket(kind):
        def __init__(self, addr: str, port: int, **others: Any) -> None:
            super().__init__(addr, 0, **others)
            ports.opened(port, self.out_addr[1])

        def connect(self, addr: str, port: int) -> None:
            try:
                super().connect(addr, ports.of(port))
            except ChordError as error:
                print(error)

    return Socket


def stand_in(folder: str) -> None:
    """Put modules of py2p's names in the places where its tests look for them."""
    modules = {
        "py2p": {"__path__": []},
        "py2p.flags": {name.lower(): value for name, value in vars(flags).items() if name.isupper()},
        "py2p.base": {"BaseConnection": object, "Message": blocking.Message},
        "py2p.mesh": {"MeshSocket": named_as_in_py2p(blocking.MeshSocket), "Protocol": blocking.Protocol},
        "py2p.sync": {"SyncSocket": named_as_in_py2p(blocking.SyncSocket), "Protocol": blocking.Protocol},
        "py2p.test": {"__path__": [folder]},
    }
    for name, contents in modules.items():
        module = sys.modules[name] = ModuleType(name)
        vars(module).update(contents)
        parent, _, own = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], own, module)


def failure_of(test: Any) -> str | None:
    try:
        test()
    except BaseException:
        return traceback.format_exc()
    return None


def main(folder: str) -> None:
    stand_in(folder)
    said = io.StringIO()
    tests: dict[str, Any] = {}
    for module in map(import_module, ("py2p.test.test_mesh", "py2p.test.test_sync")):
        tests |= {name: work for name, work in vars(module).items() if name.startswith("test_")}
    with redirect_stdout(said), ThreadPoolExecutor(len(tests)) as threads:
        failures = dict(zip(tests, threads.map(failure_of, tests.values()), strict=True))
    failed = [f"{name}: {text}" for name, text in failures.items() if text is not None]
    assert not failed, said.getvalue() + "\n".join(failed)
    print(f"{len(tests)} tests")


if __name__ == "__main__":
    main(*sys.argv[1:])
