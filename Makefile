# make demo: a talking clip in out/.  make serve: clips over HTTP.  make test: everything CI checks.  Both keep their environment in .venv.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && exit; done; echo none)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
WORKERS ?= 2
# Several workers side by side: one thread each.
test smoke bench bench-gpu: export OMP_NUM_THREADS ?= 1

CAPTION ?= An old woman with a white bob and glasses speaks cheerfully before a brick wall.
SPEECH ?= There is no coffee left in the hotel.

.PHONY: bench bench-gpu help setup setup-dev serve demo test smoke lint format evaluate clean

help:
	@echo "make demo      set up and write out/demo.mp4 and out/demo.png"
	@echo "make serve     set up and serve a page, and programs, at http://127.0.0.1:7860"
	@echo "make test      set up and run linters, types and tests"
	@echo "make smoke     go through the training of nano with tiny numbers"
	@echo "make setup     only set up (setup-dev: with everything tests need)"
	@echo "make lint      linters, layers and types;  make format mends the layout"
	@echo "make bench     measure speed (bench-gpu: what needs a GPU of 80 GB)"
	@echo "make evaluate DATA=DIR measures nano on rendered clips"

setup: $(VENV)/.installed
setup-dev: $(VENV)/.installed-dev

$(BIN)/python:
	@if [ "$(PYTHON)" = none ]; then \
		echo "UniAVGen needs Python 3.11 or newer, found $$(python3 --version 2>&1); install it, or name one: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 2; fi
	@echo "setting up $(VENV) with $$($(PYTHON) --version)"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 \
		|| { $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $(VENV) install --quiet pip; } \
		|| { rm -rf $(VENV); echo "this Python cannot make an environment; install its venv and pip packages (Debian: apt-get install python3-venv python3-pip)" >&2; exit 2; }

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "installing uniavgen and what it needs into $(VENV) (once; some minutes)"
	$(PIP) install -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	@echo "installing uniavgen and what its tests need into $(VENV) (once; some minutes)"
	$(PIP) install -e ".[dev]"
	@touch $(VENV)/.installed $@

$(VENV)/.installed-serve: pyproject.toml | $(BIN)/python
	@echo "installing uniavgen and what serving needs into $(VENV) (once; some minutes)"
	$(PIP) install -e ".[serve,page]"
	@touch $(VENV)/.installed $@

serve: $(VENV)/.installed-serve
	$(BIN)/uniavgen serve

demo: setup
	@mkdir -p out
	$(BIN)/uniavgen generate --image examples/person.png --caption "$(CAPTION)" \
		--speech "$(SPEECH)" --out out/demo.mp4 --preview

test: lint
	$(BIN)/python -m pytest -n $(WORKERS) -q

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	@if $(BIN)/pyright --version >/dev/null 2>&1; then $(BIN)/pyright; \
	else echo "types not checked: pyright could not fetch its program (it needs node or the npm registry)"; fi

# From nothing to a model and a clip of it, with tiny numbers: needs flite and the head data (docs/synthetic-world.md).
smoke: setup-dev
	rm -rf out/smoke
	PATH="$(abspath $(BIN)):$$PATH" LP_NUM_THREADS=1 runs/nano.sh --smoke --device cpu --out out/smoke -- --source flite
	$(BIN)/uniavgen generate --model out/smoke/model --image examples/person.png --speech "Good morning." --steps 2 \
		--num-frames 17 --out out/smoke/clip.mp4

format: setup-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What this machine can measure, a few minutes on a CPU; benchmarks/flops.py and the GPU's share are separate calls.
bench: setup-dev
	$(BIN)/python benchmarks/interaction.py --size 736x736 --repeats 3
	$(BIN)/python benchmarks/vae_decode.py --repeats 2
	$(BIN)/python benchmarks/step.py --repeats 3
	$(BIN)/python benchmarks/step.py --size 64x64 --size 128x128 --size 192x128 --frames 41 --frames 81 --variant eager \
		--repeats 2 --name scaling
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/train.py --warm-up 3 --steps 8 --set train.compile=false
	$(BIN)/python benchmarks/train.py --stage base/lora --set model.num_layers=2 --set data.workers=0 --latent 4x4 \
		--warm-up 1 --steps 3 --name train-cut

# Where torchao (extra quant) cannot be had, the parts that need it become rows that say so.
bench-gpu: setup-dev
	-$(PIP) install --quiet -e ".[quant]"
	$(BIN)/python benchmarks/gpu.py

DATA ?= data/val
evaluate: setup
	$(BIN)/uniavgen prompts shards --data $(DATA) --clips 20 --out out/evaluation/set
	$(BIN)/uniavgen evaluate truth=out/evaluation/set/truth --prompts out/evaluation/set/prompts.jsonl --metrics truth,sync \
		--generate nano --task animation,reconstruction --chance --out out/evaluation/report

clean:
	rm -rf out .pytest_cache .ruff_cache .import_linter_cache
