# `make demo`, `make test` and `make lint` each set up what they need in .venv; nothing outside the checkout is touched.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow lint format defaults clean

## Four daemons on this machine train a digit classifier together; under 90 s.
demo: $(VENV)/installed
	$(BIN)/learnae demo --nodes 4 --task digits --skew 0.3

## The tests that a change must pass (minutes). Those in network namespaces need root and skip themselves otherwise.
test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n 3 --dist loadfile

## The long ones too.
test-slow: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m "slow or not slow"

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

## The plots of docs/defaults.md (an hour). What is there already in build/defaults is not made again.
defaults: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks.defaults

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "learnae needs Python 3.11 or newer; name one: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@ $(VENV)/installed
