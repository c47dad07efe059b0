.DEFAULT_GOAL := help
.PHONY: help fuzz host demo browser test test-e2e lint bench bench-full bench-planner bench-sepen quality search train-demo compbench

help:  ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

host:  ## make a virtual environment and a real ComfyUI (or use COMFYUI_PATH)
	@python3 testkit/provision.py

demo: host  ## an image and its trace from a real ComfyUI server, in output/demo
	@.host/run -m demo

lint: host  ## style and types
	@.host/run -m ruff check . && .host/run -m ruff format --check . && .host/run -m ty check --python "$$(.host/run -c "import sys; print(sys.executable)")"

browser: host  ## what the editor's tests need: Chromium and the newest frontend
	@python3 testkit/provision.py browser

test: host browser lint  ## everything, in two processes
	@.host/run -m pytest --numprocesses 2 --dist loadfile

test-e2e: host browser  ## real servers and a real browser
	@.host/run -m pytest tests/e2e

fuzz: host  ## random graphs against the stock sampler (ARGS="--seeds 1000", or ARGS=--help)
	@.host/run -m testkit.fuzz $(ARGS)

bench: host  ## evaluations, time and memory, in output/bench
	@.host/run -m benchmarks.cost

bench-full: host  ## a gradient pass's and a training step's time and memory at SD1.5's and SDXL's size, in output/bench
	@.host/run -m benchmarks.full

bench-planner: host  ## the offline planner on generated sentences, in output/bench
	@.host/run -m benchmarks.planner

bench-sepen: host  ## Separate-and-Enhance before and after, with ablation, in output/bench
	@.host/run -m benchmarks.sepen

quality: host  ## composition and realism of every way to sample, in output/quality
	@.host/run -m benchmarks.quality

search: host  ## the balanced recipe's settings, on the development split
	@.host/run -m benchmarks.search

train-demo: host  ## train the toy world's models anew (two hours on two cores)
	@.host/run -m demo.training.train all

compbench: host  ## images for T2I-CompBench (ARGS="prompts.txt --workflow FILE --out FOLDER", or ARGS=--help)
	@.host/run -m benchmarks.compbench $(ARGS)
