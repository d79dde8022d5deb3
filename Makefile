# make run | test | test-real | lint | types | space SPACE=user/name [DRY_RUN=1] | clean
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CODE := steering tests scripts $(wildcard app.py benchmarks demo_model)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: run test test-real lint types unit browser space clean help
.DEFAULT_GOAL := help

help:
	@sed -n 1p Makefile | cut -c3-

# A stamp file stands for "installed"; it is stale when what it was made from is newer.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run-stamp: $(BIN)/python requirements.txt constraints.txt
	$(PIP) install -r requirements.txt -c constraints.txt
	@touch $@

$(VENV)/.dev-stamp: $(BIN)/python requirements.txt requirements-study.txt requirements-dev.txt \
    constraints.txt
	$(PIP) install -r requirements-dev.txt -c constraints.txt
	@touch $@ $(VENV)/.run-stamp

run: $(VENV)/.run-stamp
	$(BIN)/python app.py

lint: $(VENV)/.dev-stamp
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)

types: $(VENV)/.dev-stamp
	$(BIN)/mypy steering scripts $(wildcard app.py)

unit: $(VENV)/.dev-stamp browser
	$(BIN)/python -m pytest

# The page is tested in Debian's Chromium; no browser is downloaded from anywhere else.
browser:
	@if command -v chromium >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	    apt-get install -y -qq --no-install-recommends chromium; } >/dev/null 2>&1 \
	  || echo "chromium could not be installed: the browser tests are skipped"; \
	else echo "chromium is not installed (apt-get install chromium): the browser tests are skipped"; fi

test: lint types unit

# Not part of `make test`: real models in the folder LANGSTEER_TEST_MODELS, ten minutes on two cores.
test-real: $(VENV)/.dev-stamp
	$(BIN)/python -m pytest -m real tests/real

space: $(VENV)/.run-stamp
	@$(BIN)/python scripts/upload_space.py $(SPACE) $(if $(DRY_RUN),--dry-run)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
