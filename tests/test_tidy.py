"""The rules of the house that a program can check: layers, what is given and not grabbed, sizes, docstrings.

Each rule is a function from a parsed module to the offences in it, and is first tried on a sample of its own.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]

#: From the top: a row imports from the rows above it, and from itself. ``sim`` runs everything.
LAYERS = (
    ("escaping", "errors", "config", "values"),
    ("wire",),
    ("ring", "group"),
    ("store",),
    ("mesh",),
    ("assignments",),
    ("dictionary",),
    ("legacy",),
    ("chord",),
    ("sync",),
    ("process", "logs"),
    ("tap", "cli", "web", "blocking", "aio", "discovery"),
    ("sim",),
)
ROW = {name: row for row, names in enumerate(LAYERS) for name in names}
#: Plain values and functions: they are given the time, the randomness and the bytes.
PURE = frozenset({"escaping", "errors", "config", "values", "wire", "ring", "group"})
PURE_NEVER_IMPORTS = frozenset(
    {
        "asyncio",
        "datetime",
        "random",
        "secrets",
        "select",
        "socket",
        "ssl",
        "threading",
        "time",
        "twisted",
        "uuid",
    }
)
#: Who knows the real reactor, clock and random source (``sim`` has its own of each).
KNOWS_THE_REAL_ONES = frozenset({"process", "tap", "cli", "blocking", "aio", "sim"})
GRABBED = frozenset({"time.*", "random.*", "secrets.*", "uuid.*", "os.urandom"})
#: A type to annotate with is not a source of randomness; and the system's, for who gives none, needs no seed.
ONLY_TYPES = frozenset({"random.Random", "random.SystemRandom"})
#: The one module that services have the system's clocks from, unless they are given others.
CLOCKS_OF_THE_SYSTEM = {
    "chordtx.mesh.steady": {"time.monotonic", "time.time", "time.clock_gettime", "time.CLOCK_BOOTTIME"}
}
VAGUE = re.compile(r"(Manager|Handler|Helper|Utils?)$")
LOG_METHODS = frozenset({"debug", "info", "warn", "error", "critical", "failure"})
FUNCTION_LINES_MAX = 60
MODULE_LINES_MAX = 600


class Module(NamedTuple):
    """A parsed module: its dotted name (``chordtx.wire.frame``), source and tree."""

    name: str
    source: str
    tree: ast.Module

    @classmethod
    def parse(cls, name: str, source: str) -> Module:
        """Parse ``source`` as the module ``name``."""
        return cls(name, source, ast.parse(source))

    @property
    def part(self) -> str:
        """The layer's name: the second word of the module's, ``""`` for the package's surface."""
        return (self.name.split(".") + [""])[1]


def modules() -> list[Module]:
    """Every module of the package."""
    found = []
    for path in sorted((ROOT / "chordtx").rglob("*.py")):
        words = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(words[:-1] if words[-1] == "__init__" else words)
        found.append(Module.parse(name, path.read_text()))
    return found


def imports(tree: ast.AST) -> Iterator[str]:
    """Dotted names of all that is imported anywhere in ``tree``, ``from a import b`` as ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """All functions and methods in ``tree``, nested ones too."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def against_layering(module: Module) -> Iterator[str]:
    """A module imports only from its own row and those above; the surface is for people's ends."""
    if not module.part:
        return
    if module.part not in ROW:
        yield f"{module.part} stands in no layer"
        return
    for name in imports(module.tree):
        words = name.split(".")
        if words[0] != "chordtx":
            continue
        if len(words) < 2 or words[1] not in ROW:
            if ROW[module.part] < ROW["tap"]:
                yield f"imports {name}: only tap, cli, web, blocking and aio may use the package's surface"
        elif ROW[words[1]] > ROW[module.part]:
            yield f"imports {name}, which is below"


def against_purity(module: Module) -> Iterator[str]:
    """The layers of plain values import no Twisted, no clock, no randomness and no sockets."""
    if module.part in PURE:
        yield from (
            f"imports {name}" for name in imports(module.tree) if name.split(".")[0] in PURE_NEVER_IMPORTS
        )


def grabs_what_should_be_given(module: Module) -> Iterator[str]:
    """Reactor, clock and random source are arguments, except where people come in."""
    if module.part in KNOWS_THE_REAL_ONES:
        return
    names = {name for name in imports(module.tree) if "." in name}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names.add(f"{node.value.id}.{node.attr}")
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"random.Random", "Random"}:
            yield "makes a random source of its own"
    for name in sorted(names - ONLY_TYPES - CLOCKS_OF_THE_SYSTEM.get(module.name, set())):
        if name == "twisted.internet.reactor" or {name, f"{name.split('.')[0]}.*"} & GRABBED:
            yield f"uses {name}"


def too_long(module: Module) -> Iterator[str]:
    """Functions (their docstrings not counted) and modules stay at a size that can be read."""
    lines = module.source.count("\n")
    if lines > MODULE_LINES_MAX:
        yield f"{lines} lines"
    for function in functions(module.tree):
        body = function.body[1:] if ast.get_docstring(function) is not None else function.body
        length = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
        if length > FUNCTION_LINES_MAX:
            yield f"{function.name} has {length} lines"


def undocumented(module: Module) -> Iterator[str]:
    """What is public has a docstring; methods that Twisted calls are documented there."""
    if ast.get_docstring(module.tree) is None:
        yield "the module"
    yield from _undocumented_within(module.tree)


def _undocumented_within(node: ast.Module | ast.ClassDef) -> Iterator[str]:
    for inner in node.body:
        if not isinstance(inner, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if inner.name.startswith("_") or _needs_no_docstring(inner):
            continue
        if ast.get_docstring(inner) is None:
            yield inner.name
        if isinstance(inner, ast.ClassDef):
            yield from _undocumented_within(inner)


def _needs_no_docstring(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    if isinstance(node, ast.ClassDef):
        return False
    decorators = {ast.unparse(decorator).split(".")[-1] for decorator in node.decorator_list}
    is_camel_case = re.fullmatch(r"[a-z]+([A-Z][a-z]*)+", node.name) is not None
    return is_camel_case or bool(decorators & {"overload", "setter", "deleter"})


def vaguely_named(module: Module) -> Iterator[str]:
    """No Manager, Handler, Helper or Utils: say what it is."""
    names = [node.name for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef)]
    yield from (name for name in [*names, module.name.split(".")[-1].title()] if VAGUE.search(name))


def uses_inline_callbacks(module: Module) -> Iterator[str]:
    """Coroutines, not ``inlineCallbacks``."""
    yield from (name for name in imports(module.tree) if name.endswith(".inlineCallbacks"))
    yield from (
        ast.unparse(node)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and node.attr == "inlineCallbacks"
    )


def logs_f_strings(module: Module) -> Iterator[str]:
    """Log messages name their fields: an f-string loses them, and breaks on a brace in a value."""
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        logger = ast.unparse(node.func.value).split(".")[-1].strip("_")
        if logger.endswith(("log", "logger")) and node.func.attr in LOG_METHODS:
            yield from (ast.unparse(node) for argument in node.args if isinstance(argument, ast.JoinedStr))


Rule = Callable[[Module], Iterator[str]]
#: Each rule with a module and a source that break it.
SAMPLES: list[tuple[Rule, str, str]] = [
    (against_layering, "chordtx.wire.x", "from chordtx.mesh import peers"),
    (against_layering, "chordtx.ring.x", "def f():\n    import chordtx.chord.service"),
    (against_layering, "chordtx.mesh.x", "from chordtx import ChordService"),
    (against_layering, "chordtx.utils", ""),
    (against_purity, "chordtx.wire.x", "from time import time"),
    (against_purity, "chordtx.group.x", "import twisted.internet.defer"),
    (grabs_what_should_be_given, "chordtx.mesh.x", "from twisted.internet import reactor"),
    (grabs_what_should_be_given, "chordtx.chord.x", "import time\ntime.monotonic()"),
    (grabs_what_should_be_given, "chordtx.chord.x", "from random import shuffle"),
    (grabs_what_should_be_given, "chordtx.mesh.x", "import random\nsource = random.Random()"),
    (grabs_what_should_be_given, "chordtx.mesh.x", "import os\nos.urandom(8)"),
    (too_long, "chordtx.wire.x", "def f():\n" + "    pass\n" * (FUNCTION_LINES_MAX + 1)),
    (too_long, "chordtx.wire.x", "\n" * (MODULE_LINES_MAX + 1)),
    (undocumented, "chordtx.wire.x", "x = 1"),
    (undocumented, "chordtx.wire.x", '"""Said."""\nclass C:\n    """Said."""\n    def f(self): pass'),
    (vaguely_named, "chordtx.mesh.x", "class PeerManager: pass"),
    (vaguely_named, "chordtx.mesh.utils", ""),
    (uses_inline_callbacks, "chordtx.mesh.x", "from twisted.internet.defer import inlineCallbacks"),
    (logs_f_strings, "chordtx.mesh.x", 'self._log.info(f"{peer} left")'),
]
RULES = list(dict.fromkeys(rule for rule, _, _ in SAMPLES))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_package_keeps_rule(rule: Rule) -> None:
    assert [f"{module.name}: {offence}" for module in modules() for offence in rule(module)] == []


@pytest.mark.parametrize(("rule", "name", "source"), SAMPLES)
def test_rule_finds_its_sample(rule: Rule, name: str, source: str) -> None:
    assert list(rule(Module.parse(name, source)))


def test_rules_let_good_code_pass() -> None:
    source = '''"""A module."""
from __future__ import annotations

import random
from random import Random

from chordtx.wire import flags


class Peer:
    """A peer."""

    def __init__(self, source: random.Random, other: Random) -> None:
        self.source = source

    def dataReceived(self, data: bytes) -> None:
        self._log.info("received {count} bytes", count=len(data))
'''
    module = Module.parse("chordtx.mesh.peer", source)
    assert [offence for rule in RULES for offence in rule(module)] == []


def circle_in(named: dict[str, Module]) -> list[str]:
    """Modules of which each imports the next one, and the last one the first: be it by type alone."""
    graph: dict[str, set[str]] = {name: set() for name in named}
    for name, module in named.items():
        for imported in imports(module.tree):
            other = imported if imported in named else imported.rpartition(".")[0]
            if other in named and other != name:
                graph[name].add(other)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_modules_import_one_another_in_a_circle() -> None:
    assert circle_in({module.name: module for module in modules()}) == []


def test_a_circle_is_seen() -> None:
    sources = {"a": "import b", "b": "def f():\n    from c import d", "c": "import a.x", "d": ""}
    assert set(circle_in({name: Module.parse(name, source) for name, source in sources.items()})) == {*"abc"}


def test_no_package_hides_twisted() -> None:
    assert not list((ROOT / "twisted").rglob("__init__.py"))


def test_tests_do_not_sleep() -> None:
    """A test that sleeps is slow on a fast machine and fails on a slow one."""
    sleeping = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        if "time.sleep" in (imported := set(imports(tree := ast.parse(path.read_text()))))
        or ("time" in imported and "time.sleep" in {ast.unparse(node) for node in ast.walk(tree)})
    ]
    assert sleeping == []


#: Where the project was made is nobody's business. Spelt apart, so that this file is no offence itself.
FOREIGN = re.compile(r"(?<![\w.])/" + r"work\b|\.\./" + r"shared\b")
TEXT_SUFFIXES = frozenset({".py", ".js", ".md", ".rst", ".txt", ".toml", ".cfg", ".json", ".sh", ".html", ""})


def test_nothing_speaks_of_where_it_was_made() -> None:
    skipped = {".git", ".venv", ".interop", ".hypothesis", "node_modules", "build", "dist"}
    found = []
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        if skipped & set(parts) or any(part.endswith(("_cache", ".egg-info")) for part in parts):
            continue
        if (
            path.is_file()
            and path.suffix in TEXT_SUFFIXES
            and FOREIGN.search(path.read_text(errors="replace"))
        ):
            found.append("/".join(parts))
    assert found == []
