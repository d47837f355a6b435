"""The lean loop does what Lightning's does: the same weights to the bit, the same calls of callbacks."""

import pytest
import torch
from lightning.pytorch import Callback

from zoo.build import build
from zoo.run import configure
from zoo.running.loop import BATCH_HOOKS, why_not

OTHER_HOOKS = ("on_train_epoch_start", "on_train_epoch_end", "on_validation_end", "on_train_start", "on_train_end")


class Recorder(Callback):
    """Writes down every call with the batch's index, the iteration and the loss."""

    lean = True

    def __init__(self):
        self.calls = []


def recording(name):
    def hook(self, trainer, pl_module, *arguments):
        numbers = tuple(a for a in arguments if isinstance(a, (int, float)))
        loss = [a.item() for a in arguments if isinstance(a, torch.Tensor)]
        self.calls.append((name, trainer.global_step, trainer.current_epoch, numbers, loss))

    return hook


for hook_name in BATCH_HOOKS + OTHER_HOOKS:
    setattr(Recorder, hook_name, recording(hook_name))


def fitted(tmp_path, lean, *overrides):
    cfg = configure(
        "trainer.max_epochs=3", f"trainer.lean_loop={str(lean).lower()}", "logger=none", *overrides,
        run_dir=tmp_path / f"lean={lean}",
    )  # fmt: skip
    run = build(cfg)
    recorder = Recorder()
    run.trainer.callbacks.append(recorder)
    run.fit()
    assert run.trainer.fit_loop.epoch_loop.lean == lean
    return run, recorder


@pytest.mark.parametrize(
    "overrides",
    [
        ("optimizer=adam", "model.dropout=0.3"),
        ("optimizer=momentum", "scheduler=cosine", "trainer.gradient_clip_val=0.1"),
        ("optimizer=sgd", "scheduler=step", "scheduler.step_size=1"),
        ("scheduler=plateau", "scheduler.patience=0", "callbacks.early_stopping.patience=1"),
        ("optimizer=adamw", "callbacks.ema.decay=0.9", "trainer.gradient_clip_algorithm=value"),
        ("trainer.limit_train_batches=7", "trainer.check_val_every_n_epoch=2"),
    ],
    ids=lambda overrides: overrides[0] + "+" + overrides[1],
)
def test_weights_are_equal_to_the_bit_and_callbacks_are_called_alike(tmp_path, overrides):
    (lean, lean_calls), (stock, stock_calls) = (fitted(tmp_path, lean, *overrides) for lean in (True, False))
    assert why_not(lean.trainer) is None
    for (name, a), b in zip(lean.task.state_dict().items(), stock.task.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert lean_calls.calls == stock_calls.calls
    assert len(lean_calls.calls) > 100 or "trainer.limit_train_batches=7" in overrides
    assert lean.trainer.global_step == stock.trainer.global_step
    assert lean.trainer.fit_loop.state_dict() == stock.trainer.fit_loop.state_dict()


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("trainer.accumulate_grad_batches=2", "gradient accumulation"),
        ("trainer.precision=bf16-mixed", "precision"),
        ("trainer.profiler=simple", "profiler"),
        ("optimizer=lbfgs", "closure"),
    ],
)
def test_a_feature_that_it_lacks_falls_back_to_the_stock_loop(tmp_path, override, reason, capsys):
    run = build(configure(override, "debug=fast", "logger=none", run_dir=tmp_path))
    run.fit()
    assert reason in why_not(run.trainer)
    assert run.trainer.fit_loop.epoch_loop.lean is False


def test_a_callback_that_is_not_ours_falls_back_to_the_stock_loop(tmp_path):
    class Stranger(Callback):
        def on_train_batch_end(self, *arguments):
            pass

    run = build(configure("debug=fast", "logger=none", run_dir=tmp_path))
    run.trainer.callbacks.append(Stranger())
    run.fit()
    assert why_not(run.trainer) == "callback Stranger"
