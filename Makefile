# `make help` lists the goals. Everything happens in .venv, which each goal makes when it is missing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
MINUTES ?= 10
SCHEDULES ?= 1
SECONDS ?= 30
BACKEND ?= sqlite
BUS ?=
POSTGRES_BIN ?=
# Only the developers' environment has servers: PostgreSQL, RabbitMQ, Kafka.
PLAYGROUND := $(VENV)/$(if $(filter postgres,$(BACKEND))$(BUS),.dev,.runtime)
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input

.DEFAULT_GOAL := help
.PHONY: help demo demo-full test test-postgres explore chaos bench figures lint format types imports deps docs wheel \
	check changelog lock clean

help:  ## list the goals
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(PLAYGROUND)  ## run the bank on real purchases, every tenth customer; BACKEND=postgres, BUS=kafka
	$(BIN)/python examples/bank/demo.py --backend $(BACKEND) --bus "$(BUS)"

demo-full: $(PLAYGROUND)  ## run the bank on all purchases; BACKEND=postgres, BUS=rabbitmq
	$(BIN)/python examples/bank/demo.py --full --backend $(BACKEND) --bus "$(BUS)"

test: $(VENV)/.dev  ## run all tests; needs no server
	$(BIN)/python -m pytest -n $(WORKERS) $(TESTS)

test-postgres: $(VENV)/.dev  ## run what uses PostgreSQL; POSTGRES_BIN=/usr/lib/postgresql/15/bin
	$(if $(POSTGRES_BIN),HEADWATER_POSTGRES_BIN=$(POSTGRES_BIN)) \
		$(BIN)/python -m pytest -n $(WORKERS) -m postgres $(TESTS)

explore: $(VENV)/.dev  ## let hypothesis try other inputs, for MINUTES=10; SEED=... repeats
	$(BIN)/python scripts/explore.py --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) \
		-n $(WORKERS) $(TESTS)

chaos: $(VENV)/.dev  ## let the bank suffer faults; SEED=1 SCHEDULES=1 SECONDS=30 BACKEND=postgres BUS=kafka
	$(BIN)/python scripts/chaos.py --schedules $(SCHEDULES) --seconds $(SECONDS) \
		--backend $(BACKEND) --bus "$(BUS)" $(if $(SEED),--seed $(SEED))

bench: $(VENV)/.bench  ## measure; one benchmark only: make bench ONLY=commands.sqlite
	$(BIN)/python -m benchmarks $(ONLY)

figures: $(VENV)/.bench  ## take what make bench measured over into the documentation
	$(BIN)/python -m benchmarks keep

lint: $(VENV)/.dev  ## check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.dev  ## format and repair what can be repaired
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: $(VENV)/.dev  ## check types
	$(BIN)/mypy
	$(BIN)/python scripts/verify_types.py

imports: $(VENV)/.dev  ## check the layers
	$(BIN)/lint-imports

deps: $(VENV)/.dev  ## check that what is imported is declared, and the other way round
	$(BIN)/deptry src

docs: $(VENV)/.dev  ## build the documentation into build/docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going -q -b html docs build/docs
	@echo "build/docs/index.html"

wheel: $(VENV)/.dev  ## build the wheel, install it elsewhere, and import it
	sh scripts/check-wheel.sh $(BIN)/python

check: lint types imports deps docs wheel test  ## everything that CI checks

changelog: $(VENV)/.dev  ## show what changelog.d says about the next release
	$(BIN)/towncrier build --draft --version next

lock: $(VENV)/.dev  ## pin all dependencies anew, from pyproject.toml
	$(BIN)/python scripts/lock.py
	sh scripts/check-lock.sh requirements/*.txt

clean:  ## remove everything that was made
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/.made: scripts/venv.sh
	sh scripts/venv.sh $(PYTHON) $(VENV)
	@touch $@

$(VENV)/.runtime: $(VENV)/.made pyproject.toml requirements/runtime.txt
	$(PIP) install --quiet --require-hashes -r requirements/runtime.txt
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements/dev.txt
	$(PIP) install --quiet --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)/.bench: $(VENV)/.dev requirements/bench.txt
	$(PIP) install --quiet --require-hashes -r requirements/bench.txt
	@touch $@
