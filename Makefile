# The commands of this project; CONTRIBUTING.md tells what each is for.
# A clean clone needs Python 3.11 or newer, make, and a package index.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
ARGS ?=
# Two workers keep the suite short on small machines and show tests that lean on each other.
PYTEST_WORKERS ?= 2
# Each worker computes on one core: threads of two workers would wait for each other.
TEST_ENVIRONMENT := OPENBLAS_NUM_THREADS=1
FUZZ_COUNT ?= 100000

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench fuzz docs clean

help:  ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: $(VENV)/.demo  ## fetch a small model, stream a completion, show what was observed (ARGS=--serve)
	@$(BIN)/smallmind demo $(ARGS)

test: $(VENV)/.dev  ## the default suite, with coverage
	$(TEST_ENVIRONMENT) $(BIN)/python -m pytest -n $(PYTEST_WORKERS) -m "not slow" --cov --cov-report=term $(ARGS)

lint: $(VENV)/.dev  ## ruff, mypy, and the layering contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy tests/typing/api.py
	$(BIN)/lint-imports

bench: $(VENV)/.dev  ## the benchmarks
	$(BIN)/python tests/benchmarks/run.py $(ARGS)

fuzz: $(VENV)/.dev  ## mutated GGUF files (FUZZ_COUNT=100000)
	$(BIN)/python tests/benchmarks/fuzz_gguf.py --count $(FUZZ_COUNT) $(ARGS)

docs: $(VENV)/.dev  ## write the generated pages of docs/ again
	$(BIN)/python docs/generate.py $(ARGS)

clean:  ## delete everything that was made here; the model cache stays
	rm -rf $(VENV) build dist htmlcov .coverage .coverage.* .hypothesis
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find sdk engine exporters tests docs -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.created:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "smallmind needs Python 3.11 or newer; run: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.demo: pyproject.toml | $(VENV)/.created
	@echo "Installing smallmind into $(VENV) ..."
	@$(PIP) install --quiet --editable ".[cli,prometheus,fast]"
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.created
	$(PIP) install --quiet --editable ".[dev]"
	@touch $@ $(VENV)/.demo
