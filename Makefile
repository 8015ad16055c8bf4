PYTHON ?= python3
VENV ?= .venv
INSTALLED = $(VENV)/.installed

.PHONY: quickstart test lint format help

help:
	@echo "make quickstart   train a teacher, distil it, evaluate, write a model folder (CPU, no account)"
	@echo "make test         run every test"
	@echo "make lint         check style;  make format: apply it"

# torch goes in by itself: resolved together with the rest, pip may fetch several builds of it to compare.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed, this is ' + sys.version)"
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt torch
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt -e ".[demo,test,dev]"
	@touch $@

quickstart: $(INSTALLED)
	$(VENV)/bin/python run_scripts/quickstart.py

test: $(INSTALLED)
	$(VENV)/bin/python -m pytest -n auto --dist loadfile

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

format: $(INSTALLED)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
