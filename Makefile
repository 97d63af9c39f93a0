# `make demo` and `make test` work from a bare clone: each creates .venv once and installs what it needs into it.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow lint clean

demo: .venv/.installed
	$(BIN)/reid-aug demo --out runs/demo

test: .venv/.installed-dev
	$(BIN)/python -m pytest

test-slow: .venv/.installed-dev
	$(BIN)/python -m pytest -m "slow or not slow"

lint: .venv/.installed-dev
	$(BIN)/ruff check .

clean:
	rm -rf .venv runs build *.egg-info

.venv/.created:
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 10) else "reid-aug needs Python 3.10 or newer; name one with: make demo PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	touch $@

.venv/.installed: pyproject.toml | .venv/.created
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

.venv/.installed-dev: pyproject.toml | .venv/.created
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@ .venv/.installed
