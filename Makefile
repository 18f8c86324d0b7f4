# Needs Python 3.11 or newer (with venv) and make; everything else is installed in .venv.
PYTHON ?= python3
VENV = .venv
BIN = $(VENV)/bin

.PHONY: help
help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# $(1): the file of requirements. Each target below is a file that says that its requirements are there.
define install
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	@echo "Installing $(1) into $(VENV), once; this takes about half a minute."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r $(1)
	@touch $@
endef

$(VENV)/ready-to-run: requirements-local.txt
	$(call install,$<)

$(VENV)/installed: requirements-dev.txt
	$(call install,$<)

.PHONY: run
run: $(VENV)/ready-to-run  ## Serve everything on http://127.0.0.1:8000 and tick every minute
	@exec $(BIN)/python main.py

.PHONY: demo
demo: $(VENV)/ready-to-run  ## The same with example tasks and a receiver
	@exec $(BIN)/python main.py --demo

.PHONY: test
test: $(VENV)/installed  ## All tests, four at a time: many of them wait
	$(BIN)/pytest --numprocesses 4 --dist worksteal

.PHONY: faults
faults: $(VENV)/installed  ## The fault suite in full: every fault at every point, and at full size
	$(BIN)/pytest tests/faults --full-faults --timeout 1200

.PHONY: simulate
simulate: $(VENV)/installed  ## A day of 1,000 tasks on a stepped clock: every slot is accounted for (ARGS="--hours 1 --tasks 100")
	$(BIN)/python -m tests.faults.simulation $(ARGS)

.PHONY: lint
lint: $(VENV)/installed  ## ruff, mypy, import-linter
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/checkov/installed: $(VENV)/installed tests/infra/checkov.txt
	@echo "Installing checkov into $(VENV)/checkov; this takes a minute or two, once."
	@$(PYTHON) -m venv $(VENV)/checkov
	@$(VENV)/checkov/bin/pip install --quiet --disable-pip-version-check --require-hashes -r tests/infra/checkov.txt \
		&& touch $@ || echo "checkov could not be installed: its tests are skipped."

.PHONY: infra
infra: $(VENV)/checkov/installed  ## The infrastructure in full: terraform test, checkov
	$(BIN)/pytest tests/infra --full-infra

$(VENV)/peers/installed: $(VENV)/installed tests/bench/peers.txt
	@echo "Installing the benchmark's peers into $(VENV)/peers; this takes half a minute, once."
	@$(PYTHON) -m venv $(VENV)/peers
	@$(VENV)/peers/bin/pip install --quiet --disable-pip-version-check --require-hashes -r tests/bench/peers.txt \
		&& touch $@ || { rm -rf $(VENV)/peers; echo "The peers could not be installed: is the package index in reach?"; }

.PHONY: bench
bench: $(VENV)/peers/installed  ## Benchmarks beside peers: about 20 minutes; 2 with SHORT=1
	$(BIN)/python -m tests.bench $(if $(SHORT),--short)

.PHONY: openapi
openapi: $(VENV)/installed  ## Write docs/openapi.json anew, after a change of the API
	$(BIN)/python -m tests.openapi

.PHONY: screenshots
screenshots: $(VENV)/installed  ## Take the pictures of the dashboard anew (needs chromium)
	$(BIN)/python -m tests.screenshots

.PHONY: assets
assets: $(VENV)/installed  ## Vendor what our pages load anew (needs npm)
	$(BIN)/python functions/assets/vendor.py

.PHONY: requirements
requirements: $(VENV)/installed  ## Pin the dependencies anew, with hashes
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --upgrade --universal --no-strip-extras --python-version 3.11 --generate-hashes \
		--custom-compile-command "make requirements" requirements.in -o requirements.txt
	$(BIN)/uv pip compile --quiet --upgrade --universal --no-strip-extras --python-version 3.11 --generate-hashes \
		--custom-compile-command "make requirements" requirements-cli.in -c requirements.txt -o requirements-cli.txt
	$(BIN)/uv pip compile --quiet --upgrade --universal --no-strip-extras --python-version 3.11 --generate-hashes \
		--custom-compile-command "make requirements" requirements-local.in -c requirements.txt \
		-c requirements-cli.txt -o requirements-local.txt
	$(BIN)/uv pip compile --quiet --upgrade --universal --no-strip-extras --python-version 3.11 --generate-hashes \
		--custom-compile-command "make requirements" requirements-otel.in -c requirements.txt -o requirements-otel.txt
	$(BIN)/uv pip compile --quiet --upgrade --universal --no-strip-extras --python-version 3.11 --generate-hashes \
		--custom-compile-command "make requirements" requirements-dev.in -c requirements-local.txt \
		-c requirements-otel.txt -o requirements-dev.txt
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
		--custom-compile-command "make requirements" tests/infra/checkov.in -o tests/infra/checkov.txt
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
		--custom-compile-command "make requirements" tests/bench/peers.in -o tests/bench/peers.txt
