import pytest
import torch
from sklearn.neighbors import NearestCentroid
from torch.nn import functional

from zoo.losses.prototypical import episode_loss, nearness, prototypes, split_episode


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shots", [2, 5])
def test_the_nearest_prototype_is_scikit_learns_nearest_centroid(shots):
    examples, queries = randn(4, shots, 5), randn(50, 5, seed=1)
    theirs = NearestCentroid().fit(examples.flatten(0, 1), torch.arange(4).repeat_interleave(shots))
    assert nearness(queries, prototypes(examples)).argmax(1).tolist() == theirs.predict(queries).tolist()


def test_it_is_a_linear_model_with_weights_of_the_prototypes():
    """Snell et al., equation 8: 2 c_k x - |c_k|^2, for |x|^2 is the same of all classes."""
    queries, centres = randn(20, 6), randn(3, 6, seed=1)
    linear = functional.linear(queries, 2 * centres, -centres.square().sum(1))
    torch.testing.assert_close(nearness(queries, centres).softmax(1), linear.softmax(1))


def test_the_first_of_each_class_are_examples_and_the_others_queries():
    labels = torch.tensor([7, 2, 2, 7, 5, 7, 2])  # of 5 there is one alone
    examples, queries, right = split_episode(labels, 1)
    assert examples.tolist() == [[1], [0]]
    assert queries.tolist() == [2, 6, 3, 5]
    assert right.tolist() == [0, 0, 1, 1]
    assert [len(part) for part in split_episode(labels, 3)] == [0, 0, 0]


def test_the_loss_is_the_mean_over_queries_and_moves_examples_too():
    embedded, labels = randn(12, 3).requires_grad_(), torch.arange(12) % 3
    loss, accuracy = episode_loss(embedded, labels, 2)
    centres = torch.stack([(embedded[k] + embedded[k + 3]) / 2 for k in range(3)])
    distances = torch.cdist(embedded[6:], centres).square()  # of 0, 1, 2, 0, 1, 2
    right = labels[6:]
    torch.testing.assert_close(loss, -(-distances).log_softmax(1)[torch.arange(6), right].mean())
    assert accuracy == (distances.argmin(1) == right).double().mean()
    loss.backward()
    assert (embedded.grad.abs().sum(1) > 0).all()


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3]])  # one class; no queries
def test_a_batch_that_is_no_episode_teaches_nothing(labels):
    embedded = randn(4, 3).requires_grad_()
    loss, accuracy = episode_loss(embedded, torch.tensor(labels), 1)
    loss.backward()
    assert (float(loss.detach()), float(accuracy), float(embedded.grad.abs().sum())) == (0, 0, 0)
