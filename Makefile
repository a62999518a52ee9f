# `make` lists what there is.  Every command works in the environment of PYTHON (.venv unless given: make tests PYTHON=python3).
.DEFAULT_GOAL := help
.PHONY: help setup build hooks tests tests-all tests-pure fuzz bench docs lint types format ci clean

PYTHON ?= .venv/bin/python
BIN := $(if $(findstring /,$(PYTHON)),$(dir $(PYTHON)))
ifneq ($(BIN),)
export PATH := $(abspath $(BIN)):$(PATH)
endif
# More arguments for pytest: make tests ARGS="tests/test_rules.py -x"
ARGS ?=

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup:  ## a development environment in .venv: build tools, kernels built in place, tests, linters, pre-commit hooks
	test -x $(PYTHON) || python3 -m venv .venv
	$(PYTHON) -m pip install -q "setuptools>=77" "cython>=3.3,<3.4"
	$(PYTHON) -m pip install -q --no-build-isolation -e ".[dev]"
	if git rev-parse --git-dir >/dev/null 2>&1; then $(PYTHON) -m pre_commit install; fi

build:  ## compile the kernels again, in place, after a change in ext/
	$(PYTHON) setup.py build_ext --inplace

hooks:  ## run every pre-commit hook over the whole tree
	$(PYTHON) -m pre_commit run --all-files

tests:  ## fast tests, on both backends
	$(PYTHON) -m pytest -q $(ARGS)

tests-all:  ## all tests, slow ones too, on both backends
	$(PYTHON) -m pytest -q --slow $(ARGS)

tests-pure:  ## all tests on the pure Python twins alone
	BACKTEST_BACKEND=python $(PYTHON) -m pytest -q --slow $(ARGS)

fuzz:  ## every public function with 20,000 random arguments
	$(PYTHON) -m pytest -q tests/test_fuzz_doors.py --slow --fuzz-calls=20000 $(ARGS)

bench:  ## benchmarks: ratios within one run, after equal results were asserted
	$(PYTHON) -m pytest -q bench --benchmark-enable $(ARGS)

docs:  ## run the code and follow the links of README and docs/
	$(PYTHON) -m pytest -q --slow tests/test_docs.py $(ARGS)

lint: types  ## what CI checks without running anything: style, format, types
	$(BIN)ruff check .
	$(BIN)ruff format --check .
	$(BIN)cython-lint ext/*.pyx ext/*.pxd

types:  ## type checks alone
	$(BIN)mypy

format:  ## format all Python files and sort their imports
	$(BIN)ruff check --fix --select I .
	$(BIN)ruff format .

ci:  ## everything that must hold, as on a new machine: wheel, both backends, lint, benches
	.ci/run

clean:  ## remove build products, not the environment
	rm -rf build dist *.egg-info ext/*.c ext/*.html backtest/_ext/*.so backtest/_ext/v3/*.so backtest/_ext/v4/*.so
