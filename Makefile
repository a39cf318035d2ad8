# Two commands do all the set-up: `make quickstart` and `make test`.
PYTHON ?= python3
BIN    := .venv/bin
# part PART of PARTS of the test files, or those that TESTS names
PART   ?= 1
PARTS  ?= 1
TESTS  ?= $(if $(filter-out 1,$(PARTS)),$(shell find tests -name 'test_*.py' | sort | awk 'NR % $(PARTS) == $(PART) % $(PARTS)'))
PYTEST := python -m pytest -n 2 --dist loadfile
# no other file is collected by `make gpu`: a machine with a GPU lacks what some of them import
GPU_TESTS = $(shell grep -l 'mark\.gpu' tests/test_*.py)
# every extra that a test uses
EXTRAS := dev,ray,spacy

# how the wheel is tried by `make package`: whole is the quickstart, 5 minutes; short is two steps of it on a small world
QUICKSTART ?= whole

.PHONY: help quickstart test tests quick lint types layers slow gpu oldest newest docs check-hub release-files package
.PHONY: release-check clean

help:
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

.venv/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -e .[dev]
	@# the schema of sweep files; alone, because what it asks for beside it is numpy 1
	$(BIN)/pip install --quiet --no-deps sweeps==0.3.0
	@touch $@

.venv-oldest/installed .venv-newest/installed: .venv-%/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/pip install --quiet --upgrade pip
	$(PYTHON) -m tests.helpers.lower_bounds > .venv-$*/lower_bounds.txt
	.venv-$*/bin/pip install --quiet --upgrade --upgrade-strategy eager -e .[$(EXTRAS)] \
	  $(if $(filter oldest,$*),--constraint .venv-$*/lower_bounds.txt)
	.venv-$*/bin/pip install --quiet --no-deps sweeps==0.3.0
	@touch $@

.venv-docs/installed: setup.cfg
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/pip install --quiet --upgrade pip
	.venv-docs/bin/pip install --quiet $$($(PYTHON) -m tests.helpers.requirements docs)
	@touch $@

.venv-package/installed:
	$(PYTHON) -m venv .venv-package
	.venv-package/bin/pip install --quiet --upgrade pip build twine
	@touch $@

quickstart: .venv/installed  ## build the world's shards and train an ECLIPSE prior on them
	$(BIN)/python -m eclipse_pl fit --config experiments/quickstart.yaml

test: lint types layers tests  ## everything that must hold before a commit

tests: .venv/installed  ## the tests; PART=1 PARTS=4 for a quarter of their files, TESTS=tests/test_losses.py for one
	$(BIN)/$(PYTEST) $(TESTS)

quick: .venv/installed lint  ## what to run while editing: style, and the tests that start no process and take no time (under 2 minutes)
	$(BIN)/$(PYTEST) -m "not slow and not gpu and not processes and not long" $(TESTS)

lint: .venv/installed  ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed  ## mypy
	$(BIN)/mypy

layers: .venv/installed  ## imports only point down
	$(BIN)/lint-imports

slow: .venv/installed  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

# old releases warn of each other and of newer ones: warnings are no errors there
oldest: .venv-oldest/installed  ## the tests on the lower bound of every dependency, in .venv-oldest; PYTHON=python3.10 is the oldest
	.venv-oldest/bin/$(PYTEST) -o filterwarnings=default $(TESTS)

newest: .venv-newest/installed  ## the tests on the newest release of every dependency, in .venv-newest
	.venv-newest/bin/$(PYTEST) $(TESTS)

docs: .venv-docs/installed  ## the guide and the Python reference, in build/site; every warning is an error
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build

check-hub: .venv/installed  ## which repositories of the Hugging Face hub that are named here are gone; needs a network
	$(BIN)/python -m tests.helpers.hub_ids

release-files: .venv/installed  ## version, changelog, citation and tag name the same release
	$(BIN)/python -m tests.helpers.release files

package: .venv/installed .venv-package/installed  ## what a release uploads, in dist/: checked, and used in an empty environment; QUICKSTART=short
	rm -rf build dist
	.venv-package/bin/python -m build --outdir dist
	.venv-package/bin/twine check --strict dist/*
	$(BIN)/python -m tests.helpers.release archives
	ECLIPSE_PL_DIST=dist ECLIPSE_PL_QUICKSTART=$(QUICKSTART) $(BIN)/python -m pytest -m slow --durations=3 tests/test_wheel.py

release-check: release-files package docs  ## what a release needs before its tag; QUICKSTART=short

# in no virtual environment: a machine with a GPU has torch of its own; PYTHON=.venv/bin/python takes that of `make test`
gpu:  ## what needs a CUDA device: its tests, and the figures of `speed` in runs/gpu; at most 8 minutes, nothing is downloaded
	$(PYTHON) -m tests.helpers.missing_packages
	ECLIPSE_PL_CARD=cuda HF_HUB_OFFLINE=1 $(PYTHON) -m pytest -m gpu -rs $(GPU_TESTS)
	mkdir -p runs/gpu
	HF_HUB_OFFLINE=1 $(PYTHON) -m eclipse_pl speed --only step,padding,fit,sample --steps 96 --device cuda --json runs/gpu/speed.json
	HF_HUB_OFFLINE=1 $(PYTHON) -m eclipse_pl speed --only compiled --spaces ViT-L-14 --batches 4096 --device cuda --json runs/gpu/compiled.json

clean:  ## remove the environment, the world's shards and all runs
	rm -rf .venv .venv-oldest .venv-newest .venv-docs .venv-package build dist data runs
