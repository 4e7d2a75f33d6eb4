"""What the documentation says is so: links, examples, settings, options, sub-flags, methods, modules.

A fenced block is checked by what its first line says beside the language:

- ``python run``: is run as a program of its own; a ``text output`` block after it is what it must print.
- ``hex``: a frame. What follows ``#`` on a line is a comment. The ``python message`` block after it is the
  message that it must decode to, as ``[type, sender, time, *payload]``.
"""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import click
import pytest
from twisted.internet.task import Clock

from chordtx import ChordService, ChordSettings, Limits, MeshSettings, SyncService, SyncSettings
from chordtx.cli import running
from chordtx.cli.app import command as chordtx_command
from chordtx.config import GroupSettings
from chordtx.legacy.counter import Counter
from chordtx.legacy.host import Host
from chordtx.mesh import calls
from chordtx.tap import DEFAULTS, Options, settings_of
from chordtx.wire import Codec, Message, flags, frame
from tests.drawn_ring import PICTURE, WAY, picture
from tests.mutants.groups import MUTANTS
from tests.sim.planted import PLANTED

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "newsfragments").glob("*"),
    ]
)
RUN_TIMEOUT_SECONDS = 120
FRAGMENT = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*\.(feature|bugfix|change|removal|doc)\.md")

FENCE = re.compile(r"^```(?P<kind>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]\n]+\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#+ (?P<title>.+)$", re.MULTILINE)


class Block(NamedTuple):
    """One fenced block."""

    page: Path
    line: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks() -> list[Block]:
    """Every fenced block of every page, in order."""
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in FENCE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found.append(Block(page, line, match["kind"].strip(), match["text"]))
    return found


def followed_by(first: str, second: str) -> list[tuple[Block, Block]]:
    """Blocks of one kind, each with the one after it when that is of the second kind."""
    return [
        (block, after)
        for block, after in pairwise([*blocks(), Block(ROOT, 0, "", "")])
        if block.kind == first and after.kind == second and after.page == block.page
    ]


def text_of(name: str) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", (ROOT / name).read_text())


def section(text: str, title: str) -> str:
    """What stands below a heading, up to the next of any level."""
    _, found, rest = text.partition(f"# {title}\n")
    assert found, f"there is no heading {title!r}"
    return re.split(r"^#+ ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> Iterator[list[str]]:
    """The rows of every table in ``text``, headers left out."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        is_header = number + 1 < len(lines) and lines[number + 1].startswith("|---")
        if line.startswith("|") and not line.startswith("|---") and not is_header:
            yield [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def code(cell: str) -> str:
    """The first thing in backquotes, or the cell itself."""
    match = re.search(r"`([^`]+)`", cell)
    return match[1] if match else cell


# Links


def slug(title: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    """What a link into a page may name."""
    return {slug(title) for title in HEADING.findall(FENCE.sub("", page.read_text()))}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    broken = []
    for match in LINK.finditer(FENCE.sub("", page.read_text())):
        target, _, anchor = match["target"].partition("#")
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        there = (page.parent / target).resolve() if target else page
        is_there = there.is_relative_to(ROOT) and there.exists()
        if not is_there or (anchor and anchor not in anchors(there)):
            broken.append(match["target"])
    assert broken == []


def test_a_wrong_link_would_be_found() -> None:
    assert slug("What is there, and what is not yet") == "what-is-there-and-what-is-not-yet"
    assert LINK.findall("see [a](b.md#c) and [d](e.md)") == ["b.md#c", "e.md"]


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, open_ = set(), [ROOT / "README.md"]
    while open_:
        page = open_.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        targets = (match["target"].partition("#")[0] for match in LINK.finditer(page.read_text()))
        open_ += [there for t in targets if t and (there := (page.parent / t).resolve()).is_file()]
    assert [page for page in PAGES if page.parent.name != "newsfragments" and page not in reached] == []


# Examples


@pytest.mark.parametrize("block", [b for b in blocks() if b.kind == "python run"], ids=str)
def test_python_runs(block: Block) -> None:
    wanted = {first: after.text for first, after in followed_by("python run", "text output")}
    ended = subprocess.run(
        [sys.executable, "-c", block.text],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_SECONDS,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == wanted.get(block, "")


def test_the_readme_has_an_example_that_runs() -> None:
    assert [block for block in blocks() if block.kind == "python run" and block.page.name == "README.md"]


def frame_of(block: Block) -> bytes:
    """The bytes of a ``hex`` block."""
    return bytes.fromhex("".join(line.partition("#")[0] for line in block.text.splitlines()))


def test_every_frame_has_its_message() -> None:
    frames = [block for block in blocks() if block.kind == "hex"]
    assert len(frames) >= 8
    assert frames == [block for block, _ in followed_by("hex", "python message")]


@pytest.mark.parametrize(("block", "message"), followed_by("hex", "python message"), ids=str)
def test_frame_decodes_to_its_message(block: Block, message: Block) -> None:
    codec = Codec(Limits())
    codec.receive_data(frame_of(block))
    found = codec.next_message()
    assert found is not None
    assert codec.pending_bytes == 0
    assert [found.type, found.sender, found.time, *found.payload] == ast.literal_eval(message.text)


def test_frames_that_were_not_compressed_are_what_we_send() -> None:
    """Built anew from the message beside them, they are the same bytes."""
    made = 0
    for block, message in followed_by("hex", "python message"):
        type_, sender, time, *payload = ast.literal_eval(message.text)
        again = frame(Message.build(type_, sender, time, payload).data)
        made += again == frame_of(block)
    assert made == len(followed_by("hex", "python message")) - 1  # all but the compressed one


# Settings, options and commands


OPERATING = "docs/operating.md"
TABLES = {
    "`[chord]` table": (OPERATING, ChordSettings),
    "`[mesh]` table": (OPERATING, MeshSettings),
    "Limits table": (OPERATING, Limits),
    "Settings": ("docs/tutorial-sync.md", SyncSettings),
    "Settings of groups": ("docs/groups.md", GroupSettings),
}


@pytest.mark.parametrize("title", TABLES)
def test_settings_and_their_defaults(title: str) -> None:
    page, kind = TABLES[title]
    told = {
        code(name): ast.literal_eval(code(default))
        for name, default, _ in rows(section(text_of(page), title))
    }
    fields = attrs.fields(kind)
    true = {field.name: field.default for field in fields if isinstance(field.default, int | float)}
    assert told == true
    assert {name: type(value) for name, value in told.items()} == {n: type(v) for n, v in true.items()}


def test_sizes_in_words_are_right() -> None:
    units = {"KiB": 1 << 10, "MiB": 1 << 20}
    said = re.findall(r"`(\d+)` \((\d+) (KiB|MiB)\)", text_of("docs/operating.md"))
    assert said
    assert [number for number, count, unit in said if int(number) != int(count) * units[unit]] == []


def test_the_configuration_shown_is_taken() -> None:
    for block in blocks():
        if block.kind == "toml":
            said = tomllib.loads(block.text)
            tables = {name: said.pop(name) for name in ("chord", "mesh", "groups", "limits") if name in said}
            assert settings_of(tables) == ChordSettings()
            assert {name.replace("_", "-") for name in said} <= DEFAULTS.keys()


def test_settings_named_in_prose_exist() -> None:
    known = {field.name for _, kind in TABLES.values() for field in attrs.fields(kind)}
    endings = "_seconds|_seconds_m(in|ax)|_bytes_m(in|ax)|_per_second_max|_per_address_max|s_max"
    unknown = [
        f"{page.name}: {name}"
        for page in PAGES
        for match in re.finditer(rf"`([a-z_]+({endings}))`", FENCE.sub("", page.read_text()))
        if (name := match[1]) not in known
    ]
    assert unknown == []


def test_options_of_twistd_chord() -> None:
    told = {code(name).removeprefix("--"): code(default) for name, default, _ in rows(section_of_node())}
    taken = {name.rstrip("=") for name in Options().longOpt} - {"help", "version"}
    assert told.keys() == taken == {*DEFAULTS, "config"}
    for name, default in DEFAULTS.items():
        if isinstance(default, str):
            assert told[name] == default


def section_of_node() -> str:
    """The page's part on ``twistd chord``."""
    return section(text_of("docs/operating.md"), "A node")


def of_chordtx() -> list[list[str]]:
    """The rows of the tables on the ``chordtx`` command."""
    return list(rows(section(text_of("docs/operating.md"), "The chordtx command")))


def test_commands_and_their_options() -> None:
    told = {code(row[0]).split()[0]: row for row in of_chordtx() if len(row) == 2 and "`" in row[0]}
    assert told.keys() == chordtx_command.commands.keys()
    for name, (usage, does) in told.items():
        options = {
            option
            for parameter in chordtx_command.commands[name].params
            if isinstance(parameter, click.Option)
            for option in parameter.opts
        }
        assert set(re.findall(r"--[a-z]+(?:-[a-z]+)*", usage + does)) <= options, name


def test_options_of_chordtx() -> None:
    told = {code(row[0]) for row in of_chordtx() if len(row) == 3}
    true = {option for parameter in chordtx_command.params for option in parameter.opts}
    assert told == {option for option in true if option.startswith("--")} - {"--version", "--help"}


def test_log_lines_to_look_for_are_written() -> None:
    code_text = "".join(path.read_text() for path in (ROOT / "chordtx").rglob("*.py"))
    told = [code(row[0]) for row in rows(section(text_of("docs/operating.md"), "Logs"))]
    assert told
    assert [text for text in told if text not in code_text] == []


def test_exit_statuses() -> None:
    told = {int(each) for row in of_chordtx() for each in row[0].split(", ") if each.isdigit()}
    assert told == {int(value) for name, value in vars(running).items() if name.startswith("EXIT_")}


# The protocol


def protocol_table(title: str) -> dict[str, int]:
    """Names and numbers of one of the protocol page's tables."""
    found = rows(section(text_of("docs/protocol.md"), title))
    return {row[0]: int(row[1], 16) for row in found if row[1].startswith("0x")}


def protocol_constants() -> dict[str, int]:
    """What stands in the code, named as in the page."""
    return {name.lower(): value for name, value in vars(flags).items() if name.isupper()}


def test_sub_flags_types_and_methods_of_compression() -> None:
    shown = protocol_table("Types and sub-flags") | protocol_table("Compression")
    assert shown == protocol_constants()


def test_statuses_of_replies() -> None:
    found = rows(section(text_of("docs/protocol.md"), "Calls and replies"))
    told = {int(row[0]): code(row[1]) for row in found if row[0].isdigit()}
    assert told == {status: kind.__name__ for status, kind in calls._ERRORS.items()}


LEGACY_METHODS: dict[str, Callable[..., Any]] = {
    "legacy_store": Host.store,
    "legacy_retrieve": Host.retrieve,
    "legacy_hint": Counter.hinted,
    "legacy_refresh": Counter.refresh,
    "legacy_keys": Host.keys_told,
    "legacy_changed": Host.keys_changed,
    "legacy_opinion": Host.opinion,
    "legacy_settled": Host.settled,
}


def served_methods() -> dict[str, Callable[..., Any]]:
    """Every method that a node answers, by name."""
    return {**SyncService(Clock(), listen=None)._methods, **ChordService(Clock(), listen=None)._methods}


def parameters(name: str, method: Callable[..., Any]) -> int:
    """How many arguments a method takes, the caller left out."""
    if name in LEGACY_METHODS:  # what is served takes any number, and passes them on
        return len(inspect.signature(LEGACY_METHODS[name]).parameters) - 1
    return len(inspect.signature(method).parameters) - 1


def test_methods_and_their_arguments() -> None:
    told = {
        name: len([each for each in arguments.split(",") if each])
        for name, arguments in re.findall(r"^### `(\w+)\((.*)\)`$", text_of("docs/protocol.md"), re.MULTILINE)
    }
    assert told == {name: parameters(name, method) for name, method in served_methods().items()}


# The rest


def test_every_module_is_described() -> None:
    found = rows(section(text_of("docs/architecture.md"), "What each module does"))
    told = [code(row[0]) for row in found]
    package = ROOT / "chordtx"
    true = {str(path.relative_to(package)) for path in package.rglob("*.py")}
    wanted = {name for name in true if not name.endswith("/__init__.py")}
    assert {"missing": wanted - {*told}, "gone": {*told} - wanted} == {"missing": set(), "gone": set()}
    assert len(told) == len({*told})


def test_planted_faults_are_listed() -> None:
    text = text_of("docs/reliability.md")
    told = [(code(row[0]), row[1]) for row in rows(section(text, "Planted faults"))]
    assert told == [(mutant.name, mutant.what) for mutant in MUTANTS]
    assert f"each of {len(MUTANTS)} faults" in text


def test_faults_planted_in_services_are_listed() -> None:
    text = text_of("docs/reliability.md")
    told = [(code(row[0]), row[1], row[2]) for row in rows(section(text, "Faults planted in services"))]
    assert told == [(each.plant.__name__, each.found_as, str(each.first)) for each in PLANTED]
    assert f"has {len(PLANTED)} faults" in text
    assert f"{len(PLANTED)} planted faults, each found" in text


def test_decisions_are_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    files = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert [name[:4] for name in files] == [f"{number:04}" for number in range(1, len(files) + 1)]
    assert re.findall(r"\]\((\d{4}[^)]*)\)", (folder / "README.md").read_text()) == files
    for name in files:
        assert (folder / name).read_text().startswith(f"# {name[:4]} ")


def test_news_fragments_are_named_and_filled() -> None:
    for path in (ROOT / "newsfragments").iterdir():
        if path.name != "README.md":
            assert FRAGMENT.fullmatch(path.name), path.name
            assert path.read_text().strip(), path.name
            assert "#" not in path.read_text(), path.name


# Functions that tables name


class Named(NamedTuple):
    """A row of such a table: ``place`` is a function's name, or a class's and its method's."""

    path: str
    place: str


def functions_named(title: str) -> list[Named]:
    """The functions that the rows of a table of the architecture page name, each with its file."""
    cells = [row[1:3] for row in rows(section(text_of("docs/architecture.md"), title)) if row[1]]
    return [Named(code(path), code(place)) for path, place in cells]


def is_there(path: str, place: str) -> bool:
    """Whether a file of the package defines a function; ``place`` is as of :class:`Named`."""
    file = ROOT / "chordtx" / path
    if not file.is_file():
        return False
    body: list[ast.stmt] = ast.parse(file.read_text()).body
    for word in place.split("."):
        kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        found = [node for node in body if isinstance(node, kinds) and node.name == word]
        if not found:
            return False
        body = found[0].body
    return True


@pytest.mark.parametrize("title", ["Where is ...?", "A set, function by function"])
def test_functions_that_tables_name_are_there(title: str) -> None:
    named = functions_named(title)
    assert len(named) >= 20
    assert [each for each in named if not is_there(*each)] == []


def test_a_function_that_is_not_there_would_be_found() -> None:
    assert is_there("group/leader.py", "Leader.do")
    assert is_there("legacy/counting.py", "decide")
    assert not is_there("group/leader.py", "Leader.do_nothing")
    assert not is_there("group/leader.py", "do")
    assert not is_there("group/nothing.py", "Leader.do")


@pytest.mark.parametrize("page", ["architecture", "groups", "reliability", "security"])
def test_methods_that_prose_names_are_there(page: str) -> None:
    """``Class.method`` in backquotes, anywhere in the page: some module of the package has it."""
    trees = [ast.parse(path.read_text()) for path in (ROOT / "chordtx").rglob("*.py")]
    methods = {
        f"{kind.name}.{name}"
        for tree in trees
        for kind in ast.walk(tree)
        if isinstance(kind, ast.ClassDef)
        for name in members_of(kind)
    }
    said = re.findall(r"`(_?[A-Z]\w+\.[a-z_]\w*)`", FENCE.sub("", text_of(f"docs/{page}.md")))
    assert sorted({*said} - methods) == []


def members_of(kind: ast.ClassDef) -> Iterator[str]:
    """The names that a class's body binds."""
    for node in kind.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def test_the_picture_of_the_ring_is_what_is_drawn() -> None:
    """``python -m tests.drawn_ring --write`` puts it into the docs."""
    assert PICTURE.read_text() == picture()


def test_the_picture_and_the_table_show_one_way_of_a_set() -> None:
    drawn = [
        Named(f"{function.__module__.removeprefix('chordtx.').replace('.', '/')}.py", function.__qualname__)
        for part in WAY
        for function in part.functions
    ]
    assert functions_named("A set, function by function") == drawn
