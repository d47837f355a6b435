"""Mixtures of Gaussians: where they lie, how wide they are, and that they follow from the seed."""

import math

import pytest
import torch

from zoo.data.mixtures import Grid, Ring
from zoo.errors import UserError


def points(data, part):
    batch = data.part(part)[torch.arange(len(data.part(part)))]
    return batch.x, batch.target


@pytest.mark.parametrize(("kind", "modes", "std"), [(Ring, 8, 0.02), (Grid, 25, 0.05)])
def test_points_lie_around_the_centre_that_their_label_names(kind, modes, std):
    data = kind(num_train=20_000, num_val=300, num_test=200)
    x, label = points(data, "train")
    away = x - data.centers[label]
    assert torch.cdist(x, data.centers).argmin(1).equal(label)
    assert away.std(0).tolist() == pytest.approx([std, std], rel=0.03)
    assert away.mean(0).tolist() == pytest.approx([0, 0], abs=5 * std / math.sqrt(20_000))
    counts = torch.bincount(label, minlength=modes)
    assert counts.min() > 0.8 * 20_000 / modes
    facts = data.prepare().facts
    assert (facts["num_features"], facts["num_classes"], facts["label_counts"]) == (2, modes, counts.tolist())


def test_the_centres_are_those_of_the_papers():
    ring, grid = Ring(num_train=8), Grid(num_train=8)
    torch.testing.assert_close(ring.centers.norm(dim=1), torch.full((8,), 2.0))
    assert torch.allclose(ring.centers[0], torch.tensor([2.0, 0.0]))
    apart = (ring.centers - ring.centers.roll(1, 0)).norm(dim=1)
    torch.testing.assert_close(apart, torch.full((8,), 4 * math.sin(math.pi / 8)))
    expected = {(x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)}
    assert {tuple(c) for c in grid.centers.tolist()} == expected


def test_parts_follow_from_the_seed_and_not_from_the_size_of_another():
    first, second = Ring(num_train=50, num_val=20), Ring(num_train=90, num_val=20)
    assert torch.equal(points(first, "val")[0], points(second, "val")[0])
    assert not torch.equal(points(first, "val")[0], points(first, "test")[0][:20])
    assert not torch.equal(points(first, "val")[0], points(Ring(num_train=50, num_val=20, seed=1), "val")[0])


@pytest.mark.parametrize("settings", [{"std": 0.0}, {"num_modes": 1}, {"num_train": 0}])
def test_what_is_no_mixture_is_refused_in_one_line(settings):
    with pytest.raises(UserError) as caught:
        Ring(**settings)
    assert "\n" not in str(caught.value)
