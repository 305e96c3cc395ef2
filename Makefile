# Every target sets up what it needs. Python and the virtual environment can be chosen: make test PYTHON=python3.12 VENV=/tmp/v
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUNS ?= runs
SHELL := /bin/bash

.PHONY: help demo test openvino-test modelopt modelopt-test soak test-all lint format wheel clean

help:  ## This list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# The environment is rebuilt when the pins or the dependencies change, not when the code does.
$(VENV)/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(VENV)/.ready  ## Export two shipped twins, attack their INT8 engines, judge them (minutes)
	$(BIN)/deploy-robust demo --out $(RUNS)/demo

wheel: $(VENV)/.ready  ## Build the wheel into dist/
	rm -rf dist build
	$(BIN)/python -m build --wheel --outdir dist . > /dev/null

# The tests run against the built wheel in an environment of its own, from a folder that holds no checkout, so that
# what is tested is what users install. The heavy dependencies are shared with the first environment.
test: wheel  ## Test the built wheel (minutes); tests marked slow are left out
	bash tests/run_on_wheel.sh $(VENV) dist -m 'not slow'

test-all: wheel  ## Test the built wheel, slow tests included (an hour on two cores)
	bash tests/run_on_wheel.sh $(VENV) dist

# A folder of its own on top of the environment: openvino's and nncf's wheels stay out of everybody else's way.
openvino-test: wheel  ## Test the OpenVINO engine and exporters, their wheels in a folder of their own (minutes)
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["openvino"], sep="\n")' \
	    > $(VENV)/openvino.txt
	$(BIN)/python -m pip install --quiet --upgrade --target $(VENV)/openvino --constraint constraints.txt --requirement $(VENV)/openvino.txt
	PYTHONPATH=$(abspath $(VENV)/openvino) bash tests/run_on_wheel.sh $(VENV) dist -k openvino

# NVIDIA's quantiser pins onnx and pulls another onnxruntime: without its dependencies it runs with the pinned ones here.
# What needs no pin of its own comes with its dependencies. The exporter runs it in a process of its own.
modelopt: $(VENV)/.ready  ## Put NVIDIA's modelopt into a folder of its own, for export --precision int8-modelopt
	$(BIN)/python -m pip install --quiet --upgrade --target $(VENV)/modelopt --no-deps \
	    'nvidia-modelopt>=0.47,<0.48' onnx-graphsurgeon onnxslim onnxconverter-common
	$(BIN)/python -m pip install --quiet --upgrade --target $(VENV)/modelopt \
	    nvidia-ml-py 'pulp<4' pydantic omegaconf regex PyYAML tqdm lief cppimport
	@echo "export DEPLOY_ROBUST_MODELOPT=$(abspath $(VENV)/modelopt)"

modelopt-test: wheel modelopt  ## Test the exporter that calls it
	DEPLOY_ROBUST_MODELOPT=$(abspath $(VENV)/modelopt) bash tests/run_on_wheel.sh $(VENV) dist -k modelopt

soak: $(VENV)/.ready  ## Kill checks, exports and trainings at 50, 10 and 10 moments and resume them (about 20 minutes)
	DEPLOY_ROBUST_SOAK_CHECK=50 DEPLOY_ROBUST_SOAK_EXPORT=10 DEPLOY_ROBUST_SOAK_TRAIN=10 DEPLOY_ROBUST_SOAK_ATTACK=10 OMP_NUM_THREADS=1 \
	    $(BIN)/python -m pytest --timeout 3600 -s tests/soak

lint: $(VENV)/.ready  ## ruff, mypy --strict and import-linter, over all four source folders
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.ready  ## Rewrite the code in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove what the targets made
	rm -rf $(VENV) dist build *.egg-info
