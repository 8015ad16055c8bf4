PYTHON ?= python3
VENV ?= .venv
FOLDERS = m3se modeling trainers hub_cards run_scripts
INSTALLED = $(VENV)/.installed
FILES = $(VENV)/.files
PIP = $(VENV)/bin/python -m pip install --quiet -c constraints.txt

.PHONY: quickstart test test_all lint format help list

help:
	@echo "make quickstart   make a retriever for the documentation of the installed libraries (CPU, no account)"
	@echo "make test         run the tests;  make test_all: also those that take a minute each"
	@echo "make lint         check style;  make format: apply it"

# torch goes in by itself: resolved together with the rest, pip may fetch several builds of it to compare.
# A strict editable installation is a folder of links, one to each file, which type checkers can follow.
$(INSTALLED): pyproject.toml constraints.txt $(FILES)
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed, this is ' + sys.version)"
	$(PYTHON) -m venv $(VENV)
	$(PIP) setuptools torch
	$(PIP) --no-build-isolation --config-settings editable_mode=strict -e ".[demo,test,dev]"
	@touch $@

# The list changes when a file is added or removed, and only then: its link is made by installing again.
$(FILES): list
	@mkdir -p $(VENV)
	@find $(FOLDERS) -type f -not -path "*/__pycache__/*" | LC_ALL=C sort > $@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

quickstart: $(INSTALLED)
	$(VENV)/bin/python run_scripts/quickstart.py

test: $(INSTALLED)
	$(VENV)/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not long"

test_all: $(INSTALLED)
	$(PIP) gradio nncf openvino selenium
	$(VENV)/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

format: $(INSTALLED)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
