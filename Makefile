# Every target runs in .venv, which is created with the versions pinned in constraints.txt.
#   make test PYTHON=python3.12   chooses the interpreter
#   PIP_...                       pip's own environment variables pass through, its index included

VENV ?= .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
PYTHONS := $(or $(PYTHON),python3 python3.13 python3.12 python3.11)

.DEFAULT_GOAL := help
.PHONY: help env demo test docs mutants clean

help:
	@echo 'make demo      reconstruct missing strips of handwritten digits (examples/digits)'
	@echo 'make test      lint, types and the whole test suite, README and docs examples included'
	@echo 'make docs      build the documentation into docs/_build/html'
	@echo 'make mutants   break the code on purpose: each break must turn a test red'
	@echo 'make env       only create .venv, which the others do when they need it'
	@echo 'make clean     remove .venv and everything that was built'

demo: env
	$(PY) -m examples.digits

test: env
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m pytest -n 2 --dist loadgroup

docs: env
	rm -rf docs/_build docs/generated
	$(PY) -m sphinx -W -n --keep-going -b html docs docs/_build/html

mutants: env
	$(PY) tests/mutants.py

clean:
	rm -rf $(VENV) build dist docs/_build docs/generated .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find modimpute examples tests docs -name __pycache__ -exec rm -rf {} +

env: $(STAMP)

# hatchling comes first, from the same pins: a build of our own package in an isolated
# environment would take the newest one.
$(STAMP): pyproject.toml constraints.txt
	@$(PY) -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { $(create_venv); }
	@echo 'Installing the pinned versions. On Linux without a GPU, see README.md, section Install.'
	$(PY) -m pip install -q -c constraints.txt editables hatchling
	$(PY) -m pip install -q -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@

define create_venv
tried=''; \
for python in $(PYTHONS); do \
    if ! version=$$("$$python" -c 'import platform; print(platform.python_version())' 2>/dev/null); then \
        why='not found'; \
    elif ! "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
        why="$$version, too old"; \
    elif ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
        why="$$version, without venv (Debian, Ubuntu: install python3-venv)"; \
    else \
        echo "Creating $(VENV) with $$python ($$version)."; \
        "$$python" -m venv --clear $(VENV); \
        exit; \
    fi; \
    tried="$$tried  $$python: $$why\n"; \
done; \
printf 'modimpute needs Python 3.11 or newer, with its venv module. Tried:\n%b' "$$tried" >&2; \
echo 'Install one, or name one: make test PYTHON=/path/to/python' >&2; \
exit 1
endef
