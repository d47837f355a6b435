"""The rules of the house: who may import whom, how yaml files read, how long things may be."""

import ast
import re
import sys
from pathlib import Path

import pytest
import yaml

from zoo.commandline import CONFIGS

ROOT = Path(__file__).parent.parent
ZOO = ROOT / "zoo"
FILES = sorted(path for path in ZOO.rglob("*.py") if path.name != "__init__.py")
YAMLS = sorted(CONFIGS.rglob("*.yaml"))

EVERYWHERE = {"errors"}
# room: (rooms of this project, packages from outside); numpy and the standard library may go anywhere.
MAY_IMPORT = {
    "errors": (set(), set()),
    "batches": (set(), {"torch"}),
    "layers": (set(), {"torch"}),
    "losses": (set(), {"torch"}),
    "noise": (set(), {"torch"}),
    "optim": (set(), {"torch"}),
    "augment": (set(), {"torch"}),
    "scratch": (set(), {"torch"}),
    "pictures": (set(), {"torch", "matplotlib"}),
    "explain": (set(), {"torch"}),
    "text": (set(), {"tokenizers"}),
    "beam": (set(), {"torch"}),
    "onednn": (set(), {"torch"}),
    "states": (set(), {"torch"}),
    "decoding": ({"beam", "onednn", "states"}, {"torch"}),
    "embeddings": (set(), {"torch"}),
    "generative_metrics": ({"layers"}, {"torch", "scipy"}),
    "boxes": (set(), {"torch", "torchvision", "torchmetrics"}),
    "overlaps": (set(), {"torch"}),
    "segmenters": ({"overlaps"}, {"torch", "sklearn", "scipy"}),
    "metrics": (set(), {"torch", "torchmetrics", "sklearn", "scipy", "sacrebleu"}),
    "models": ({"layers"}, {"torch"}),
    "data": (
        {"batches", "augment", "noise", "text"},
        {"torch", "torchvision", "lightning", "sklearn", "scipy", "PIL", "mnist1d"},
    ),
    "tasks": (
        {"batches", "losses", "metrics", "noise", "optim", "explain", "pictures", "text", "decoding", "embeddings"}
        | {"boxes", "codes", "generative_metrics", "overlaps", "partition", "probe"},
        {"torch", "lightning", "torchmetrics"},
    ),
    "callbacks": (
        {"batches", "layers", "scratch", "optim", "pictures", "signals", "neighbours"},
        {"torch", "lightning", "tensorboard", "tqdm", "yaml", "optuna"},
    ),
    "pretrained": (set(), {"torch", "torchvision", "safetensors", "huggingface_hub"}),
    "loading": ({"checkpoint", "layers", "settings"}, {"torch"}),
    "checkpoint": ({"layers", "pretrained"}, {"torch", "safetensors", "hydra", "lightning"}),
    "signals": (set(), set()),
    "resume": ({"commandline"}, {"hydra", "omegaconf"}),
    "loop": (set(), {"torch", "lightning"}),
    "partition": (set(), {"torch"}),
    "peers": (set(), {"torch"}),
    "support_vectors": ({"metrics"}, {"sklearn"}),
    "probe": (set(), {"torch", "sklearn"}),
    "neighbours": ({"peers"}, {"torch"}),
    "codes": (set(), {"torch", "sklearn"}),
    "launch": ({"peers", "signals"}, {"torch"}),
    "report": (set(), set()),
    "receptive_field": ({"layers"}, {"torch"}),
    "shapes": ({"layers", "receptive_field"}, {"torch"}),
    "commandline": ({"signals"}, {"hydra", "omegaconf", "yaml"}),
    "provenance": (set(), {"hydra", "omegaconf"}),
    "reproduction": ({"commandline", "provenance", "trace"}, {"torch", "lightning", "omegaconf"}),
    "inherited": ({"commandline", "pretrained"}, {"hydra", "omegaconf", "safetensors", "yaml"}),
    "space": ({"commandline"}, {"hydra"}),
    "study": ({"space"}, {"optuna"}),
    "cells": ({"peers"}, set()),
    "ranking": (set(), set()),
    # The trunk: what puts the rooms together.
    "settings": ({"commandline"}, {"omegaconf"}),
    "compatibility": ({"commandline", "settings"}, {"omegaconf"}),
    "checks": ({"compatibility", "peers", "settings"}, {"torch"}),
    "build": (
        {
            "scratch",
            "session",
            "checkpoint",
            "commandline",
            "callbacks",
            "checks",
            "instantiate",
            "layers",
            "loading",
            "compatibility",
            "peers",
            "prepare",
            "settings",
            "trainer",
        },
        {"torch", "lightning", "hydra", "omegaconf"},
    ),
    "prepare": ({"checkpoint", "commandline", "instantiate", "peers", "settings"}, {"hydra", "omegaconf"}),
    "trace": ({"build", "run"}, {"lightning"}),
    "instantiate": (set(), {"hydra", "omegaconf"}),
    "trainer": ({"callbacks", "instantiate", "loop", "peers"}, {"lightning"}),
    "purpose": (set(), set()),
    "questions": (set(), {"yaml"}),
    "export": ({"checkpoint"}, {"torch", "safetensors", "onnxruntime", "onnxscript"}),
    "samples": ({"checkpoint", "pictures"}, {"torch", "PIL"}),
    "generate": ({"checkpoint", "decoding", "purpose", "text"}, {"torch"}),
    "translate": ({"checkpoint", "data", "decoding", "pictures", "purpose", "text"}, {"torch"}),
    "talk": ({"checkpoint", "generate", "purpose", "translate"}, set()),
    "evaluate": (
        {"batches", "build", "checkpoint", "data", "instantiate", "layers", "settings", "trainer"},
        {"torch", "lightning"},
    ),
    "judge": ({"checkpoint", "data", "evaluate", "generative_metrics"}, {"torch"}),
    "inputs": ({"data"}, {"torch"}),
    "predict": ({"checkpoint", "inputs", "losses", "purpose"}, {"torch"}),
    "doubt": ({"predict"}, {"torch"}),
    "overlay": ({"boxes", "checkpoint", "inputs", "losses", "pictures", "purpose"}, {"torch"}),
    "mistakes": ({"checkpoint", "data", "evaluate", "inputs", "predict"}, {"torch"}),
    "features": ({"checkpoint", "data", "evaluate", "inputs", "layers", "predict"}, {"torch"}),
    "few_shot": ({"checkpoint", "data", "evaluate", "layers", "losses", "purpose"}, {"torch"}),
    "reasons": ({"predict", "explain", "pictures", "data"}, {"torch"}),
    "lr_finder": (
        {"build", "callbacks", "instantiate", "optim", "session"},
        {"torch", "lightning", "omegaconf", "tqdm"},
    ),
    "session": ({"checkpoint", "callbacks"}, {"torch", "lightning"}),
    "sweep": (
        {"ranking", "cells", "commandline", "launch", "peers", "resume", "space", "study", "provenance", "run"},
        {"hydra", "omegaconf"},
    ),
    "run": (
        {
            "build",
            "commandline",
            "metrics",
            "report",
            "provenance",
            "checkpoint",
            "inherited",
            "launch",
            "peers",
            "resume",
            "segmenters",
            "settings",
            "signals",
            "support_vectors",
        },
        {"hydra", "omegaconf"},
    ),
}


def room(path: Path) -> str:
    return path.relative_to(ZOO).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Dotted names of everything that a file imports, wherever it does so."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where a thing comes from"
            names |= {
                f"{node.module}.{alias.name}" if node.module == "zoo" else str(node.module) for alias in node.names
            }
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_imports_only_what_its_room_may(path):
    ours, theirs = MAY_IMPORT[room(path)]
    for name in imports(path):
        package, *rest = name.split(".")
        if package == "zoo":
            assert rest[0] in ours | EVERYWHERE | {room(path)}, f"{path.name} may not import {name}"
        else:
            assert package in theirs | {"numpy"} | sys.stdlib_module_names, f"{path.name} may not import {name}"


@pytest.mark.parametrize("path", sorted((ZOO / "models").glob("[!_]*.py")), ids=lambda p: p.stem)
def test_model_files_do_not_import_one_another(path):
    assert not [name for name in imports(path) if name.startswith("zoo.models")]


def test_packages_re_export_nothing():
    assert all(path.read_text() == "" for path in ZOO.rglob("__init__.py"))


def test_the_command_line_does_not_import_torch():
    import subprocess

    code = "import sys, train; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("path", YAMLS, ids=lambda p: str(p.relative_to(CONFIGS)))
def test_every_yaml_says_what_it_is_and_shows_a_command(path):
    comments = [line for line in path.read_text(encoding="utf-8").splitlines()[:4] if line.startswith("#")]
    comments = [line for line in comments if "@package" not in line]
    assert comments, "the first comment line says what it is"
    assert "python " in " ".join(comments), "and shows a command"
    assert len(path.read_text().splitlines()) <= 45
    yaml.safe_load(path.read_text())


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_functions_stay_readable_in_one_piece(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "a file says what it is for"
    assert len(path.read_text().splitlines()) <= (250 if room(path) == "models" else 420)
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            docstring = ast.get_docstring(node, clean=False) or ""
            length = node.end_lineno - node.lineno + 1 - docstring.count("\n")
            assert length <= (25 if node.name == "forward" else 60), f"{node.name} has {length} lines"


def test_the_page_of_the_house_names_every_file():
    house = (ROOT / "docs" / "house.md").read_text(encoding="utf-8")
    named = set(re.findall(r"[\w/]+", house))
    assert [path.stem for path in ZOO.glob("[!_]*.py") if path.stem not in {n.rpartition("/")[2] for n in named}] == []


def test_train_py_stays_short():
    assert len((ROOT / "train.py").read_text().splitlines()) <= 60


@pytest.mark.parametrize("path", sorted((ZOO / "models").glob("[!_]*.py")), ids=lambda p: p.stem)
def test_a_model_file_names_its_source_its_departures_and_its_axes(path):
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    assert re.search(r"\b(19|20)\d\d\b", text), "the paper's year"
    assert "Departures from the paper" in text
    assert re.search(r"^Axes: ", text, re.MULTILINE)
    assert re.search(r"^Trained by: .*Data: ", text, re.MULTILINE)
    assert re.search(r"Equal to: .*\(tests\)", text)


def test_nothing_speaks_of_one_machine():
    for path in [*FILES, *YAMLS, ROOT / "train.py", *sorted((ROOT / "scripts").glob("*.py"))]:
        assert not re.search(r"/work/|/home/|/root/", path.read_text(encoding="utf-8")), path
