"""Fine-tuning: which blocks learn, from which epoch on, at what rate, and what a checkpoint holds of it."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback
from torch import nn

from zoo.build import build
from zoo.callbacks.finetuning import FineTuning
from zoo.checkpoint import load_model, model_weights, read
from zoo.errors import UserError
from zoo.layers.depth import blocks, head
from zoo.layers.lora import LowRank, add_lora, merged
from zoo.optim import build_optimizer
from zoo.run import configure, run
from zoo.trained.evaluate import evaluate

pytestmark = pytest.mark.usefixtures("no_pictures_at_all")

DEEP = ["model.hidden_features=[12,10,8]", "model.normalization=BatchNorm1d", "model.dropout=0.1", "logger=none"]
SHORT = ["test=false", "trainer.limit_train_batches=4", "trainer.limit_val_batches=1"]


class Weights(Callback):
    """Copies the state of the network before the first epoch and after each."""

    def __init__(self):
        self.states = []

    def on_train_start(self, trainer, pl_module):
        self.on_train_epoch_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer, pl_module):
        self.states.append({k: v.clone() for k, v in pl_module.model.state_dict().items() if "num_batches" not in k})


def moved(tmp_path, *overrides, model=DEEP):
    """Names of blocks whose tensors changed, for each epoch, and the finished run."""
    made = build(configure(*model, *SHORT, *overrides, run_dir=tmp_path / "run"))
    watch = Weights()
    made.trainer.callbacks.append(watch)
    made.fit()
    pairs = zip(watch.states, watch.states[1:], strict=False)
    found = [{name for name in old if not torch.equal(old[name], new[name])} for old, new in pairs]
    return [{name.rpartition(".")[0].partition(".parametrizations")[0] for name in names} for names in found], made


HIDDEN = [{f"hidden.{i}.linear", f"hidden.{i}.normalization"} for i in range(3)]


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        (["finetune=head"], [{"output"}] * 3),
        (["finetune=last_n"], [{"output", *HIDDEN[2]}] * 3),
        (["finetune=last_n", "finetune.num_blocks=3"], [{"output", *HIDDEN[2], *HIDDEN[1]}] * 3),
        (
            ["finetune=gradual_unfreezing"],
            [{"output"}, {"output", *HIDDEN[2]}, {"output", *HIDDEN[2], *HIDDEN[1]}],
        ),
        (["finetune=gradual_unfreezing", "finetune.one_more_every=2"], [{"output"}] * 2 + [{"output", *HIDDEN[2]}]),
        (
            ["finetune=linear_probe_then_finetune", "finetune.all_after=2"],
            [{"output"}, {"output"}, {"output", *HIDDEN[0], *HIDDEN[1], *HIDDEN[2]}],
        ),
        (["finetune=discriminative_lr"], [{"output", *HIDDEN[0], *HIDDEN[1], *HIDDEN[2]}] * 3),
        # Adapters and the output layer, and no statistics of batch norm.
        (["finetune=lora"], [{"output", *(f"hidden.{i}.linear" for i in range(3))}] * 3),
    ],
)
def test_what_moves_in_each_epoch(overrides, wanted, tmp_path):
    """Weights and the running statistics of a batch norm alike, with a momentum that must not wake them up."""
    names, _ = moved(tmp_path, *overrides, "optimizer=momentum", "optimizer.weight_decay=0.1", "trainer.max_epochs=3")
    assert names == wanted


def test_each_block_learns_at_its_share_of_the_rate(tmp_path):
    """One step of plain gradient descent is the rate times the gradient."""
    arguments = ["optimizer=sgd", "optimizer.lr=0.5", "finetune=discriminative_lr", "finetune.lr_factor=2"]
    made = build(configure(*DEEP, *SHORT, *arguments, "trainer.max_steps=1", run_dir=tmp_path))
    steps = {}

    class Step(Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            steps.update({p: (p.detach().clone(), p.grad.clone()) for p in pl_module.model.parameters()})

    made.trainer.callbacks.append(Step())
    made.fit()
    row = blocks(made.task.model)
    for depth, block in enumerate(reversed(row)):
        for p in block.parameters:
            before, gradient = steps[p]
            torch.testing.assert_close(before - p.detach(), 0.5 * 2.0**-depth * gradient, rtol=1e-3, atol=1e-7)
    assert made.trainer.optimizers[0].param_groups[0]["lr"] == 0.5, "the first group's rate is what optim/lr shows"


def test_groups_of_a_rate_keep_their_decay():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    rates = {p: factor for layer, factor in zip(model, (0.25, 1.0), strict=True) for p in layer.parameters()}
    built = build_optimizer(partial(torch.optim.AdamW, lr=0.1, weight_decay=0.5), model, rates)
    found = [(g["lr"], g["weight_decay"], [tuple(p.shape) for p in g["params"]]) for g in built.param_groups]
    assert found == [(0.1, 0.5, [(2, 4)]), (0.1, 0.0, [(2,)]), (0.025, 0.5, [(4, 3)]), (0.025, 0.0, [(4,)])]
    with pytest.raises(UserError, match="one rate for all"):
        build_optimizer(partial(torch.optim.LBFGS, lr=0.1), model, rates)


def test_the_plan_and_the_rates_are_shown(tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.callbacks.finetuning.show", lambda trainer, name, text: plans.append((name, text)))
    plans = []
    arguments = ["finetune=gradual_unfreezing", "finetune.lr_factor=4", "trainer.max_epochs=2", "optimizer.lr=0.1"]
    _, made = moved(tmp_path, *arguments)
    (tuning,) = [c for c in made.trainer.callbacks if isinstance(c, FineTuning)]
    (name, plan), rows = plans[0], plans[0][1].splitlines()[2:]
    assert (name, len(rows)) == ("finetune", 4)
    assert [[cell.strip() for cell in row.split("|")[3:6]] for row in reversed(rows)] == [
        ["90", "1", "1"],
        ["104", "2", "0.25"],
        ["0", "never", ""],
        ["0", "never", ""],
    ]
    monkeypatch.setattr(made.trainer, "log_every_n_steps", 1)
    tuning.on_train_batch_start(made.trainer, made.task, None, 0)  # as in the second epoch
    assert list(tuning.scalars().values()) == pytest.approx([0, 0, 0.025, 0.1])
    assert plan.startswith("| block |")


def test_an_adapter_begins_as_nothing_and_becomes_part_of_the_weight(tmp_path):
    run(configure(*DEEP, *SHORT, "trainer.max_epochs=1", run_dir=tmp_path / "source"))
    source = load_model(tmp_path / "source")
    x = torch.rand(5, 64)
    adapted = load_model(tmp_path / "source")
    names = add_lora(adapted, rank=2, alpha=4.0)
    assert names == [f"hidden.{i}.linear" for i in range(3)]
    assert torch.equal(adapted.eval()(x), source(x))
    arguments = [f"pretrained={tmp_path / 'source'}", "finetune=lora", "finetune.lora.rank=2", "trainer.max_epochs=1"]
    made = build(configure(*DEEP, *SHORT, *arguments, run_dir=tmp_path / "target"))
    made.fit()
    plain = load_model(tmp_path / "target")
    assert not any(isinstance(m, LowRank) for m in plain.modules())
    x = x.reshape(5, 1, 8, 8)
    torch.testing.assert_close(plain(x), made.task.model.eval()(x))
    stored = model_weights(read(tmp_path / "target"))
    assert stored.keys() == source.state_dict().keys(), "clean names"
    part = made.data.part("test")
    batch = part[torch.arange(len(part))]
    right = (plain.eval()(*batch.inputs).argmax(1) == batch.label).float().mean().item()
    assert evaluate(str(tmp_path / "target")).metrics["test/accuracy"] == pytest.approx(right, abs=1e-6)


def test_the_merged_weight_is_the_formula():
    layer = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 2)).double()
    add_lora(layer, rank=3, alpha=6.0)
    adapter = layer[0].parametrizations["weight"][0]
    nn.init.normal_(adapter.up)
    original = layer[0].parametrizations["weight"].original
    wanted = original + 6.0 / 3 * adapter.up @ adapter.down
    torch.testing.assert_close(merged(layer.state_dict())["0.weight"], wanted)
    x = torch.rand(4, 6, dtype=torch.float64)
    torch.testing.assert_close(layer[0](x), x @ wanted.T + layer[0].bias)


class Nested(nn.Module):
    """A token of its own, a container, a norm at its end, and weights that are shared."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(3))
        self.embedding = nn.Embedding(7, 4)
        self.body = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.ReLU(), nn.Sequential(nn.Linear(4, 4)))
        self.norm = nn.LayerNorm(4)
        self.output = nn.Linear(4, 7)
        self.output.weight = self.embedding.weight


def test_blocks_hold_each_parameter_once_from_input_to_output():
    model = Nested()
    row = blocks(model)
    assert [block.name for block in row] == ["embedding", "body.0", "body.3.0", "output"]
    assert [len(block.parameters) for block in row] == [2, 4, 4, 1], "the token first; the shared weight once"
    assert list(row[2].modules) == [model.body[3][0], model.norm], "a norm belongs to what is before it"
    assert row[-1].modules == (head(model),)
    found = [p for block in row for p in block.parameters]
    assert {id(p) for p in found} == {id(p) for p in model.parameters()}
    assert len(found) == len(list(model.parameters()))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["finetune=last_n", "finetune.num_blocks=5"], "between 1 and 4, the blocks of this model: output, hidden.2"),
        (["finetune=lora", "model.hidden_features=[]"], "has none but its output layer"),
    ],
)
def test_what_cannot_be_is_one_line(arguments, line, tmp_path):
    with pytest.raises(UserError, match=line):
        build(configure(*DEEP, *SHORT, *arguments, run_dir=tmp_path)).fit()


def test_of_several_processes_a_sleeping_block_is_asked_for_gradients_and_learns_nothing():
    """What averages gradients waits for each parameter that it was told of; alone, none is computed."""
    tuning = FineTuning(num_blocks=1, one_more_every=1)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    trainer = SimpleNamespace(current_epoch=0, world_size=2, fit_loop=SimpleNamespace(total_batch_idx=0))
    task = SimpleNamespace(model=model)
    tuning.setup(trainer, task, "fit")
    for epoch, world_size, asked, learns in ((0, 2, True, False), (1, 2, True, True), (0, 1, False, False)):
        trainer.current_epoch, trainer.world_size = epoch, world_size
        tuning.on_train_epoch_start(trainer, task)
        model.zero_grad()
        model(torch.rand(5, 3)).sum().backward()
        assert (model[0].weight.grad is not None) == asked
        tuning.on_after_backward(trainer, task)
        assert (model[0].weight.grad is not None) == learns
        assert model[1].weight.grad is not None
