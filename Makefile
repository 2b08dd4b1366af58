# Every target sets itself up first; `make` alone lists them.

PYTHON ?=
EXTRAS ?=
ARGS ?=
BIN := .venv/bin

# Without it every small OpenMP operation waits 8 ms as soon as another process is on the cores.
export GOMP_SPINCOUNT ?= 1000
# Nothing phones home.
export VLLM_NO_USAGE_STATS ?= 1
export DO_NOT_TRACK ?= 1
export HF_HUB_DISABLE_TELEMETRY ?= 1
export MLFLOW_DISABLE_TELEMETRY ?= true
export PYTHON

.DEFAULT_GOAL := help
.PHONY: help setup demo test quick gpu lint check lock

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile
	@echo "  ARGS=\"-k ledger\" goes on to pytest; EXTRAS=cuda sets up for GPUs; PYTHON=... names the Python."

setup: ## make .venv with everything in it; returns at once when there is nothing to do
	@scripts/setup --extras "$(EXTRAS)"

demo: setup ## the whole method in miniature, from nothing to a page; an exact oracle measures every step
	@$(BIN)/sq run recipe=demo $(ARGS)

# For two cores. A third of the plain tests' time goes to waiting, for processes and clocks: so three at a time.
# Those that start vLLM come last, when no others are beside them; a file's share an engine.
QUICK := -m "not gpu and not slow and not vllm" -n 2
PLAIN := -m "not gpu and not vllm" -n 3 --dist worksteal
VLLM := -m "vllm and not gpu" -n 2 --dist loadfile
PYTEST := $(BIN)/python -m pytest

test: setup ## all tests that need no GPU
	@$(PYTEST) $(PLAIN) $(ARGS) || [ $$? = 5 ]
	@$(PYTEST) $(VLLM) $(ARGS) || [ $$? = 5 ]

quick: setup ## the tests that take less than five seconds each and no vLLM
	@$(PYTEST) $(QUICK) $(ARGS)

gpu: setup ## the tests that need a GPU
	@$(PYTEST) -m gpu $(ARGS)

lint: setup ## style, types, layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

check: lint quick ## style, types, layers, then the quick tests: what a commit must pass

lock: ## resolve the dependencies afresh and write constraints.txt (TORCH=2.x.y to move torch)
	@scripts/setup --lock
