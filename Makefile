# Every target sets up what it needs on a fresh machine; `make help` lists them.
SHELL := /bin/bash
PYTHON ?= $(shell bash tools/python.sh)
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help demo test lint unit crash simulate fuzz bench-solo bench-work bench-tree lock clean system-packages

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

$(VENV)/.installed: requirements/dev.txt requirements/schemas.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements/schemas.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

system-packages:
	@bash tools/system_packages.sh

demo: $(VENV)/.installed ## play a day of payments and prove it; ONCE=1 stops after the report
	$(BIN)/python -m feiqian.cli.demo $(if $(ONCE),--once,)

test: lint unit ## everything that CI runs

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

unit: $(VENV)/.installed system-packages
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal

crash: $(VENV)/.installed ## kill the node at random moments, 200 times
	$(BIN)/python tests/faults/crash.py --kills 200

MINUTES ?= 10
simulate: $(VENV)/.installed ## random ledgers against the plain model; MINUTES=10
	$(BIN)/python tests/simulation/run.py --minutes $(MINUTES)

fuzz: $(VENV)/.installed ## fuzz the transaction decoder and the XML reader, five minutes each
	$(BIN)/python tests/faults/fuzz_transaction.py -max_total_time=300
	$(BIN)/python tests/faults/fuzz_xml.py -max_total_time=300

bench-solo: $(VENV)/.installed ## throughput and latency of the embedded ledger
	$(BIN)/python bench/solo.py

bench-work: $(VENV)/.installed ## milliseconds per 1,000 units of work on this machine
	$(BIN)/python bench/work.py

bench-tree: $(VENV)/.installed ## microseconds per key of the state tree
	$(BIN)/python bench/tree.py

lock: ## write the hash-pinned requirements anew
	$(BIN)/python -m pip install --quiet uv
	for set in runtime dev; do $(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --no-header --python-version 3.11 requirements/$$set.in -o requirements/$$set.txt; done
	$(BIN)/uv pip compile --quiet --generate-hashes --no-deps --no-emit-index-url --no-emit-find-links --no-header \
	  --python-version 3.11 requirements/schemas.in -o requirements/schemas.txt

clean: ## remove what was built
	rm -rf $(VENV) .build .hypothesis .ruff_cache .import_linter_cache node_modules demo-ledger
