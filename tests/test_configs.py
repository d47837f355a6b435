"""Every choice composes, alone and as the whole run it stands for."""

import re
from functools import cache

import pytest
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from zoo.config.commandline import CONFIGS, options
from zoo.config.instantiate import parameters
from zoo.config.settings import FACTS, check_settings
from zoo.reproduction.provenance import targets
from zoo.run import configure

GROUPS = (
    "task",
    "data",
    "model",
    "optimizer",
    "scheduler",
    "finetune",
    "init",
    "regularizer",
    "augment",
    "trainer",
    "logger",
    "debug",
    "experiment",
)
CHOICES = [(group, name) for group in GROUPS for name in options(group) if (group, name) != ("model", "custom")]


@cache
def composed(group: str, name: str) -> DictConfig:
    return configure(f"{group}={name}", run_dir="unused")


@pytest.mark.parametrize(("group", "name"), CHOICES, ids=lambda value: value)
def test_every_choice_composes_and_names_things_that_exist(group, name):
    cfg = composed(group, name)
    assert cfg.choices[group] == name
    for target in targets(OmegaConf.to_container(cfg, resolve=False)):
        if target not in ("auto", "null"):
            assert callable(get_object(target)), target


@pytest.mark.parametrize("name", options("data"))
def test_a_setting_of_a_data_set_is_one_that_its_class_takes(name):
    """What a model asks of data is left out where the data has no such setting: it must be seen where it has."""
    data = OmegaConf.load(CONFIGS / "data" / f"{name}.yaml").get("data", {})
    own = {str(key) for key in data if key != "_target_"} - set(FACTS)
    taken = parameters(get_object(data["_target_"])) if data.get("_target_", "???") != "???" else own
    assert own <= taken


@pytest.mark.parametrize("name", [name for name in options("experiment") if "/" not in name])
def test_a_recipe_has_a_published_number_with_a_source(name):
    cfg = composed("experiment", name)
    assert {"metric", "value", "source", "note"} <= set(cfg.published)
    text = (CONFIGS / "experiment" / f"{name}.yaml").read_text()
    assert f"python train.py experiment={name}" in text
    assert re.search(r"^# Published: ", text, re.MULTILINE)


@pytest.mark.parametrize("name", [name for name in options("experiment") if "/" in name])
def test_a_recipe_in_a_folder_shows_something_and_says_how_to_see_it(name):
    cfg = composed("experiment", name)
    text = (CONFIGS / "experiment" / f"{name}.yaml").read_text()
    assert re.search(rf"python train.py experiment={name}(\s|$)", text)
    check_settings(cfg)


def test_the_command_line_wins_over_experiment_model_and_data(tmp_path):
    for order in (1, -1):
        arguments = ["experiment=lenet5_mnist", "trainer.max_epochs=3", "optimizer=adamw", "data=digits"][::order]
        cfg = configure(*arguments, run_dir=tmp_path)
        assert cfg.trainer.max_epochs == 3
        assert cfg.optimizer._target_ == "torch.optim.AdamW"
        assert cfg.choices.data == "digits"
        assert cfg.model.activation == "ReLU"  # still the recipe's


def test_a_model_brings_the_optimizer_that_it_needs(tmp_path):
    assert configure("model=perceptron", run_dir=tmp_path).optimizer._target_ == "zoo.optim.PerceptronRule"


def test_a_data_set_brings_the_task_that_its_labels_allow(tmp_path):
    assert configure("data=diabetes", run_dir=tmp_path).choices.task == "regression"
    assert configure("data=xor", run_dir=tmp_path).choices.task == "binary"


def test_two_runs_never_share_a_folder():
    text = (CONFIGS / "train.yaml").read_text()
    assert "%f" in text, "microseconds"
