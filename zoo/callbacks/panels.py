"""Shows what a task finds worth seeing: pictures and texts for TensorBoard, and the HPARAMS table.

Pictures are drawn after epochs 1, 2, 4, 8, ... and at the end, so that their cost stays small however long a run is.
"""

from collections.abc import Collection
from typing import Any

import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch.utils.tensorboard.summary import hparams

from zoo.callbacks.augmented import augmented
from zoo.callbacks.curves import iterations_done
from zoo.callbacks.layer_table import layer_table
from zoo.callbacks.layout import layout
from zoo.callbacks.showing import boards, first_batch, in_text, pictured, show, writers
from zoo.callbacks.tags import TAGS, page
from zoo.layers.adversaries import Adversaries
from zoo.pictures.layers import layer_table as as_text

# Sizes that follow from the data: no choice, so no column.
FROM_DATA = (
    *("in_features", "out_features", "in_channels", "image_size", "num_classes", "num_outputs", "num_targets"),
    *("image_shape", "num_features", "input_size", "vocab_size", "src_vocab_size", "tgt_vocab_size", "num_words"),
)


def hyper_parameters(config: dict[str, Any]) -> dict[str, Any]:
    """Settings of model, optimizer, data and trainer, by dotted name: the columns of HPARAMS."""
    choices = config.get("choices", {})
    groups = ("model", "data", "init", "optimizer", "scheduler", "regularizer", "augment", "finetune")
    found: dict[str, Any] = {key: choices.get(key) for key in groups}
    found["seed"] = config.get("seed", 0)
    for group in ("model", "init", "optimizer", "scheduler", "regularizer", "augment", "task"):
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


def chosen(config: dict[str, Any]) -> set[str]:
    """The columns of HPARAMS that tell one run from others: model, data, and what was typed, in a sweep too."""
    return {"model", "data"} | {text.partition("=")[0].lstrip("+~") for text in config.get("overrides") or ()}


def in_front(declared: Any, names: Collection[str]) -> Any:
    """The columns that HPARAMS is told of, these names first: TensorBoard selects the first ones, else by alphabet."""
    metadata = declared.value[0].metadata.plugin_data
    table = HParamsPluginData.FromString(metadata.content)
    for column in table.experiment.hparam_infos:
        column.differs = column.name in names
    metadata.content = table.SerializeToString()
    return declared


def layers_of(model: Any, inputs: tuple[Any, ...]) -> str:
    """The table of a model's layers in markdown; of two networks against each other one of each.

    Args:
        inputs: a batch, as the model takes it.
    """
    table = as_text(layer_table(model, inputs))
    if not isinstance(model, Adversaries):
        return table
    first = next(model.generator.parameters())
    z = model.latent(2, generator=torch.Generator().manual_seed(0)).to(first)
    label = torch.zeros(2, dtype=torch.long, device=first.device)
    generator = as_text(layer_table(model.generator, (z, label) if model.num_classes else (z,)))
    titles = ("The discriminator, from a sample to its answer:", "The generator, from noise to a sample:")
    return "\n\n".join((titles[0], table, titles[1], generator))


class Panels(Callback):
    """Pictures, texts and hyper-parameters.

    Args:
        config: the resolved configuration of the run, shown as text.
    """

    lean = True

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not writers(trainer) or iterations_done(trainer) > 0:
            return
        config = yaml.safe_dump(self.config, sort_keys=False, allow_unicode=True)
        batch = first_batch(trainer, "train")
        layers = layers_of(pl_module.model, batch.inputs)
        for writer in writers(trainer):
            writer.add_text("samples/config", "    " + config.replace("\n", "\n    "), 0)
            writer.add_text("samples/about_these_charts", page(), 0)
            writer.add_text("samples/layers", f"{in_text(TAGS['samples/layers'])}\n\n{layers}", 0)
        views = augmented(trainer.datamodule)
        if views is not None:
            show(trainer, "augmented", views, "train")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 0:
            for board in boards(trainer):
                board.experiment.add_custom_scalars(layout(board.tags))
        if pictured(trainer) or pl_module.shows_every_epoch:
            self._show(trainer, pl_module, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._show(trainer, pl_module, "test")

    def _show(self, trainer: Trainer, pl_module: LightningModule, part: str) -> None:
        batch = first_batch(trainer, part) if writers(trainer) else None
        if batch is None:
            return
        was_training = pl_module.training
        pl_module.eval()
        for name, item in pl_module.show(batch).items():
            show(trainer, name, item, part)
        pl_module.train(was_training)

    def write_hyper_parameters(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        """One row of the HPARAMS tab: this run's settings beside its final metrics."""
        for writer in writers(trainer):
            declared, *session = hparams(hyper_parameters(self.config), metrics)
            for summary in (in_front(declared, chosen(self.config)), *session):
                writer.file_writer.add_summary(summary)
