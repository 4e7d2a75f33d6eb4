# Needs python3 (3.11 or newer, with venv) and a package index that pip reaches; everything else is put into
# .venv and .interop, here in the project. What is installed already is not installed again.

PYTHON ?= python3
PYTEST_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# pip installs into one environment: never two at once.
.NOTPARALLEL:
.PHONY: help run test soak chaos counters fuzz search mutants lint format docs bench clean

help:
	@echo "make run     a ring of several nodes on this machine, as a demonstration; PORT=20000 for other ports"
	@echo "make test    the tests, those with the published legacy peers included"
	@echo "make soak    three minutes of killed processes under load"
	@echo "make chaos   three minutes of processes whose network falls apart; needs root"
	@echo "make counters  ten thousand increments meanwhile; splits the network too as root"
	@echo "make fuzz    a million odd inputs, some 16 minutes of processor time, on two processors"
	@echo "make search  a million random steps of groups, and every order of small ones, on all processors"
	@echo "make mutants plants faults in groups and services, and sees that each is caught: some ten minutes"
	@echo "make lint    format, style and types"
	@echo "make docs    the API reference, as HTML in build/api"
	@echo "make bench   the benchmarks"
	@echo "make clean   removes what the others made"

# make run PORT=20000 takes the ports from 20000 on.
run: $(VENV)/cli.stamp
	@$(BIN)/python demo/run.py $(if $(PORT),--port $(PORT))

test: $(VENV)/test.stamp .interop/py2p.stamp .interop/js2p.stamp
	@$(BIN)/python -m tests $(PYTEST_ARGS)

soak: $(VENV)/test.stamp
	CHORDTX_SOAK=long $(BIN)/python -m pytest -s tests/processes/test_soak.py

CHAOS_ARGS ?= --seconds 180

chaos: $(VENV)/test.stamp
	$(BIN)/python -m tests.processes.chaos $(CHAOS_ARGS)

COUNTERS_ARGS ?=

counters: $(VENV)/test.stamp
	$(BIN)/python -m tests.processes.counters $(COUNTERS_ARGS)

FUZZ_ARGS ?= --count 1000000 --jobs 2

fuzz: $(VENV)/test.stamp
	$(BIN)/python -m tests.fuzz $(FUZZ_ARGS)

SEARCH_ARGS ?= --walks 25000

search: $(VENV)/test.stamp
	$(BIN)/python -m chordtx.sim.group_search $(SEARCH_ARGS)

mutants: $(VENV)/test.stamp
	$(BIN)/python -m tests.mutants
	$(BIN)/python -m tests.sim.hunt

lint: $(VENV)/test.stamp $(VENV)/lint.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/lint.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/docs.stamp
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs/api build/api

bench: $(VENV)/test.stamp
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

# chordtx with one of its extras: cli, test, lint or docs. A registry that fails once is asked once more.
$(VENV)/cli.stamp $(VENV)/test.stamp $(VENV)/lint.stamp $(VENV)/docs.stamp: $(VENV)/%.stamp: \
		$(VENV)/made.stamp setup.cfg pyproject.toml
	@echo "installing chordtx with what it needs for '$*' into $(VENV)"
	@$(PIP) install --editable '.[$*]' || $(PIP) install --editable '.[$*]'
	@touch $@

# All that who works on chordtx needs.
$(VENV)/dev.stamp: $(VENV)/test.stamp $(VENV)/lint.stamp $(VENV)/docs.stamp
	@touch $@

# The published legacy peers, to test against. No stamp comes of js2p where there is no npm: its tests are skipped
# and say so, and the next run looks again.
.interop/py2p.stamp .interop/js2p.stamp: .interop/%.stamp: tests/interop/install.py
	@$(PYTHON) tests/interop/install.py $*
