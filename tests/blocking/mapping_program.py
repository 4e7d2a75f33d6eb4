"""``python mapping_program.py ChordSocket``, or ``SyncSocket``: CPython's own tests of mappings.

The adapter bridges three differences, so that all else that these tests look at counts: keys of any kind go
in as bytes and come back as what they were, truth is that of a dict, and no values are tuples. Whatever still
differs is listed below with its reason, and has to fail: a line that is not true any more is an error.
"""

from __future__ import annotations

import ast
import io
import itertools
import sys
import unittest
from collections.abc import Iterator
from typing import Any, ClassVar

from test import mapping_tests

from chordtx import blocking
from chordtx.blocking import dictionary

TESTS = {
    "BasicMapping": mapping_tests.BasicTestMappingProtocol,
    "Mapping": mapping_tests.TestMappingProtocol,
    "HashMapping": mapping_tests.TestHashMappingProtocol,
}
_KEYS = "keys are bytes-like or str: no other object is one, and what is stored is never that object itself"
_REPR = "the text of a socket tells which one it is; it does not fetch the records of the whole ring"
_VIEWS = "keys() is an iterator, as the old library had it: looking for one key uses up those before it"
#: Class and test -> why a socket differs there.
DIFFERENCES = {
    "Mapping.test_copy": "copy() gives a plain dict: a socket is a node of a network",
    "Mapping.test_fromkeys": "a class cannot make a socket out of keys, without an address",
    "Mapping.test_setdefault": "values are copies: what is appended to one changes nothing that is stored",
    "HashMapping.test_eq": _KEYS,
    "HashMapping.test_fromkeys": "as above",
    "HashMapping.test_getitem": _KEYS,
    "HashMapping.test_pop": _KEYS,
    "HashMapping.test_repr": _REPR,
    "HashMapping.test_repr_deep": "a socket is no value that another one could store",
    "HashMapping.test_setdefault": _KEYS,
}
#: What a sync socket has in order of insertion, a chord socket has in the order of the ring.
OF_CHORD_SOCKETS_ONLY = {"Mapping.test_keys": _VIEWS}
#: Powers of two that test_popitem goes up to; 12 in memory.
_POPITEM_SIZES = 5


def as_key(key: Any) -> bytes:
    # An empty one is no key of these tests: it is the prefix of all.
    return repr(key).encode() if key != b"" else b""


def as_given(key: bytes) -> Any:
    return ast.literal_eval(key.decode())


def adapter(kind: Any) -> Any:
    """A socket that is made like a dict, in a network of its own."""

    class Adapted(kind):
        made: ClassVar[list[Any]] = []
        numbers: ClassVar[Iterator[int]] = itertools.count()

        def __init__(self, *args: Any, **named: Any) -> None:
            super().__init__("127.0.0.1", 0, blocking.Protocol(f"mapping {next(self.numbers)}"))
            self.made.append(self)
            if kind is blocking.ChordSocket:
                self.join()
            self.update(*args, **named)

        def __bool__(self) -> bool:
            return len(self) > 0

        def keys(self) -> Iterator[Any]:
            return map(as_given, super().keys())

        def values(self) -> Iterator[Any]:
            return super().values()

        def items(self) -> Iterator[tuple[Any, Any]]:
            return ((as_given(key), value) for key, value in super().items())

        def popitem(self) -> tuple[Any, Any]:
            key, value = super().popitem()
            return as_given(key), value

        def copy(self) -> dict[Any, Any]:
            return {as_given(key): value for key, value in super().copy().items()}

    return Adapted


def adapted(name: str, tests: Any, kind: Any, differences: dict[str, str]) -> Any:
    """The class of tests, over ``kind``."""

    class Adapted(tests):
        type2test = kind

        def _reference(self) -> dict[Any, Any]:
            return {"1": "2", "key1": "value1", "key2": b"value2"}

        def tearDown(self) -> None:
            while kind.made:
                kind.made.pop().close()

    Adapted.__qualname__ = name
    for test in vars(tests):
        if f"{name}.{test}" in differences:
            setattr(Adapted, test, unittest.expectedFailure(getattr(Adapted, test)))
    return Adapted


def suite_of(tests: Any, adapted_tests: Any) -> unittest.TestSuite:
    """What the class of tests has of its own: what it inherits is another one's."""
    return unittest.TestSuite(adapted_tests(test) for test in vars(tests) if test.startswith("test_"))


def main(name: str) -> None:
    dictionary.key_bytes = as_key
    mapping_tests.range = lambda size: range(_POPITEM_SIZES if size == 12 else size)
    kind = adapter(getattr(blocking, name))
    differences = DIFFERENCES | (OF_CHORD_SOCKETS_ONLY if name == "ChordSocket" else {})
    suite = unittest.TestSuite(
        suite_of(tests, adapted(of, tests, kind, differences)) for of, tests in TESTS.items()
    )
    said = io.StringIO()
    result = unittest.TextTestRunner(said, verbosity=2).run(suite)
    assert result.wasSuccessful(), said.getvalue()
    assert len(result.expectedFailures) == len(differences)
    print(f"{result.testsRun - len(differences)} pass, {len(differences)} differ")


if __name__ == "__main__":
    main(*sys.argv[1:])
