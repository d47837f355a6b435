"""When pictures are drawn, from which samples, and where they go: what all panels have in common."""

from typing import Any

from lightning.pytorch import Trainer
from torch import Tensor

from zoo.callbacks.curves import iterations_done
from zoo.callbacks.loggers import TensorBoard
from zoo.callbacks.tags import described
from zoo.pictures.caption import captioned, pixels
from zoo.pictures.rates import PrecisionRecall

PARTS = {"train": "training part", "val": "validation part", "test": "test part"}
# What a model shows of itself, and no samples of the data.
OWN = ("samples", "manifold", "neighbours", "filters", "fantasies", "generated", "episode", "frames", "history")


def pictured(trainer: Trainer) -> bool:
    """Whether the epoch at hand is one with pictures: 1, 2, 4, 8, ... and the last."""
    epoch = trainer.current_epoch + 1
    return epoch & (epoch - 1) == 0 or epoch == trainer.max_epochs


def boards(trainer: Trainer) -> list[TensorBoard]:
    """TensorBoard's loggers, in the process that writes; elsewhere none."""
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoard) and trainer.is_global_zero]


def writers(trainer: Trainer) -> list[Any]:
    """Their writers."""
    return [board.experiment for board in boards(trainer)]


def first_batch(trainer: Trainer, part: str, size: int = 256) -> Any:
    """The first samples of a part, as the model takes them; None where the data has no such part."""
    if part not in trainer.datamodule.prepare().parts:
        return None
    loader = trainer.datamodule.loader(part, batch_size=size)
    loader.sampler.rank, loader.sampler.world_size = 0, 1
    module = trainer.lightning_module
    batch = module.transfer_batch_to_device(next(iter(loader)), module.device, 0)
    return trainer.precision_plugin.convert_input(batch)


def log(trainer: Trainer, metrics: dict[str, float]) -> None:
    """Writes numbers to every logger, at the iteration that has been reached."""
    for logger in trainer.loggers if trainer.is_global_zero else ():
        logger.log_metrics(metrics, iterations_done(trainer))


def show(trainer: Trainer, name: str, item: Any, part: str = "") -> None:
    """Writes a figure, an image (3, H, W) or a text as samples/<name>, at the iteration that has been reached.

    Above it stands what it is, of which samples and when. Precision against recall is written as <name>/<class>, for
    each class.

    Args:
        part: where the samples come from, "train", "val" or "test"; nothing of what shows none.
    """
    step = iterations_done(trainer)
    heading = ", ".join([name.replace("_", " "), *when(trainer, "" if name in OWN else part)])
    text = described(f"samples/{name}")
    for writer in writers(trainer):
        if isinstance(item, PrecisionRecall):
            for k, label in enumerate(item.names):
                counts = item.of_class(k)
                writer.add_pr_curve_raw(f"{name}/{label}", **counts, global_step=step, num_thresholds=len(item.counts))
        elif isinstance(item, str):
            writer.add_text(f"samples/{name}", f"**{heading}**: {in_text(text)}\n\n{item}", step)
        else:
            picture = item if isinstance(item, Tensor) else pixels(item)
            writer.add_image(f"samples/{name}", captioned(picture, heading, text), step)


def when(trainer: Trainer, part: str) -> list[str]:
    """Which samples a picture shows, and after which epoch."""
    samples = [PARTS[part]] if part else []
    if trainer.state.fn == "test":
        return samples or ["after training"]
    return [*samples, f"epoch {trainer.current_epoch + 1}" if iterations_done(trainer) else "before training"]


def in_text(text: str) -> str:
    """As markdown takes it for plain text."""
    return text.replace("<", "&lt;").replace("_", "\\_")
