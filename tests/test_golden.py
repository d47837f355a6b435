"""Numbers that may only change on purpose: parameters and first losses of every model, and which pairs work.

    ACCEPT=1 pytest -n 0 -m "" tests/test_golden.py

writes down what is found instead of comparing it.
"""

import json
import math
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from zoo.build import build
from zoo.config.commandline import options
from zoo.errors import UserError
from zoo.reproduction.trace import FirstLosses, first_losses
from zoo.run import configure

FILE = Path(__file__).with_name("golden.json")
PAGE = Path(__file__).parent.parent / "docs" / "pairs.md"
PREFACE = """# What goes with what

Each model with each task and each data set that needs no download: these take their steps; every other pair is refused
in one line that says what would do. Without `task=` the data, or the model, bring the first that suits them. Written by
`ACCEPT=1 pytest -n 0 -m "" tests/test_golden.py`, and held by it.

| model | task | data |
|---|---|---|
"""
TASKS = [name for name in options("task") if name != "auto"]  # which is what the data's labels are for
MODELS = [name for name in options("model") if name != "custom"]
EMBEDDED = ["digits", "iris", "diabetes", "breast_cancer", "xor", "mnist1d"]  # no download
EMBEDDED += ["python_docs", "python_topics", "adding", "copy_memory", "waves"]
EMBEDDED += ["masked_docs", "words_docs", "dates", "captions", "shapes", "boxed_shapes", "cartpole"]
EMBEDDED_PAIRS = ["reverse", "addition", "babi", "summarize", "chat"]  # of the same kind as dates
ALIKE = [*EMBEDDED_PAIRS, "bars", "ring", "grid", "nudged_digits"]  # which the slow tests try as well
MADE = ("adding", "copy_memory", "dates", "captions", "shapes", "boxed_shapes", *EMBEDDED_PAIRS)
SMALL = {name: ["data.num_train=64", "data.num_val=2", "data.num_test=2"] for name in MADE}
# Nothing is looked at but the losses: one small batch is validated, and layers are not measured.
LOSSES_ALONE = ("trainer.limit_val_batches=1", "data.eval_batch_size=16", "callbacks.activity=null")
LOSSES_ALONE += ("trainer.log_every_n_steps=1000",)


def golden(kind: str, name: str, found: Any) -> Any:
    """What the file has of it; with ACCEPT=1, `found`, which is written there."""
    numbers: dict[str, dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}
    if os.environ.get("ACCEPT") == "1":
        numbers.setdefault(kind, {})[name] = found
        in_order = {key: dict(sorted(values.items())) for key, values in sorted(numbers.items())}
        FILE.write_text(json.dumps(in_order, indent=1) + "\n", encoding="utf-8")
        return found
    return numbers[kind][name]


@pytest.mark.parametrize("model", MODELS)
def test_the_first_five_losses_of_a_model_stay(model):
    """In double precision: in single precision two processors are 6 % apart after five steps of MobileNetV2."""
    words = [f"model={model}", "data.batch_size=16", "trainer.precision=64-true", *LOSSES_ALONE]
    found = first_losses(*words, steps=5)
    assert found == pytest.approx(golden("losses", model, [round(loss, 6) for loss in found]), rel=1e-4)


@cache
def outcome(model: str, data: str, task: str = "") -> int | None:
    """What a user gets who asks for the pair: its number of parameters after two steps, None where it is refused."""
    words = [f"model={model}", f"data={data}", *([f"task={task}"] if task else []), "logger=none", "test=false"]
    words += ["trainer.num_threads=1", "trainer.accelerator=cpu", "data.batch_size=32", *LOSSES_ALONE]
    collector = FirstLosses(2)
    with tempfile.TemporaryDirectory() as folder:
        try:
            run = build(configure(*words, *SMALL.get(data, []), run_dir=folder))
            run.trainer.callbacks.append(collector)
            run.fit()
        except UserError as error:
            check_refusal(str(error))
            return None
    assert len(collector.losses) == 2
    assert all(math.isfinite(loss) for loss in collector.losses)
    return sum(p.numel() for p in run.task.model.parameters())


def check_refusal(text: str) -> None:
    """One line, which says what would do."""
    assert "\n" not in text
    hints = (
        "Data sets that do:",
        "use ",
        "Use ",
        "There is:",
        "for instance",
        "Models for it:",
        "must be",
        "leave task=",
    )
    assert any(hint in text for hint in hints), text


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_a_pair_of_model_and_data_takes_two_steps_or_is_refused_in_one_line(model):
    found = {data: outcome(model, data) or 0 for data in EMBEDDED}
    assert any(found.values())
    assert found == golden("parameters", model, found)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_a_task_takes_two_steps_with_a_pair_or_is_refused_in_one_line(model):
    """Every task that can be typed, with every data set that the model goes with."""
    known = json.loads(FILE.read_text(encoding="utf-8"))["parameters"][model]
    pairs = [data for data in [*EMBEDDED, *ALIKE] if known.get(data, 0) or (data in ALIKE and outcome(model, data))]
    found = {data: [task for task in TASKS if outcome(model, data, task) is not None] for data in pairs}
    assert all(found.values())
    assert found == golden("tasks", model, found)


def test_the_page_of_pairs_is_what_the_tests_have_found():
    numbers = json.loads(FILE.read_text(encoding="utf-8"))
    text = page(numbers["tasks"])
    if os.environ.get("ACCEPT") == "1":
        PAGE.write_text(text, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == text
    assert sorted(numbers["tasks"]) == sorted(MODELS)


def page(tasks: dict[str, dict[str, list[str]]]) -> str:
    """The document: for each model and task, the data sets of which a pair has trained."""
    rows = []
    for model, found in tasks.items():
        for task in sorted({task for names in found.values() for task in names}):
            data = ", ".join(f"`{name}`" for name, names in found.items() if task in names)
            rows.append(f"| `{model}` | `{task}` | {data} |")
    return PREFACE + "\n".join(rows) + "\n"
