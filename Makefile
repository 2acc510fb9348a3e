# make demo    clips from the sample talk, on this machine, nothing else needed
# make test    the tests            make check   style, types, architecture
# make bench   what it costs        make soak    the long tests
# make load    what the API bears
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/uv pip install --quiet --python $(BIN)/python

# Every process of ours starts in half the time from compiled modules.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check bench load soak docs pins clean
.DEFAULT_GOAL := demo

demo: .venv/demo.installed
	@$(BIN)/kangklip demo --out clips

test: .venv/dev.installed
	@$(BIN)/pytest -n 2 --dist loadfile -m "not soak"

soak: .venv/dev.installed
	@$(BIN)/pytest -m soak

check: .venv/dev.installed
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/basedpyright
	@PYTHONPATH=. $(BIN)/lint-imports

bench: .venv/dev.installed
	@$(BIN)/python -m tests.bench

load: .venv/dev.installed
	@$(BIN)/python -m tests.bench.load

# Tables in the README that the code knows better.
docs: .venv/dev.installed
	@$(BIN)/python docs/tables.py

# Installing: uv from a pinned wheel, then everything else by hash.
.venv/uv.installed: requirements/install.txt
	@echo "Making .venv"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "KangKlip needs Python 3.11 or later: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/install.txt
	@touch $@

.venv/%.installed: requirements/%.txt pyproject.toml .venv/uv.installed
	@echo "Installing $<"
	@$(INSTALL) --require-hashes -r $<
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

# Pins are compiled from pyproject.toml; `make pins UPGRADE=--upgrade` moves them on.
COMPILE := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header $(UPGRADE)
pins: .venv/uv.installed
	$(COMPILE) --all-extras pyproject.toml -o requirements/dev.txt
	$(COMPILE) --extra local -c requirements/dev.txt pyproject.toml -o requirements/demo.txt
	$(COMPILE) --group install -o requirements/install.txt
	$(COMPILE) --group api -c requirements/dev.txt -o requirements/api.txt
	$(COMPILE) --group nosana -c requirements/dev.txt -o requirements/nosana.txt
	$(COMPILE) pyproject.toml --group worker -c requirements/dev.txt -o requirements/worker.txt

clean:
	rm -rf .venv clips build
