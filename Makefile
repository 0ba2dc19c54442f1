# What there is to do here; each target sets up first what it needs.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# make demo ARGS=--once, make test ARGS='tests/wire -k golden'
ARGS ?=
# make setup PYTHON=python3.13; empty: the newest from 3.11 on
PYTHON ?=
export PYTHON

BIN := .venv/bin

# What root does through sudo in a user's checkout leaves no root's files in it.
ifneq ($(SUDO_UID),)
export PYTHONDONTWRITEBYTECODE := 1
endif
AS_USER := scripts/as-user.sh

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Debian packages, .venv, the page; a second run does nothing
	@scripts/setup.sh

.PHONY: venv
venv: # the Python environment alone
	@scripts/setup.sh venv

.PHONY: demo
demo: setup ## a site fails over before your eyes, a district of 702 sites on the page
	@$(BIN)/python -m demo $(ARGS)

.PHONY: test
test: setup ## every test, in real network namespaces, broker and browser (as root)
	@$(AS_USER) mkdir -p artifacts
	@$(BIN)/python -m pytest --junitxml=artifacts/junit.xml $(ARGS)

.PHONY: torture
torture: setup ## end the agent in every way amid every fault, what test leaves out (long; root)
	@$(BIN)/python -m pytest -m torture $(ARGS)

INPUTS ?= 20000000
.PHONY: fuzz
fuzz: setup ## millions of inputs at every door where bytes from outside come in
	@cd tests && ../$(BIN)/python -m fuzz --inputs $(INPUTS) $(ARGS)

# make bench FAULT=blackhole RUNS=20, SUBJECTS=jaga,told WRITE=1 ARGS='--strict --quick'
FAULT ?= *
RUNS ?= 10
SUBJECTS ?=
WRITE ?=
bench: export BENCH_COMMAND = make bench$(if $(filter-out *,$(FAULT)), FAULT='$(FAULT)') \
  RUNS=$(RUNS)$(if $(SUBJECTS), SUBJECTS=$(SUBJECTS))$(if $(WRITE), WRITE=$(WRITE))$(if \
  $(ARGS), ARGS="$(ARGS)")
.PHONY: bench
bench: setup ## faults in the lab, what a phone felt, in one table (hours; as root)
	@PYTHONPATH=tests:. $(BIN)/python -m site_bench --fault '$(FAULT)' --runs $(RUNS) \
	  $(if $(SUBJECTS),--subjects $(SUBJECTS)) $(if $(WRITE),--write) $(ARGS)

.PHONY: check
check: setup ## the inner habit: format, lint, types, import rules, fast tests
	@$(AS_USER) $(BIN)/ruff format --check .
	@$(AS_USER) $(BIN)/ruff check .
	@$(AS_USER) $(BIN)/mypy
	@$(AS_USER) $(BIN)/lint-imports
	@$(AS_USER) $(BIN)/python -m pytest -q -m "not slow and not netns and not torture" $(ARGS)

.PHONY: bench-cost
bench-cost: setup ## what the agent costs: processor and memory, idle and busy (as root)
	@$(BIN)/python tests/bench/agent_cost.py $(ARGS)

.PHONY: bench-spool
bench-spool: setup ## what the spool writes to the card in a day, on ext4 (minutes; as root)
	@PYTHONPATH=tests $(BIN)/python tests/bench/spool_writes.py $(ARGS)

.PHONY: wheel
wheel: setup ## dist/jaga-*.whl with the built page inside
	@$(AS_USER) $(BIN)/python -m pip wheel -q --no-deps --wheel-dir dist .
	@ls dist/*.whl

# make fresh-root-test DIST=trixie
DIST ?= bookworm
.PHONY: fresh-root-test
fresh-root-test: ## setup, test and demo in a fresh Debian (DIST=bookworm|trixie; root)
	@scripts/fresh-root.sh $(DIST)

.PHONY: boot-test
boot-test: ## boot a Debian with the agent's unit in systemd-nspawn (DIST=…; root)
	@scripts/boot-test.sh $(DIST)

.PHONY: clean
clean: ## remove all that set-up, tests and builds made
	rm -rf .venv .stamps artifacts dist build web/node_modules web/dist \
	  server/jaga_server/web/static .mypy_cache .ruff_cache .pytest_cache \
	  .import_linter_cache .hypothesis
	find agent server tests demo deploy -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
