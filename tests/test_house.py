"""The rules of the house: who may import whom, how yaml files read, how long things may be."""

import ast
import re
import sys
from pathlib import Path

import pytest
import yaml

from zoo.config.commandline import CONFIGS

ROOT = Path(__file__).parent.parent
ZOO = ROOT / "zoo"
FILES = sorted(path for path in ZOO.rglob("*.py") if path.name != "__init__.py")
YAMLS = sorted(CONFIGS.rglob("*.yaml"))

EVERYWHERE = {"errors"}
# A room, or a file of it: (rooms and files of this project, packages from outside). A file is asked for first, so what
# stands at a room holds for its other files. numpy and the standard library may go anywhere; a `_target_` is no import.
MAY_IMPORT: dict[str, tuple[set[str], set[str]]] = {
    # Pure functions and blocks: of tensors, of numbers, of texts.
    "errors": (set(), set()),
    "batches": (set(), {"torch"}),
    "layers": (set(), {"torch"}),
    "layers/real_steps": ({"onednn"}, {"torch"}),
    "losses": (set(), {"torch"}),
    "noise": (set(), {"torch"}),
    "optim": (set(), {"torch"}),
    "augment": (set(), {"torch"}),
    "scratch": (set(), {"torch"}),
    "pictures": (set(), {"torch", "matplotlib"}),
    "pictures/caption": (set(), {"torch", "matplotlib", "PIL"}),
    "text": (set(), {"tokenizers"}),
    "beam": (set(), {"torch"}),
    "onednn": (set(), {"torch"}),
    "states": (set(), {"torch"}),
    "decoding": ({"beam", "onednn", "states"}, {"torch"}),
    "metrics": (set(), {"torch"}),
    "metrics/boxes": (set(), {"torch", "torchvision", "torchmetrics"}),
    "metrics/codes": (set(), {"torch", "sklearn"}),
    "metrics/counts": ({"metrics/overlaps"}, {"torch", "torchmetrics"}),
    "metrics/generative": ({"layers"}, {"torch", "scipy"}),
    "metrics/probe": (set(), {"torch", "sklearn"}),
    "metrics/texts": (set(), {"sacrebleu"}),
    "baselines/simple": (set(), {"torch", "sklearn"}),
    "baselines/segmenters": ({"metrics/overlaps"}, {"torch", "sklearn", "scipy"}),
    "baselines/support_vectors": ({"baselines/simple"}, {"sklearn"}),
    "analysis/explain": (set(), {"torch"}),
    "analysis/receptive_field": ({"layers"}, {"torch"}),
    "analysis/shapes": ({"layers", "analysis/receptive_field"}, {"torch"}),
    # What computes, what it sees, what is learned, when it is shown. Data and tasks meet in batches alone.
    "models": ({"layers"}, {"torch"}),
    "data": (
        {"batches", "augment", "noise", "text"},
        {"torch", "torchvision", "lightning", "sklearn", "scipy", "PIL", "mnist1d"},
    ),
    "tasks": (
        {"batches", "losses", "metrics", "noise", "optim", "analysis/explain", "pictures", "text", "decoding"},
        {"torch", "lightning", "torchmetrics"},
    ),
    "callbacks": (
        {"batches", "layers", "scratch", "optim", "pictures", "running/signals", "running/neighbours"},
        {"torch", "lightning", "tensorboard", "tqdm", "yaml", "optuna"},
    ),
    "pretrained": (set(), {"torch", "torchvision", "safetensors", "huggingface_hub"}),
    "checkpoint": ({"layers", "pretrained"}, {"torch", "safetensors", "hydra", "lightning"}),
    # From what was typed to a run that is ready. What the command needs before it knows what to do imports no torch.
    "config/commandline": ({"running/signals"}, {"hydra", "omegaconf", "yaml"}),
    "config/settings": ({"config/commandline"}, {"omegaconf"}),
    "config/compatibility": ({"config/commandline", "config/settings"}, {"omegaconf"}),
    "config/checks": ({"config/compatibility", "config/settings", "running/peers"}, {"torch"}),
    "config/inherited": ({"config/commandline", "pretrained"}, {"hydra", "omegaconf", "safetensors", "yaml"}),
    "config/instantiate": (set(), {"hydra", "omegaconf"}),
    "config/prepare": (
        {"checkpoint", "config/commandline", "config/instantiate", "config/settings", "running/peers"},
        {"hydra", "omegaconf"},
    ),
    "config/resume": ({"config/commandline"}, {"hydra", "omegaconf"}),
    "build": (
        {
            "callbacks",
            "checkpoint",
            "config/checks",
            "config/commandline",
            "config/compatibility",
            "config/instantiate",
            "config/prepare",
            "config/settings",
            "layers",
            "running/loading",
            "running/peers",
            "running/session",
            "running/trainer",
            "scratch",
        },
        {"torch", "lightning", "hydra", "omegaconf"},
    ),
    # One run: its processes, its loop, its end.
    "running/signals": (set(), set()),
    "running/report": (set(), set()),
    "running/peers": (set(), {"torch"}),
    "running/neighbours": ({"running/peers"}, {"torch"}),
    "running/loop": (set(), {"torch", "lightning"}),
    "running/loading": ({"checkpoint", "config/settings", "layers"}, {"torch"}),
    "running/session": ({"callbacks", "checkpoint"}, {"torch", "lightning"}),
    "running/trainer": ({"callbacks", "config/instantiate", "running/loop", "running/peers"}, {"lightning"}),
    "launch": ({"running/peers", "running/signals"}, {"torch"}),
    "run": (
        {
            "baselines",
            "build",
            "checkpoint",
            "config/commandline",
            "config/inherited",
            "config/resume",
            "config/settings",
            "launch",
            "reproduction/provenance",
            "running/peers",
            "running/report",
            "running/signals",
        },
        {"hydra", "omegaconf"},
    ),
    # Several runs, and runs again.
    "sweeps/cells": ({"running/peers"}, set()),
    "sweeps/ranking": (set(), set()),
    "sweeps/space": ({"config/commandline"}, {"hydra"}),
    "sweeps/study": ({"sweeps/space"}, {"optuna"}),
    "sweeps/sweep": (
        {
            "config/commandline",
            "config/resume",
            "launch",
            "reproduction/provenance",
            "run",
            "running/peers",
            "sweeps/cells",
            "sweeps/ranking",
            "sweeps/space",
            "sweeps/study",
        },
        {"hydra", "omegaconf"},
    ),
    "reproduction/provenance": (set(), {"hydra", "omegaconf"}),
    "reproduction/recipes": (
        {"config/commandline", "reproduction/provenance", "reproduction/trace"},
        {"torch", "lightning", "omegaconf"},
    ),
    "reproduction/trace": ({"build", "run"}, {"lightning"}),
    # What one does with a network: before its training, after it.
    "analysis/lr_finder": (
        {"build", "callbacks", "config/instantiate", "optim", "running/session"},
        {"torch", "lightning", "omegaconf", "tqdm"},
    ),
    "trained/doubt": ({"trained/predict"}, {"torch"}),
    "trained/evaluate": (
        {
            "batches",
            "build",
            "checkpoint",
            "config/instantiate",
            "config/settings",
            "data",
            "layers",
            "running/trainer",
        },
        {"torch", "lightning"},
    ),
    "trained/export": ({"checkpoint"}, {"torch", "safetensors", "onnxruntime", "onnxscript"}),
    "trained/features": (
        {"checkpoint", "data", "layers", "trained/evaluate", "trained/inputs", "trained/predict"},
        {"torch"},
    ),
    "trained/few_shot": ({"checkpoint", "data", "layers", "losses", "trained/evaluate", "trained/purpose"}, {"torch"}),
    "trained/generate": ({"checkpoint", "decoding", "text", "trained/purpose"}, {"torch"}),
    "trained/inputs": ({"data"}, {"torch"}),
    "trained/judge": ({"checkpoint", "data", "metrics/generative", "trained/evaluate"}, {"torch"}),
    "trained/mistakes": ({"checkpoint", "data", "trained/evaluate", "trained/inputs", "trained/predict"}, {"torch"}),
    "trained/overlay": (
        {"checkpoint", "losses", "metrics/boxes", "pictures", "trained/inputs", "trained/purpose"},
        {"torch"},
    ),
    "trained/predict": ({"checkpoint", "losses", "trained/inputs", "trained/purpose"}, {"torch"}),
    "trained/purpose": (set(), set()),
    "trained/reasons": ({"analysis/explain", "data", "pictures", "trained/predict"}, {"torch"}),
    "trained/samples": ({"checkpoint", "pictures"}, {"torch", "PIL"}),
    "trained/talk": ({"checkpoint", "trained/generate", "trained/purpose", "trained/translate"}, set()),
    "trained/translate": ({"checkpoint", "data", "decoding", "pictures", "text", "trained/purpose"}, {"torch"}),
    "questions": (set(), {"yaml"}),
}


def place(path: Path) -> str:
    """Where in the table a file stands: by its own name, or by that of its room."""
    own = path.relative_to(ZOO).with_suffix("").as_posix()
    return own if own in MAY_IMPORT else own.partition("/")[0]


def imports(path: Path) -> set[str]:
    """Dotted names of everything that a file imports, wherever it does so."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where a thing comes from"
            module = str(node.module)
            of_room = module == "zoo" or (ZOO.parent / module.replace(".", "/")).is_dir()
            names |= {f"{module}.{alias.name}" if of_room else module for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_imports_only_what_its_room_may(path):
    ours, theirs = MAY_IMPORT[place(path)]
    for name in imports(path):
        package, *rest = name.split(".")
        if package == "zoo":
            at_home = rest[0] == place(path)  # files of a room whose files may all do the same may use one another
            allowed = at_home or {rest[0], "/".join(rest[:2])} & (ours | EVERYWHERE)
            assert allowed, f"{path.name} may not import {name}"
        else:
            assert package in theirs | {"numpy"} | sys.stdlib_module_names, f"{path.name} may not import {name}"


def test_the_table_of_imports_names_what_is_there():
    files = {path.relative_to(ZOO).with_suffix("").as_posix() for path in FILES}
    named = set(MAY_IMPORT).union(*(ours for ours, _ in MAY_IMPORT.values()))
    assert named - files - {name.partition("/")[0] for name in files} == set()


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
    assert len(path.read_text().splitlines()) <= (250 if place(path) == "models" else 420)
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            docstring = ast.get_docstring(node, clean=False) or ""
            length = node.end_lineno - node.lineno + 1 - docstring.count("\n")
            assert length <= (25 if node.name == "forward" else 60), f"{node.name} has {length} lines"


ALIKE = {"augment", "callbacks", "data", "layers", "losses", "models", "pictures", "pretrained", "scratch", "tasks"}


def test_the_page_of_the_house_names_every_room_and_every_file_that_is_not_one_of_many_alike():
    page = (ROOT / "docs" / "house.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:3] for line in page.splitlines() if line.startswith("| `")]
    rooms = {name: what for row, what in rows for name in re.findall(r"([a-z_]+)/`", row)}
    assert {path.parent.name for path in FILES} - {"zoo"} <= set(rooms)
    flat = {name for row, _ in rows for name in re.findall(r"([a-z_]+\.py)`", row)}
    assert {path.name for path in ZOO.glob("[!_]*.py")} <= flat
    for path in FILES:
        room = path.parent.name
        assert room in ALIKE | {"zoo"} or f"`{path.name}`" in rooms[room], f"{path.name} is not named"


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
