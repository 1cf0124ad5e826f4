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
	@echo "make bench     the performance goals (rivals need 'make rivals')"
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
bench: setup
	for goal in kappa_cuts folds newcut share start; do $(BIN)/python bench/$$goal.py || exit 1; done
	$(BIN)/python bench/closed_form.py --data $(DATA)
	for goal in loop pixels retrieve tiles label_cuts label_folds slide_tiles; do $(firstword $(wildcard $(RIVALS)/bin/python) $(BIN)/python) bench/$$goal.py || exit 1; done

rivals: setup
	@echo "Setting up $(RIVALS) for the benches: another 6 GB or so."
	$(PYTHON) -m venv $(RIVALS)
	$(RIVALS)/bin/python -m pip install --quiet --editable . --requirement bench/rivals.txt

docs: setup
	$(BIN)/python -m pytest -q tests/test_examples.py
	$(BIN)/python -m pytest -q src
