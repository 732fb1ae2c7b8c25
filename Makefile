# Every target sets up what it needs in .venv; the second time is quick.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup demo test nightly matrix verify lint types contracts bench clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml requirements-dev.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements-dev.txt -e .
	touch $@

demo: setup
	$(BIN)/holdfast demo

test: setup
	$(BIN)/python -m pytest

nightly: setup
	$(BIN)/python -m pytest -m nightly

# What cannot be in the main environment, each framework in its own; needs the package index.
matrix: setup
	$(BIN)/python -m tests.ai.matrix

verify: lint types contracts test

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy
	$(BIN)/pyright --warnings

contracts: setup
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python -m bench.compare

clean:
	rm -rf $(VENV) .venv-matrix .mypy_cache .ruff_cache .pytest_cache .hypothesis bench/.cache
