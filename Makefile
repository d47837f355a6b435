.PHONY: help train test test-full prove docs lint tensorboard benchmark reproduce

help:            ## what there is
	@grep -E '^[a-z-]+: *##|^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

train:           ## trains the default network on handwritten digits
	python train.py

test:            ## the quick tests
	pytest

test-full:       ## all tests that need no GPU, the slow ones and the documents too
	pytest -m "not gpu"

prove:           ## 50 kills a model, several processes against one, lost processes, data larger than memory
	for model in mlp lenet5; do python tests/drivers/kills.py model=$$model kills=50 || exit 1; done
	for model in mlp lenet5; do python tests/drivers/processes.py model=$$model || exit 1; done
	pytest -m slow tests/test_kills.py tests/test_processes.py -k "every_model or carried or convolutional or sequences or attention"
	python tests/drivers/lost_rank.py tries=10
	python tests/drivers/shards_memory.py

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

reproduce:       ## runs every recipe with all seeds of its result and compares it with its published number (a day)
	python scripts/reproduce.py all jobs=2
