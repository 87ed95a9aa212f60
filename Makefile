# `make` lists the targets. Variables: TRIALS, CONFIG, STUDY, WORKERS, ARGS, JOBS, SEED, EMOJI, PYTHON.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
# Processes that run tests at once, one more than two cores since tests wait; 0 runs all in this one,
# for a debugger and --snapshot-update.
JOBS ?= 3
# Python compiles what is imported, at its first import; pip would compile all of torch, which takes a minute.
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
unexport PYTHONDONTWRITEBYTECODE
PYTEST = $(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal
VENV := .venv
BIN := $(VENV)/bin
# What Canopy is compared with; two versions of Syne Tune need two environments.
PEERS := .venv-peers
PEERS_OLD := .venv-peers-syne-tune-0.13
CODE := canopy_search search dashboards training storage filestore tests benchmarks

SELECT := $(if $(CONFIG),--config "$(CONFIG)") $(if $(STUDY),--study "$(STUDY)")

.PHONY: help install search status dashboard report best test test-all lint check docs-check bench bench-full clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  for example: make search TRIALS=40 CONFIG=canopy.yaml STUDY=planet"

install: $(VENV)/installed $(VENV)/installed-dev ## prepare everything: what searching and testing need

search: $(VENV)/installed ## search until the study has TRIALS finished trials
	@$(BIN)/canopy search $(SELECT) $(if $(TRIALS),--trials $(TRIALS)) $(if $(WORKERS),--workers $(WORKERS)) $(ARGS)

status: $(VENV)/installed ## how far the study is
	@$(BIN)/canopy status $(SELECT) $(ARGS)

dashboard: $(VENV)/installed ## browse the studies in optuna-dashboard
	@$(BIN)/canopy dashboard $(ARGS)

report: $(VENV)/installed ## write what the study has found to report.html
	@$(BIN)/canopy report $(SELECT) --output report.html $(ARGS)

best: $(VENV)/installed ## write the best setting to best.yaml
	@$(BIN)/canopy best $(SELECT) --output best.yaml $(ARGS)

test: $(VENV)/installed-dev ## run the tests: what has to pass before each commit
	$(PYTEST) $(ARGS)

test-all: $(VENV)/installed-dev ## those and the long ones: chaos, many workers, new random examples
	$(PYTEST) --exhaustive $(if $(SEED),--seed $(SEED)) $(ARGS)

lint: $(VENV)/installed-dev ## style, types and import rules
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports

check: test lint ## everything that must hold before a commit

docs-check: $(VENV)/installed-dev ## search the demo, in minutes, and compare what the README shows of it
	$(BIN)/python -m benchmarks.transcript $(ARGS)

bench: $(VENV)/installed-dev $(PEERS)/installed $(PEERS_OLD)/installed ## compare with other searches, in minutes
	$(BIN)/python -m benchmarks.peers $(ARGS)

bench-full: $(VENV)/installed-dev $(PEERS)/installed $(PEERS_OLD)/installed ## the same, and train every peer once; takes an hour or two
	$(if $(EMOJI),$(BIN)/python -m benchmarks.peers.drawings "$(EMOJI)" --seeds 0)
	$(BIN)/python -m benchmarks.peers --full --keep-costs $(ARGS)

clean: ## remove the environment and caches of tools; studies and data stay
	rm -rf $(VENV) $(PEERS) $(PEERS_OLD) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
	find . -name __pycache__ -not -path './.canopy/*' -prune -exec rm -rf {} +

# A stamp each, so that a second call starts at once and a change of dependencies installs again.
$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Canopy needs Python 3.11 or newer; name one with: make PYTHON=python3.11 ..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ echo "No venv module; on Debian and Ubuntu: apt-get install python3-venv" >&2; rm -rf $(VENV); exit 1; }
	@echo "installing into $(VENV); torch alone takes some minutes the first time"
	@$(PIP) --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	@$(PIP) --editable '.[dev]'
	@$(BIN)/python -m tests.chromium || echo "no browser could be installed; the tests of pages need one" >&2
	@touch $@

# They read what .venv holds after what they hold themselves: the same torch and Optuna for everybody.
$(PEERS)/installed: benchmarks/peers/requirements.txt
$(PEERS_OLD)/installed: benchmarks/peers/requirements-syne-tune-0.13.txt
$(PEERS)/installed $(PEERS_OLD)/installed: | $(VENV)/installed
	@echo "installing the peers into $(@D)"
	@test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	@$(subst $(BIN),$(@D)/bin,$(PIP)) --requirement $<
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> "$$($(@D)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/canopy.pth"
	@touch $@
