# Each target makes .venv and installs into it first, where that has not been done; it needs Python 3.11 or newer.

PYTHON ?= python3
BIN := .venv/bin
SWEEP := $(BIN)/python sweep/train.py -m hydra/sweeper=optuna

.PHONY: demo sweep test lint ui bench

demo: .venv/digits ## a study of the embedded digits, without a download
	$(SWEEP) data=digits epochs=20

sweep: .venv/digits ## a study of MNIST
	$(SWEEP)

test: .venv/installed ## every test
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

lint: .venv/installed ## formatting, lint, which room may import which, and types
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

bench: .venv/installed ## how fast it is, beside what one would write instead; nothing else should run meanwhile
	$(BIN)/pip install --quiet --editable '.[bench]' --constraint constraints.txt
	$(BIN)/python benchmarks/bench.py

ui: .venv/digits ## MLflow's pages of what has been recorded
	$(BIN)/mlflow ui

.venv/digits: pyproject.toml constraints.txt # what the digits job needs, and no more
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[digits]' --constraint constraints.txt
	touch $@

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[dev]' --constraint constraints.txt
	touch $@
