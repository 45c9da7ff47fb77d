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
PYTEST = $(TEST_ENVIRONMENT) $(BIN)/python -m pytest -n $(PYTEST_WORKERS) -m "not slow"
FUZZ_COUNT ?= 100000
STRESS_SECONDS ?= 600
STRESS_SEED ?= 1
LLAMA_CMAKE ?= -DGGML_NATIVE=ON -DGGML_AMX_TILE=OFF -DGGML_AMX_INT8=OFF -DGGML_AMX_BF16=OFF

.DEFAULT_GOAL := help
.PHONY: help demo test coverage lint bench bench-parts stress fuzz docs clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/.demo  ## fetch a small model, stream a completion, show what was observed (ARGS=--serve)
	@$(BIN)/smallmind demo $(ARGS)

test: $(VENV)/.dev  ## the default suite
	$(PYTEST) $(ARGS)

coverage: $(VENV)/.dev  ## the default suite, which lines and branches it runs; takes half as long again
	$(PYTEST) --cov --cov-report=term $(ARGS)

lint: $(VENV)/.dev  ## ruff, mypy, and the layering contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy tests/typing/api.py
	$(BIN)/lint-imports

bench: $(VENV)/.bench  ## beside llama.cpp, with the machine's limits: table, JSON and chart in docs/benchmarks
	$(BIN)/python tests/benchmarks/bench_compare.py --json docs/benchmarks/comparison.json --png docs/benchmarks/comparison.png $(ARGS)

bench-parts: $(VENV)/.dev  ## the benchmarks of single parts
	$(BIN)/python tests/benchmarks/run.py $(ARGS)

stress: $(VENV)/.dev  ## callers of all kinds until the books balance (STRESS_SECONDS=600), then cancellations and overload
	$(TEST_ENVIRONMENT) PYTHONPATH=tests $(BIN)/python -m concurrency.stress --seconds $(STRESS_SECONDS) --seed $(STRESS_SEED) $(ARGS)
	$(BIN)/python tests/benchmarks/bench_cancellation.py
	$(BIN)/python tests/benchmarks/bench_overload.py

fuzz: $(VENV)/.dev  ## mutated GGUF files (FUZZ_COUNT=100000)
	$(BIN)/python tests/benchmarks/fuzz_gguf.py --count $(FUZZ_COUNT) $(ARGS)

docs: $(VENV)/.dev  ## write the generated pages of docs/, the dashboards and the rules again
	$(BIN)/python docs/generate.py $(ARGS)
	$(BIN)/python dashboards/generate.py $(ARGS)

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

# llama.cpp is compiled from source; where that fails, smallmind is measured alone.
# AMX is off: that path crashed on machines whose hypervisor hides it. See docs/performance.md.
$(VENV)/.bench: pyproject.toml | $(VENV)/.dev
	CMAKE_ARGS="$${CMAKE_ARGS:-$(LLAMA_CMAKE)}" $(PIP) install --quiet --no-binary llama-cpp-python --editable ".[bench]" || { echo "no llama.cpp here: smallmind will be measured alone"; $(PIP) install --quiet "matplotlib>=3.9"; }
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.created
	$(PIP) install --quiet --editable ".[dev]"
	@touch $@ $(VENV)/.demo
