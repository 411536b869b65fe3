# Two commands on a fresh machine: `make demo` and `make test`. Both make .venv when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MINT := .venv-mint/.installed
COOKBOOK := .venv-cookbook/.installed
WEAVER := .venv-weaver/.installed
AGENTS := .agents/.installed
# Machines without an NVIDIA GPU need not download CUDA:
#   make demo PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PIP_FLAGS ?=
PYTEST_FLAGS ?=
# Most of the tests wait for processes of their own, so two run well on two cores. A file is never split, and
# files go in their order, not the largest first: those of a folder share a training server, which takes seconds to start.
TEST_WORKERS ?= 2

# The model comes from the package index, so a hub is never asked; idle OpenMP threads must not spin on a busy machine.
export HF_HUB_OFFLINE := 1
export OMP_WAIT_POLICY := PASSIVE
export TOKENIZERS_PARALLELISM := false

.PHONY: help install demo test test-gpu test-vllm test-agents test-browser agents-pypi clients lint format types imports ci chaos soak junk scopes bench constraints docs clean

help:
	@echo "make demo          watch it learn, with a real model   (QUICK=1: the short form of CI)"
	@echo "make test          the tests   (make clients: other people's clients, which it needs)"
	@echo "make test-gpu      the engine's, the sampler's and the training server's on the first GPU"
	@echo "make test-vllm     the samplers' contract with vLLM, which it installs first"
	@echo "make test-agents   sessions of OpenClaw, Claude Code, opencode and Codex, which it installs first (Node and npm)"
	@echo "make test-browser  the dashboard in Chromium, which must be there"
	@echo "make agents-pypi   installs hermes-agent, nanobot and aider for it, too"
	@echo "make ci            everything that must hold before a change goes in (.ci/run)"
	@echo "make chaos         hundreds of kill -9 in mid-update   (KILLS=200)"
	@echo "make soak          half an hour of traffic, faults and kill -9 before the gateway   (MINUTES=30)"
	@echo "make junk          a thousand requests of agents: what of them ends in the memory   (a minute)"
	@echo "make scopes        takes away what keeps agents apart, one filter at a time: the tests must notice each   (ten minutes)"
	@echo "make bench         what is measured, side by side"
	@echo "make lint format types imports docs"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Python 3.11 or newer is needed, and '$(PYTHON)' is not: try  make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "'$(PYTHON)' has no venv module: install it (Debian, Ubuntu: sudo apt install python3-venv)"; exit 1; }
	@test -x $(BIN)/python || { echo "making $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing into $(VENV) (a few minutes the first time, most of it torch)"
	$(BIN)/python -m pip install $(PIP_FLAGS) -c constraints.txt -e ".[rl,evolve,scheduler,tracking,dev]"
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/python -m metaclaw.cli.main models prepare smollm2
	$(BIN)/python -m demo $(if $(QUICK),--quick) $(if $(TRIES),--tries $(TRIES))

test: $(STAMP) clients
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST_FLAGS)

# Training clients that we did not write, each with what it pins: the tests drive them against our server, and
# Weaver's, which speaks a language of its own, against answers of its kind.
clients: $(MINT) $(COOKBOOK) $(WEAVER)

$(MINT): tests/clients/mint.txt $(STAMP)
	@echo "making .venv-mint"
	@$(BIN)/python -m venv --clear .venv-mint
	@.venv-mint/bin/python -m pip install --quiet --no-deps -r tests/clients/mint.txt
	@touch $(MINT)

# Its packages on top of ours, so that torch is not installed twice.
$(COOKBOOK): tests/clients/cookbook.txt $(STAMP)
	@echo "making .venv-cookbook"
	@$(BIN)/python -m venv --clear .venv-cookbook
	@.venv-cookbook/bin/python -m pip install --quiet --no-deps -r tests/clients/cookbook.txt
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > "$$(.venv-cookbook/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/ours.pth"
	@touch $(COOKBOOK)

$(WEAVER): tests/clients/weaver.txt $(STAMP)
	@echo "making .venv-weaver"
	@$(BIN)/python -m venv --clear .venv-weaver
	@.venv-weaver/bin/python -m pip install --quiet --no-deps -r tests/clients/weaver.txt
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > "$$(.venv-weaver/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/ours.pth"
	@touch $(WEAVER)

test-gpu: $(STAMP)
	METACLAW_TEST_DEVICE=cuda:0 $(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder $(PYTEST_FLAGS) \
	  tests/training/engine tests/training/samplers tests/training/api tests/training/sampler_contract

test-vllm: $(STAMP)
	$(BIN)/python -m metaclaw.cli.main vllm prepare
	$(BIN)/python -m pytest -m vllm --timeout 600 $(PYTEST_FLAGS) tests/training/sampler_contract tests/training/samplers/vllm

test-agents: $(STAMP) $(AGENTS)
	$(BIN)/python -m pytest -m agents $(PYTEST_FLAGS) tests/agents

test-browser: $(STAMP)
	$(BIN)/python -m pytest -m browser $(PYTEST_FLAGS) tests/dashboard

# What comes from PyPI is not part of CI (a gigabyte); with it, `make test-agents` runs two more programs.
agents-pypi: $(AGENTS)
	@sed '/^#/d' tests/agents/programs-pypi.txt | while read -r package; do \
	  place=.agents/pypi/$${package%%==*}; \
	  $(PYTHON) -m venv --clear "$$place" && "$$place/bin/python" -m pip install --quiet "$$package" || exit 1; \
	done

# Whatever Node is here only installs: the programs run on the one that comes with them. Its package is named after the
# machine, and needs none of the scripts that packages would run.
$(AGENTS): tests/agents/programs.txt
	@node -e 0 && npm --version > /dev/null || { echo "Node and npm are needed: https://nodejs.org"; exit 1; }
	@echo "installing OpenClaw, Claude Code, opencode and Codex into .agents (a minute or two, 2 GB)"
	@rm -rf .agents && mkdir .agents && echo '{"private": true}' > .agents/package.json
	@node=node-$$(node -p 'process.platform + "-" + process.arch'); \
	for attempt in 1 2 3; do \
	  npm install --prefix .agents --ignore-scripts --no-audit --no-fund --loglevel error \
	    $$(sed -e '/^#/d' -e "s/^node@/$$node@/" tests/agents/programs.txt) && break; \
	  test $$attempt -lt 3 || exit 1; \
	done
	@touch $(AGENTS)

chaos: $(STAMP)
	METACLAW_KILLS=$(or $(KILLS),200) $(BIN)/python -m pytest -m kills tests/system

soak: $(STAMP)
	$(BIN)/python -m benchmarks.soak --minutes $(or $(MINUTES),30)

junk: $(STAMP)
	$(BIN)/python -m benchmarks.junk

scopes: $(STAMP)
	$(BIN)/python -m tests.isolation.scopes --workers $(TEST_WORKERS)

bench: $(STAMP)
	$(BIN)/python -m benchmarks.gateway
	$(BIN)/python -m benchmarks.recall
	$(BIN)/python -m benchmarks.sampler --model "$$($(BIN)/python -m metaclaw.cli.main models prepare smollm2)"
	$(BIN)/python -m benchmarks.engine "$$($(BIN)/python -m metaclaw.cli.main models prepare smollm2)"
	$(BIN)/python -m benchmarks.adapters "$$($(BIN)/python -m metaclaw.cli.main models prepare smollm2)"

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(STAMP)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(STAMP)
	$(BIN)/pyright

imports: $(STAMP)
	$(BIN)/lint-imports

docs: $(STAMP)
	$(BIN)/python -m metaclaw.cli.reference > docs/configuration.md

ci:
	.ci/run

constraints:
	@{ head -2 constraints.txt; $(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//'; } > constraints.new
	@mv constraints.new constraints.txt

clean:
	rm -rf $(VENV) .venv-mint .venv-cookbook .venv-weaver .agents dist build .pytest_cache .ruff_cache .hypothesis
