"""Recurrent cells and layers written out are torch's, forward, backward and in their state, in float64."""

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from zoo.build import build
from zoo.models.lstm import LSTM
from zoo.optim import build_optimizer
from zoo.run import configure
from zoo.scratch import recurrent
from zoo.scratch.drift import loss_curve
from zoo.scratch.recurrent import ChoGRUCell, CommonGRUCell, ElmanCell, gates, through_time, unrolled
from zoo.scratch.swap import TWINS, from_scratch

D, H, B, T = 3, 4, 5, 6
LAYERS = {
    "RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU, "ReLU": partial(nn.RNN, nonlinearity="relu"),
}  # fmt: skip
CELLS = {
    "RNN": nn.RNNCell, "LSTM": nn.LSTMCell, "GRU": nn.GRUCell, "ReLU": partial(nn.RNNCell, nonlinearity="relu"),
}  # fmt: skip
SETTINGS = [
    {},
    {"bias": False, "batch_first": True},
    {"num_layers": 3},
    {"bidirectional": True},
    {"num_layers": 2, "bidirectional": True, "batch_first": True},
    {"num_layers": 2, "bidirectional": True, "bias": False},
]
close = partial(torch.testing.assert_close, rtol=1e-11, atol=1e-13)
named = partial(pytest.mark.parametrize, "name", list(LAYERS))


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def filled(module: nn.Module, seed: int = 0) -> nn.Module:
    """In float64, with weights large enough for gates to open and shut."""
    module = module.double()
    for i, parameter in enumerate(module.parameters()):
        parameter.data = 0.8 * randn(*parameter.shape, seed=100 * seed + i + 1)
    return module


def twin_of(module: nn.Module) -> nn.Module:
    twin = copy.deepcopy(module)
    kind = type(module).__name__
    assert from_scratch(twin) == ([kind], [])
    assert type(twin) is getattr(recurrent, kind)
    assert list(twin.state_dict()) == list(module.state_dict())
    return twin


def tensors(answer) -> list[torch.Tensor]:
    """All of an answer, whatever its form."""
    if isinstance(answer, torch.Tensor):
        return [answer]
    if isinstance(answer, PackedSequence):
        return [answer.data]
    return [tensor for part in answer for tensor in tensors(part)]


def found(module: nn.Module, call, leaves: list[torch.Tensor]) -> list[torch.Tensor]:
    """Outputs, final state, and the gradients of both by the leaves and by the parameters."""
    leaves = [leaf.clone().requires_grad_() for leaf in leaves]
    torch.manual_seed(1)
    answer = tensors(call(module, *leaves))
    loss = sum((part * torch.linspace(-1, 1, part.numel(), dtype=part.dtype).view_as(part)).sum() for part in answer)
    gradients = torch.autograd.grad(loss, [*leaves, *module.parameters()])
    return [part.detach() for part in answer] + list(gradients)


def assert_twins(module: nn.Module, call, *leaves: torch.Tensor) -> None:
    for theirs, own in zip(found(module, call, leaves), found(twin_of(module), call, leaves), strict=True):
        close(own, theirs)


def initial(layers: nn.RNNBase, *, samples: int = B) -> list[torch.Tensor]:
    """A state to begin with: one tensor, or two of an LSTM."""
    shape = (layers.num_layers * (1 + layers.bidirectional), samples, layers.hidden_size)
    return [randn(*shape, seed=7), randn(*shape, seed=8)][: 2 if layers.mode == "LSTM" else 1]


def hx(state) -> torch.Tensor | tuple[torch.Tensor, ...] | None:
    return None if not state else state[0] if len(state) == 1 else tuple(state)


def test_every_recurrent_twin_is_tested():
    kinds = {type(made(D, H)) for made in (*LAYERS.values(), *CELLS.values())}
    assert kinds == {kind for kind, twin in TWINS.items() if twin.__module__ == recurrent.__name__}


# Layers


@named()
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("given", [False, True], ids=["from nothing", "from a state"])
def test_layers_are_torchs_forward_backward_and_in_their_state(name, settings, given):
    layers = filled(LAYERS[name](D, H, **settings))
    x = randn(*((B, T) if layers.batch_first else (T, B)), D)
    assert_twins(layers, lambda m, x, *state: m(x, hx(state)), x, *(initial(layers) if given else []))


@named()
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (1, 7, 2, 1), (5, 1, 1, 9), (2, 3, 8, 2)], ids=str)
def test_layers_are_torchs_at_other_sizes(name, sizes):
    inputs, hidden, samples, steps = sizes
    layers = filled(LAYERS[name](inputs, hidden, num_layers=2, bidirectional=True))
    assert_twins(layers, lambda m, x: m(x), randn(steps, samples, inputs))


@named()
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("in_order", [True, False], ids=["longest first", "in any order"])
@pytest.mark.parametrize("given", [False, True], ids=["from nothing", "from a state"])
def test_layers_are_torchs_on_packed_sequences(name, settings, in_order, given):
    layers = filled(LAYERS[name](D, H, **settings))
    lengths = torch.tensor([6, 6, 4, 1, 1] if in_order else [1, 6, 4, 6, 1])

    def call(module, x, *state):
        return module(pack_padded_sequence(x, lengths, enforce_sorted=in_order), hx(state))

    assert_twins(layers, call, randn(T, B, D), *(initial(layers) if given else []))


@named()
@pytest.mark.parametrize("batch_first", [True, False])
def test_one_sequence_without_a_batch_is_read_as_torch_does(name, batch_first):
    layers = filled(LAYERS[name](D, H, num_layers=2, batch_first=batch_first))
    state = [part[:, 0] for part in initial(layers)]
    assert_twins(layers, lambda m, x: m(x), randn(T, D))
    assert_twins(layers, lambda m, x, *state: m(x, hx(state)), randn(T, D), *state)


@named()
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("lengths", [None, [1, 6, 4, 6, 2]], ids=["whole", "packed"])
def test_dropout_falls_between_layers_on_the_values_that_torch_draws(name, training, lengths):
    layers = filled(LAYERS[name](D, H, num_layers=3, bidirectional=True, dropout=0.4)).train(training)

    def call(module, x):
        return module(x if lengths is None else pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False))

    assert_twins(layers, call, randn(T, B, D))


@named()
def test_a_batch_of_another_size_than_its_state_stops(name):
    twin = twin_of(filled(LAYERS[name](D, H)))
    with pytest.raises(RuntimeError, match="Expected hidden"):
        twin(randn(T, B, D), hx(initial(twin, samples=1)))


def test_a_states_second_part_goes_on_where_the_first_stopped():
    twin = twin_of(filled(nn.LSTM(D, H, num_layers=2)))
    x = randn(T, B, D)
    whole, end = twin(x)
    first, state = twin(x[:2])
    second, state = twin(x[2:], state)
    close(torch.cat([first, second]), whole)
    close(state, end)


# Cells


@named()
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("samples", [(), (B,)], ids=["one", "a batch"])
@pytest.mark.parametrize("given", [False, True], ids=["from nothing", "from a state"])
def test_cells_are_torchs(name, bias, samples, given):
    cell = filled(CELLS[name](D, H, bias=bias))
    state = [randn(*samples, H, seed=1), randn(*samples, H, seed=2)][: 2 if name == "LSTM" else 1] if given else []
    assert_twins(cell, lambda m, x, *state: m(x, hx(state)), randn(*samples, D), *state)


def test_a_cells_state_of_another_batch_stops():
    with pytest.raises(ValueError, match=r"\(B, 4\)"):
        twin_of(filled(nn.GRUCell(D, H)))(randn(B, D), randn(1, H))


@named()
def test_a_cell_at_every_step_is_a_layer(name):
    layers, cell = filled(LAYERS[name](D, H, batch_first=True)), CELLS[name](D, H).double()
    cell.load_state_dict({key.removesuffix("_l0"): value for key, value in layers.state_dict().items()})
    x = randn(B, T, D)
    outputs, state = through_time([twin_of(cell)] * T, x)
    expected, end = layers(x)
    close(outputs, expected)
    close(tensors(state), [part[0] for part in tensors(end)])


@pytest.mark.parametrize("name", ["RNN", "ReLU"])
def test_an_elman_cell_has_one_bias_where_torchs_layer_has_two(name):
    layers = filled(LAYERS[name](D, H, batch_first=True))
    cell = filled(ElmanCell(input_size=D, hidden_size=H, output_size=2, f=torch.tanh if name == "RNN" else torch.relu))
    w, u, *biases = layers.parameters()
    cell.W.data, cell.U.data, cell.b.data = w.data, u.data, (biases[0] + biases[1]).data
    x = randn(B, T, D)
    close(through_time([cell] * T, x)[0], layers(x)[0])


@pytest.mark.parametrize("f", [torch.sin, torch.sigmoid])
@pytest.mark.parametrize("g", [None, partial(torch.softmax, dim=-1), torch.exp])
def test_an_elman_cell_takes_any_f_and_g(f, g):
    cell = filled(ElmanCell(input_size=D, hidden_size=H, output_size=2, f=f, g=g))
    x, h = randn(B, D), randn(B, H, seed=1)
    for sample in range(B):  # sums and products one by one
        new = f(torch.stack([cell.U[i] @ h[sample] + cell.W[i] @ x[sample] + cell.b[i] for i in range(H)]))
        y = torch.stack([cell.V[k] @ new + cell.c[k] for k in range(2)])
        close(cell(x, h)[sample], new)
        close(cell.output(cell(x, h))[sample], y if g is None else g(y))
    close(cell(x), cell(x, torch.zeros(B, H, dtype=torch.float64)))


# Three conventions of the GRU


def common_from(cho: ChoGRUCell, sign: int) -> CommonGRUCell:
    """The common write-up with the weights of Cho's, and W_z times `sign`."""
    common = CommonGRUCell(input_size=D, hidden_size=H).double()
    common.W_z.data = sign * torch.cat([cho.U_z, cho.W_z], 1).data
    common.W_r.data = torch.cat([cho.U_r, cho.W_r], 1).data
    common.W.data = torch.cat([cho.U, cho.W], 1).data
    return common


def torchs_from(cho: ChoGRUCell) -> nn.GRUCell:
    cell = nn.GRUCell(D, H, bias=False).double()
    cell.weight_ih.data = torch.cat([cho.W_r, cho.W_z, cho.W]).data
    cell.weight_hh.data = torch.cat([cho.U_r, cho.U_z, cho.U]).data
    return cell


def states(cell: nn.Module) -> torch.Tensor:
    return through_time([cell] * T, randn(B, T, D))[0]


def cho_cell(**settings) -> ChoGRUCell:
    return filled(ChoGRUCell(input_size=D, hidden_size=H, **settings))


def test_the_common_gru_is_chos_with_the_update_gates_weights_negated():
    cho = cho_cell()
    close(states(common_from(cho, -1)), states(cho))
    assert not torch.allclose(states(common_from(cho, 1)), states(cho), atol=0.1)


def test_torchs_gru_is_chos_with_the_reset_after_the_product():
    cho, after = cho_cell(), cho_cell(reset_after=True)
    close(states(torchs_from(after)), states(after))
    assert not torch.allclose(states(torchs_from(cho)), states(cho), atol=0.1)


def test_where_the_product_is_unit_by_unit_all_three_grus_are_one():
    cho = cho_cell()
    cho.U.data = cho.U.data.diag().diag()  # r * (U h) = U (r * h)
    close(states(torchs_from(cho)), states(cho))
    close(states(common_from(cho, -1)), states(cho))


# Unrolled


def feed_forward(cells: list[nn.Module], cell: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A loss of all states (and of the outputs of an Elman cell) of the network of these layers."""
    hidden, _ = through_time(cells, x)
    if isinstance(cell, ElmanCell):
        hidden = torch.stack([one.output(h) for one, h in zip(cells, hidden.unbind(1), strict=True)], 1)
    return (hidden * torch.linspace(-1, 1, hidden.numel(), dtype=torch.float64).view_as(hidden)).sum()


UNROLLED = {
    "Elman": lambda: ElmanCell(input_size=D, hidden_size=H, output_size=2),
    "LSTM": lambda: twin_of(nn.LSTMCell(D, H)), "GRU": lambda: twin_of(nn.GRUCell(D, H)),
    "common GRU": lambda: CommonGRUCell(input_size=D, hidden_size=H),
}  # fmt: skip


@pytest.mark.parametrize("name", UNROLLED)
def test_the_unrolled_network_is_the_recurrent_one_and_its_copies_gradients_sum_to_that_of_the_weights(name):
    cell = filled(UNROLLED[name]())
    copies, x = unrolled(cell, T), randn(B, T, D)
    losses = [feed_forward([cell] * T, cell, x), feed_forward(list(copies), cell, x)]
    close(*losses)
    for loss in losses:
        loss.backward()
    for key, parameter in cell.named_parameters():
        of_copies = torch.stack([one.get_parameter(key).grad for one in copies])
        close(parameter.grad, of_copies.sum(0))
        assert not torch.allclose(of_copies[0], of_copies[-1])  # each copy has a gradient of its own


def test_a_stack_of_dense_layers_with_shared_weights_is_torchs_rnn():
    """Without any code of ours: layer t is dense, on the step and the layer below it."""
    layers = filled(nn.RNN(D, H, batch_first=True))
    w, u, b, b2 = layers.parameters()
    dense = nn.ModuleList(nn.Linear(H + D, H).double() for _ in range(T))
    x, h, hidden = randn(B, T, D), torch.zeros(B, H, dtype=torch.float64), []
    for layer, step in zip(dense, x.unbind(1), strict=True):
        layer.weight.data, layer.bias.data = torch.cat([u, w], 1).data, (b + b2).data
        h = torch.tanh(layer(torch.cat([h, step], 1)))
        hidden.append(h)
    expected = layers(x)[0]
    close(torch.stack(hidden, 1), expected)
    torch.stack(hidden, 1).square().sum().backward()
    expected.square().sum().backward()
    close(torch.cat([u.grad, w.grad], 1), sum(layer.weight.grad for layer in dense))
    close(b.grad, sum(layer.bias.grad for layer in dense))


# Gates


@pytest.mark.parametrize("twin", [False, True], ids=["torchs", "twin"])
@pytest.mark.parametrize("batch_first", [True, False])
def test_an_lstms_gates_explain_its_states(batch_first, twin):
    layers = filled(nn.LSTM(D, H, num_layers=2, bidirectional=True, dropout=0.5, batch_first=batch_first))
    layers = twin_of(layers) if twin else layers
    x, state = randn(B, T, D), tuple(initial(layers))
    outputs, (_, end) = layers.eval()(x if batch_first else x.transpose(0, 1), state)
    outputs = outputs if batch_first else outputs.transpose(0, 1)
    layers.train()  # what is seen is the network in evaluation, whatever it is doing
    for backwards, half in enumerate(outputs.chunk(2, 2)):
        seen = gates(layers, x, state, backwards=bool(backwards))
        assert list(seen) == ["hidden", "cell", "input", "forget", "candidate", "output"]
        assert all(value.shape == (B, T, H) and not value.requires_grad for value in seen.values())
        close(seen["hidden"], half)
        close(seen["output"] * torch.tanh(seen["cell"]), half)
        first = state[1][2 + backwards].unsqueeze(1)
        cells = seen["cell"].flip(1) if backwards else seen["cell"]
        before = torch.cat([first, cells[:, :-1]], 1)
        before = before.flip(1) if backwards else before
        close(seen["forget"] * before + seen["input"] * seen["candidate"], seen["cell"])
        close(cells[:, -1], end[2 + backwards])
    assert layers.training


def test_a_grus_gates_explain_its_states():
    layers = filled(nn.GRU(D, H, num_layers=2, batch_first=True))
    seen = gates(layers, randn(B, T, D), layer=-1)
    below = gates(layers, randn(B, T, D), layer=0)["hidden"]
    close(seen["hidden"], layers(randn(B, T, D))[0])
    before = torch.cat([torch.zeros(B, 1, H, dtype=torch.float64), seen["hidden"][:, :-1]], 1)
    close((1 - seen["update"]) * seen["candidate"] + seen["update"] * before, seen["hidden"])
    weight, bias = layers.weight_ih_l1[:H], layers.bias_ih_l1[:H] + layers.bias_hh_l1[:H]
    close(seen["reset"], torch.sigmoid(below @ weight.T + before @ layers.weight_hh_l1[:H].T + bias))


def test_a_forget_gate_is_a_share_and_no_switch():
    seen = gates(filled(nn.LSTM(D, H)), randn(50, T, D))["forget"]
    assert 0 < seen.min() < 0.1
    assert 0.9 < seen.max() < 1
    assert ((seen > 0.1) & (seen < 0.9)).double().mean() > 0.3  # neither open nor shut


@pytest.mark.parametrize("wrong", [{"layer": 2}, {"layer": -3}, {"backwards": True}])
def test_gates_of_a_layer_that_is_not_there_stop(wrong):
    with pytest.raises(ValueError, match="no layer"):
        gates(nn.GRU(D, H, num_layers=2), torch.zeros(B, T, D), **wrong)


def test_projections_are_not_read_as_if_there_were_none():
    with pytest.raises(ValueError, match="projections"):
        gates(nn.LSTM(D, H, proj_size=2), torch.zeros(B, 1, D))


# A model, and a run


def test_a_models_embedding_and_layers_are_turned_and_padding_is_passed_over():
    model = LSTM(vocab_size=9, embedding_dim=D, hidden_size=H, num_layers=2, bidirectional=True, num_outputs=2).double()
    twin = copy.deepcopy(model)
    assert from_scratch(twin) == (["Dropout", "Embedding", "LSTM", "Linear"], [])
    tokens = torch.randint(9, (B, T), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(T) < torch.tensor([[1], [6], [4], [6], [2]])
    close(twin(tokens, mask), model(tokens, mask))
    close(twin(tokens.where(mask, 0), mask), twin(tokens.where(mask, 8), mask))


def curve(folder, scratch: bool, *overrides: str) -> torch.Tensor:
    """Losses of 20 steps of 8 digits, of what `train.py` would build."""
    built = build(
        configure(*overrides, "data=digits", f"scratch={str(scratch).lower()}", "trainer.precision=64-true",
                  "trainer=cpu", "logger=none", run_dir=folder / str(scratch))
    )  # fmt: skip
    task, part = built.task, built.data.part("train")
    assert type(task.model.layers).__module__.startswith("zoo.scratch" if scratch else "torch.")
    assert not any("torch's own" in note for note in built.notes)
    batches = [part[torch.arange(i * 8, (i + 1) * 8)] for i in range(20)]
    batches = [type(b)(*(x.double() if x.is_floating_point() else x for x in b)) for b in batches]
    torch.manual_seed(0)
    task.train()
    optimizer = build_optimizer(task.build_optimizer, task.model)
    return loss_curve(lambda batch: task.losses(batch)["loss"], optimizer, batches)


@pytest.mark.parametrize(("model", "overrides"), [
    ("rnn", []), ("lstm", ["model.num_layers=2", "model.bidirectional=true", "model.dropout=0.2"]), ("gru", []),
])  # fmt: skip
def test_in_float64_the_loss_curve_is_that_of_torchs_layers(model, overrides, tmp_path):
    overrides = [f"model={model}", "optimizer.lr=0.005", *overrides]
    ours, theirs = (curve(tmp_path, scratch, *overrides) for scratch in (True, False))
    assert theirs[-5:].mean() < 0.9 * theirs[:5].mean()  # it learns, so that there is something to compare
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-7)
