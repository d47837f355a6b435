"""zoo.layers.real_steps against torch's own packed sequences: outputs, last states and gradients."""

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from zoo.layers.real_steps import over_real_steps
from zoo.models.lstm import LSTM

LENGTHS = {"one is longest": [3, 7, 1, 7, 5], "all alike": [6, 6, 6], "one row": [4], "nobody fills it": [2, 3]}


def packed(layers, x, lengths, state=None):
    steps = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    outputs, state = layers(steps, state)
    return pad_packed_sequence(outputs, batch_first=True, total_length=x.shape[1])[0], state


def parts(state):
    return state if isinstance(state, tuple) else (state,)


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=list(LENGTHS))
@pytest.mark.parametrize("begun", [False, True], ids=["from zero", "from a state"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize(
    ("cell", "options"),
    [(nn.RNN, {}), (nn.RNN, {"nonlinearity": "relu"}), (nn.GRU, {}), (nn.LSTM, {}), (nn.LSTM, {"bias": False})],
    ids=["tanh", "relu", "gru", "lstm", "lstm without bias"],
)
def test_it_is_what_torch_makes_of_packed_sequences(cell, options, num_layers, bidirectional, begun, lengths):
    torch.manual_seed(0)
    layers = cell(3, 4, num_layers, batch_first=True, bidirectional=bidirectional, **options).double()
    lengths = torch.tensor(lengths)
    x = torch.randn(len(lengths), 7, 3, dtype=torch.double, requires_grad=True)
    number = 2 if cell is nn.LSTM else 1
    state = torch.randn(
        number, num_layers * (1 + bidirectional), len(lengths), 4, dtype=torch.double, requires_grad=True
    )
    given = None if not begun else tuple(state) if number == 2 else state[0]
    leaves = [x, *layers.parameters(), *([state] if begun else [])]
    found = []
    for way in (packed, over_real_steps):
        outputs, ended = way(layers, x, lengths, given)
        sums = outputs.square().sum() + sum((k + 1) * part.sin().sum() for k, part in enumerate(parts(ended)))
        found.append([outputs, *parts(ended), *torch.autograd.grad(sums, leaves)])
    assert isinstance(ended, tuple) == (cell is nn.LSTM)
    for theirs, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_dropout_between_layers_of_two_directions_is_there_in_training_alone():
    torch.manual_seed(0)
    layers = nn.GRU(3, 200, 2, batch_first=True, bidirectional=True, dropout=0.5)
    x, lengths = torch.randn(2, 5, 3), torch.tensor([5, 3])
    first, second = (over_real_steps(layers, x, lengths)[0] for _ in range(2))
    assert not torch.equal(first, second)
    layers.eval()
    torch.testing.assert_close(over_real_steps(layers, x, lengths)[0], packed(layers, x, lengths)[0])


def test_what_stands_in_padding_changes_nothing():
    layers = nn.LSTM(3, 4, batch_first=True, bidirectional=True)
    x, lengths = torch.randn(2, 5, 3), torch.tensor([5, 3])
    other = x.clone()
    other[1, 3:] = torch.nan
    assert torch.equal(over_real_steps(layers, x, lengths)[0], over_real_steps(layers, other, lengths)[0])


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_hook_sees_one_call_of_all_real_steps(bidirectional):
    layers, seen = nn.GRU(3, 4, batch_first=True, bidirectional=bidirectional), []
    x, lengths = torch.randn(2, 5, 3), torch.tensor([5, 3])
    without = over_real_steps(layers, x, lengths)[0]
    handle = layers.register_forward_hook(lambda module, given, answer: seen.append(answer[0].data.shape))
    torch.testing.assert_close(over_real_steps(layers, x, lengths)[0], without)
    handle.remove()
    assert seen == [(8, 4 * (1 + bidirectional))]


@pytest.mark.parametrize("bidirectional", [False, True])
def test_compiled_nothing_is_compiled_again_for_other_lengths(bidirectional):
    """Some graphs for the first sizes, as many for any sizes; of what stands around recurrent layers there is none."""
    torch._dynamo.reset()
    counter, graphs = CompileCounter(), []
    torch.manual_seed(0)
    model = LSTM(num_outputs=2, vocab_size=9, embedding_dim=3, hidden_size=4, bidirectional=bidirectional)
    compiled = torch.compile(model, backend=counter)
    for _ in range(12):
        longest = int(torch.randint(4, 30, ()))
        lengths = torch.randint(1, longest + 1, (6, 1)).index_fill(0, torch.tensor(0), longest)
        tokens, mask = torch.randint(2, 9, (6, longest)), torch.arange(longest) < lengths
        with torch.no_grad():
            torch.testing.assert_close(compiled(tokens, mask), model(tokens, mask))
        graphs.append(counter.frame_count)
    torch._dynamo.reset()
    assert 0 < graphs[0] < graphs[2] == graphs[-1]
