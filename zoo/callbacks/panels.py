"""Shows what a task finds worth seeing: pictures and texts for TensorBoard, and the HPARAMS table.

Pictures are drawn after epochs 1, 2, 4, 8, ... and at the end, so that their cost stays small however long a run is.
"""

from typing import Any

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.tensorboard.summary import hparams

from zoo import pictures
from zoo.callbacks.curves import iterations_done
from zoo.callbacks.layer_table import layer_table
from zoo.callbacks.loggers import TensorBoard
from zoo.callbacks.tags import page

CHARTS = {
    "loss": {
        "training and validation by epoch": ["Multiline", ["by_epoch/train/loss", "by_epoch/val/loss"]],
        "gap": ["Multiline", ["by_epoch/gap/loss"]],
    },
    "optimization": {
        "norms of gradient and update": ["Multiline", ["norms/gradient", "norms/update"]],
        "norm of the parameters": ["Multiline", ["norms/parameter"]],
        "learning rate": ["Multiline", ["optim/lr"]],
    },
}


# Sizes that follow from the data: no choice, so no column.
FROM_DATA = ("in_features", "out_features", "in_channels", "image_size", "num_classes", "num_outputs", "num_targets")


def hyper_parameters(config: dict[str, Any]) -> dict[str, Any]:
    """Settings of model, optimizer, data and trainer, by dotted name: the columns of HPARAMS."""
    choices = config.get("choices", {})
    groups = ("model", "data", "optimizer", "scheduler", "augment", "finetune")
    found: dict[str, Any] = {key: choices.get(key) for key in groups}
    found["seed"] = config.get("seed", 0)
    for group in ("model", "optimizer", "scheduler", "augment", "task"):
        for key, value in (config.get(group) or {}).items():
            if key in FROM_DATA or key.startswith("_"):
                continue
            if isinstance(value, (int, float, str, bool)):
                found[f"{group}.{key}"] = value
            elif isinstance(value, list):
                found[f"{group}.{key}"] = str(value)
    for key in ("data.batch_size", "data.fraction", "trainer.max_epochs", "trainer.precision"):
        group, name = key.split(".")
        if name in (config.get(group) or {}):
            value = config[group][name]
            found[key] = value if isinstance(value, (int, float, bool)) else str(value)
    return {key: value for key, value in found.items() if value is not None}


class Panels(Callback):
    """Pictures, texts and hyper-parameters.

    Args:
        config: the resolved configuration of the run, shown as text.
    """

    lean = True

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    def writers(self, trainer: Trainer) -> list[Any]:
        boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoard)]
        return [board.experiment for board in boards] if trainer.is_global_zero else []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        writers = self.writers(trainer)
        if not writers or iterations_done(trainer) > 0:
            return
        config = yaml.safe_dump(self.config, sort_keys=False, allow_unicode=True)
        batch = self._batch(trainer, "train")
        layers = pictures.layer_table(layer_table(pl_module.model, batch.inputs))
        for writer in writers:
            writer.add_text("samples/config", "    " + config.replace("\n", "\n    "), 0)
            writer.add_text("samples/about_these_charts", page(), 0)
            writer.add_text("samples/layers", layers, 0)
            writer.add_custom_scalars(CHARTS)

    @staticmethod
    def _batch(trainer: Trainer, part: str) -> Any:
        """The first 256 samples of a part, as the model takes them."""
        loader = trainer.datamodule.loader(part, batch_size=256)
        loader.sampler.rank, loader.sampler.world_size = 0, 1
        module = trainer.lightning_module
        batch = module.transfer_batch_to_device(next(iter(loader)), module.device, 0)
        return trainer.precision_plugin.convert_input(batch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        if epoch & (epoch - 1) == 0 or epoch == trainer.max_epochs:
            self._show(trainer, pl_module, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._show(trainer, pl_module, "test")

    def _show(self, trainer: Trainer, pl_module: LightningModule, part: str) -> None:
        writers = self.writers(trainer)
        if not writers or part not in trainer.datamodule.prepare().parts:
            return
        was_training = pl_module.training
        pl_module.eval()
        batch = self._batch(trainer, part)
        for name, item in pl_module.show(batch).items():
            for writer in writers:
                self._write(writer, f"samples/{name}", item, iterations_done(trainer))
        pl_module.train(was_training)

    @staticmethod
    def _write(writer: Any, tag: str, item: Any, step: int) -> None:
        if isinstance(item, str):
            writer.add_text(tag, item, step)
        elif isinstance(item, Tensor):
            writer.add_image(tag, item, step)
        else:
            writer.add_figure(tag, item, step, close=False)

    def write_hyper_parameters(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        """One row of the HPARAMS tab: this run's settings beside its final metrics."""
        for writer in self.writers(trainer):
            for summary in hparams(hyper_parameters(self.config), metrics):
                writer.file_writer.add_summary(summary)
