# Two commands do all the set-up: `make quickstart` and `make test`.
PYTHON ?= python3
BIN    := .venv/bin

.PHONY: help quickstart test lint types layers slow gpu clean

help:
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

.venv/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -e .[dev]
	@# the schema of sweep files; alone, because what it asks for beside it is numpy 1
	$(BIN)/pip install --quiet --no-deps sweeps==0.3.0
	@touch $@

quickstart: .venv/installed  ## build the world's shards and train an ECLIPSE prior on them
	$(BIN)/python -m eclipse_pl fit --config experiments/quickstart.yaml

test: lint types layers  ## everything that must hold before a commit
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: .venv/installed  ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed  ## mypy
	$(BIN)/mypy

layers: .venv/installed  ## imports only point down
	$(BIN)/lint-imports

slow: .venv/installed  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

# in no virtual environment: a machine with a GPU has torch of its own; PYTHON=.venv/bin/python takes that of `make test`
gpu:  ## what needs a CUDA device: its tests, 200 steps of the world, times of a step in runs/gpu/speed.json
	$(PYTHON) -m tests.helpers.missing_packages
	$(PYTHON) -m pytest -m gpu
	$(PYTHON) -m eclipse_pl fit --config experiments/quickstart.yaml --config experiments/overlays/one_gpu.yaml --trainer.max_steps 200 --run.experiment gpu
	$(PYTHON) -m eclipse_pl speed --only step --device cuda --json runs/gpu/speed.json

clean:  ## remove the environment, the world's shards and all runs
	rm -rf .venv data runs
