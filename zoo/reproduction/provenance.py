"""What a number was made with: hashes of the configuration and of the code that decides it."""

import ast
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
# Keys that say where or how fast a run goes, not what it computes.
ELSEWHERE = (
    *("run_dir", "data_dir", "seed", "logger", "resume", "choices", "checkpoint_every", "baselines", "sweep"),
    *("checkpoint_keep", "launcher", "overrides"),
    *("data.data_dir", "data.seed", "callbacks.progress", "callbacks.curves", "callbacks.probe"),
    "callbacks.histograms",
    *(
        "trainer.num_threads",
        "trainer.lean_loop",
        "trainer.log_every_n_steps",
        "trainer.profiler",
        "trainer.sync_batchnorm",
    ),
)
# Groups whose classes compute the number; messages, pictures and curves do not.
COMPUTING = ("model", "data", "task", "init", "optimizer", "scheduler", "regularizer", "augment", "finetune")
SHOWING = ("zoo.errors", "zoo.pictures", "zoo.config.commandline", "zoo.callbacks")


def config_hash(config: dict[str, Any]) -> str:
    """16 hexadecimal digits; the same for runs that differ only in seed, place and speed.

    Switches of the whole run that are off do not count, so that a new one does not make old results stale.
    """
    kept = json.loads(json.dumps(config, default=str))
    kept = {key: value for key, value in kept.items() if value not in (None, False)}
    for dotted in ELSEWHERE:
        group, _, key = dotted.partition(".")
        if key:
            (kept.get(group) or {}).pop(key, None)
        else:
            kept.pop(group, None)
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


def recipe(experiment: str) -> dict[str, Any]:
    """The configuration of a recipe as it is composed today, references unresolved."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        composed: Any = OmegaConf.to_container(compose("train", overrides=[f"experiment={experiment}"]), resolve=False)
    return composed


def settings(composed: dict[str, Any]) -> dict[str, Any]:
    """What decides a recipe's number, by dotted name; see `ELSEWHERE` for what does not."""

    def walk(node: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for key, value in node.items():
            name = f"{prefix}{key}"
            if name in ELSEWHERE or name.partition(".")[0] in ("hydra", "published"):
                continue
            if isinstance(value, dict) and value:
                yield from walk(value, f"{name}.")
            else:
                yield name, value

    found = dict(walk(composed, ""))
    if composed.get("begins_with"):
        found |= {f"begins_with.{key}": value for key, value in settings(recipe(composed["begins_with"])).items()}
    return found


def recipe_hash(experiment: str) -> str:
    """16 hexadecimal digits of a recipe's configuration and code: a result is stale when they have changed."""
    composed = recipe(experiment)
    start = recipe_hash(composed["begins_with"]) if composed.get("begins_with") else ""
    return hashlib.sha256((config_hash(composed) + code_hash(composed) + start).encode()).hexdigest()[:16]


def targets(config: Any) -> Iterator[str]:
    """Every `_target_` in a configuration."""
    if isinstance(config, dict):
        if isinstance(config.get("_target_"), str):
            yield config["_target_"]
        for value in config.values():
            yield from targets(value)
    elif isinstance(config, list):
        for value in config:
            yield from targets(value)


def code_files(config: dict[str, Any]) -> list[Path]:
    """The files of the zoo that decide a run's number: those of its classes, what these import, and the loop."""
    waiting = ["zoo.running.loop"] + [
        t.rpartition(".")[0] for g in COMPUTING for t in targets(config.get(g)) if t[:4] == "zoo."
    ]
    found: dict[str, Path] = {}
    while waiting:
        module = waiting.pop()
        path = ROOT / (module.replace(".", "/") + ".py")
        if module in found or module.startswith(SHOWING) or not path.is_file():
            continue
        found[module] = path
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("zoo"):
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return sorted(found.values())


def code_hash(config: dict[str, Any]) -> str:
    """16 hexadecimal digits of the code that decides the number; comments, docstrings and layout do not count."""
    digest = hashlib.sha256()
    for path in code_files(config):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if (
                isinstance(body, list)
                and body
                and isinstance(body[0], ast.Expr)
                and isinstance(body[0].value, ast.Constant)
            ):
                node.body = body[1:]  # type: ignore[attr-defined]
        digest.update(path.relative_to(ROOT).as_posix().encode() + ast.dump(tree).encode())
    return digest.hexdigest()[:16]
