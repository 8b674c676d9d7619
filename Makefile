# Everything here works on a fresh machine with Python 3.11 or newer and pip.

VENV := .venv
BIN := $(VENV)/bin
SERVERS := $(BIN)/python tests/services/manage.py
JSON_MB ?= 1000
SECONDS ?= 60

# The first Python that is new enough; `make PYTHON=...` chooses another.
PYTHON ?= $(firstword $(foreach p,python3 python3.14 python3.13 python3.12 python3.11,$(shell \
	$(p) -c 'import sys; sys.version_info >= (3, 11) and print("$(p)")' 2>/dev/null)))

PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: help demo test test-all test-optional-servers coverage servers lint format crash prove fuzz bench clean

help:
	@echo 'make demo      set up, then import, search and export a sample'
	@echo 'make test      set up, install the servers, check the code, run the tests (make test-all: slow ones too)'
	@echo 'make test-optional-servers'
	@echo '               the tests of more servers, which take longer to install and to start'
	@echo 'make coverage  the tests, with a table of the lines that they do not reach'
	@echo 'make servers   install what the tests run against, start it and keep it until Ctrl-C'
	@echo 'make lint      check the code; make format repairs its layout'
	@echo 'make crash     kill runs, cut their power, fill their disk, change archives, fuzz: a little of each, five minutes'
	@echo 'make prove     the same at full size, but for fuzzing: hours (prove.json holds the table)'
	@echo 'make fuzz      try hostile input on every reader (SECONDS=60 each; with atheris where it is installed)'
	@echo 'make bench     measure beside other tools (JSON_MB=1000)'
	@echo 'make clean     remove the virtual environment and what tools leave behind'

demo: $(VENV)/installed
	@$(BIN)/muniment demo --dir demo

test: lint $(VENV)/developed
	@$(SERVERS) install
	$(BIN)/pytest -n auto

test-all: lint $(VENV)/developed
	@$(SERVERS) install
	$(BIN)/pytest -n auto -m 'slow or not slow'

test-optional-servers: $(VENV)/developed
	@$(SERVERS) install --optional
	$(BIN)/pytest -n auto -m optional_server --optional-servers

# Apart, because counting lines takes half as long again as the tests themselves.
coverage: $(VENV)/developed
	@$(SERVERS) install
	$(BIN)/pytest -n auto --cov --cov-report=term:skip-covered

servers: $(VENV)/developed
	@$(SERVERS) install
	@$(SERVERS) up

lint: $(VENV)/developed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(VENV)/developed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

crash: $(VENV)/developed
	$(BIN)/python tests/proof/mutations.py --rounds 100
	$(BIN)/python tests/fuzz/run.py --seconds 15
	$(BIN)/python tests/crash/prove.py --short --install

prove: $(VENV)/developed
	$(BIN)/python tests/proof/mutations.py --rounds 1000
	$(BIN)/pytest -n 0 -s -m 'slow or not slow' tests/plugins/sources/chatgpt_export/hostile/test_costs.py
	$(BIN)/python tests/crash/prove.py --full --install --out prove.json

fuzz: $(VENV)/developed
	@$(BIN)/pip install --quiet atheris || echo 'atheris cannot be had here: seeds are mutated without it' >&2
	$(BIN)/python tests/fuzz/run.py --seconds $(SECONDS)

bench: $(VENV)/benched
	@for tool in unzip jq zstd; do command -v $$tool >/dev/null || \
		echo "$$tool is missing: its yardstick is left out (apt-get install unzip jq zstd)" >&2; done
	$(BIN)/python tests/benchmarks/startup.py
	$(BIN)/python tests/benchmarks/run.py --json-mb $(JSON_MB)

clean:
	rm -rf $(VENV) build dist demo .coverage .coverage.* .hypothesis .import_linter_cache \
		.mypy_cache .pytest_cache .ruff_cache

# --- the virtual environment ---------------------------------------------------------------------

# Where the distribution's Python comes without ensurepip, its own pip fills the environment.
$(BIN)/python:
	@test -n '$(PYTHON)' || { echo 'Python 3.11 or newer is needed: make PYTHON=/path/to/python' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) 2>/dev/null \
		|| { $(PYTHON) -m venv --clear --without-pip $(VENV) \
			&& $(PYTHON) -m pip --python $(BIN)/python --quiet install pip; } \
		|| { rm -rf $(VENV); $(PYTHON) -m virtualenv --quiet $(VENV); } \
		|| { rm -rf $(VENV); \
			echo 'no virtual environment could be made: install python3-venv or pip' >&2; exit 1; }

# pip reads dependency groups from 25.1 on.
$(VENV)/pip: | $(BIN)/python
	@$(PIP) install --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/installed: $(VENV)/pip pyproject.toml
	@echo 'installing muniment into $(VENV) ...'
	@$(PIP) install --constraint requirements/dev.txt --editable .
	@touch $@

$(VENV)/developed: $(VENV)/installed requirements/dev.txt
	@echo 'installing what the tests need ...'
	@$(PIP) install --constraint requirements/dev.txt --editable . --group dev
	@touch $@

$(VENV)/benched: $(VENV)/installed
	@$(PIP) install --constraint requirements/dev.txt --editable '.[bench]'
	@touch $@
