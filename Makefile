.DEFAULT_GOAL := help
.PHONY: help host demo docs check-env style types lint check browser test test-e2e \
	bench bench-full bench-planner bench-sepen quality search train-demo compbench fuzz
# Processes of tests, each with one thread; logical: one for each core.
WORKERS ?= logical
PYTEST = -m pytest --numprocesses $(WORKERS)
# By a link that names this checkout: the nodes' relative imports leave it, whatever its name.
TYPED = .check/types/realcompo_pack/nodes realcompo_core demo benchmarks testkit

help:  ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

host:  ## make a virtual environment and a real ComfyUI (or use COMFYUI_PATH)
	@python3 testkit/provision.py host

demo: host  ## an image and its trace from a real ComfyUI server, in output/demo
	@.host/run -m demo

docs: host  ## write the English texts, the help pages' tables and docs/settings.md from the nodes
	@.host/run -m testkit.docs

check-env:
	@python3 testkit/provision.py check

style: check-env
	@.check/run -m ruff check . && .check/run -m ruff format --check .

types: check-env
	@.check/run -m ty check --error-on-warning $(TYPED)
	@PATH="$(CURDIR)/.check/venv/bin:$$PATH" .check/node_modules/.bin/tsc --project tests/web

lint: style types  ## style and types

check: lint  ## lint, types and the tests that need no ComfyUI: in a minute
	@.check/run $(PYTEST) --dist worksteal tests/core tests/demo tests/web

browser: host  ## what the editor's tests need: Chromium and the newest frontend
	@python3 testkit/provision.py browser

test: check host browser  ## everything, on all cores
	@OMP_NUM_THREADS=1 .host/run $(PYTEST) --dist loadgroup --durations 40 tests/e2e tests/host

test-e2e: host browser  ## real servers and a real browser
	@.host/run -m pytest tests/e2e

fuzz: host  ## random graphs against the stock sampler (ARGS="--seeds 1000", or ARGS=--help)
	@.host/run -m testkit.fuzz $(ARGS)

bench: host  ## evaluations, time and memory, in output/bench
	@.host/run -m benchmarks.cost

bench-full: host  ## gradient passes at true size: SD1.5 and SDXL timed, transformers counted (also into docs/cost.md)
	@.host/run -m benchmarks.full
	@.host/run -m benchmarks.transformers --write

bench-planner: host  ## the offline planner on generated sentences, in output/bench (ARGS="--truth FILE.jsonl" for your own)
	@.host/run -m benchmarks.planner $(ARGS)

bench-sepen: host  ## Separate-and-Enhance before and after, with ablation, in output/bench
	@.host/run -m benchmarks.sepen

quality: host  ## composition and realism of every way to sample, in output/quality (ARGS="--base transformer" for the other base)
	@.host/run -m benchmarks.quality $(ARGS)

search: host  ## the balanced recipe's settings, on the development split
	@.host/run -m benchmarks.search

train-demo: host  ## train the toy world's models anew (three hours on two cores)
	@.host/run -m demo.training.train all

compbench: host  ## images for T2I-CompBench (ARGS="prompts.txt --workflow FILE --out FOLDER", or ARGS=--help)
	@.host/run -m benchmarks.compbench $(ARGS)
