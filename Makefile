# Nothing is needed beforehand but Python 3.11 or newer, make, gcc and git. Run `make` to see what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Everything is installed into .venv; PYTHON=... picks the interpreter it is made from.
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11; do \
	if "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo "$$name"; break; fi; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
INSTALL := $(PIP) install --constraint constraints.txt --editable

.PHONY: help setup demo test lint types layers unit check-long format bench wheel

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.dev ## make .venv with everything that tests and tools need
demo: .venv/.core ## install and show the whole path on embedded model and data, without network
	$(BIN)/sartor demo

test: lint types layers unit ## lint, types, import layers and tests

lint: .venv/.dev ## style and likely mistakes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.dev ## mypy, strict
	$(BIN)/mypy

layers: .venv/.dev ## rooms import only from rooms below them
	$(BIN)/lint-imports --no-cache --no-logo

unit: .venv/.dev ## tests that take seconds
	$(BIN)/pytest -n auto

check-long: .venv/.extras ## tests that take minutes: kills, faults, whole runs
	$(BIN)/pytest -n auto -m slow

format: .venv/.dev ## rewrite the code in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/.dev ## measure start-up
	$(BIN)/python benchmarks/startup.py

wheel: .venv/.dev ## build dist/*.whl
	$(PIP) wheel --no-deps --wheel-dir dist .

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Sartor needs Python 3.11 or newer; none was found. Fix: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.core: pyproject.toml constraints.txt | .venv/bin/python
	@echo "installing Sartor into .venv; the first time this takes some minutes"
	@$(INSTALL) .
	@touch $@

.venv/.dev: pyproject.toml constraints.txt | .venv/bin/python
	@echo "installing Sartor and its tools into .venv; the first time this takes some minutes"
	@$(INSTALL) '.[dev]'
	@touch .venv/.core $@

.venv/.extras: pyproject.toml constraints.txt | .venv/.dev
	@echo "installing the extras that the long tests need"
	@$(INSTALL) '.[dev,quant,ray,edge]'
	@touch .venv/.core .venv/.dev $@
