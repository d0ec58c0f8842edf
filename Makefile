# Every target sets up what it needs on a fresh machine; `make help` lists them.
SHELL := /bin/bash
PYTHON ?= $(shell bash tools/python.sh)
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help demo cometbft test lint unit campaigns crash faults disk simulate fuzz bench-solo bench-network bench-decay bench-work bench-tree proto lock clean system-packages

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

COMETBFT := .build/cometbft/cometbft

cometbft: $(COMETBFT) ## build the pinned CometBFT, which a network's validators run beside the ledger

# Without cgo it needs no C compiler and runs on any Linux of this architecture.
$(COMETBFT): deploy/cometbft/go.mod deploy/cometbft/go.sum
	@command -v go >/dev/null || { echo "CometBFT is built with Go 1.25 or newer, and there is no go on the PATH:" \
	  "install it from https://go.dev/dl/ and run 'make cometbft' again. A ledger with the solo engine needs none." >&2; exit 1; }
	cd deploy/cometbft && CGO_ENABLED=0 go build -trimpath -mod=readonly -o ../../$@ github.com/cometbft/cometbft/cmd/cometbft
	@touch $@

demo: $(VENV)/.installed $(if $(NETWORK),$(COMETBFT)) ## play a day of payments and prove it; NETWORK=4 on a network; ONCE=1 stops after the report
	$(BIN)/python -m feiqian.cli.demo $(if $(ONCE),--once,) $(if $(NETWORK),--network $(NETWORK))

test: lint unit ## everything that CI runs

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

# Where Go is absent the network's tests are skipped and say so.
unit: $(VENV)/.installed system-packages $(if $(shell command -v go),$(COMETBFT))
	@echo "Left out: what takes minutes on a network of real validators (make campaigns, make faults, make disk)."
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal

campaigns: $(VENV)/.installed system-packages $(COMETBFT) ## the tests that take minutes: members join and leave, upgrades, hand-over
	$(BIN)/python -m pytest -v -m campaign

crash: $(VENV)/.installed ## kill the node at random moments, 200 times
	$(BIN)/python tests/faults/crash.py --kills 200

CASES ?=
faults: $(VENV)/.installed system-packages $(COMETBFT) ## break a network of four in every way we know; CASES="kill-one link-cut"
	$(BIN)/python tests/faults/network.py $(CASES)

disk: $(VENV)/.installed system-packages $(COMETBFT) ## measure whether the disk of ledgers with narrow windows stops growing
	$(BIN)/python tests/faults/disk_campaign.py

MINUTES ?= 10
simulate: $(VENV)/.installed ## random ledgers against the plain model; MINUTES=10
	$(BIN)/python tests/simulation/run.py --minutes $(MINUTES)

fuzz: $(VENV)/.installed ## fuzz the transaction decoder and the XML reader, five minutes each
	$(BIN)/python tests/faults/fuzz_transaction.py -max_total_time=300
	$(BIN)/python tests/faults/fuzz_xml.py -max_total_time=300

bench-solo: $(VENV)/.installed ## throughput and latency of the embedded ledger
	$(BIN)/python bench/solo.py

bench-network: $(VENV)/.installed $(COMETBFT) ## a network's throughput beside CometBFT's own key-value store
	$(BIN)/python bench/network.py

bench-decay: $(VENV)/.installed $(COMETBFT) ## whether ten minutes at the top rate slow a ledger down; MINUTES=10
	$(BIN)/python bench/decay.py --minutes $(MINUTES)

bench-work: $(VENV)/.installed ## milliseconds per 1,000 units of work on this machine
	$(BIN)/python bench/work.py

bench-tree: $(VENV)/.installed ## microseconds per key of the state tree
	$(BIN)/python bench/tree.py

proto: $(VENV)/.installed ## generate the messages of CometBFT's socket from abci.proto
	$(BIN)/python -m grpc_tools.protoc -Isrc --python_out=src --pyi_out=src feiqian/consensus/comet/abci.proto

lock: ## write the hash-pinned requirements anew
	$(BIN)/python -m pip install --quiet uv
	for set in runtime dev; do $(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --no-header --python-version 3.11 requirements/$$set.in -o requirements/$$set.txt; done
	$(BIN)/uv pip compile --quiet --generate-hashes --no-deps --no-emit-index-url --no-emit-find-links --no-header \
	  --python-version 3.11 requirements/schemas.in -o requirements/schemas.txt

clean: ## remove what was built
	rm -rf $(VENV) .build .hypothesis .ruff_cache .import_linter_cache node_modules demo-ledger
