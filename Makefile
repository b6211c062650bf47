# make train: the default run, on a fresh machine too. make test: types and tests. make test-all: every case of them.
# make soak: runs whose processes are killed at random moments, taken up again, and compared.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
# Tests are dealt to as many processes as there are cores, four at most: many tests start processes of their own.
WORKERS ?= --numprocesses logical --maxprocesses 4 --dist worksteal
# They start hundreds of processes; without bytecode each compiles everything that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: train test test-all soak types clean

train: $(READY)
	$(VENV)/bin/python launch.py --stages 2

test: types
	$(VENV)/bin/python -m pytest $(WORKERS)

test-all: types
	$(VENV)/bin/python -m pytest $(WORKERS) --full

soak: $(READY)
	$(VENV)/bin/python -m tests.support.soak --kills 100 --terms 50

types: $(READY)
	$(VENV)/bin/mypy

# Installed once, and again only when what is to be installed has changed.
$(READY): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Onward needs Python 3.11 or newer (given: $$($(PYTHON) -V)). Run make PYTHON=python3.12 $(MAKECMDGOALS)."; exit 1; }
	@echo "Installing torch and what else Onward needs into $(VENV): once, and a minute or more, since torch is large."
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache
