# Needs make and Python 3.11; uses uv where it is installed, unless called as `make UV= ...`.
# `make PYTHON=python3.13 ...` takes another Python, `make run PORT=9000` another port.
PYTHON ?= python3
VENV := .venv
RUN = $(VENV)/bin/python -B -m
TEMPLATE := {{cookiecutter.project_slug}}
BAKED := build/chat-service

.DEFAULT_GOAL := help
.PHONY: help install environment run test quick check format asyncapi manifest screenshots bench sizing clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

install: environment ## add the tools for tests and checks to .venv
	@test -e $(VENV)/has-tools || { $(INSTALL) -e '.[dev]' && touch $(VENV)/has-tools; }

# Made again when pyproject.toml, the Python or the project's place is another.
environment:
	@wanted=$$("$(PYTHON)" -c "$$PYTHON_IN_USE" && cat pyproject.toml) || exit 1; \
	[ "$$wanted" = "$$(cat $(VENV)/made-from 2> /dev/null)" ] || { \
		$(MAKE_VENV) && $(INSTALL) -e . && printf '%s\n' "$$wanted" > $(VENV)/made-from; }

# What was made there stays: the environment, and the secret that open pages are signed in with.
run: environment ## bake the defaults anew into build/ and serve them on http://127.0.0.1:8000
	@mkdir -p $(BAKED)
	@find $(BAKED) -mindepth 1 -maxdepth 1 ! -name .venv ! -name .env -exec rm -rf {} +
	@$(RUN) cookiecutter . --no-input --default-config --overwrite-if-exists -o build > /dev/null
	@$(MAKE) --no-print-directory -C $(BAKED) run

test: install ## bake projects and run all tests, those of a baked project too
	@$(RUN) pytest -n auto --maxschedchunk=1 -ra

quick: install ## run the tests that do not take minutes: most of them, in less than one
	@$(RUN) pytest -n auto --maxschedchunk=1 -m 'not slow'

check: install ## lint, formatting and types
	@$(RUN) ruff check && $(RUN) ruff format --check
	@MYPYPATH='$(TEMPLATE)/src' $(RUN) mypy hooks tests tools bench
	@MYPYPATH='$(TEMPLATE)/src' $(RUN) mypy -p falcon_pachinko

format: install ## mend what ruff can mend
	@$(RUN) ruff check --fix && $(RUN) ruff format

asyncapi: install ## write the template's asyncapi.yaml and realtime.d.ts anew
	@$(RUN) tools.contract

manifest: install ## write the framework's checksums anew
	@PYTHONPATH='$(TEMPLATE)/src' $(RUN) tools.manifest

screenshots: install ## take the pictures of the pages anew, into docs/images/
	@rm -rf build/screenshots
	@$(RUN) cookiecutter . --no-input --default-config -o build/screenshots > /dev/null
	@$(MAKE) --no-print-directory -C build/screenshots/chat-service install
	@cd build/screenshots/chat-service && \
		.venv/bin/python -m pytest -q tests/browser/test_screenshots.py --screenshots='$(CURDIR)/docs/images'

# The peers have an environment of their own.
bench: VENV := build/bench/venv
bench: ## compare the framework with its peers, in ten minutes, into bench/results/
	@$(MAKE) --no-print-directory VENV=$(VENV) environment
	@test -e $(VENV)/has-tools || { $(INSTALL) -e '.[bench]' && touch $(VENV)/has-tools; }
	@$(RUN) bench --out bench/results

sizing: install ## measure what tools/capacity.py and docs/scaling.md of a project count with, in two minutes
	@PYTHONPATH='$(TEMPLATE)/src' $(RUN) tools.sizing

clean: ## remove what the other targets made
	@rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Fails in a sentence where Python is too old.
define PYTHON_IN_USE
import os, sys
if sys.version_info < (3, 11):
    sys.exit("Python 3.11 or newer is needed, but $(PYTHON) is %d.%d: name a newer one,"
             " such as make PYTHON=python3.14 ..." % sys.version_info[:2])
print(sys.version, sys.base_prefix, os.getcwd())
endef
export PYTHON_IN_USE

UV ?= $(if $(shell command -v uv 2>/dev/null),uv)
ifneq ($(UV),)
MAKE_VENV = $(UV) venv --quiet --clear --python "$(PYTHON)" $(VENV)
INSTALL = $(UV) pip install --quiet --python $(VENV)
else
MAKE_VENV = "$(PYTHON)" -m venv --clear $(VENV)
INSTALL = $(RUN) pip install --quiet --disable-pip-version-check
endif
