"""Gradients of the rows that a batch used: what learns from them, and what cannot says so."""

from functools import partial

import pytest
import torch
from torch import nn

from zoo.errors import UserError
from zoo.optim import SparseAdam, build_optimizer


class Net(nn.Module):
    def __init__(self, *, sparse=True):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.output = nn.Embedding(12, 4, sparse=sparse), nn.Linear(4, 3)
        self.double()

    def forward(self, tokens):
        return self.output(self.embedding(tokens).mean(1))


def train(model, optimizers, *, steps=12, clip=None):
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        tokens = torch.randint(10, (3, 4), generator=generator)  # 10 and 11 never come
        model.zero_grad()
        model(tokens).square().sum().backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        for optimizer in optimizers:
            optimizer.step()
    return model


@pytest.mark.parametrize("clip", [None, 0.05])
def test_rows_move_as_torchs_sparse_adam_moves_them_and_the_rest_as_adam(clip):
    ours, theirs = Net(), Net()
    train(ours, [SparseAdam(ours.parameters(), lr=0.1)], clip=clip)
    split = [
        torch.optim.SparseAdam([theirs.embedding.weight], lr=0.1),
        torch.optim.Adam(theirs.output.parameters(), lr=0.1),
    ]
    train(theirs, split, clip=clip)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    assert not torch.equal(ours.embedding.weight, Net().embedding.weight)


def test_of_dense_gradients_it_is_adam():
    ours, theirs = Net(sparse=False), Net(sparse=False)
    train(ours, [SparseAdam(ours.parameters(), lr=0.1)])
    train(theirs, [torch.optim.Adam(theirs.parameters(), lr=0.1)])
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_words_that_did_not_come_stay_where_they_are():
    start, model = Net(), Net()
    optimizer = SparseAdam(model.parameters(), lr=0.1)
    train(model, [optimizer])
    assert torch.equal(model.embedding.weight[10:], start.embedding.weight[10:])
    before = model.embedding.weight.detach().clone()
    model.zero_grad()
    model(torch.tensor([[3, 3, 5]])).sum().backward()
    optimizer.step()
    moved = (model.embedding.weight != before).any(1)
    assert moved.nonzero().flatten().tolist() == [3, 5]
    assert model.embedding.weight.grad.is_sparse  # whoever looks at it after the step finds it


def test_what_it_remembers_goes_on_from_a_checkpoint(tmp_path):
    whole, first = Net(), Net()
    train(whole, [SparseAdam(whole.parameters(), lr=0.1)], steps=12)
    optimizer = SparseAdam(first.parameters(), lr=0.1)
    train(first, [optimizer], steps=12)
    torch.save([first.state_dict(), optimizer.state_dict()], tmp_path / "state.pt")
    weights, state = torch.load(tmp_path / "state.pt", weights_only=True)
    second = Net()
    second.load_state_dict(weights)
    resumed = SparseAdam(second.parameters(), lr=0.1)
    resumed.load_state_dict(state)
    train(second, [resumed], steps=5)
    train(first, [optimizer], steps=5)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize(
    "optimizer",
    [
        partial(SparseAdam, lr=0.1),
        partial(torch.optim.Adagrad, lr=0.1, weight_decay=0.0),
        partial(torch.optim.SGD, lr=0.1),
    ],
    ids=["sparse_adam", "adagrad", "sgd"],
)
def test_optimizers_that_take_sparse_gradients_learn_from_them(optimizer):
    model = Net()
    train(model, [build_optimizer(optimizer, model)])
    assert not torch.equal(model.embedding.weight, Net().embedding.weight)


@pytest.mark.parametrize(
    ("optimizer", "said"),
    [
        (partial(torch.optim.Adam), "and Adam needs whole ones"),
        (partial(torch.optim.AdamW), "and AdamW needs whole ones"),
        (partial(torch.optim.SGD, lr=0.1, momentum=0.9), r"and SGD with optimizer\.momentum=0\.9 needs whole ones"),
        (partial(torch.optim.Adagrad, weight_decay=0.1), r"and Adagrad with optimizer\.weight_decay=0\.1 needs"),
    ],
    ids=["adam", "adamw", "momentum", "decay"],
)
def test_optimizers_that_do_not_are_named_in_one_line(optimizer, said):
    with pytest.raises(UserError, match=said) as error:
        build_optimizer(optimizer, Net())
    assert "optimizer=sparse_adam" in str(error.value)
    assert "\n" not in str(error.value)
    build_optimizer(optimizer, Net(sparse=False))


def test_several_processes_are_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with pytest.raises(UserError, match=r"model\.sparse_embedding=true is for one process"):
        build_optimizer(partial(SparseAdam), Net())
    build_optimizer(partial(SparseAdam), Net(sparse=False))


def test_a_run_clips_and_logs_the_norms_of_sparse_gradients(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from zoo.run import configure, run

    sizes = ("model.embedding_dim=8", "model.channels=4", "trainer.max_epochs=1", "trainer.num_threads=1")
    for sparse in ("true", "false"):
        arguments = ("model=textcnn", "optimizer=sparse_adam", f"model.sparse_embedding={sparse}", *sizes)
        settings = (
            "trainer.gradient_clip_val=0.5",
            "trainer.log_every_n_steps=1",
            "model.dropout=0",
            "data.fraction=0.2",
        )
        assert run(configure(*arguments, *settings, run_dir=tmp_path / sparse)) == 0
    events = [EventAccumulator(str(tmp_path / sparse)).Reload() for sparse in ("true", "false")]
    first = [found.Scalars("norms/gradient")[0].value for found in events]
    assert first[0] == pytest.approx(first[1], rel=1e-5)
    assert first[0] > 0
