# Needs make and Python 3.11 or newer; `make test` installs everything else. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

PYTHON ?= python3
SOURCES := portal daemon demo tests migrations
TEMPLATES := templates demo/templates
PYTEST := .venv/bin/python -m pytest
PARALLEL := -n 4 --dist loadfile --no-loadscope-reorder
FLASK := .venv/bin/flask --app portal.wsgi:create_wsgi
export PYTHON
# Tests and demo start many processes, which share the compiled modules.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Setting up

.PHONY: system
system: ## Install the Debian packages that are missing
	@.ci/system

.PHONY: system-for-demo
system-for-demo:
	@.ci/system demo

.PHONY: install
install: .venv/installed static/tabler.css ## Install the locked Python and Node packages

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

static/tabler.css: node_modules/installed purgecss.config.cjs $(wildcard templates/*.html templates/*/*.html \
		templates/*/*/*.html static/*.js)
	@echo "==> Copying the rules of Tabler that templates use"
	@npm run --silent styles
	@touch $@

# Checking

.PHONY: format
format: install ## Format the Python code and fix what the linter can fix
	@.venv/bin/ruff check --fix --quiet $(SOURCES)
	@.venv/bin/ruff format $(SOURCES)

.PHONY: lint
lint: install ## Check format, style, types and templates
	@echo "==> Checking format, style, types and templates"
	@.venv/bin/ruff format --check --quiet $(SOURCES)
	@.venv/bin/ruff check --quiet $(SOURCES)
	@.venv/bin/mypy
	@.venv/bin/djlint --lint --quiet $(TEMPLATES)

.PHONY: test
ifdef T
test: install ## Lint and run all tests on both databases (T=path: run these tests on SQLite, no lint)
	@$(PYTEST) $(T)
else
test: system install lint
	@echo "==> Running the tests"
	@FLOTILLA_TEST_DATABASES=sqlite,postgresql $(PYTEST) $(PARALLEL)
endif

.PHONY: test-fast
test-fast: install ## Run the tests that need no engine, registry, browser or other process, on SQLite
	@$(PYTEST) -n 2 --dist worksteal -m "not (docker or registry or browser or processes or slow)" --quiet

.PHONY: test-chaos
test-chaos: system install ## Update bots with every fault at every call, and restore many random changes; takes hours
	@$(PYTEST) -n 2 --dist load tests/daemon/update/every_fault.py tests/daemon/update/engine_killed.py \
		tests/daemon/update/outer_faults.py tests/daemon/update/forced_failures.py
	@FLOTILLA_TEST_HISTORIES=240 $(PYTEST) -n 2 --dist load tests/daemon/snapshots/test_histories.py

.PHONY: coverage
coverage: system install ## Run all tests on SQLite and report which lines and branches they reach
	@$(PYTEST) $(PARALLEL) --cov --cov-report=term:skip-covered --cov-report=html
	@echo "==> The report by line is htmlcov/index.html"

# Developing

.PHONY: serve
serve: install ## Serve portal, worker and scheduler on sample data without Docker, and reload them on changes
	@.venv/bin/python -m demo serve

.PHONY: shell
shell: install ## Open a Python shell with the application context, a database session and the models
	@.venv/bin/python -m demo shell

.PHONY: revision
revision: install ## Create a migration from the changes of the models: make revision M="add teams"
	@test -n "$(M)" || { echo 'Describe the migration: make revision M="add teams"' >&2; exit 1; }
	@folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; export DATA_DIR=$$folder; unset DATABASE_URL; \
		last=$$(ls migrations/versions | grep -o '^[0-9]*' | sort | tail -1); \
		$(FLASK) db upgrade && $(FLASK) db migrate --message "$(M)" --rev-id "$$(printf %04d $$((10#$$last + 1)))"
	@.venv/bin/ruff check --fix --quiet migrations && .venv/bin/ruff format --quiet migrations

.PHONY: demo
demo: system-for-demo install ## Run a whole platform on this machine (ONCE=1: check an update and a rollback, then end)
	@.venv/bin/python -m demo $(if $(ONCE),--once)

.PHONY: demo-clean
demo-clean: install ## Remove everything that the demo created
	@.venv/bin/python -m demo clean

.PHONY: bench
bench: system install ## Measure and print tables (B="ticks": only these; SIZE=10000 [DATABASE=postgresql]: a large fleet)
	@.venv/bin/python -m demo.bench $(if $(SIZE),--size $(SIZE) --database $(or $(DATABASE),sqlite)) $(B)

.PHONY: lock
lock: ## Lock the newest versions of the Python packages (needs uv)
	@command -v uv >/dev/null || { echo "uv is not installed; see https://docs.astral.sh/uv/" >&2; exit 1; }
	@uv pip compile $(LOCK_OPTIONS) pyproject.toml -o requirements.lock
	@uv pip compile $(LOCK_OPTIONS) --extra dev pyproject.toml -o requirements-dev.lock

LOCK_OPTIONS := --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	--no-header --no-emit-index-url --no-annotate
