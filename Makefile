# `make study` and `make test` do all the set-up on a machine with Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1

.PHONY: study test test-slow test-cluster check table ablation wheel clean

study: .venv/ready
	$(BIN)/python studies/demo.py

test: check
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# Whole studies twice over, and pretraining with and without what it should learn from.
test-slow: .venv/ready
	$(BIN)/python -m pytest -m slow -n logical --maxprocesses 4 --dist loadfile

# Three hosts and a launcher as namespaces of this machine: Linux, root, and what .ci/run installs.
test-cluster: .venv/ready-for-clusters wheel
	$(BIN)/python -m pytest -m cluster --tb=short --durations=0 --durations-min=20 tests/cluster

check: .venv/ready
	$(BIN)/ruff check physiosync studies tests
	$(BIN)/ruff format --check physiosync studies tests
	$(BIN)/mypy

table: .venv/ready
	$(BIN)/python studies/synthetic_table.py

ablation: .venv/ready
	$(BIN)/python studies/ablation.py

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || (echo "expected Python 3.11 or newer, found $$($(PYTHON) --version)"; exit 1)
	$(PYTHON) -m venv .venv \
	  || (echo "expected the venv module (Debian and Ubuntu: apt install python3-venv)"; exit 1)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[dev]'
	touch $@

.venv/ready-for-clusters: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[dev,cluster]'
	touch $@

# What cluster/cluster.yaml ships. Not what an earlier build left: it may hold files since removed.
wheel: .venv/ready
	rm -rf build dist
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	cp constraints.txt dist

clean:
	rm -rf .venv build dist data/demo results/demo
