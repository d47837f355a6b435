"""Numbers that may only change on purpose: parameters and first losses of every model, and which pairs work.

    ACCEPT=1 pytest tests/test_golden.py

writes down what is found instead of comparing it.
"""

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from zoo.build import build
from zoo.commandline import options
from zoo.errors import UserError
from zoo.run import configure
from zoo.trace import first_losses

FILE = Path(__file__).with_name("golden.json")
MODELS = [name for name in options("model") if name != "custom"]
EMBEDDED = ["digits", "iris", "diabetes", "breast_cancer", "xor", "mnist1d"]  # no download
EMBEDDED += ["python_docs", "python_topics", "adding", "copy_memory", "waves"]
EMBEDDED += ["masked_docs", "words_docs", "dates", "captions", "cartpole"]
EMBEDDED_PAIRS = ["reverse", "addition", "babi", "summarize", "chat"]  # of the same kind as dates
MADE = ("adding", "copy_memory", "dates", "captions", *EMBEDDED_PAIRS)
SMALL = {name: ["data.num_train=64", "data.num_val=2", "data.num_test=2"] for name in MADE}
# Nothing is looked at but the losses: one small batch is validated, and layers are not measured.
LOSSES_ALONE = ("trainer.limit_val_batches=1", "data.eval_batch_size=16", "callbacks.activity=null")
LOSSES_ALONE += ("trainer.log_every_n_steps=1000",)


def golden(kind: str, name: str, found: Any) -> Any:
    """What the file has; with ACCEPT=1, `found`, which is written there."""
    numbers: dict[str, dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}
    if os.environ.get("ACCEPT") == "1":
        numbers.setdefault(kind, {})[name] = found
        in_order = {key: dict(sorted(values.items())) for key, values in sorted(numbers.items())}
        FILE.write_text(json.dumps(in_order, indent=1) + "\n", encoding="utf-8")
        return found
    return numbers[kind][name]


@pytest.mark.parametrize("model", MODELS)
def test_the_first_five_losses_of_a_model_stay(model):
    found = first_losses(f"model={model}", "data.batch_size=16", *LOSSES_ALONE, steps=5)
    assert found == pytest.approx(golden("losses", model, [round(loss, 6) for loss in found]), rel=2e-3)


@cache
def outcome(model: str, data: str) -> tuple[str, int]:
    """What a user gets who asks for the pair, and the number of parameters where it works."""
    try:
        run = build(configure(f"model={model}", f"data={data}", "logger=none", "trainer.num_threads=1",
                              "trainer.accelerator=cpu", *SMALL.get(data, []), run_dir="unused"))  # fmt: skip
    except UserError as error:
        text = str(error)
        assert "\n" not in text
        assert any(hint in text for hint in ("Data sets that do:", "use ", "Use ", "There is:", "for instance")), text
        return "refused", 0
    batch = run.data.part("train")[torch.arange(8)]  # type: ignore[attr-defined]
    loss = run.task.losses(batch)["loss"]
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in run.task.model.parameters())
    return "works", sum(p.numel() for p in run.task.model.parameters())


@pytest.mark.docs
@pytest.mark.parametrize("model", MODELS)
def test_a_pair_of_model_and_data_works_or_is_refused_in_one_line(model):
    found = {data: outcome(model, data) for data in EMBEDDED}
    assert any(result == "works" for result, _ in found.values())
    expected = golden("parameters", model, {data: number for data, (_, number) in found.items()})
    assert {data: number for data, (_, number) in found.items()} == expected
