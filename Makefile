# Needs Python 3.11 or newer, make and git; everything else goes into .venv.
# Another Python: make test PYTHON=/path/to/python3.12

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help reproduce test tables bench

PYTHON ?=
VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
IS_3_11 := import sys; sys.exit(sys.version_info < (3, 11))

help: ## Say what can be made
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' Makefile

reproduce: $(INSTALLED) ## Run every cell of the smoke tier (FP32, binary, ternary), then the tables
	$(RUN) -m repro reproduce --tier smoke

test: $(INSTALLED) ## Check style and types, run the tests
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m mypy
	$(RUN) -m pytest -q

tables: $(INSTALLED) ## Regenerate tables and figures from results/rows
	$(RUN) -m repro tables

bench: $(INSTALLED) ## Linear baseline on the digits of the smoke tier
	$(RUN) -m benchmarks.linear_model --data digits

# Once, and again when what is to be installed has changed.
$(INSTALLED): pyproject.toml constraints.txt
	@python=''; \
	for name in $(if $(PYTHON),'$(PYTHON)',python3.11 python3); do \
	  if "$$name" -c '$(IS_3_11)' 2>/dev/null; then python="$$name"; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "No Python 3.11 or newer found ($(or $(PYTHON),python3.11, python3)): install one, or name it: make PYTHON=/path/to/python3.11" >&2; \
	  exit 1; \
	fi; \
	echo "Installing into $(VENV) with $$("$$python" --version), once; torch is large, so this takes minutes"; \
	if ! "$$python" -m venv --clear $(VENV); then \
	  echo "$$python cannot make a virtual environment: install its venv and pip packages" >&2; \
	  exit 1; \
	fi
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
