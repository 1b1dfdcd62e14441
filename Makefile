# `make demo` and `make test` set up everything they need in $(VENV). They need Python 3.11 to 3.13 and make, nothing else.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/stamp
TESTS ?=
STORE ?= bench-output
POINTS ?= 1000
HISTORIES ?= 1000
S3_HISTORIES ?= 100
SEED ?= 0
MINUTES ?= 60
BUNDLE ?= gpu-bundle
PYTHON_THERE ?= 3.12

ifneq ($(wildcard ../shared),)
export FLOWSCORE_ASSETS ?= $(abspath ../shared)
endif
export RAY_DATA_DISABLE_PROGRESS_BARS ?= 1
export RAY_USAGE_STATS_ENABLED ?= 0
# A process that crashes says where, also while it ends.
export PYTHONFAULTHANDLER ?= 1
# Tests compute little; on busy cores, threads of one process that wait for each other cost more time than they save.
test test-slow fuzz: export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow chaos fault-points histories fuzz bench gpu-bundle lint lock tables clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

# Our own $(VENV) follows the pins; one that you name (make test VENV=...) is set up once and then left alone.
ifeq ($(origin VENV),file)
$(STAMP): requirements.lock pyproject.toml
endif
$(STAMP):
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else f"PYTHON must be 3.11 to 3.13; got {v[0]}.{v[1]}. Name one: make PYTHON=python3.12")'
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --require-hashes -r requirements.lock
	$(RUN) -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

demo: $(STAMP) ## train on made-up inspection images, score an archive of them, show the worst
	$(RUN) -m jobs.demo

test: $(STAMP) ## run the tests that take seconds
	$(RUN) -m pytest -m "not slow" $(TESTS)

test-slow: $(STAMP) ## run the tests that take minutes
	$(RUN) -m pytest -m slow $(TESTS)

fuzz: $(STAMP) ## give every parser of outside bytes new damaged files each round, for MINUTES=60 or until one fails
	end=$$(($$(date +%s) + 60 * $(MINUTES))); while [ $$(date +%s) -lt $$end ]; do \
		FUZZ_EXAMPLES=1000 $(RUN) -m pytest tests/fuzz --timeout 7200 $(TESTS) || exit 1; done

chaos: fault-points histories ## put POINTS=1000 faults of SEED=0 into scoring runs, a line each in chaos-report.csv; live HISTORIES=1000 of an output, S3_HISTORIES=100 on S3

fault-points: $(STAMP)
	$(RUN) -m pytest -m slow tests/chaos --chaos-points $(POINTS) --chaos-seed $(SEED) --chaos-report chaos-report.csv $(TESTS)

histories: $(STAMP)
	$(RUN) -m pytest tests/histories --histories $(HISTORIES) --s3-histories $(S3_HISTORIES) --histories-seed $(SEED) --timeout 3600

bench: $(STAMP) ## measure images per second from an S3 server here to tables, and what limits them; BENCH='--images 4000'
	bash docs/benchmarks/throughput/bench.sh $(abspath $(RUN)) $(BENCH)

gpu-bundle: $(STAMP) ## make the folder BUNDLE=gpu-bundle that a machine with a GPU (and PYTHON_THERE=3.12) needs to prove and measure the GPU path
	$(RUN) docs/benchmarks/gpu/bundle.py $(BUNDLE) $(PYTHON_THERE)

lint: $(STAMP) ## run ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

tables: $(STAMP) ## write docs/tables.md from the schemas, docs/formats.md from what the decoder does with each kind of picture, and the logs in docs/operating.md
	PYTHONPATH=. $(RUN) docs/make_tables.py
	PYTHONPATH=. $(RUN) docs/make_formats.py
	PYTHONPATH=.:tests:tests/e2e:tests/chaos $(RUN) docs/make_logs.py

lock: ## resolve pyproject.toml again into requirements.lock (needs uv)
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --no-header --upgrade -o requirements.lock

clean: ## remove everything that the other targets made
	rm -rf .venv demo-output bench-output gpu-bundle chaos-report.csv *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
