# `make` alone lists the commands. PYTHON picks the interpreter, VENV the place of the virtual environment.
PYTHON ?= python3
VENV ?= .venv
# The floors are for Python 3.10; where there is none, PYTHON has to do.
OLDEST_VENV ?= .venv-oldest
OLDEST_PYTHON ?= $(shell PYENV_VERSION=3.10 python3.10 -c 'import sys; print(sys.executable)' 2>/dev/null || echo $(PYTHON))
BIN := $(VENV)/bin
PYTEST_ARGS ?=
PARALLEL := -n auto --maxprocesses 8 --dist worksteal

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export VIDEO

.DEFAULT_GOAL := help
.PHONY: help demo test test-long test-oldest test-slow lint format clean
.SECONDARY:

help: ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(VENV)/.installed ## classify the clips in the package, or your own: make demo VIDEO=path-or-URL
	@if [ -n "$$VIDEO" ]; then $(BIN)/python scripts/classify.py "$$VIDEO"; else $(BIN)/python scripts/classify.py --demo; fi

test: $(VENV)/.installed-test ## run the quick tests in parallel (PYTEST_ARGS='-k name -n 0' is handed on)
	@HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -q -m "not slow and not long" $(PARALLEL) $(PYTEST_ARGS)

test-long: $(VENV)/.installed-test ## run the tests that take some seconds each
	@HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -q -m "long and not slow" $(PARALLEL) $(PYTEST_ARGS)

test-oldest: $(OLDEST_VENV)/.installed ## run both with the oldest versions that setup.py allows, in an environment of its own
	@HF_HUB_OFFLINE=1 $(OLDEST_VENV)/bin/python -m pytest -q -m "not slow" $(PARALLEL) $(PYTEST_ARGS)

test-slow: $(VENV)/.installed-test ## run the slow tests: real installs, training, compilation
	@HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -q -m slow $(PYTEST_ARGS)

lint: $(VENV)/.installed-lint ## check style and formatting
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .

format: $(VENV)/.installed-lint ## repair style and formatting
	@$(BIN)/python -m ruff check --fix .
	@$(BIN)/python -m ruff format .

clean: ## delete the virtual environments and what builds leave behind
	rm -rf $(VENV) $(OLDEST_VENV) build dist *.egg-info .pytest_cache .ruff_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || \
		{ echo "$(PYTHON) is missing or older than Python 3.10; name a newer one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) cannot make virtual environments; on Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: setup.py pyproject.toml | $(BIN)/python
	@echo "Installing flux_hf and what it needs into $(VENV); the first time this takes minutes."
	@$(BIN)/python -m pip install -q -e .
	@touch $@

$(VENV)/.installed-%: setup.py pyproject.toml | $(BIN)/python
	@echo "Installing flux_hf[$*] and what it needs into $(VENV); the first time this takes minutes."
	@$(BIN)/python -m pip install -q -e ".[$*]"
	@touch $(VENV)/.installed $@

$(OLDEST_VENV)/.installed: setup.py pyproject.toml tests/requirements.py
	@echo "Installing flux_hf[test] and the oldest versions of what it needs into $(OLDEST_VENV); this takes minutes."
	@$(OLDEST_PYTHON) -m venv --clear $(OLDEST_VENV)
	@$(OLDEST_VENV)/bin/python -m pip install -q setuptools
	@$(OLDEST_VENV)/bin/python tests/requirements.py > $(OLDEST_VENV)/oldest.txt
	@$(OLDEST_VENV)/bin/python -m pip install -q -c $(OLDEST_VENV)/oldest.txt -e ".[test]"
	@touch $@
