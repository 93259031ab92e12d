# The doors: `make run`, `make test`, `make check`, `make test-lab`, `make bench`. A fresh clone needs no other step.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Python compiles what is imported, and keeps it, which takes a third of the time of compiling all that is installed.
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install --no-compile
export PYTHONDONTWRITEBYTECODE =

.PHONY: run test test-slow test-bridges test-lab lab-pictures quick test-pythons lint types check bench clean
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

# Some of every table and of all random programs; the rest is marked slow.
test: $(VENV)/.test
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(VENV)/.test
	$(BIN)/python -m pytest -m slow

test-bridges: $(VENV)/.test
	$(PIP) torch==2.13.0 --editable ".[test,bridges]"
	$(BIN)/python -m pytest tests/bridges

# The lab's pages in headless Chromium: the system's, else from apt-get where that can be done without asking, else
# Playwright's own. Two processes, each with one lab and one browser for all of its tests.
CHROMIUM = $(firstword $(foreach name,chromium chromium-browser google-chrome google-chrome-stable,$(shell command -v $(name) 2>/dev/null)))
APT_GET = $(shell command -v apt-get >/dev/null 2>&1 && { test "$$(id -u)" = 0 && echo apt-get || { sudo -n true 2>/dev/null && echo sudo -n apt-get; }; })

$(VENV)/.chromium: $(VENV)/.test
	@test -n "$(CHROMIUM)" || \
		{ test -n "$(APT_GET)" && $(APT_GET) update -qq && $(APT_GET) install -qq --yes chromium fonts-noto-cjk; } || \
		$(BIN)/python -m playwright install chromium || \
		{ echo "the lab's tests need Chromium: install it, or: $(BIN)/playwright install chromium" >&2; exit 1; }
	@touch $@

test-lab: $(VENV)/.chromium
	CI=1 $(BIN)/python -m pytest -n 2 --dist worksteal tests/lab

# The README's pictures of the lab, taken of a running one.
lab-pictures: $(VENV)/.chromium
	$(BIN)/python docs/lab_pictures.py

# The main job, and the tests of what Pythons and packages have changed before: Python's frames, closures and docstrings,
# NumPy's functions, llvmlite, matplotlib, Typer, Jupyter. A minute; the rest of the suite is descents and random programs.
# Of the slow ones only the one marked versions: a notebook.
QUICK := public errors trace ops functions linear_algebra special windows supported gradient expression kept \
	execute library loop record cli plot plot_network mission notation notebooks explain docstrings examples

quick: run $(VENV)/.test
	$(BIN)/python -m pytest -m "not slow or versions" $(QUICK:%=tests/test_%.py) \
		tests/test_rules.py::test_docstrings_have_formula_and_paper

# The same under every other Python from 3.11 on that is on PATH or pyenv's, each in an environment of its own.
PYTHONS = $(wildcard $(addsuffix /python3.[1-9][0-9],$(subst :, ,$(PATH)) $(HOME)/.pyenv/versions/*/bin))
ITS_VERSION = import ensurepip, sys; print("%d.%d" % sys.version_info[:2]); sys.exit(sys.version_info < (3, 11))

test-pythons: $(VENV)/.test
	@tested=" $$($(BIN)/python -c '$(ITS_VERSION)') "; \
	for python in $(PYTHONS); do \
		version=$$($$python -c '$(ITS_VERSION)' 2>/dev/null) || continue; \
		case "$$tested" in *" $$version "*) continue;; esac; \
		echo "== Python $$version: $$python"; \
		$(MAKE) --no-print-directory quick PYTHON=$$python VENV=.venv-$$version || exit 1; \
		tested="$$tested$$version "; \
	done

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test
	$(BIN)/mypy

check: lint types test test-slow

# Beside the peers, on real data, in one run; for reading, never a test. Writes benchmarks/results.json and two pictures.
bench: $(VENV)/.test
	$(PIP) torch==2.13.0 --editable ".[test,bench]"
	$(BIN)/python benchmarks/native.py
	$(BIN)/python benchmarks/gradient.py
	$(BIN)/python benchmarks/derivative.py
	$(BIN)/python benchmarks/descent.py
	$(BIN)/python benchmarks/training.py

clean:
	rm -rf $(VENV) .venv-3.* out
