"""Each operation on images does what is known of it, alone and in one warp with the others."""

import hashlib

import pytest
import torch
from torch.nn import functional as F
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as torchvision

from zoo.augment import images as module
from zoo.augment.draws import NOISE, Draws
from zoo.augment.images import RATIO, ImageAugment
from zoo.augment.tables import TableAugment
from zoo.augment.warp import View, sources, warp
from zoo.config.settings import check_settings
from zoo.errors import UserError
from zoo.run import configure

NUM_IMAGES = 203
ANY = torch.Generator().manual_seed(0)
IMAGES = torch.randint(1, 256, (NUM_IMAGES, 3, 9, 7), dtype=torch.uint8, generator=ANY)
LEVELS = torch.rand(6, 2, 12, 12, generator=ANY) * 255  # not whole ones
LEAST = 1e-9  # a limit that brings in the warp and moves nothing
# Limits of all operations but flips, by which one can be seen in what another has made.
EVERY = {
    **{"brightness": 0.3, "contrast": 0.4, "shear": 10.0, "scale": 0.2, "rotate": 20.0},
    **{"translate": 0.1, "shift": 2, "crop": 0.3},
}


def changed(*, images=IMAGES, epoch: int = 0, seed: int = 0, **limits) -> torch.Tensor:
    """All images, augmented at once."""
    return ImageAugment(**limits)(images, torch.arange(len(images)), epoch, seed)


def seen(number: int = 6, **parts) -> View:
    """A view in which all is as it was but for `parts`, numbers or (B,) tensors, pairs of them for x and y."""
    plain = {"shear": 0.0, "scale": 1.0, "rotate": 0.0, "move": (0.0, 0.0), "centre": (0.0, 0.0), "sides": (1.0, 1.0)}

    def doubles(value):
        if isinstance(value, tuple):
            return torch.stack([doubles(each) for each in value])
        return torch.as_tensor(value, dtype=torch.float64).expand(number)

    return View(**{name: doubles(value) for name, value in (plain | parts).items()})


def warped(levels=LEVELS, **parts) -> torch.Tensor:
    return warp(levels, sources(seen(len(levels), **parts)))


def moved(images: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """By whole pixels, with zeros coming in."""
    height, width = images.shape[2:]
    made = images.roll((down, right), (2, 3))
    made[:, :, : max(0, down)] = made[:, :, :, : max(0, right)] = 0
    made[:, :, height + min(0, down) :] = made[:, :, :, width + min(0, right) :] = 0
    return made


# --- the warp ---


def test_a_view_of_the_image_as_it_is_changes_nothing():
    assert torch.allclose(warped(), LEVELS, atol=0.01)


@pytest.mark.parametrize("turns", [1, 2, 3, -1])
def test_a_quarter_turn_is_counter_clockwise_and_loses_nothing(turns):
    assert torch.allclose(warped(rotate=90.0 * turns), torch.rot90(LEVELS, turns, (2, 3)), atol=0.01)


def test_a_scale_of_two_shows_the_middle_twice_as_large():
    whole = F.interpolate(LEVELS, scale_factor=2.0, mode="bilinear", align_corners=False)  # (6, 2, 24, 24)
    assert torch.allclose(warped(scale=2.0), whole[:, :, 6:18, 6:18], atol=0.01)


def test_a_scale_of_one_half_leaves_a_black_frame():
    made = warped(scale=0.5)
    assert (made[:, :, 3:9, 3:9] > 0).all()
    made[:, :, 3:9, 3:9] = 0
    assert (made == 0).all()


@pytest.mark.parametrize(("right", "down"), [(3, 0), (0, 2), (-2, 4), (12, 0)])
def test_a_move_by_whole_pixels_is_a_shift(right, down):
    assert torch.allclose(warped(move=(right, down)), moved(LEVELS, down, right), atol=0.01)


def test_a_move_by_half_a_pixel_is_the_mean_of_neighbours():
    made = warped(move=(0.5, 0.0))
    assert torch.allclose(made[..., 1:], (LEVELS[..., 1:] + LEVELS[..., :-1]) / 2, atol=0.01)


def test_a_shear_of_45_degrees_leans_the_top_of_an_upright_line_to_the_right():
    line = torch.zeros(1, 1, 9, 9)
    line[..., 4] = 200.0
    assert torch.allclose(warped(line, shear=45.0)[0, 0], 200 * torch.eye(9).flip(1), atol=0.01)
    assert torch.allclose(warped(line, shear=-45.0)[0, 0], 200 * torch.eye(9), atol=0.01)


def test_a_crop_is_torchvisions_resized_crop():
    made = warped(centre=(1.0, -1.0), sides=(8 / 12, 6 / 12))  # from row 2, column 3
    expected = torchvision.resized_crop(LEVELS, 2, 3, 6, 8, [12, 12], antialias=False)
    # At its rim ours sees what lies beyond the window; theirs has thrown it away.
    assert torch.allclose(made[:, :, 1:-1, 1:-1], expected[:, :, 1:-1, 1:-1], atol=0.01)


@pytest.mark.parametrize("size", [(12, 12), (9, 14)])
def test_shear_scale_rotation_and_move_are_torchvisions_affine(size):
    generator = torch.Generator().manual_seed(1)
    levels = torch.rand(6, 3, *size, generator=generator) * 255

    def uniform(low, high):
        return low + (high - low) * torch.rand(6, generator=generator, dtype=torch.float64)

    rotate, scale, shear, x, y = uniform(-180, 180), uniform(0.5, 2), uniform(-40, 40), uniform(-4, 4), uniform(-4, 4)
    made = warped(levels, rotate=rotate, scale=scale, shear=shear, move=(x, y))
    for i in range(6):
        # Their angle turns clockwise.
        expected = torchvision.affine(
            levels[i], -float(rotate[i]), [float(x[i]), float(y[i])], float(scale[i]), [float(shear[i]), 0.0],
            interpolation=InterpolationMode.BILINEAR,
        )  # fmt: skip
        assert torch.allclose(made[i], expected, atol=0.05), i


def test_a_chain_is_its_parts_one_after_the_other():
    def homogeneous(**parts):
        corner = torch.tensor([[0.0], [0.0], [1.0]], dtype=torch.float64).expand(6, 3, 1)
        return torch.cat([sources(seen(**parts)), corner], dim=2).mT  # (6, 3, 3), acts on (x, y, 1)

    parts = {"shear": 20.0, "scale": 1.3, "rotate": 33.0, "move": (2.0, -1.5)}
    crop = {"centre": (1.0, -2.0), "sides": (0.8, 0.6)}
    back = torch.eye(3, dtype=torch.float64)
    for name, value in parts.items():
        back = back @ homogeneous(**{name: value})  # what is done last is undone first
    assert torch.allclose(homogeneous(**parts, **crop), back @ homogeneous(**crop))


# --- what is drawn ---


def test_each_parameter_is_uniform_between_its_limits():
    limits = {"shear": 12.0, "scale": 0.5, "rotate": 30.0, "translate": 0.25, "crop": 0.6, "shift": 0}
    view = ImageAugment(**limits).view(Draws(torch.arange(50_000), 1, 2), 20, 40)
    lost = 1 - view.sides.prod(0)
    room = (1 - view.sides) * torch.tensor([[40], [20]]) / 2  # how far a window may move
    share = {  # each should be uniform in [0, 1)
        "lost": lost / 0.6,
        "shear": view.shear / 24 + 0.5,
        "scale": view.scale.log() / (2 * torch.tensor(1.5).log()) + 0.5,
        "rotate": view.rotate / 60 + 0.5,
        "x": view.move[0] / 20 + 0.5,
        "y": view.move[1] / 10 + 0.5,
        "column": view.centre[0] / (2 * room[0]) + 0.5,
        "row": view.centre[1] / (2 * room[1]) + 0.5,
    }
    roomy = lost > 0.01  # a window as large as the image has no place to choose
    for name, values in share.items():
        values = values[roomy] if name in ("column", "row") else values
        assert values.min() >= -1e-6, name
        assert values.max() <= 1 + 1e-6, name
        counts = torch.bincount((values * 20).long().clamp(0, 19), minlength=20)
        expected = len(values) / 20
        assert ((counts - expected) ** 2 / expected).sum() < 44, name  # chi squared of 19 degrees, 1 in 1000
    correlation = torch.corrcoef(torch.stack(list(share.values()))[:, roomy]) - torch.eye(8)
    assert correlation.abs().max() < 0.02, "one draws what another has drawn"


def test_a_crop_lies_in_the_image_and_is_stretched_by_at_most_a_third():
    view = ImageAugment(crop=0.92).view(Draws(torch.arange(20_000), 0, 0), 32, 32)
    assert ((view.centre.abs() * 2 + view.sides * 32) <= 32 + 1e-9).all()
    stretch = view.sides[0] / view.sides[1]
    assert stretch.max() == pytest.approx(RATIO, rel=0.001)
    assert stretch.min() == pytest.approx(1 / RATIO, rel=0.001)
    assert view.sides.prod(0).min() == pytest.approx(0.08, abs=0.001)


def test_an_operation_that_is_turned_on_leaves_what_the_others_draw():
    draws = Draws(torch.arange(50), 3, 4)
    together = ImageAugment(**EVERY).view(draws, 12, 12)
    for limit, parts in {
        "shear": ["shear"],
        "scale": ["scale"],
        "rotate": ["rotate"],
        "crop": ["centre", "sides"],
    }.items():
        alone = ImageAugment(**{limit: EVERY[limit]}).view(draws, 12, 12)
        for part in parts:
            assert torch.equal(getattr(alone, part), getattr(together, part)), part
    apart = [ImageAugment(**{limit: EVERY[limit]}).view(draws, 12, 12).move for limit in ("translate", "shift")]
    assert torch.allclose(sum(apart), together.move)
    assert torch.equal(
        ImageAugment(**EVERY).line(IMAGES[:50], draws),
        ImageAugment(brightness=0.3, contrast=0.4).line(IMAGES[:50], draws),
    )


def test_a_cutout_and_a_flip_are_where_they_were_whatever_else_is_on():
    plain, cut = changed(**EVERY), changed(**EVERY, cutout=3)
    hole = changed(images=torch.full_like(IMAGES, 9), cutout=3) == 0
    assert torch.equal(cut, plain.masked_fill(hole, 0))
    for flip in ("flip", "vertical_flip"):
        for limits in ({flip: 0.5}, {flip: 0.5, "cutout": 3}):
            assert torch.equal(changed(**limits, rotate=LEAST), changed(**limits))


def test_draws_keep_their_numbers():
    """Or a recipe that was measured with them would train on other pixels."""
    numbers = [getattr(module, name) for name in ("FLIP", "DOWN", "RIGHT", "HOLE_ROW", "HOLE_COLUMN")]
    assert (*numbers, NOISE) == (0, 1, 2, 3, 4, 16)
    images = torch.arange(6 * 63).view(6, 1, 9, 7).to(torch.uint8)
    made = changed(images=images, flip=0.5, shift=2, cutout=3, epoch=3, seed=7)
    assert hashlib.sha256(made.numpy().tobytes()).hexdigest()[:16] == "14060b7d85acb327"


def test_the_draws_of_images_are_apart_from_one_another_and_from_those_of_noise():
    names = [name for name in vars(module) if name.isupper() and name not in ("GREY", "MOST", "PIECE", "RATIO")]
    numbers = {getattr(module, name) for name in names}
    assert len(numbers) == len(names) == 17
    assert not any(NOISE <= number < 2**40 for number in numbers)


# --- each operation ---


def test_nothing_is_changed_where_all_is_off():
    assert torch.equal(changed(), IMAGES)
    rows = torch.randn(5, 3)
    assert torch.equal(TableAugment()(rows, torch.arange(5), 0, 0), rows)


@pytest.mark.parametrize("limit", ["brightness", "contrast", "shear", "scale", "rotate", "translate", "crop", "noise"])
def test_limits_of_next_to_nothing_give_the_same_bits(limit):
    assert torch.equal(changed(**{limit: LEAST}), IMAGES)


@pytest.mark.parametrize("axis", ["flip", "vertical_flip"])
@pytest.mark.parametrize("share", [0.2, 0.5, 1.0])
def test_the_share_of_mirrored_images_is_the_probability(share, axis):
    images = torch.zeros(20_000, 1, 2, 2, dtype=torch.uint8)
    images[:, 0, 0, 0] = 1
    made = changed(images=images, **{axis: share})[:, 0]
    mirrored = made[:, 0, 1] if axis == "flip" else made[:, 1, 0]
    assert mirrored.double().mean() == pytest.approx(share, abs=0.014)


@pytest.mark.parametrize(("limit", "axis"), [("flip", 3), ("vertical_flip", 2)])
def test_a_flip_is_along_one_axis_and_nothing_else(limit, axis):
    made = changed(**{limit: 0.5})
    as_before, mirrored = ((made == images).flatten(1).all(1) for images in (IMAGES, IMAGES.flip(axis)))
    assert (as_before ^ mirrored).all()
    assert as_before.any()
    assert mirrored.any()


@pytest.mark.parametrize("most", [1, 3])
def test_a_shift_moves_by_every_step_up_to_its_size_and_brings_in_zeros(most):
    images = torch.randint(1, 256, (2000, 2, 9, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    made = changed(images=images, shift=most)
    seen = torch.zeros(2 * most + 1, 2 * most + 1, dtype=torch.long)
    for down in range(-most, most + 1):
        for right in range(-most, most + 1):
            seen[down, right] = (made == moved(images, down, right)).flatten(1).all(1).sum()
    assert seen.sum() == 2000, "every image is the one that was given, moved"
    share = 2000 / seen.numel()
    assert seen.tolist() == [pytest.approx([share] * len(row), abs=5 * share**0.5) for row in seen.tolist()]


@pytest.mark.parametrize("most", [2, 9])
def test_a_shift_within_a_warp_is_the_exact_one(most):
    assert torch.equal(changed(shift=most, rotate=LEAST), changed(shift=most))
    channels_last = IMAGES.to(memory_format=torch.channels_last)
    assert torch.equal(changed(images=channels_last, shift=most), changed(shift=most))


def test_each_sample_is_warped_by_the_parameters_that_it_drew():
    """Through the whole of it, from uint8 to uint8, against torchvision on one image at a time."""
    limits = {"rotate": 40.0, "scale": 0.3, "shear": 20.0, "translate": 0.2}
    view = ImageAugment(**limits).view(Draws(torch.arange(NUM_IMAGES), 0, 0), 9, 7)
    made = changed(**limits)
    for i in range(0, NUM_IMAGES, 20):
        expected = torchvision.affine(
            IMAGES[i].float(), -float(view.rotate[i]), view.move[:, i].tolist(), float(view.scale[i]),
            [float(view.shear[i]), 0.0], interpolation=InterpolationMode.BILINEAR,
        )  # fmt: skip
        assert (made[i] - expected).abs().max() <= 0.51, i


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("limits", [{"brightness": 0.4}, {"contrast": 0.9}, {"brightness": 0.2, "contrast": 0.5}])
def test_brightness_then_contrast_is_torchvisions(limits, channels):
    images = 40 + IMAGES[:, :channels] // 2  # so that nothing is clipped on the way
    factors = []
    for name in ("BRIGHTNESS", "CONTRAST"):
        either_way = 2 * Draws(torch.arange(NUM_IMAGES), 0, 0).uniform(getattr(module, name)) - 1
        factors.append(1 + limits.get(name.lower(), 0.0) * either_way)
    made = changed(images=images, **limits)
    for i in range(0, NUM_IMAGES, 10):
        expected = torchvision.adjust_brightness(images[i] / 255, float(factors[0][i]))
        expected = torchvision.adjust_contrast(expected, float(factors[1][i])) * 255
        assert (made[i] - expected).abs().max() <= 0.6, i  # their weights of the colours have four digits


def test_contrast_of_two_channels_is_about_their_common_mean():
    images = torch.full((300, 2, 4, 4), 50, dtype=torch.uint8)
    images[:, 1] = 150
    made = changed(images=images, contrast=0.8).double()
    assert ((made[:, 0] + made[:, 1] - 200).abs() <= 1).all()
    assert made[:, 1].max() > 180 > 120 > made[:, 1].min()


def test_levels_are_clipped_and_do_not_wrap():
    images = torch.full((300, 1, 2, 2), 250, dtype=torch.uint8)
    images[..., 0] = 5
    made = changed(images=images, brightness=0.5, contrast=1.0)[..., 1]
    assert made.max() == 255
    assert (made == 255).double().mean() > 0.2
    assert made.min() > 50


@pytest.mark.parametrize("limits", [{"shift": 3}, {"rotate": 45.0}, {"scale": 0.5}])
def test_what_comes_in_is_black_however_the_light_was_changed(limits):
    images = torch.full((100, 3, 9, 7), 100, dtype=torch.uint8)  # without contrast, so contrast changes nothing
    made = changed(images=images, contrast=1.0, **limits)
    assert torch.equal(made, changed(images=images, **limits))
    assert (made == 0).any()


def test_noise_has_its_deviation_and_is_clipped():
    made = changed(images=torch.full((50, 1, 40, 40), 100, dtype=torch.uint8), noise=8.0).double()
    assert made.mean() == pytest.approx(100, abs=0.15)
    assert made.std() == pytest.approx(8, abs=0.1)
    white = changed(images=torch.full((50, 1, 40, 40), 255, dtype=torch.uint8), noise=8.0)
    assert white.min() > 200, "255 + 1 is 255, not 0"
    assert (white == 255).double().mean() == pytest.approx(0.525, abs=0.01)  # normals above -0.5 / 8
    table = TableAugment(noise=0.3)(torch.zeros(5000, 8), torch.arange(5000), 0, 0)
    assert table.std() == pytest.approx(0.3, abs=0.006)


def test_noise_differs_from_channel_to_channel():
    made = changed(images=torch.full((50, 3, 20, 20), 100, dtype=torch.uint8), noise=8.0).double()
    correlation = torch.corrcoef(made.transpose(0, 1).flatten(1)) - torch.eye(3)
    assert correlation.abs().max() < 0.03


def test_a_cutout_is_one_square_of_zeros_over_all_channels_that_may_lie_partly_outside():
    images = torch.full((3000, 2, 8, 6), 9, dtype=torch.uint8)
    made = changed(images=images, cutout=3)
    hole = made == 0
    assert torch.equal(hole[:, 0], hole[:, 1])
    rows, columns = (hole[:, 0].any(axis).sum(1) for axis in (2, 1))
    assert torch.equal(rows * columns, hole[:, 0].sum((1, 2))), "a rectangle"
    assert set(rows.tolist()) == set(columns.tolist()) == {2, 3}, "cut at the border, where the centre is"
    assert (rows == 2).double().mean() == pytest.approx(2 / 8, abs=0.035)
    assert hole[:, 0].any(0).all(), "anywhere"


# --- sizes ---


def test_pieces_of_a_batch_make_no_difference(monkeypatch):
    whole = changed(**EVERY, noise=5.0)
    monkeypatch.setattr(module, "PIECE", 1000)
    assert torch.equal(changed(**EVERY, noise=5.0), whole)


@pytest.mark.parametrize("limits", [EVERY, {"shift": 2}, {"flip": 0.5}, {"noise": 5.0}, {"cutout": 2}])
def test_a_process_without_a_sample_in_the_last_batch_goes_on(limits):
    assert changed(images=IMAGES[:0], **limits).shape == (0, 3, 9, 7)


def test_images_of_one_pixel_can_be_augmented():
    images = torch.full((20, 1, 1, 1), 7, dtype=torch.uint8)
    assert changed(images=images, flip=0.5, noise=1.0, cutout=1, **EVERY).shape == images.shape


BEYOND = {
    **{"flip": 1.5, "vertical_flip": -0.1, "brightness": 1.1, "contrast": -1.0, "shear": 81.0, "scale": -0.5},
    **{"rotate": 181.0, "translate": 1.5, "shift": -1, "crop": 2.0, "noise": -0.1, "cutout": -2},
}


@pytest.mark.parametrize("key", BEYOND)
def test_an_impossible_limit_is_refused_in_one_line(key):
    with pytest.raises(UserError, match=f"augment.{key}={BEYOND[key]} must be a number from 0") as caught:
        ImageAugment(**{key: BEYOND[key]})
    assert "\n" not in str(caught.value)


def test_an_impossible_limit_is_refused_before_the_data_is_read(tmp_path):
    cfg = configure("augment=images", run_dir=tmp_path)
    check_settings(cfg)
    assert {"_target_", *BEYOND} == set(cfg.augment)
    for key, value in {**BEYOND, "shift": 1.5, "cutout": "wide"}.items():
        before, cfg.augment[key] = cfg.augment[key], value
        with pytest.raises(UserError, match=f"augment.{key}={value} must be"):
            check_settings(cfg)
        cfg.augment[key] = before
