# Everything runs in .venv, which the first target that needs it makes: what the demo needs, then,
# for the other targets, what tests, lint, docs and comparisons need.
PYTHON ?= python3
BIN := .venv/bin
CORE := .venv/.core
READY := .venv/.ready
# benchmarks/solvers.py, a quarter of an hour more, is run by itself
BENCHMARKS := import_time sampler_overhead throughput scaling time_to_quality
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help demo test test-all mutations lint format bench gpu claims campaigns docs clean

help:
	@echo "make demo   train on real digits, sample, measure (about six minutes on two cores, installing included)"
	@echo "make test   run the tests, of the largest sweeps a part (under six minutes on two cores)"
	@echo "make test-all  run the tests with every sweep whole, and on the built site"
	@echo "make mutations  plant every known bug and see it caught (for the night)"
	@echo "make lint   format, lint, types and the order of the rooms"
	@echo "make format rewrite the sources in the house style"
	@echo "make claims re-measure what the literature says: docs/claims.md"
	@echo "make campaigns  200 kills and all malformed files (about six minutes): docs/campaigns.md"
	@echo "make docs   the documentation as a site that needs no network: site/index.html"
	@echo "make bench  speed and quality beside other libraries (about an hour): docs/benchmarks.md"
	@echo "make gpu    tests, speed and quality on a GPU (at most six minutes): benchmarks/results/gpu"

$(CORE): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) -c constraints.txt torch
	$(PIP) -c constraints.txt -e .
	@touch $(CORE)

$(READY): $(CORE)
	$(PIP) -c constraints.txt -e '.[dev,peers]'
	@# their own requirements would bring torchvision, which breaks beside torch's CPU build
	$(PIP) --no-deps k-diffusion azula torchcfm
	@touch $(READY)

demo: $(CORE)
	$(BIN)/unnoise demo

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-all: $(READY)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m ""

mutations: $(READY)
	$(BIN)/python -m tests.mutations

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)
	@begun=$$(date +%s); set -e; \
	for name in $(BENCHMARKS); do \
		echo "== benchmarks/$$name.py"; $(BIN)/python benchmarks/$$name.py $(OPTIONS); \
	done; \
	$(BIN)/python tools/docs/benchmarks.py; \
	echo "all benchmarks: $$(( $$(date +%s) - begun )) s"

gpu: $(READY)
	$(BIN)/python benchmarks/on_gpu.py $(OPTIONS)

claims: $(READY)
	$(BIN)/python -m claims

campaigns: $(READY)
	$(BIN)/python tools/campaigns/kill.py
	$(BIN)/python tools/campaigns/malformed.py
	$(BIN)/python tools/docs/tables.py

docs: $(READY)
	$(BIN)/python tools/docs/tables.py
	$(BIN)/python tools/docs/benchmarks.py
	$(BIN)/python tools/docs/pictures.py
	$(BIN)/python tools/docs/build.py

clean:
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .hypothesis
