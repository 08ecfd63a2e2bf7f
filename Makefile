# Needs Python 3.11 or newer, make and git; everything else goes into .venv.
# Another Python, before .venv is there: make test PYTHON=/path/to/python3.12

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install reproduce test test-slow test-hardware torture tables bench sweep-smoke dist docs

PYTHON ?=
CANDIDATES := $(or $(PYTHON),python3.11 python3)
VENV := .venv
PAGES := '*.md' '*.py' '*.ipynb' '*.svg' '*.png' docs CITATION.cff LICENSE  # what pages show or link to
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
HARDWARE := build/hardware
SINABS := sinabs==3.1.3 samna==0.48.6 nir==1.0.4 nirtorch==2.0.2  # it takes no newer nir
# Threads that wait must not spin: few cores are shared by torch's threads and the kernels' threads.
export OMP_WAIT_POLICY ?= PASSIVE
IS_3_11 := import sys; sys.exit(sys.version_info < (3, 11))

help: ## Say what can be made
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' Makefile

install: $(INSTALLED) ## Install the pinned packages into .venv, once

reproduce: $(INSTALLED) ## Run every cell of the smoke tier from data to packed files, then the tables
	$(RUN) -m repro reproduce --tier smoke

test: $(INSTALLED) ## Check style and types, run the tests
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m mypy & types=$$!; \
	$(RUN) -m pytest -q -n 2 --dist worksteal; tests=$$?; \
	wait $$types && exit $$tests

test-slow: $(INSTALLED) ## Run the tests that `make test` leaves out for their time, an hour or two
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs,notebook]'
	$(RUN) -m pytest -q -n 2 --dist worksteal -m "slow and not gpu and not data and not torture"

test-hardware: $(INSTALLED) $(HARDWARE)/.installed ## Run exports in other programs: NIR's readers, QONNX, C
	$(RUN) -m pytest -q -s -m hardware tests/hardware
	$(HARDWARE)/qonnx/bin/python -m pytest -q -s -m hardware tests/deploy/test_qonnx_export.py
	$(RUN) -m pytest -q -s -m "slow or not slow" tests/deploy/test_c_program.py

torture: $(INSTALLED) ## A hundred kills and 500 bad inputs, for the night; docs/reliability.md
	$(RUN) -m pytest -q -s -m torture tests/torture

tables: $(INSTALLED) ## Regenerate tables and figures from results/rows
	$(RUN) -m repro tables

sweep-smoke: $(INSTALLED) ## Launch W&B sweeps with two agents against a stand-in of the server, offline
	$(RUN) tests/sweep_smoke.py

# The time of the last commit in all files, so that the same sources make the same bytes.
dist: $(INSTALLED) ## Build wheel and source archive into dist/, twice the same bytes
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(RUN) -m build --outdir dist

docs: $(INSTALLED) ## Build the documentation site into build/site; a broken link is an error
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	rm -rf build/pages
	git ls-files $(PAGES) | git checkout-index --stdin --prefix=build/pages/
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build

bench: $(INSTALLED) ## Time and memory of full-size training steps (minutes, gigabytes); a linear baseline
	$(RUN) -m benchmarks.train_step --network stbp
	$(RUN) -m benchmarks.train_step --network tssl_bp
	$(RUN) -m benchmarks.train_step --network snn_calibration
	$(RUN) -m benchmarks.train_step --network surrogate
	$(RUN) -m benchmarks.inference --network stbp
	$(RUN) -m benchmarks.inference --network snn_calibration
	$(RUN) -m benchmarks.threshold_search
	$(RUN) -m benchmarks.linear_model --data digits

# Once, and again when what is to be installed has changed. A .venv that is there is used.
$(INSTALLED): pyproject.toml constraints.txt
	@if [ -e $(VENV) ]; then \
	  $(RUN) -c '$(IS_3_11)' && $(RUN) -m pip --version >/dev/null && exit; \
	  echo "$(VENV) is no working environment of Python 3.11 or newer: delete it" >&2; \
	  exit 1; \
	fi; \
	for python in $(CANDIDATES) ''; do \
	  "$$python" -c '$(IS_3_11)' 2>/dev/null && break; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "no Python 3.11 or newer ($(CANDIDATES)): install one, or name it: make PYTHON=..." >&2; \
	  exit 1; \
	fi; \
	"$$python" -m venv $(VENV) || { \
	  rm -rf $(VENV); \
	  echo "$$python makes no virtual environments: install its venv and pip packages" >&2; \
	  exit 1; \
	}
	@echo "Installing into $(VENV), once; torch is large, so this takes minutes"
	@$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# Beside .venv, whose packages they share: sinabs takes another nir, and plain tests need none of them.
$(HARDWARE)/.installed: pyproject.toml constraints.txt | $(INSTALLED)
	@echo "Installing other programs into $(HARDWARE), once"
	@$(RUN) tests/hardware/environment.py $(HARDWARE)/readers -c constraints.txt snntorch norse spikingjelly
	@$(RUN) tests/hardware/environment.py $(HARDWARE)/sinabs $(SINABS)
	@$(RUN) tests/hardware/environment.py $(HARDWARE)/qonnx -c constraints.txt qonnx
	@touch $@
