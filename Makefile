# Every target prepares .venv first (scripts/setup.py); that takes minutes once and no time afterwards.

PYTHON ?= python3
BIN := .venv/bin

# Bytecode makes later starts faster by seconds, and all of it stays inside .venv.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint dashboard screenshots

help:  ## show this list
	@echo "make TARGET, where TARGET is"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

setup:  ## install Poetry and the locked packages into this folder (all targets do it)
	@command -v "$(PYTHON)" >/dev/null 2>&1 || { echo "setup: error: $(PYTHON) is not on the PATH; install Python 3.11 or newer, or name it by make PYTHON=/path/to/python" >&2; exit 2; }
	@"$(PYTHON)" scripts/setup.py

demo: setup  ## learn ten permuted-MNIST tasks with masks alone, then tell tasks apart from one image
	@$(BIN)/python -m supsup_methods.commands.train

test: setup  ## run all tests
	@$(BIN)/python -m pytest

lint: setup  ## check style, types and the arrows between packages
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .
	@$(BIN)/python -m mypy
	@$(BIN)/lint-imports
	@.tools/poetry/bin/poetry check --lock

dashboard: setup  ## open the dashboard in a browser
	@$(BIN)/python -m streamlit run apps/dashboard.py

screenshots: setup  ## look at every page of the dashboard and write the pictures into docs/ (needs Chromium)
	@$(BIN)/python -m tests.browser.screenshots
