# Every target sets up what it needs: a virtual environment with the pinned requirements.
SHELL := /bin/bash
VENV ?= .venv
BIN := $(VENV)/bin
# The first interpreter here that MindSpore has a package for (3.10 to 3.12).
PYTHON ?= $(shell for name in python3.11 python3.12 python3.10 python3; do \
	"$$name" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' 2>/dev/null && echo "$$name" && break; done)
DATA ?= data/digits
# := asks for the time once, not at every use.
NOW := $(shell date +%Y%m%d-%H%M%S)
# NETWORK=mnasnet: that network on the same digits, in place of the small one.
RECIPE := $(if $(NETWORK),$(NETWORK)_cpu,quickstart)
RUN ?= runs/$(RECIPE)-$(NOW)
# Processes that `make test` uses. Tests of one file stay in one process, for they share what they compiled;
# tests/conftest.py says which files come first.
WORKERS ?= 2
SPOS ?= runs/spos-$(NOW)
TRANSFER ?= runs/transfer-$(NOW)

.DEFAULT_GOAL := help
.PHONY: help quickstart spos-tutorial transfer-tutorial test test-all mutants lint format bench clean

help:
	@echo "make quickstart     set up, train a network on the digits, evaluate it (about three minutes; NETWORK=mnasnet: that one)"
	@echo "make spos-tutorial  SPOS on the digits: train a supernet, search it, train what was found (about six minutes)"
	@echo "make transfer-tutorial  a network of the digits 0-4 learns 5-9 (about two minutes)"
	@echo "make test           set up and run the tests (CPU only)"
	@echo "make test-all       the same with the slow suites, the C++ tests under sanitizers, and its linters"
	@echo "make mutants        wrong lines put into the pure modules: which do their tests notice? (MODULE=src/files.py: one)"
	@echo "make lint           ruff, shellcheck and clang-format"
	@echo "make format         reformat the code"
	@echo "make bench          measure speed; prints a table"
	@echo "make clean          remove environment and caches (runs/ and data/ stay)"

$(VENV)/.ready: requirements.txt requirements-dev.txt
	@test -n "$(PYTHON)" || { echo "error: Python 3.10, 3.11 or 3.12 is needed; none is on the PATH" >&2; exit 2; }
	@echo "setting up $(VENV) with $(PYTHON) (once; a few minutes)"
	@"$(PYTHON)" -m venv --clear "$(VENV)"
	@"$(BIN)/python" -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch "$@"

quickstart: $(VENV)/.ready
	@"$(BIN)/python" -m src.data.sample "$(DATA)"
	@"$(BIN)/python" train.py --config_path "$(RECIPE)" --data_path "$(DATA)" --run_dir "$(RUN)"
	@"$(BIN)/python" eval.py --checkpoint_path "$(RUN)" --json "$(RUN)/eval.json" --per_class
	@echo
	@echo "Look at   $(RUN)/curves.png, metrics.csv, log.txt and eval.json"
	@echo "Next      $(BIN)/python summary.py                     all networks, their sizes, published accuracies"
	@echo "          $(BIN)/python train.py --help                every key of a run"
	@echo "          $(BIN)/python train.py --config_path digits --model spnasnet --data_path $(DATA)"

spos-tutorial: $(VENV)/.ready
	@"$(BIN)/python" -m src.data.sample "$(DATA)"
	@"$(BIN)/python" train.py --config_path spos_supernet_digits --data_path "$(DATA)" --run_dir "$(SPOS)/supernet"
	@"$(BIN)/python" search.py --config_path spos_search_digits --supernet "$(SPOS)/supernet" --data_path "$(DATA)" \
		--run_dir "$(SPOS)/search"
	@"$(BIN)/python" train.py --config_path "$(SPOS)/search/best.yaml" --data_path "$(DATA)" --run_dir "$(SPOS)/found"
	@echo
	@echo "Look at   $(SPOS)/search/index.html, candidates.csv and best.yaml; $(SPOS)/found/curves.png"

transfer-tutorial: $(VENV)/.ready
	@for digits in 0-4 5-9; do "$(BIN)/python" -m src.data.sample "$(DATA)_$$digits" --classes $$digits || exit; done
	@"$(BIN)/python" train.py --config_path quickstart --data_path "$(DATA)_0-4" --run_dir "$(TRANSFER)/first"
	@"$(BIN)/python" train.py --config_path transfer_digits --pretrained "$(TRANSFER)/first" --data_path "$(DATA)_5-9" \
		--run_dir "$(TRANSFER)/second"
	@"$(BIN)/python" predict.py "$(DATA)_5-9/val/7" --checkpoint_path "$(TRANSFER)/second" --sheet "$(TRANSFER)/sheet.png"
	@echo
	@echo "Look at   $(TRANSFER)/second/curves.png and sheet.png; docs/transfer.md"

test: $(VENV)/.ready
	@"$(BIN)/python" -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-all: test
	@"$(BIN)/python" -m pytest -m slow
	@for step in --sanitize --lint; do \
		bash ascend310_infer/build.sh $$step || { [ $$? = 3 ] && echo "skipped: ascend310_infer/build.sh $$step"; } || exit 1; \
	done

# No MindSpore in there: a module whose tests need it is none of these.
.venv-mutants/.ready: requirements-mutants.txt requirements.txt
	@"$(PYTHON)" -m venv --clear .venv-mutants
	@.venv-mutants/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-mutants.txt
	@touch "$@"

mutants: .venv-mutants/.ready
	@.venv-mutants/bin/python -m tests.mutants --workers $(WORKERS) $(MODULE)

lint: $(VENV)/.ready
	@"$(BIN)/ruff" check .
	@"$(BIN)/ruff" format --check .
	@git ls-files -z '*.sh' '*.sbatch' .ci/run | xargs -0 --no-run-if-empty "$(BIN)/shellcheck"
	@git ls-files -z '*.cc' '*.h' | xargs -0 "$(BIN)/clang-format" --dry-run --Werror

format: $(VENV)/.ready
	@"$(BIN)/ruff" check --fix --quiet . || true
	@"$(BIN)/ruff" format .
	@git ls-files -z '*.cc' '*.h' | xargs -0 "$(BIN)/clang-format" -i

# What the bench compares with is no requirement and lives in an environment of its own.
.venv-bench/.ready: bench/requirements.txt
	@"$(PYTHON)" -m venv --clear .venv-bench
	@.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -r bench/requirements.txt
	@touch "$@"

bench: $(VENV)/.ready .venv-bench/.ready
	@"$(BIN)/python" -m bench
	@"$(BIN)/python" -m bench.pipeline

clean:
	rm -rf "$(VENV)" .venv-bench .venv-mutants .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
