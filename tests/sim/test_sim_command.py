"""``python -m chordtx.sim`` as it is called: what it runs, what it prints, and its exit statuses."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from chordtx.sim import results
from chordtx.sim.plan import Fault

ROOT = Path(__file__).parents[2]
NAMES = {fault: fault.name.lower().replace("_", "-") for fault in Fault}
#: A quick run.
SMALL = ("--nodes", "4", "--minutes", "0.1")
#: Leaders that find nothing, whatever there is.
FORGETFUL = """
from chordtx.group import operations
operations.get = lambda record: (operations.ABSENT, None)
from chordtx.sim.__main__ import main
main()
"""


def called(*arguments: str, program: tuple[str, ...] = ("-m", "chordtx.sim")) -> tuple[int, str, str]:
    """:returns: the exit status, and what came on standard output and standard error."""
    done = subprocess.run(
        [sys.executable, *program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def happened(said: str) -> dict[str, int]:
    """Faults, as the sums tell of them."""
    found = re.search(r"^faults: \{(.*)\}$", said, re.MULTILINE)
    assert found is not None, said
    pairs = re.findall(r"'(\w+)': (\d+)", found[1])
    return {name: int(count) for name, count in pairs if int(count)}


def test_help_tells_of_every_option_and_fault() -> None:
    status, said, complained = called("--help")
    assert (status, complained) == (0, "")
    options = {"seed", "seeds", "nodes", "minutes", "without", "jobs", "results", "debug", "help"}
    assert set(re.findall(r"^  --(\w+)", said, re.MULTILINE)) == options
    listed = re.search(r"\[([a-z|-]+)\]", said)
    assert listed is not None
    assert set(listed[1].split("|")) == set(NAMES.values())


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--seeds", "5"), "'5' is not FIRST:LAST"),
        (("--seeds", "5:5"), "'5:5' is not FIRST:LAST"),
        (("--seeds", "five:six"), "'five:six' is not FIRST:LAST"),
        (("--seed", "five"), "'five' is not a valid integer"),
        (("--nodes", "1"), "1 is not in the range"),
        (("--minutes", "-1"), "-1.0 is not in the range"),
        (("--jobs", "0"), "0 is not in the range"),
        (("--without", "all"), "'all' is not one of"),
        (("--results", "."), "is a directory"),
        (("--results", "not/there/found.jsonl"), "there is no folder not/there"),
        (("--debug",), "--debug goes with --seed"),
        (("--seed", "1", "--results", "found.jsonl"), "--results goes with --seeds"),
        (("--sead", "1"), "No such option"),
        (("7",), "unexpected extra argument"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_runs(arguments: tuple[str, ...], complaint: str) -> None:
    status, said, complained = called(*arguments)
    assert (status, said) == (2, "")
    assert complaint in complained
    assert "Traceback" not in complained


def test_seeds_are_run_and_summed_up() -> None:
    status, said, complained = called("--seeds", "3:5", *SMALL)
    assert (status, complained) == (0, "")
    lines = said.splitlines()
    assert [line.split(";")[0] for line in lines[:2]] == ["seed 3: fine", "seed 4: fine"]
    assert all(
        re.search(r"; \d+ nodes, \d+ events, \d+ s, well after [\d.]+ s, \w{16}$", each) for each in lines[:2]
    )
    assert lines[2].startswith("2 seeds, 0.0 virtual hours: {")
    assert "'too hard to judge': 0" in lines[2]
    assert re.fullmatch(r"the least margin of a lease: 0\.\d{3} s", lines[4])
    assert lines[5] == "failed: none"
    assert re.fullmatch(r"took \d+ s", lines[6])


def test_a_seed_is_the_same_in_whichever_process_and_beside_whichever_others() -> None:
    def verdicts(*arguments: str) -> list[str]:
        return [line for line in called(*arguments, *SMALL)[1].splitlines() if line.startswith("seed ")]

    alone = verdicts("--seeds", "3:5")
    assert verdicts("--seeds", "3:5", "--jobs", "2") == alone
    assert verdicts("--seeds", "4:5") == alone[1:]
    assert verdicts("--seed", "4") == ["seed 4", alone[1]]


def test_a_replay_tells_what_happens_and_on_demand_all_that_nodes_say() -> None:
    arguments = ("--seed", "5", "--nodes", "6", "--minutes", "0.5")
    status, plain, _ = called(*arguments)
    assert status == 0
    assert plain.startswith("seed 5\n")
    assert re.search(r"^ +[\d.]+ client \d [\d.]+ SET key \d+ \d+ -> None$", plain, re.MULTILINE)
    assert "# the faults are over" in plain
    status, everything, _ = called(*arguments, "--debug")
    assert status == 0
    before_verdict = plain.splitlines()[:-1]
    assert [line for line in everything.splitlines() if line in before_verdict] == before_verdict
    assert " is gone: " in everything
    assert " is gone: " not in plain


def test_a_broken_promise_is_told_and_is_an_exit_status() -> None:
    forgetful = ("-c", FORGETFUL)
    status, said, _ = called("--seeds", "3:4", *SMALL, program=forgetful)
    assert status == 1
    assert re.search(r"^seed 3: FAILED \(\d+\); ", said, re.MULTILINE)
    assert re.search(r"^    b'key \d+': not linearizable: Operation\(", said, re.MULTILINE)
    assert "failed: 3\n" in said
    status, said, _ = called("--seed", "3", *SMALL, program=forgetful)
    assert status == 1
    assert "! b'key " in said


#: These take long, or need a ring that has run for a while.
LONG = frozenset({Fault.SPLIT, Fault.SUSPEND, Fault.DEAF, Fault.PUT_BACK, Fault.OTHER_RING, Fault.MOST})


@pytest.mark.parametrize("fault", Fault, ids=NAMES.get)
def test_one_fault_alone(fault: Fault) -> None:
    others = [argument for each in Fault if each is not fault for argument in ("--without", NAMES[each])]
    minutes = "2" if fault in LONG else "0.5"
    status, said, _ = called("--seeds", "0:1", "--nodes", "6", "--minutes", minutes, *others)
    assert status == 0, said
    assert list(happened(said)) == [fault.name.lower()]


def test_without_any_fault_nothing_goes_wrong() -> None:
    every = [argument for name in NAMES.values() for argument in ("--without", name)]
    status, said, _ = called("--seeds", "0:1", *SMALL, *every)
    assert status == 0, said
    assert happened(said) == {}
    assert set(re.findall(r"'(\w+ [A-Z]\w+)': ", said)) <= {
        "delete KeyError",
        "pop KeyError",
        "compare_and_set Conflict",
        "brief NoneType",
    }


def test_the_smallest_ring_bears_every_fault() -> None:
    status, said, _ = called("--seeds", "0:4", "--nodes", "2", "--minutes", "1")
    assert status == 0, said
    assert len(happened(said)) > 5


def test_a_search_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "found.jsonl"
    arguments = ["--jobs", "2", "--results", str(path), *SMALL]
    _, first, _ = called("--seeds", "0:2", *arguments)
    assert first.count("seed ") == 2
    with path.open("a") as file:
        file.write('\n{"seed": 1, "was": "written by another version"}\n{"seed": 2, "cut o')
    _, second, _ = called("--seeds", "0:3", *arguments)
    assert second.count("seed ") == 1
    assert "3 seeds, 0.0 virtual hours" in second
    assert "failed: none" in second
    found = results.read(path)
    assert [report.seed for report in found] == [0, 1, 2]
    assert all(report.nodes >= 4 and report.events > 0 for report in found)
    assert results.read(tmp_path / "nothing") == []


def test_a_failure_in_the_file_is_a_failure_of_the_search(tmp_path: Path) -> None:
    path = tmp_path / "found.jsonl"
    called("--seeds", "0:1", "--results", str(path), *SMALL, program=("-c", FORGETFUL))
    status, said, _ = called("--seeds", "0:2", "--results", str(path), *SMALL)
    assert status == 1
    assert "failed: 0\n" in said
