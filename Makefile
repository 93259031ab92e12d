# The doors: `make run`, `make test`, `make check`, `make bench`. A fresh clone needs no other step.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install

.PHONY: run test test-bridges lint types check bench clean
.DEFAULT_GOAL := run

# Each stamp is one set of packages; make reinstalls it only when pyproject.toml has changed since.
$(VENV)/.run: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "koubai needs Python 3.11 or newer; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.run
	$(PIP) --editable ".[test]"
	@touch $@

run: $(VENV)/.run
	@mkdir -p out
	$(BIN)/koubai minimize himmelblau --lr 0.01 -o out/himmelblau.png

test: $(VENV)/.test
	$(BIN)/python -m pytest

test-bridges: $(VENV)/.test
	$(PIP) torch==2.13.0 --editable ".[test,bridges]"
	$(BIN)/python -m pytest tests/bridges

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test
	$(BIN)/mypy

check: lint types test

# Beside the peers, on real data, in one run; for reading, never a test. Writes benchmarks/results.json and two pictures.
bench: $(VENV)/.test
	$(PIP) torch==2.13.0 --editable ".[test,bench]"
	$(BIN)/python benchmarks/native.py
	$(BIN)/python benchmarks/gradient.py
	$(BIN)/python benchmarks/derivative.py
	$(BIN)/python benchmarks/descent.py
	$(BIN)/python benchmarks/training.py

clean:
	rm -rf $(VENV) out
