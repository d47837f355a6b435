.PHONY: help train test test-full docs lint tensorboard benchmark reproduce

help:            ## what there is
	@grep -E '^[a-z-]+: *##|^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

train:           ## trains the default network on handwritten digits
	python train.py

test:            ## the quick tests
	pytest

test-full:       ## all tests that need no GPU, the slow ones and the documents too
	pytest -m "not gpu"

docs:            ## runs every command of the README and the notebooks
	pytest -m docs

lint:            ## style and types
	ruff check .
	ruff format --check .
	mypy

tensorboard:     ## shows all runs
	tensorboard --logdir outputs

benchmark:       ## what the training loop, the input path and the start cost
	python scripts/benchmark.py

reproduce:       ## runs every recipe with three seeds and compares it with its published number
	python scripts/reproduce.py all seeds=3
