# Needs make and Python 3.11. Uses uv if it is installed; `make UV= ...` uses pip instead.
# `make PYTHON=python3.13 ...` selects another Python, `make run PORT=9000` another port.
PYTHON ?= python3
VENV := .venv
RUN = $(VENV)/bin/python -m
TEMPLATE := {{cookiecutter.project_slug}}
BAKED := build/chat-service
# The framework lies in the template's folder and is imported from there.
FRAMEWORK = PYTHONPATH='$(TEMPLATE)/src'
UV ?= $(shell command -v uv 2> /dev/null)
# The program of the projects: it installs what is missing, and keeps an environment that works.
INSTALL = "$(PYTHON)" '$(TEMPLATE)/tools/environment.py' --venv $(VENV) --uv "$(UV)" \
	$(if $(filter file,$(origin PYTHON)),,--this-python)

# NOTE: Cookiecutter copies every file of the template's folder, so bytecode must be written elsewhere.
export PYTHONPYCACHEPREFIX := $(CURDIR)/build/pycache

.DEFAULT_GOAL := help
.PHONY: help install environment run test quick chaos model soak check format asyncapi manifest \
	docs screenshots bench sizing lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

install: ## install the tools for tests and checks into .venv
	@$(INSTALL) dev

environment:
	@$(INSTALL)

# Keeps the environment, and the secret with which the sessions of open pages are signed.
run: environment ## bake the defaults into build/ and serve them on http://127.0.0.1:8000
	@mkdir -p $(BAKED)
	@find $(BAKED) -mindepth 1 -maxdepth 1 ! -name .venv ! -name .env -exec rm -rf {} +
	@echo "Baking into $(BAKED) ..." >&2
	@$(RUN) cookiecutter . --no-input --default-config --overwrite-if-exists -o build > /dev/null
	@$(MAKE) --no-print-directory -C $(BAKED) run

test: install ## run all tests: of the template, of the framework and of baked projects
	@$(RUN) pytest -n auto --maxschedchunk=1 -ra

quick: install ## run the tests that are not slow, in about two minutes
	@$(RUN) pytest -n auto --maxschedchunk=1 -m 'not slow'

chaos: install ## inject faults into three nodes and Redis for SECONDS=180 from SEED, and check the invariants
	@$(FRAMEWORK) $(RUN) tests.framework.stress.chaos --seconds $(or $(SECONDS),180) \
		$(if $(SEED),--seed $(SEED)) $(if $(MODE),--mode $(MODE)) $(if $(PROGRAM),--program $(PROGRAM))

model: install ## compare backends with a model under EXAMPLES=200 random schedules of steps and faults
	@MODEL_EXAMPLES=$(or $(EXAMPLES),200) $(RUN) pytest tests/framework/stress/test_model.py -k random

soak: install ## fuzz the readers of frames and of handshakes, then connect and disconnect clients, for MINUTES=10 each
	@$(FRAMEWORK) $(RUN) tests.framework.stress.frame_fuzz --minutes $(or $(MINUTES),10)
	@$(FRAMEWORK) $(RUN) tests.framework.stress.soak --minutes $(or $(MINUTES),10)

check: install ## check lint rules, formatting and types
	@$(RUN) ruff check && $(RUN) ruff format --check
	@echo "Checking types with mypy ..." >&2
	@MYPYPATH='$(TEMPLATE)/src' $(RUN) mypy hooks tests tools bench
	@MYPYPATH='$(TEMPLATE)/src' $(RUN) mypy -p falcon_pachinko

format: install ## format the code and apply the fixes of Ruff
	@$(RUN) ruff check --fix && $(RUN) ruff format

asyncapi: install ## update asyncapi.yaml and realtime.d.ts of the template
	@$(RUN) tools.contract

manifest: install ## update the checksums of the framework
	@$(FRAMEWORK) $(RUN) tools.manifest

docs: install ## build the documentation site, with that of a project, into build/site, strictly
	@$(RUN) tools.site build/site

screenshots: install ## update the screenshots of the pages in docs/images/
	@rm -rf build/screenshots
	@$(RUN) cookiecutter . --no-input --default-config -o build/screenshots > /dev/null
	@cp tests/overlay/browser/test_screenshots.py build/screenshots/chat-service/tests/browser
	@SCREENSHOTS='$(CURDIR)/docs/images' $(MAKE) --no-print-directory -C build/screenshots/chat-service \
		browser PYTEST_ADDOPTS='-k test_screenshots'

# The other frameworks are installed into an environment of their own.
bench: VENV := build/bench/venv
bench: ## compare the framework with others for an hour on a quiet machine, into bench/results/
	@$(INSTALL) bench
	@$(RUN) bench --refuse-noise --out bench/results

sizing: install ## measure the figures of tools/capacity.py and of a project's docs/scaling.md, in two minutes
	@$(FRAMEWORK) $(RUN) tools.sizing

lock: environment ## lock the dependencies of a project's image, at their newest versions
	@rm -rf build/lock
	@$(RUN) cookiecutter . --no-input --default-config -o build/lock > /dev/null
	@$(MAKE) --no-print-directory -C build/lock/chat-service lock
	@cp build/lock/chat-service/requirements.txt build/lock/chat-service/requirements-build.txt '$(TEMPLATE)'

clean: ## remove the files that the other targets create
	@if test -e $(VENV)/created-by-make || ! test -e $(VENV); then rm -rf $(VENV) $(VENV).replaced; \
		else echo "$(VENV) was created by another program, and stays." >&2; fi
	@rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
