"""What is refused before a run begins, though each of its parts is right: they do not go together."""

from typing import Any

import torch
from torch import nn

from zoo.config.compatibility import task_of, with_head
from zoo.config.settings import choice
from zoo.errors import UserError
from zoo.running.peers import place


def check_processes(data: Any) -> None:
    """Raises UserError where a batch cannot be shared out among the processes."""
    world_size = place()[1]
    if data.train_batch_size < world_size:
        raise UserError(
            f"data.batch_size={data.train_batch_size} is the batch of all processes together, too small for "
            f"{world_size} of them; give at least {world_size}, or fewer trainer.devices."
        )


def check_baselines(cfg: Any, data: Any) -> None:
    """Raises UserError where no simple methods can stand beside the network."""
    facts = data.prepare().facts
    acting = facts.get("kind") == "control"
    if cfg.get("baselines") and (acting or not {"num_features", "mask_classes"} & set(facts)):
        raise UserError(
            f"baselines=true is for images and tables with classes or quantities, and for masks, and "
            f"data={choice(cfg, 'data')} has none; leave it out."
        )


def check_sparse_gradients(config: dict[str, Any], model: nn.Module) -> None:
    """Raises UserError for what would add to a sparse gradient, or cut it, as if it were whole."""
    if not any(getattr(module, "sparse", False) is True for module in model.modules()):
        return
    trainer, regularizer = config["trainer"], config.get("regularizer") or {}
    cuts = trainer.get("gradient_clip_val") and trainer.get("gradient_clip_algorithm") == "value"
    adds = (regularizer.get("l1") and regularizer.get("l1_kind") == "subgradient") or (
        regularizer.get("l2") and regularizer.get("l2_kind") == "coupled"
    )
    if cuts or adds:
        what = "trainer.gradient_clip_algorithm=value" if cuts else f"regularizer={choice(config, 'regularizer')}"
        raise UserError(f"{what} needs whole gradients; use model.sparse_embedding=false.")


def check_output(config: dict[str, Any], model: nn.Module, data: Any) -> None:
    """Runs two training samples through the model, so that sizes that do not fit are said before training."""
    batch = data.part("train")[torch.tensor([0, len(data.part("train")) - 1])]
    name, wanted = config.get("choices", {}).get("model", "?"), config["task"].get("num_outputs")
    given = [tuple(x.shape[1:]) for x in batch.inputs if x is not None]
    own = not str(config["model"].get("_target_")).startswith("zoo.")
    state, was_training = torch.get_rng_state(), model.training
    try:
        with torch.no_grad():
            outputs = model.eval()(*batch.inputs)
    except Exception as error:
        if not own and not isinstance(error, (RuntimeError, ValueError, TypeError, IndexError, UserError)):
            raise  # a bug of ours
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"model={name} cannot take a sample of data={choice(config, 'data')}, of shape "
                        f"{', '.join(map(str, given))}: {first}") from error  # fmt: skip
    finally:
        model.train(was_training)
        torch.set_rng_state(state)
    if wanted is None:
        return
    needed = output_shape(config, batch)
    if config["task"].get("head") == "next_step" and isinstance(outputs, tuple) and len(outputs) == 2:
        outputs = outputs[0]  # beside the state to go on with
    if not isinstance(outputs, torch.Tensor):
        if not own and config["task"].get("head") != "next_step" and not hasattr(outputs, "_fields"):
            return
        raise UserError(
            f"model={name} returns a {type(outputs).__name__}, and task={choice(config, 'task')} needs "
            f"{'outputs and a state' if config['task'].get('head') == 'next_step' else 'a tensor'} "
            f"(batch, {', '.join(map(str, needed))}){instead(config, name, own)}."
        )
    if tuple(outputs.shape) != (len(batch.inputs[0]), *needed):
        raise UserError(
            f"model={name} returns {tuple(outputs.shape[1:])} values a sample, and "
            f"task={choice(config, 'task')} needs {needed}{instead(config, name, own)}."
        )


def instead(config: dict[str, Any], name: str, own: bool) -> str:
    """What would do where a model's answer is not what the task takes."""
    brought = None if own else task_of(name)
    if brought and brought != choice(config, "task"):
        return f"; leave task= out, model={name} brings task={brought}"
    return with_head(config["task"].get("head"))


def output_shape(config: dict[str, Any], batch: Any) -> tuple[Any, ...]:
    """What a task needs for each sample, by its head: one answer, or one for each step, pixel or step ahead."""
    outputs, head = config["task"].get("num_outputs"), config["task"].get("head")
    if head in ("reconstruction", "quantization"):
        return tuple(batch.inputs[0].shape[1:])
    if head == "super_resolution":
        channels, height, width = batch.inputs[0].shape[1:]
        return channels, height * config["task"]["factor"], width * config["task"]["factor"]
    if head in ("next_step", "masked"):
        return *batch.inputs[0].shape[1:2], outputs
    if head == "sequence":
        return batch.targets.shape[1], outputs
    if head == "segmenter":
        return outputs, *batch.targets.shape[1:]
    return (config["data"]["horizon"], outputs) if head == "forecaster" else (outputs,)
