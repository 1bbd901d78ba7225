# `make demo` and `make test` do all set-up themselves, in a virtual environment of the project's own.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# A file's tests share a process (tests/conftest.py).
PYTEST = $(BIN)/python -m pytest -n auto

.PHONY: demo test test-all test-slow test-long test-zoo lint docs bench clean

demo: $(VENV)/.core
	$(BIN)/pynode-jl quickstart --out runs/quickstart

test: $(VENV)/.dev
	$(PYTEST) -m "not slow and not long and not zoo"

test-all: $(VENV)/.dev
	$(PYTEST) --durations=25 -m "not long and not zoo"

test-slow: $(VENV)/.dev
	$(PYTEST) -m slow

test-long: $(VENV)/.dev
	$(PYTEST) -m long

test-zoo: $(VENV)/.dev
	$(BIN)/python -m pytest -m zoo

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Warnings are errors. The tutorials are run, once; DOCS_NOTEBOOKS=off leaves them without output.
docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -W --keep-going --jobs auto --quiet docs docs/_build/html
	@echo "open docs/_build/html/index.html"

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/train_sphere.py

clean:
	rm -rf $(VENV) runs docs/_build docs/reference/api docs/reference/generated .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed: make PYTHON=python3.12 ...')"
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

# torch comes first and pinned: where a CPU wheel of that version is at hand, pip then takes no CUDA.
$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "torch==2.13.0"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

$(VENV)/.docs: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[docs]"
	touch $@
