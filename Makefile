# Everything runs in .venv, which the first target that needs it makes.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help demo test lint format bench claims clean

help:
	@echo "make demo   train on real digits, sample, measure (about eight minutes on two cores, installing included)"
	@echo "make test   run all tests"
	@echo "make lint   format, lint, types and the order of the rooms"
	@echo "make format rewrite the sources in the house style"
	@echo "make claims re-measure what the literature says: docs/claims.md"
	@echo "make bench  the measured comparisons in benchmarks/"

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,peers]'
	@# their own requirements would bring torchvision, which breaks beside torch's CPU build
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps k-diffusion azula
	@touch $(READY)

demo: $(READY)
	$(BIN)/unnoise demo

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/import_time.py
	$(BIN)/python benchmarks/solvers.py

claims: $(READY)
	$(BIN)/unnoise claims

clean:
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .hypothesis
