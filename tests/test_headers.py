"""Every command in the first lines of a yaml file runs, cut short: a run in process, a sweep in a fork."""

import os
import re
import shlex
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from zoo.config.commandline import CONFIGS
from zoo.reproduction.provenance import recipe
from zoo.run import configure, run

pytestmark = pytest.mark.docs
HEADERS = sorted(
    {
        match.strip()
        for path in CONFIGS.rglob("*.yaml")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("#")
        for match in re.findall(r"python train\.py ?[^#(]*(?=#|$)", line)
    }
)
DOWNLOADED = "mnist|fashion_mnist|cifar10|tiny_shakespeare|mr|trec|sst2|jsb|nottingham|etth1|multi30k"
CUT_SHORT = (
    *("trainer.limit_train_batches=2", "trainer.max_epochs=1", "trainer.limit_val_batches=1"),
    "trainer.limit_test_batches=1",
)
NEEDS_DOWNLOAD = re.compile(rf"(data=({DOWNLOADED})\b|experiment=|sweep=few_labels)")


def begin_recipes(recipes):
    """The runs that recipes begin with, where they say they lie, seen from where we stand."""
    for name in recipes:
        start, run_dir = recipe(name).get("begins_with"), str(recipe(name).get("pretrained"))
        if start and run_dir.startswith("outputs/") and not Path(run_dir).exists():
            assert run(configure(f"experiment={start}", *CUT_SHORT, run_dir=run_dir)) == 0


def space_of(sweep):
    return OmegaConf.to_container(OmegaConf.load(CONFIGS / "sweep" / f"{sweep}.yaml")).get("space", {})


def first_and_last(values):
    return values if len(values) < 3 else [values[0], values[-1]]


def few_cells(words):
    """A sweep over the first and the last of what it goes over."""
    shorter = []
    for word in words:
        key, _, value = word.partition("=")
        if re.fullmatch(r"[^\[\]{}]+(,[^\[\]{}]+){2,}", value):  # -m data.fold=0,1,2
            word = f"{key}={','.join(first_and_last(value.split(',')))}"
        shorter.append(word)
        space = space_of(value) if key == "sweep" else {}
        cut = [f"{name}:{first_and_last(v)}" for name, v in space.items() if isinstance(v, list)]
        shorter += [f"sweep.space={{{','.join(cut)}}}".replace("'", "")] if cut else []
    return shorter


@pytest.mark.parametrize("path", sorted((CONFIGS / "sweep").glob("*.yaml")), ids=lambda path: path.stem)
def test_what_a_sweep_goes_over_stands_in_a_header_of_its_own(path):
    for experiment in space_of(path.stem).get("experiment", []):
        assert any(re.match(rf"python train\.py experiment={experiment}\b", header) for header in HEADERS), experiment


def test_one_command_fills_a_folder_that_other_headers_begin_with():
    """Typed one after the other, the headers of two files leave each other's runs alone."""
    commands = {}
    for path in CONFIGS.rglob("*.yaml"):
        for words, folder in re.findall(r"train\.py ([^#\n]*)run_dir=(outputs/\w+)", path.read_text(encoding="utf-8")):
            commands.setdefault(folder, set()).add(words.strip())
    assert commands
    assert {folder: words for folder, words in commands.items() if len(words) > 1} == {}


@pytest.mark.parametrize("header", HEADERS)
def test_a_command_of_a_yaml_header_runs(header, workplace, typed_words, warm, monkeypatch):
    """In process and cut short; what it says is what is run."""
    if NEEDS_DOWNLOAD.search(header) and ("ZOO_DATA" not in os.environ or "cifar10" in header):
        pytest.skip("needs the data set: set ZOO_DATA to a folder that has it")
    words = shlex.split(header)[2:]
    if set(words) & {"--help", "--cfg"}:
        return  # tests/test_docs.py runs these
    monkeypatch.chdir(workplace)
    monkeypatch.syspath_prepend(workplace)
    for option, missing in (("gpu", not torch.cuda.is_available()), ("ddp", True)):
        if f"trainer={option}" in words and missing:
            configure(*words, run_dir=workplace / "composed")  # runs in tests/test_gpu.py and tests/test_launch.py
            return
    if "-m" in words or any(word.startswith("sweep=") for word in words):
        for name in [word.partition("=")[2] for word in words if word.startswith("sweep=")]:
            begin_recipes(space_of(name).get("experiment", []))
        place = workplace / "sweeps" / str(HEADERS.index(header))
        words = [*few_cells(typed_words(header, workplace)), "debug=fast", f"run_dir={place}"]
        words += ["sweep.num_trials=2"] if "sweep=optuna" in words else []
        ended = warm.run(words, cwd=workplace)
        assert ended.returncode == 0, ended.stderr
        return
    if "data=shards" in words and not (workplace / "shards").exists():
        pack = "python scripts/shard.py data=image_folder root=photos/ out=shards/ samples=10"
        assert warm.run(typed_words(pack, workplace), cwd=workplace).returncode == 0
    source = workplace / "source"
    if any("outputs/..." in word for word in words):
        if not source.exists():
            run(configure("debug=fast", "logger=none", run_dir=source))
        words = [word.replace("outputs/...", str(source)) for word in words]
    for run_dir in [word.partition("=")[2] for word in words if word.startswith("pretrained=outputs/")]:
        if not (workplace / run_dir).exists():  # what another line of the same header leaves there
            model = [word for word in words if word.startswith("model=")]
            recipes = [word.partition("=")[2] for word in words if word.startswith("experiment=")]
            model += [f"experiment={recipe(name)['begins_with']}" for name in recipes]
            assert run(configure(*model, *CUT_SHORT, run_dir=workplace / run_dir)) == 0
    assert run(configure(*words, *CUT_SHORT, run_dir=workplace / "runs" / str(HEADERS.index(header)))) == 0
