# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
# The networks of the demonstration and the tests are too small for more threads to pay.
ONE := OMP_NUM_THREADS=1

.PHONY: demo test test-fast test-slow check format clean

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch .venv/installed

demo: .venv/installed  ## compress a digits classifier and decode it again
	$(ONE) $(BIN)/pyro-sws demo --overwrite

test: .venv/installed  ## the default tests, a few minutes
	$(ONE) $(BIN)/python -m pytest -n auto

test-fast: .venv/installed  ## without whole runs, fresh interpreters and long fits: while writing
	$(ONE) $(BIN)/python -m pytest -n auto -m 'not slow and not integration'

test-slow: .venv/installed  ## the long tests too
	$(ONE) $(BIN)/python -m pytest -m 'slow or not slow'

check: .venv/installed  ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache
