# run · test · lint · bench; each makes the environment it needs when that is missing or out of date.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install -qq --constraint constraints.txt

# No telemetry from anything we start.
export DO_NOT_TRACK = 1
export PREFECT_SERVER_ANALYTICS_ENABLED = false
export MLFLOW_DISABLE_TELEMETRY = true
# Where the system has no C compiler, the installation takes one from a wheel, for itself alone.
export HOLTER_COMPILER = ziglang
# Modules are compiled once, at their first import: every later start is seconds quicker.
export PYTHONDONTWRITEBYTECODE =

.PHONY: help docs audit run test test-fast lint bench releases walk edge-aarch64 clean

help:
	@echo "make run    from simulated Holter records to a device report in MLflow (about 5 minutes)"
	@echo "make test   every check and test (about 15 minutes)"
	@echo "make test-fast  the tests without servers and long trainings (about 2 minutes)"
	@echo "make lint   formatting, lint, types, layers, pages"
	@echo "make walk   a new user's first day, from an empty Debian 12 to a report (needs root)"
	@echo "make edge-aarch64  the agent's cycle on an emulated arm64 Debian (needs root)"
	@echo "make docs   the pages of docs/, and of the Python interface, as a site in .site"
	@echo "make audit  known vulnerabilities of the pinned packages (asks the advisory database)"
	@echo "make releases DATA=FOLDER  the networks in the box again, from public data (hours)"
	@echo "make bench  the benchmarks beside their peers: bench/results, then docs/measurements"

$(VENV)/.server: pyproject.toml constraints.txt
	@echo "Installing the server and edge environment into $(VENV) (about 2 minutes) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) --no-compile --editable ".[server,edge]"
	@touch $@

$(VENV)/.dev: $(VENV)/.server
	@echo "Adding the development tools ..."
	@$(PIP) --no-compile --editable ".[server,edge,dask,docker,kubernetes,team,exchange,docs,dev]"
	@touch $@

$(VENV)/.bench: $(VENV)/.dev
	@echo "Adding the peers that the benchmarks compare with ..."
	@$(PIP) --no-compile --editable ".[server,edge,dask,docker,kubernetes,team,exchange,docs,dev,bench]"
	@touch $@

run: $(VENV)/.server
	$(BIN)/holter run

# The pages whose form and language are held.
PAGES := README.md CHANGELOG.md CONTRIBUTING.md docs
lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/python scripts/names.py --most-public 0 --most-all 0.02
	$(BIN)/python -m mdformat --check $(PAGES)
	$(BIN)/python -m proselint check --config .proselintrc.json $(PAGES)
	$(BIN)/python scripts/prose.py $(PAGES)

# Two modules at a time, the longest first: the tests start many servers and wait for them.
TWO = --numprocesses 2 --dist loadfile --no-loadscope-reorder
test: lint
	$(BIN)/python -m pytest $(TWO) --durations 25

test-fast: $(VENV)/.dev
	$(BIN)/python -m pytest $(TWO) -m "not slow and not server"

# From an empty Debian 12 to the report of a recording, as a user without rights: needs root and
# debootstrap, and says so where they are not.
WALK ?= /var/tmp/holter-walk
walk:
	@mkdir -p $(WALK) && .ci/walk $(WALK) || test $$? = 75

# The agent's whole cycle in an arm64 Debian that qemu-user runs; needs root, debootstrap and
# qemu-user-static, and says so where they are not. SUITE=trixie is Debian 13, Python 3.13.
SUITE ?= bookworm
AARCH64_ROOT ?= /var/tmp/holter-aarch64-$(SUITE)
edge-aarch64: $(VENV)/.dev
	@.ci/aarch64-root $(AARCH64_ROOT) $(BIN)/python $(SUITE) || test $$? = 75
	HOLTER_AARCH64_ROOT=$(AARCH64_ROOT) $(BIN)/python -m pytest tests/edge_agent/test_aarch64.py

docs: $(VENV)/.dev
	$(BIN)/python -m mkdocs build --strict
	@echo ".site/index.html"

audit: $(VENV)/.dev
	$(BIN)/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

# All sections, or `make bench ONLY="signal layout"`; `ONLY=tables` fills the pages alone.
bench: $(VENV)/.bench
	$(BIN)/python -m bench $(ONLY)

# The networks in the box; `make releases DATA=FOLDER ONLY=rhythm_tiny` makes one of them.
DATA ?= data
releases: $(VENV)/.dev
	$(BIN)/python scripts/make_releases.py $(DATA) $(ONLY)
	$(BIN)/python docs/list_releases.py

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
