# Every target works alone on a fresh clone: what needs the environment makes it first.

PYTHON ?= python3
SEED ?= 0
OUT ?= runs/demo
LOGS ?= runs
WORKERS ?= 2

BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help

.PHONY: help
help:  ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: install
install: $(STAMP)  ## Make .venv and install the package with the development tools

# torch comes first and alone: an exact version finds a CPU build where the package index has one, while a range would
# pull gigabytes of CUDA packages.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { echo "mstar needs Python 3.11 or newer, which '$(PYTHON)' is not: name one, e.g. make install PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

.PHONY: demo
demo: $(STAMP)  ## Run the whole method on the embedded model and data (SEED=0 OUT=runs/demo)
	$(BIN)/python -m mstar.demo --seed $(SEED) --output $(OUT)

.PHONY: clean-demo
clean-demo:  ## Delete the demo's folder (OUT=runs/demo), so that it starts over
	rm -rf -- "$(OUT)"

.PHONY: ablations
ablations: $(STAMP)  ## Compare the method's variants on the embedded model (hours; goes on where it stopped)
	$(BIN)/python -m mstar.demo.ablations

# Each worker computes on one thread: the models are tiny, and the workers fill the cores.
.PHONY: test
test: $(STAMP)  ## Run the tests that need neither a GPU nor vLLM
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) -m "not gpu and not vllm"

.PHONY: test-gpu
test-gpu: $(STAMP)  ## Run the tests that need a GPU
	$(BIN)/python -m pytest -m gpu

.PHONY: lint
lint: $(STAMP)  ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: format
format: $(STAMP)  ## Mend style and formatting where that can be done automatically
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: typecheck
typecheck: $(STAMP)  ## Check the types of the package
	$(BIN)/mypy

.PHONY: tensorboard
tensorboard: $(STAMP)  ## Show the runs in TensorBoard (LOGS=runs)
	$(BIN)/tensorboard --logdir $(LOGS)

.PHONY: clean
clean:  ## Delete caches and build outputs; runs and .venv stay
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find mstar tests -name __pycache__ -type d -prune -exec rm -rf {} +
