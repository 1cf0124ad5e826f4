# The same commands by hand and in CI. Needs python3 (3.11 or newer) and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help demo test test-all check bench rivals docs setup clean
.DEFAULT_GOAL := help

help:
	@echo "make demo      set up, simulate retina photographs, run every stage, write a report"
	@echo "make test      set up, run the tests"
	@echo "make test-all  the slow ones too"
	@echo "make check     format, lint, types, spelling"
	@echo "make bench     the performance goals, but for the long ones (rivals need 'make rivals')"
	@echo "make docs      check that every page and snippet of the documentation holds"

setup: $(READY)

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: foveal needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1). Cure: make PYTHON=/path/to/python3.11 ..."; exit 2; }
	@echo "Setting up $(VENV): about 5 GB of libraries (PyTorch with CUDA is most of it) will be downloaded once."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable ".[volume]" --group dev
	@touch $(READY)

demo: setup
	$(BIN)/foveal demo grade --out out/demo-grade

test: setup
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-all: setup
	$(BIN)/python -m pytest -n 2

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyrefly check
	$(BIN)/typos

clean:
	rm -rf $(VENV) out

# The figures of docs/benchmarks.md. DATA is the folder of real images.
DATA ?= ../shared/data
RIVALS := .venv-rivals
ALONE := kappa_cuts newcut share start loop retrieve tiles label_cuts slide_tiles
ON_DATA := closed_form folds pixels label_folds
ON_SETS := dense real_grades em omniglot cells slides
BENCH_PYTHON = $(firstword $(wildcard $(RIVALS)/bin/python) $(BIN)/python)
bench: setup
	@missed=""; \
	for goal in $(ALONE); do $(BENCH_PYTHON) bench/$$goal.py || missed="$$missed $$goal"; done; \
	for goal in $(ON_DATA); do $(BENCH_PYTHON) bench/$$goal.py --data $(DATA) || missed="$$missed $$goal"; done; \
	echo "hours each, one by one: $(ON_SETS:%=bench/%.py)"; \
	if [ -n "$$missed" ]; then echo "not met, or failed:$$missed"; exit 1; fi

rivals: setup
	@echo "Setting up $(RIVALS) for the benches: another 6 GB or so."
	$(PYTHON) -m venv $(RIVALS)
	$(RIVALS)/bin/python -m pip install --quiet --editable . --requirement bench/rivals.txt

docs: setup
	$(BIN)/python -m pytest -q tests/test_examples.py
	$(BIN)/python -m pytest -q src
