"""Which part of a pretrained model goes on learning, when, and at what rate.

Howard and Ruder, "Universal Language Model Fine-tuning for Text Classification", 2018, sections 3.2 and 3.3 (a rate for
each layer, one more layer an epoch); Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform
Out-of-Distribution", 2022 (the output layer first, then everything); Hu et al., "LoRA", 2022.
"""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from zoo.callbacks.showing import show
from zoo.errors import UserError
from zoo.layers.depth import Block, blocks
from zoo.layers.lora import adapters

FOREVER = 10**9  # epochs


class FineTuning(Callback):
    """Freezes what is not to be trained. It keeps no state: what is frozen follows from the settings and the epoch.

    What lies before the first block that learns (zoo.layers.depth) is in evaluation mode, so the running statistics of
    a frozen batch norm do not move and its dropout is off.

    Args:
        num_blocks: how many learn, counted from the output layer; None for all.
        one_more_every: epochs after which one block more learns, the next towards the input.
        all_after: epochs after which every block learns.
        lr_factor: the rate of a block is that of the next one, towards the output, divided by this.
        lora: settings of `zoo.layers.lora.add_lora`, which `zoo.build` has put into the model: only the adapters and
            the output layer learn, and no batch norm takes new statistics.
    """

    lean = True

    def __init__(
        self,
        *,
        num_blocks: int | None = None,
        one_more_every: int | None = None,
        all_after: int | None = None,
        lr_factor: float = 1.0,
        lora: dict[str, Any] | None = None,
    ) -> None:
        self.num_blocks, self.one_more_every, self.all_after = num_blocks, one_more_every, all_after
        self.lr_factor, self.lora = lr_factor, lora
        self.blocks: list[Block] = []
        self.asleep: list[nn.Parameter] = []  # that have a gradient, and are not to learn yet
        self.rates: dict[str, float] = {}  # of each block, now

    @property
    def active(self) -> bool:
        return self.num_blocks is not None or self.lr_factor != 1.0 or self.lora is not None

    def awake(self, epoch: int) -> int:
        """How many blocks learn in an epoch, which counts from 0."""
        if self.num_blocks is None or (self.all_after is not None and epoch >= self.all_after):
            return len(self.blocks)
        more = epoch // self.one_more_every if self.one_more_every else 0
        return min(len(self.blocks), self.num_blocks + more)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        model: Any = pl_module.model
        self.blocks = blocks(model)
        if self.num_blocks is not None and not 1 <= self.num_blocks <= len(self.blocks):
            names = ", ".join(block.name for block in reversed(self.blocks))
            raise UserError(
                f"finetune.num_blocks={self.num_blocks} must lie between 1 and {len(self.blocks)}, the blocks of this "
                f"model: {names}, from the output."
            )
        kept = {id(p) for p in (*adapters(model), *self.blocks[-1].parameters)} if self.lora else None
        asleep = len(self.blocks) - self.awake(FOREVER)
        for number, block in enumerate(self.blocks):
            for parameter in block.parameters:
                learns = number >= asleep and (kept is None or id(parameter) in kept)
                parameter.requires_grad_(parameter.requires_grad and learns)
        self.learning = [[p for p in block.parameters if p.requires_grad] for block in self.blocks]
        if self.lr_factor != 1.0:
            factors = [self.lr_factor**-number for number in reversed(range(len(self.blocks)))]
            pairs = zip(self.blocks, factors, strict=True)
            pl_module.rates = {p: factor for block, factor in pairs for p in block.parameters}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.on_train_epoch_start(trainer, pl_module)  # an epoch that goes on in its middle has no start
        if not trainer.fit_loop.total_batch_idx > 0:
            show(trainer, "finetune", self.plan(trainer))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        frozen = len(self.blocks) - self.awake(trainer.current_epoch)
        pl_module.model.train()
        if frozen:
            first = self.blocks[frozen].modules[0]
            for module in pl_module.model.modules():  # in the order in which they are defined
                if module is first:
                    break
                module.training = False
        for module in pl_module.model.modules() if self.lora else ():
            module.training = module.training and not isinstance(module, _BatchNorm)
        self.asleep = [p for parameters in self.learning[:frozen] for p in parameters]
        if trainer.world_size == 1:  # no gradient is asked for, which saves its time
            for number, parameters in enumerate(self.learning):
                for parameter in parameters:
                    parameter.requires_grad_(number >= frozen)

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes away what a sleeping block must not learn.

        Where several processes average gradients, its parameters go on asking for one: the others wait for it.
        """
        for parameter in self.asleep:
            parameter.grad = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if (trainer.fit_loop.total_batch_idx + 1) % trainer.log_every_n_steps:
            return
        rate = {id(p): group["lr"] for group in trainer.optimizers[0].param_groups for p in group["params"]}
        asleep = {id(p) for p in self.asleep}
        self.rates = {
            block.name: max((rate.get(id(p), 0.0) for p in block.parameters if id(p) not in asleep), default=0.0)
            for block in self.blocks
        }

    def scalars(self) -> dict[str, float]:
        """What `Curves` writes at a log step: the rate of each block, 0 while it does not learn."""
        digits = len(str(len(self.rates)))
        found = {f"finetune/{i + 1:0{digits}d}_{name}": rate for i, (name, rate) in enumerate(self.rates.items())}
        self.rates = {}
        return found

    def plan(self, trainer: Trainer) -> str:
        """A table of the blocks: their parameters, how many learn, from which epoch on, at which share of the rate."""
        lines = ["| block | parameters | learning | from epoch | share of the rate |", "|---|---|---|---|---|"]
        for number, (block, learning) in enumerate(zip(self.blocks, self.learning, strict=True)):
            count, learn = (sum(p.numel() for p in parameters) for parameters in (block.parameters, learning))
            needed = len(self.blocks) - number
            starts = [epoch for epoch in range(trainer.max_epochs or 1) if self.awake(epoch) >= needed]
            share = self.lr_factor ** -(needed - 1)
            learns = learn > 0 and len(starts) > 0
            what = (f"{learn:,}", str(starts[0] + 1), f"{share:.3g}") if learns else ("0", "never", "")
            lines.append(f"| {block.name} | {count:,} | {' | '.join(what)} |")
        return "\n".join(lines)
