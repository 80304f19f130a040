# Two commands: `make demo` and `make test`. Both make .venv first, with the versions in constraints.txt.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
export RAY_USAGE_STATS_ENABLED := 0
export OMP_NUM_THREADS ?= 1

.PHONY: demo test test-long lint setup format clean bench-train bench-sample bench-match bench-evidence bench-tune

demo: $(INSTALLED)
	$(BIN)/python jobs/distill.py --config jobs/demo.yaml

# First, two at a time, what needs no Ray; then what does, which has the machine to itself.
test: $(INSTALLED)
	$(BIN)/python -m pytest -q --durations=15 -m "not ray and not gpu" --numprocesses 2 --dist loadfile
	$(BIN)/python -m pytest -q --durations=15 -m "ray and not gpu"

# A whole run on hosts that are cut off on the way: twelve minutes, as root.
test-long: $(INSTALLED)
	RAYDISTILL_LONG=1 $(BIN)/python -m pytest -q tests/cluster/test_hosts.py

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

setup: $(INSTALLED)

bench-train: $(INSTALLED)
	$(BIN)/python benchmarks/train.py

bench-sample: $(INSTALLED)
	$(BIN)/python benchmarks/sample.py

bench-match: $(INSTALLED)
	$(BIN)/python benchmarks/match.py

bench-evidence: $(INSTALLED)
	$(BIN)/python benchmarks/evidence.py

bench-tune: $(INSTALLED)
	$(BIN)/python benchmarks/tune.py

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade -c constraints.txt pip
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e . --group dev
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
