# make demo | test | long | fuzz | soundness | architectures | experiments | lint | docs | bench. Each first makes .venv
# from nothing but Python 3.11 or later, and renews it when the sources changed. VENV=path uses an environment that is
# already made, as it is: gaugec[test] must be installed there, for docs gaugec[docs].
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
PYTHON ?= python3
ARGS ?=

ifdef VENV
READY :=
else
VENV := .venv
READY := .venv/.installed
endif
BIN := $(abspath $(VENV))/bin
SOURCES := pyproject.toml constraints.txt $(shell find gaugec runtime specs -type f ! -path '*/__pycache__/*')

# Checks run in an empty folder: what they import is the installed package, never this checkout.
APART = unset PYTHONPATH; empty=$$(mktemp -d); trap 'rm -rf "$$empty"' EXIT; cd "$$empty";

.PHONY: help demo test long fuzz soundness architectures experiments lint docs bench clean

help: ## this list
	@grep -hE '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## /make \1\t/'

demo: $(READY) ## prove, compile and train a small real Llama; results in gaugec-demo/
	@"$(BIN)/gaugec" demo $(ARGS)

test: $(READY) ## the tests; ARGS="-k name" goes to pytest
	@$(APART) export OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} # one process a core instead
	"$(BIN)/pytest" -c "$(CURDIR)/pyproject.toml" --rootdir="$(CURDIR)" -n auto --maxprocesses=8 --dist loadfile --no-loadscope-reorder -q $(ARGS) "$(CURDIR)/tests"

long: $(READY) ## the cases that `make test` leaves out, for they are many alike
	@$(MAKE) --no-print-directory test VENV="$(VENV)" ARGS="-m long $(ARGS)"

fuzz: $(READY) ## random and hostile input for ten minutes; ARGS="--minutes 60"
	@$(APART) OMP_NUM_THREADS=1 "$(BIN)/python" "$(CURDIR)/tests/fuzz/run.py" $(ARGS)

soundness: $(READY) ## what is accepted against what is true: half an hour; ARGS="--random 1000"
	@$(APART) export OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1}
	PYTHONPATH="$(CURDIR)/tests" "$(BIN)/python" -m soundness $(ARGS)

architectures: $(READY) ## docs/architectures.md: every architecture compiled and checked; ARGS="gpt2 --specs"
	@$(APART) export OMP_NUM_THREADS=1
	PYTHONPATH="$(CURDIR)/tests" "$(BIN)/python" -m architectures $(ARGS)

experiments: $(READY) ## some runs of docs/experiments.md once more, into build/experiments, and their tables
	@for study in $(or $(STUDIES),symmetry twins); do
	  "$(BIN)/python" -m experiments run $$study --reduced --processes 2 --into build/experiments/$$study
	  "$(BIN)/python" -m experiments table $$study --of build/experiments/$$study
	done

lint: $(READY) ## ruff, the import contracts, mypy
	@"$(BIN)/ruff" check -q .
	$(APART)
	"$(BIN)/lint-imports" --config "$(CURDIR)/pyproject.toml" --no-cache --no-logo > imports.txt || { cat imports.txt; exit 1; }
	"$(BIN)/mypy" --config-file "$(CURDIR)/pyproject.toml" --cache-dir "$$empty" -p gaugec
	"$(BIN)/mypy" --strict --cache-dir "$$empty" "$(CURDIR)/examples/train.py" "$(CURDIR)/tests/typed.py" # as a user's own
	ln -s "$(CURDIR)/experiments" experiments
	"$(BIN)/mypy" --config-file "$(CURDIR)/pyproject.toml" --cache-dir "$$empty" -p experiments

docs: $(READY) ## docs/ as a site in build/site, with the API from the docstrings
	@$(if $(READY),.venv/bin/python -m pip install -qq -c constraints.txt --no-build-isolation '.[docs]')
	NO_MKDOCS_2_WARNING=1 "$(BIN)/mkdocs" build -q --strict

bench: $(READY) ## what a step costs, in minutes, and what pooling does to the loss, in half an hour
	@OMP_NUM_THREADS=1 "$(BIN)/python" tests/bench/step.py --sizes small big bigger --compile --horizontal $(ARGS)
	@OMP_NUM_THREADS=1 "$(BIN)/python" tests/bench/muon.py
	"$(BIN)/python" tests/bench/pooling.py

clean: ## forget .venv and what was built
	@rm -rf .venv build dist gaugec.egg-info

.venv/.installed: $(SOURCES)
	@"$(PYTHON)" -c 'import sys; sys.version_info >= (3, 11) or sys.exit("gaugec needs Python 3.11 or later: make PYTHON=/path/to/python")'
	echo "setting up .venv"
	[ -x .venv/bin/python ] || "$(PYTHON)" -m venv .venv
	rm -rf build
	# torch by itself and pinned: the build that this machine's pip is set up for, and no other pulled in later
	.venv/bin/python -m pip install -qq -c constraints.txt setuptools torch
	.venv/bin/python -m pip install -qq -c constraints.txt --no-build-isolation '.[demo,test]'
	rm -rf build gaugec.egg-info
	touch $@
