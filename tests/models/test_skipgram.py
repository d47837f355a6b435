"""Skip-gram and CBOW: whose vectors a score multiplies, what padding counts, what is kept."""

import pytest
import torch

from zoo.errors import UserError
from zoo.losses.embeddings import negative_sampling
from zoo.models.cbow import CBOW
from zoo.models.skipgram import Skipgram

V, D = 9, 4


def network(kind):
    torch.manual_seed(0)
    model = kind(num_words=V, embedding_dim=D).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model


def drawn(*shape, seed=1):
    return torch.randint(1, V, shape, generator=torch.Generator().manual_seed(seed))


def test_a_score_is_the_product_of_the_two_vectors_of_a_pair():
    model, word, near, drawn_words = network(Skipgram), drawn(5), drawn(5, seed=2), drawn(5, 3, seed=3)
    scores = model(word, near, drawn_words).detach()
    assert scores.shape == (5, 4)
    for b in range(5):
        v = model.words.weight[word[b]].detach()
        assert scores[b, 0].item() == pytest.approx((v @ model.near.weight[near[b]]).item(), abs=1e-12)
        for n in range(3):
            assert scores[b, 1 + n].item() == pytest.approx(
                (v @ model.near.weight[drawn_words[b, n]]).item(), abs=1e-12
            )


def test_a_bag_of_one_word_is_a_pair_of_skip_gram():
    one, other = network(Skipgram), network(CBOW)
    other.load_state_dict({"words.weight": one.words.weight, "near.weight": one.near.weight})
    word, near, negatives = drawn(5), drawn(5, seed=2), drawn(5, 3, seed=3)
    bag = torch.zeros(5, 4, dtype=torch.long)
    bag[:, 2] = word  # anywhere
    torch.testing.assert_close(other(bag, near, negatives), one(word, near, negatives), rtol=0, atol=1e-12)


def test_a_bag_is_the_mean_of_its_words_whatever_their_order_and_its_padding():
    model, middle, negatives = network(CBOW), drawn(1), drawn(1, 3, seed=3)
    scores = [model(torch.tensor([bag]), middle, negatives) for bag in ([3, 5, 5], [5, 3, 5, 0, 0], [0, 5, 0, 5, 3])]
    h = (model.words.weight[3] + 2 * model.words.weight[5]) / 3
    assert scores[0][0, 0].item() == pytest.approx((h @ model.near.weight[middle[0]]).item(), abs=1e-12)
    assert torch.allclose(scores[0], scores[1], atol=1e-12)
    assert torch.allclose(scores[0], scores[2], atol=1e-12)


@pytest.mark.parametrize("kind", [Skipgram, CBOW])
def test_words_start_without_an_opinion_and_all_of_a_batch_learn(kind):
    torch.manual_seed(0)
    model = kind(num_words=V, embedding_dim=D)
    around = drawn(6, 2) if kind is CBOW else drawn(6)
    scores = model(around, drawn(6, seed=2), drawn(6, 3, seed=3))
    assert scores.abs().max() < 0.1
    negative_sampling(scores).backward()
    read = torch.zeros(V, dtype=torch.bool).index_fill(0, around.flatten(), True)
    assert torch.equal(model.words.weight.grad.ne(0).any(1), read)
    assert model.vectors is model.words.weight


@pytest.mark.parametrize("kind", [Skipgram, CBOW])
def test_sparse_gradients_are_the_same_gradients(kind):
    dense, sparse = network(kind), network(kind)
    for table in sparse.children():
        table.sparse = True
    around = drawn(6, 2) if kind is CBOW else drawn(6)
    for model in (dense, sparse):
        negative_sampling(model(around, drawn(6, seed=2), drawn(6, 3, seed=3))).backward()
    for a, b in zip(dense.parameters(), sparse.parameters(), strict=True):
        assert b.grad.is_sparse
        torch.testing.assert_close(a.grad, b.grad.to_dense(), rtol=0, atol=1e-12)
    assert all(table.sparse for table in kind(num_words=V, sparse_embedding=True).children())


def test_data_for_the_other_model_is_one_line():
    with pytest.raises(UserError, match="model=skipgram reads one word at a time"):
        network(Skipgram)(drawn(5, 2), drawn(5), drawn(5, 3))
    with pytest.raises(UserError, match=r"model=cbow .* needs data\.bag=true"):
        network(CBOW)(drawn(5), drawn(5), drawn(5, 3))
