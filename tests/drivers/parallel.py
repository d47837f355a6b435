"""One of two processes that try what zoo/scratch/parallel.py and zoo/layers/batch_norm.py say, for test_parallel.py.

    python tests/drivers/parallel.py <rank> <folder>

Each leaves <folder>/<rank>.pt: {name: what it has}.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F

from zoo.layers.batch_norm import synchronize
from zoo.scratch.parallel import data_parallel_step, local_step, staged_backward

BATCH, STEPS = 12, 8
OPTIMIZERS = {
    "descent": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.05),
}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(BATCH, 4, generator=generator, dtype=torch.float64),
            torch.randint(3, (BATCH,), generator=generator),
        )
        for _ in range(STEPS)
    ]


def whole(optimizer: str) -> list[torch.Tensor]:
    """The weights of one process that has every batch to itself."""
    model = network()
    made = OPTIMIZERS[optimizer](model.parameters())
    for x, y in batches():
        made.zero_grad()
        F.cross_entropy(model(x), y).backward()
        made.step()
    return [p.detach() for p in model.parameters()]


def shared(optimizer: str, every: int | None, rank: int) -> list[torch.Tensor]:
    """The weights of a process that has a share of every batch.

    Args:
        every: steps after which parameters are averaged; None: gradients are, in each step.
    """
    model = network()
    parameters = list(model.parameters())
    made = OPTIMIZERS[optimizer](parameters)
    for iteration, (x, y) in enumerate(batches(), 1):
        loss = F.cross_entropy(model(x[rank::2]), y[rank::2])
        if every is None:
            data_parallel_step(loss, parameters, made)
        else:
            local_step(loss, parameters, made, iteration=iteration, every=every)
    return [p.detach() for p in parameters]


def normalized(rows: slice) -> list[torch.Tensor]:
    """What batch norm makes of some rows of a batch, the gradients of input and weights, and the running statistics.

    Last comes the gradient of the input for a penalty on that gradient, as WGAN-GP has one.
    """
    torch.manual_seed(2)
    x, towards = torch.randn(2, BATCH, 3, 4, 4, dtype=torch.float64)
    layer = nn.Sequential(nn.BatchNorm2d(3)).double()
    assert synchronize(layer) == ["0"]
    part = (5 + 2 * x)[rows].requires_grad_()
    y = layer(part)
    (y * towards[rows]).sum().backward()
    found = [y.detach(), part.grad, *(p.grad for p in layer.parameters()), *(b.clone() for b in layer.buffers())]
    (slope,) = torch.autograd.grad((layer(part) * towards[rows]).square().sum(), part, create_graph=True)
    return [*found, *torch.autograd.grad(slope.square().sum(), part)]


def main(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    found = {f"{name} data parallel": shared(name, None, rank) for name in OPTIMIZERS}
    found |= {f"{name} every {k}": shared(name, k, rank) for name in OPTIMIZERS for k in (1, 4)}
    x, y = batches()[0]
    stage = network()[:2] if rank == 0 else network()[2:]
    loss = staged_backward(stage, x if rank == 0 else None, (BATCH, 8), lambda answer: F.cross_entropy(answer, y))
    assert (loss is not None) == (rank == 1)
    found["stage"] = [p.grad for p in stage.parameters()]
    found["batch norm"] = normalized(slice(0, 7) if rank == 0 else slice(7, BATCH))
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
