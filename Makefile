# Everything a newcomer needs: `make demo` and `make test`, from Python >= 3.10 with venv alone.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# Tests run side by side; threads inside each would only get in each other's way.
export OMP_NUM_THREADS := 1

.PHONY: help demo test ray lint types layers generated unit wheel bench clean

help:
	@echo "make demo    compare losses on text that every Python has, in about two minutes"
	@echo "make test    everything that must hold before a change lands"
	@echo "make ray     the tests that need a Ray cluster, with Ray installed"
	@echo "make bench   a short run of the benchmarks, with the peers that are installed already"
	@echo "make clean   remove what these made"

demo: $(VENV)/.demo
	$(BIN)/lossmith compare tagging embedded --out demo --seeds 10 --epochs 20 \
	  --set observed=1 \
	  --losses 'masked_binary_cross_entropy,binary_cross_entropy,masked_binary_cross_entropy(average="classes")@model=separate,masked_binary_cross_entropy@observed=all'

test: lint types layers generated unit wheel

lint: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.test
	$(BIN)/mypy

layers: $(VENV)/.test
	$(BIN)/lint-imports

generated: $(VENV)/.test
	$(BIN)/python tools/generate.py --check

# Worksteal: the trainings from end to end come last, and are not left to one worker.
unit: $(VENV)/.test
	$(BIN)/pytest -n 2 --dist worksteal

# Comparisons on a real Ray cluster of two nodes; Ray is large, so it is not part of `make test`.
ray: $(VENV)/.test
	$(INSTALL) --editable '.[dev,ray]'
	$(BIN)/pytest tests/compare/test_cluster.py

# The wheel alone, in an environment that has nothing else, from a folder that is not the source.
wheel: $(VENV)/.test
	rm -rf build dist
	$(BIN)/python -m build --wheel --no-isolation --outdir dist . > /dev/null
	$(PYTHON) -m venv build/clean
	build/clean/bin/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt dist/*.whl
	cd build && clean/bin/python ../tools/smoke.py

# `python -m benchmarks` is the long run: it installs the peers first, and takes hours.
bench: $(VENV)/.test
	PYTHONPATH=src $(BIN)/python -m benchmarks --quick --no-memory

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints.txt
	$(INSTALL) --editable '.[compare]'
	touch $@

$(VENV)/.test: $(VENV)/bin/python pyproject.toml constraints.txt
	$(INSTALL) --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .bench build dist demo runs .mypy_cache .ruff_cache .pytest_cache .hypothesis
