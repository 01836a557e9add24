# What one does with keyrelay's sources. `make` alone lists it.

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-reinstall bench test faults faults-long model model-long lint check docs format clean
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
# More arguments, e.g. make test ARGS="-k lab" or make bench ARGS="--rounds 3"
ARGS ?=

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:  ## .venv with keyrelay and its tools, and the system's missing parts
	@.ci/setup

demo:  ## the whole job against real sshds on this machine
	@.ci/setup run
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash orchestrator/lab/demo.sh

demo-reinstall:  ## a wiped server comes back, and no agent ever distrusts a key in use
	@.ci/setup run
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash orchestrator/lab/demo_reinstall.sh

bench:  ## how fast 64 hosts are visited, beside ssh, Ansible and pyinfra; a table
	@.ci/setup bench
	@$(BIN)/python benchmarks/push.py --peers $(ARGS)

test: setup  ## the tests, with branch coverage; among them the program killed at every step and at random
	@$(BIN)/pytest -n 2 --dist worksteal -m "not long" --cov --cov-report=term $(ARGS)

faults: setup  ## the rest of the tests: hosts cut off, starved and out of time, stores under every shell; half an hour
	@$(BIN)/pytest -n 2 --dist worksteal -m long $(ARGS)

faults-long: setup  ## hours of faults: 2,000 random kills, every write denied, thousands of histories
	@FAULTS_LONG=1 KEYRELAY_HANDS=5000 KEYRELAY_HISTORIES=2000 \
	  $(BIN)/pytest -n 2 --dist worksteal -rP tests/faults tests/unit/operations/test_any_hand.py tests/unit/operations/test_any_history.py $(ARGS)

model: setup  ## every state of small fleets explored, and seeded faults found; a minute
	@$(BIN)/python -m tests.model

model-long: setup  ## the same with all that may happen to two servers in one search; ten minutes
	@$(BIN)/python -m tests.model --further

lint: setup  ## format, lint, types and the layers of the house
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test  ## what must hold before a commit

docs: setup  ## the parts of the pages that are generated
	$(BIN)/python docs/generate.py

format: setup  ## bring the sources into their one format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix-only --quiet .

clean:  ## remove what setup and the tools have made
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
