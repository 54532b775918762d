# Two commands do all set-up: `make run` and `make test`. Python 3.11 or newer is all they need.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FILES := src tests benchmarks

.DEFAULT_GOAL := help
.PHONY: help run test test-clients soak lint bench lock

help: ## What can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

run: $(VENV)/.run ## Start HealLog with a demo practice; on an embedded PostgreSQL where none is configured
	@exec $(BIN)/heallog serve --demo

test: $(VENV)/.dev lint ## Lint, types, import contracts, and every test
	$(BIN)/pytest -n 2 --dist loadfile

test-clients: $(VENV)/.run tests/clients/node_modules/.done ## The real WatermelonDB against a running HealLog (needs Node 20)
	cd tests/clients && HEALLOG_PYTHON=$(abspath $(BIN)/python) npm test

tests/clients/node_modules/.done: tests/clients/package-lock.json
	cd tests/clients && npm ci --no-audit --no-fund --prefer-offline
	@touch $@

soak: $(VENV)/.dev ## The laws of merging with 20,000 examples each, 1,000 seeds of sync, 16 writers for a minute, large pulls
	HEALLOG_HYPOTHESIS=soak $(BIN)/pytest -n 2 tests/unit/domain
	HEALLOG_SIMULATION_SEEDS=1000 $(BIN)/pytest -n 2 --dist loadfile tests/simulation
	HEALLOG_SOAK_SECONDS=60 $(BIN)/pytest tests/scenarios -k "16_writers or 50_000 or 500_000"

lint: $(VENV)/.dev ## Style, types and import contracts
	$(BIN)/ruff check $(FILES)
	$(BIN)/ruff format --check $(FILES)
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev ## Measure; results go to benchmarks/results, tables to docs/performance.md
	$(BIN)/python -m benchmarks

lock: ## Choose versions anew (needs uv)
	uv pip compile -q --generate-hashes --universal --python-version 3.11 --no-emit-index-url --no-header \
		pyproject.toml --group build -o requirements/run.txt
	uv pip compile -q --generate-hashes --universal --python-version 3.11 --no-emit-index-url --no-header \
		pyproject.toml --group dev -o requirements/dev.txt

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements/run.txt pyproject.toml | $(BIN)/python
	@test -e $(VENV)/.dev || $(BIN)/python -m pip install -q --require-hashes --disable-pip-version-check -r requirements/run.txt
	@test -e $(VENV)/.dev || $(BIN)/python -m pip install -q --no-deps --no-build-isolation --disable-pip-version-check -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q --require-hashes --disable-pip-version-check -r requirements/dev.txt
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation --disable-pip-version-check -e .
	@touch $@ $(VENV)/.run
