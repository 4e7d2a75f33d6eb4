# Needs python3 (3.11 or newer, with venv) and a package index that pip reaches; everything else is put into
# .venv and .interop, here in the project. What is installed already is not installed again.

PYTHON ?= python3
PYTEST_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test soak chaos fuzz search mutants lint format docs bench clean

help:
	@echo "make run     a ring of several nodes on this machine, as a demonstration"
	@echo "make test    the tests, those with the published legacy peers included"
	@echo "make soak    three minutes of killed processes under load"
	@echo "make chaos   three minutes of processes whose network falls apart; needs root"
	@echo "make fuzz    a million odd inputs, some 16 minutes of processor time, on two processors"
	@echo "make search  a million random steps of groups, and every order of small ones, on all processors"
	@echo "make mutants plants faults in the groups, and sees that each is caught: some two minutes"
	@echo "make lint    format, style and types"
	@echo "make docs    the API reference, as HTML in build/api"
	@echo "make bench   the benchmarks"
	@echo "make clean   removes what the others made"

run: $(VENV)/run.stamp
	@$(BIN)/python demo/run.py

test: $(VENV)/dev.stamp .interop/py2p.stamp .interop/js2p.stamp
	@$(BIN)/python -m tests $(PYTEST_ARGS)

soak: $(VENV)/dev.stamp
	CHORDTX_SOAK=long $(BIN)/python -m pytest -s tests/processes/test_soak.py

CHAOS_ARGS ?= --seconds 180

chaos: $(VENV)/dev.stamp
	$(BIN)/python -m tests.processes.chaos $(CHAOS_ARGS)

FUZZ_ARGS ?= --count 1000000 --jobs 2

fuzz: $(VENV)/dev.stamp
	$(BIN)/python -m tests.fuzz $(FUZZ_ARGS)

SEARCH_ARGS ?= --walks 25000

search: $(VENV)/dev.stamp
	$(BIN)/python -m chordtx.sim.group_search $(SEARCH_ARGS)

mutants: $(VENV)/dev.stamp
	$(BIN)/python -m tests.mutants

lint: $(VENV)/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/dev.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/dev.stamp
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs/api build/api

bench: $(VENV)/dev.stamp
	@$(BIN)/python bench/run.py

clean:
	rm -rf $(VENV) .interop build dist chordtx.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -f twisted/plugins/dropin.cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/made.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "chordtx needs Python 3.11 or newer")'
	@echo "making $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# A registry that fails once is asked once more.
$(VENV)/run.stamp: $(VENV)/made.stamp setup.cfg pyproject.toml
	@echo "installing chordtx into $(VENV)"
	@$(PIP) install --editable . || $(PIP) install --editable .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp
	@echo "installing what the tests and checks need into $(VENV)"
	@$(PIP) install --editable '.[test,lint,docs]' || $(PIP) install --editable '.[test,lint,docs]'
	@touch $@

# The published legacy peers, to test against. No stamp comes of js2p where there is no npm: its tests are skipped
# and say so, and the next run looks again.
.interop/py2p.stamp .interop/js2p.stamp: .interop/%.stamp: tests/interop/install.py
	@$(PYTHON) tests/interop/install.py $*
