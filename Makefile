# Needs make and Python 3.11 or newer; `make test` brings everything else. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

PYTHON ?= python3
SOURCES := portal daemon demo tests migrations
export PYTHON
# The many processes of the tests and the demo need not compile everything again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: system
system: ## Install the Debian packages that are missing
	@.ci/system

.PHONY: system-for-demo
system-for-demo:
	@.ci/system demo

.PHONY: install
install: .venv/installed node_modules/installed ## Install the locked Python and Node packages

.venv/installed: requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Flotilla needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "==> Installing Python packages into .venv"
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-dev.lock
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

node_modules/installed: package-lock.json
	@command -v npm >/dev/null || { echo "npm is not installed: make system" >&2; exit 1; }
	@echo "==> Installing Node packages into node_modules"
	@npm ci --silent
	@touch $@

.PHONY: lint
lint: install ## Check format, style, types and templates
	@echo "==> Checking format, style, types and templates"
	@.venv/bin/ruff format --check --quiet $(SOURCES)
	@.venv/bin/ruff check --quiet $(SOURCES)
	@.venv/bin/mypy
	@.venv/bin/djlint --lint --quiet templates demo/templates

.PHONY: test
test: system install lint ## Install what is missing, lint, run all tests on SQLite and PostgreSQL
	@echo "==> Running the tests"
	@FLOTILLA_TEST_DATABASES=sqlite,postgresql .venv/bin/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

.PHONY: demo
demo: system-for-demo install ## Run a whole platform on this machine to look at (ONCE=1: prove an update and a rollback, then end)
	@.venv/bin/python -m demo $(if $(ONCE),--once)

.PHONY: demo-clean
demo-clean: install ## Remove everything the demo made
	@.venv/bin/python -m demo clean

.PHONY: bench
bench: install ## Measure and print tables
	@.venv/bin/python -m demo.bench

.PHONY: lock
lock: ## Lock the Python packages again with their newest versions (needs uv)
	@command -v uv >/dev/null || { echo "uv is not installed; see https://docs.astral.sh/uv/" >&2; exit 1; }
	@uv pip compile $(LOCK_OPTIONS) pyproject.toml -o requirements.lock
	@uv pip compile $(LOCK_OPTIONS) --extra dev pyproject.toml -o requirements-dev.lock

LOCK_OPTIONS := --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	--no-header --no-emit-index-url --no-annotate
