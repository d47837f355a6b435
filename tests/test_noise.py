"""Noise depends on where it is drawn alone: not on processes, not on what came before."""

import pytest
import torch

from zoo.noise import Noise, generator_at


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_processes_have_the_rows_that_one_process_has(kind, world_size):
    whole = getattr(Noise(7), kind)((3,), at=(2, 5), rows=8, like=torch.empty(8))
    for rank in range(world_size):
        like = torch.empty(len(range(rank, 8, world_size)))
        own = getattr(Noise(7, rank=rank, world_size=world_size), kind)((3,), at=(2, 5), rows=8, like=like)
        assert torch.equal(own, whole[rank::world_size])


def test_each_place_has_noise_of_its_own_and_again_the_same():
    places = [(0, 0), (0, 1), (1, 0), (0, 0, "z"), ("val", 0)]
    drawn = [Noise(seed).normal((), at=at, rows=4, like=torch.empty(4)) for seed in (0, 1) for at in places]
    assert all(not torch.equal(a, b) for i, a in enumerate(drawn) for b in drawn[:i])
    torch.manual_seed(99)
    assert torch.equal(Noise(0).normal((), at=(0, 0), rows=4, like=torch.empty(4)), drawn[0])


def test_noise_has_the_moments_of_its_distribution():
    like = torch.empty(20_000, dtype=torch.float64)
    normal, uniform = (getattr(Noise(0), kind)((), at=(0,), rows=20_000, like=like) for kind in ("normal", "uniform"))
    assert normal.dtype == torch.float64
    assert abs(normal.mean()) < 0.03
    assert abs(normal.var() - 1) < 0.05
    assert abs(uniform.mean() - 0.5) < 0.01
    assert uniform.min() >= 0 > uniform.max() - 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_uniform_noise_stays_below_1_where_numbers_near_1_round_up(dtype):
    assert Noise(0).uniform((100,), at=(0,), rows=1000, like=torch.empty(1000, dtype=dtype)).max() < 1


def test_the_last_smaller_batch_has_the_first_rows_and_too_few_are_an_error():
    whole = Noise(0).normal((2,), at=(0,), rows=6, like=torch.empty(6))
    assert torch.equal(Noise(0).normal((2,), at=(0,), rows=6, like=torch.empty(4)), whole[:4])
    with pytest.raises(ValueError, match="too few"):
        Noise(0, world_size=2).normal((2,), at=(0,), rows=6, like=torch.empty(4))


def test_the_torch_state_is_left_alone():
    state = torch.get_rng_state()
    torch.rand(3, generator=generator_at(0))
    assert torch.equal(torch.get_rng_state(), state)
