"""PCA, agreement of groups with classes, and errors as a sign of what is odd."""

import pytest
import torch
from sklearn import decomposition

from zoo.errors import UserError
from zoo.metrics.codes import auroc, clustering, fit_mean, fit_pca, in_the_plane


def samples(number=60, size=7, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    stretch = torch.linspace(3, 0.1, size, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]
    return (5 + (torch.randn(number, size, generator=generator, dtype=torch.float64) * stretch) @ turn).to(dtype)


@pytest.mark.parametrize("sizes", [[60], [1, 40, 19]], ids=str)
def test_pca_is_that_of_scikit_learn_however_the_samples_come(sizes):
    x, new = samples(), samples(9, seed=1)
    ours, theirs = fit_pca(x.split(sizes), 3), decomposition.PCA(3, svd_solver="full").fit(x.numpy())
    torch.testing.assert_close(fit_mean(x.split(sizes)), x.mean(0))
    torch.testing.assert_close(ours.mean, x.mean(0))
    same = (ours.directions @ torch.from_numpy(theirs.components_).T).abs()
    torch.testing.assert_close(same, torch.eye(3, dtype=torch.float64), atol=1e-9, rtol=0)
    back = torch.from_numpy(theirs.inverse_transform(theirs.transform(new.numpy())))
    torch.testing.assert_close(ours.squared_errors(new), (new - back).square().sum(1))
    torch.testing.assert_close(ours.decode(ours.encode(new)), back)


def test_pca_loses_the_variance_of_the_directions_it_leaves_out_and_nothing_with_all():
    x = samples()
    variances = torch.linalg.eigvalsh((x - x.mean(0)).T @ (x - x.mean(0)) / len(x)).flip(0)
    for size in (1, 4, 7):
        torch.testing.assert_close(fit_pca([x], size).squared_errors(x).mean(), variances[size:].sum())
    assert fit_pca([x], 20).directions.shape == (7, 7)


def test_pca_of_float32_far_from_0_keeps_the_variance():
    x = samples()
    far = fit_pca([(x + 1e4).float()], 2)
    near = fit_pca([x], 2)
    torch.testing.assert_close(
        far.squared_errors((x + 1e4).float()).mean(), near.squared_errors(x).mean(), rtol=1e-2, atol=0
    )


def test_codes_lie_in_a_plane():
    x = samples()
    torch.testing.assert_close(in_the_plane(x), fit_pca([x], 2).encode(x))
    assert torch.equal(in_the_plane(x[:, :2]), x[:, :2])
    assert torch.equal(in_the_plane(x[:, :1]), torch.cat([x[:, :1], torch.zeros(60, 1)], 1))


def test_groups_agree_with_classes_whatever_they_are_called():
    labels = torch.arange(30) % 3
    apart = torch.eye(3)[labels] * 10 + samples(30, 3, dtype=torch.float32) * 0.01
    assert clustering(apart, 2 - labels, 3) == pytest.approx((1, 1))
    assert abs(clustering(samples(30, 3), labels, 3).ari) < 0.3
    with pytest.raises(UserError, match="31 clusters of 30 samples"):
        clustering(apart, labels, 31)


def test_auroc_is_how_often_the_odd_one_has_the_greater_error():
    errors, odd = torch.tensor([1.0, 2.0, 3.0, 4.0, 4.0]), torch.tensor([False, True, False, True, False])
    pairs = [float(a > b) + 0.5 * float(a == b) for a in errors[odd] for b in errors[~odd]]
    assert auroc(errors, odd) == pytest.approx(sum(pairs) / len(pairs))
    for none in (torch.zeros(5, dtype=torch.bool), torch.ones(5, dtype=torch.bool)):
        with pytest.raises(UserError, match="must have samples of the odd class and others"):
            auroc(errors, none)
