# `make study` and `make test` do all the set-up on a machine with Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1

.PHONY: study test check table clean

study: .venv/ready
	$(BIN)/python studies/demo.py

test: check
	$(BIN)/python -m pytest

check: .venv/ready
	$(BIN)/ruff check physiosync studies tests
	$(BIN)/ruff format --check physiosync studies tests
	$(BIN)/mypy

table: .venv/ready
	$(BIN)/python studies/synthetic_table.py

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || (echo "expected Python 3.11 or newer, found $$($(PYTHON) --version)"; exit 1)
	$(PYTHON) -m venv .venv \
	  || (echo "expected the venv module (Debian and Ubuntu: apt install python3-venv)"; exit 1)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv data/demo results/demo
