import pytest
import torch
from torch.nn import functional as F

from zoo.errors import UserError
from zoo.models.gru import GRU
from zoo.models.lstm import LSTM
from zoo.models.rnn import RNN
from zoo.models.textcnn import TextCNN

LENGTHS = (1, 7, 2, 4, 7, 3)  # shorter than a kernel, too
SMALL = {"vocab_size": 20, "num_outputs": 3, "embedding_dim": 6}


def textcnn(**options):
    torch.manual_seed(0)
    return TextCNN(**SMALL, **{"channels": 4, "dropout": 0.0} | options).double()


def sentences(*, longest=7, seed=1):
    """Tokens of six sentences with junk for padding, and the mask."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(longest) < torch.tensor(LENGTHS).unsqueeze(1)
    return torch.randint(20, (6, longest), generator=generator), mask


def by_hand(model, tokens):
    """One sentence, one kernel, one window at a time: section 2 of the paper with zeros on both sides."""
    words = model.embedding.weight[tokens]
    features = []
    for phrase in model.phrases:
        weight, bias = phrase.conv.weight, phrase.conv.bias
        size = weight.shape[2]
        edge = words.new_zeros(size - 1, words.shape[1])
        filled = torch.cat([edge, words, edge])
        for kernel, b in zip(weight, bias, strict=True):
            answers = [F.relu((kernel.T * filled[i : i + size]).sum() + b) for i in range(len(filled) - size + 1)]
            features.append(torch.stack(answers).max())
    return model.output(torch.stack(features))


@pytest.mark.parametrize("kernel_sizes", [(3, 4, 5), (1,), (2, 6)])
def test_equals_one_window_at_a_time_forward_and_backward(kernel_sizes):
    model, (tokens, mask) = textcnn(kernel_sizes=kernel_sizes), sentences()
    ours = model(tokens, mask)
    theirs = torch.stack([by_hand(model, row[real]) for row, real in zip(tokens, mask, strict=True)])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    gradients = [torch.autograd.grad(answers.square().sum(), list(model.parameters())) for answers in (ours, theirs)]
    for (name, _), a, b in zip(model.named_parameters(), *gradients, strict=True):
        assert a.abs().sum() > 0, name
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")


def recurrent(kind, **options):
    torch.manual_seed(0)
    return kind(**SMALL, hidden_size=5, **options).double()


NETWORKS = {"textcnn": textcnn, "textcnn_one_size": lambda: textcnn(kernel_sizes=(5,))}
NETWORKS |= {
    f"{kind.__name__}_{pooling}_{'both' if bidirectional else 'one'}_{layers}": (
        lambda kind=kind, pooling=pooling, bidirectional=bidirectional, layers=layers: recurrent(
            kind, pooling=pooling, bidirectional=bidirectional, num_layers=layers
        )
    )
    for kind in (RNN, LSTM, GRU)
    for pooling in ("last", "mean", "max")
    for bidirectional in (False, True)
    for layers in (1, 2)
}


def gradients_of(model, answers):
    weights = torch.randn(answers.shape, dtype=answers.dtype, generator=torch.Generator().manual_seed(2))
    return torch.autograd.grad((weights * answers).sum(), list(model.parameters()))


@pytest.mark.parametrize("network", NETWORKS)
def test_padding_changes_neither_answer_nor_gradient(network):
    model = NETWORKS[network]()
    tokens, mask = sentences()
    alone = torch.cat([model(row[real].unsqueeze(0)) for row, real in zip(tokens, mask, strict=True)])
    expected = gradients_of(model, alone)
    for more in (0, 1, 9):  # and it does not matter how much of it there is, nor what stands in it
        wider = F.pad(tokens, (0, more), value=13), F.pad(mask, (0, more))
        answers = model(*wider)
        torch.testing.assert_close(answers, alone, rtol=0, atol=1e-12)
        for a, b in zip(gradients_of(model, answers), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("network", ["textcnn", "LSTM_mean_both_1"])
def test_words_of_padding_learn_nothing(network):
    model = NETWORKS[network]()
    tokens, mask = sentences()
    tokens = torch.where(mask, tokens % 10, 15)
    model(tokens, mask).square().sum().backward()
    embedding = model.embedding if network == "textcnn" else model.steps.embedding
    assert not embedding.weight.grad[15].any()
    assert embedding.weight.grad[:10].any()


def test_a_text_without_a_real_word_has_an_answer():
    model = textcnn()
    answers = model(torch.zeros(2, 4, dtype=torch.long), torch.zeros(2, 4, dtype=torch.bool))
    answers.sum().backward()
    assert answers.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_a_phrase_counts_wherever_it_stands():
    model = textcnn(kernel_sizes=(3,))
    early, late = torch.full((1, 9), 4), torch.full((1, 9), 4)
    early[0, 2:5] = late[0, 5:8] = torch.tensor([1, 2, 3])
    torch.testing.assert_close(model(early), model(late), rtol=0, atol=1e-12)
    assert not torch.allclose(model(early), model(torch.full((1, 9), 4)))


def test_has_the_parameters_of_the_published_sizes():
    model = TextCNN(vocab_size=1000, num_outputs=2)
    kernels = sum(100 * (300 * size + 1) for size in (3, 4, 5))
    assert sum(p.numel() for p in model.parameters()) == 1000 * 300 + kernels + 2 * 301


def test_a_sparse_gradient_is_the_dense_one():
    dense, sparse = textcnn(), textcnn(sparse_embedding=True)
    batch = sentences()
    for model in (dense, sparse):
        model(*batch).square().sum().backward()
    assert sparse.embedding.weight.grad.is_sparse
    torch.testing.assert_close(sparse.embedding.weight.grad.to_dense(), dense.embedding.weight.grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sizes", [[], [0], [3, 2.5]])
def test_kernel_sizes_that_cannot_be_are_one_line(sizes):
    with pytest.raises(UserError, match=r"model\.kernel_sizes=.* whole numbers from 1 on"):
        TextCNN(**SMALL, kernel_sizes=sizes)
