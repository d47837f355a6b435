"""Augmentation: what it does to a sample, and that nothing but seed, epoch and index decides it."""

import json

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from zoo.augment.draws import Draws, split
from zoo.augment.images import ImageAugment
from zoo.augment.music import Transpose
from zoo.augment.tables import TableAugment
from zoo.build import build
from zoo.callbacks.augmented import augmented
from zoo.config.commandline import CONFIGS, options
from zoo.data.base import Augmented, BatchOrder, Loader
from zoo.data.digits import Digits
from zoo.data.image_folder import ImageFolder, LazyImages
from zoo.data.music import Rolls, music_batch
from zoo.errors import UserError
from zoo.run import configure, run

ALL = {
    **{"flip": 0.5, "vertical_flip": 0.3, "brightness": 0.3, "contrast": 0.4, "shear": 10.0, "scale": 0.2},
    **{"rotate": 20.0, "translate": 0.1, "shift": 2, "crop": 0.3, "noise": 8.0, "cutout": 3},
}
NUM_IMAGES = 203
IMAGES = torch.randint(1, 256, (NUM_IMAGES, 3, 9, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
ROWS = torch.randn(NUM_IMAGES, 5, generator=torch.Generator().manual_seed(1))
EVERY = torch.arange(NUM_IMAGES)
KINDS = pytest.mark.parametrize(
    ("augment", "samples"),
    [(ImageAugment(**ALL), IMAGES), (TableAugment(noise=0.3), ROWS)],
    ids=["images", "table"],
)


def changed(*, images=IMAGES, epoch: int = 0, seed: int = 0, **options) -> torch.Tensor:
    """All images, augmented at once."""
    return ImageAugment(**options)(images, torch.arange(len(images)), epoch, seed)


# --- the random numbers ---


def test_the_hash_is_splitmix64():
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    found = split(torch.tensor(1234567), torch.arange(4))
    assert [value % 2**64 for value in found.tolist()] == published


def test_uniforms_are_uniform():
    draws = Draws(torch.arange(100_000), epoch=3, seed=7)
    found = draws.uniform(0).double()
    assert found.min() >= 0
    assert found.max() < 1
    assert found.mean() == pytest.approx(1 / 2, abs=0.004)  # 4 standard errors
    assert found.var() == pytest.approx(1 / 12, abs=0.001)
    counts = torch.bincount((found * 20).long(), minlength=20)
    assert ((counts - 5000) ** 2 / 5000).sum() < 44  # chi squared of 19 degrees, 1 in 1000
    assert torch.bincount(draws.below(5, 1)).tolist() == pytest.approx([20_000] * 5, abs=600)


def test_neighbours_in_index_draw_epoch_and_seed_are_uncorrelated():
    def uniform(index=0, number=0, epoch=0, seed=0):
        return Draws(torch.arange(index, index + 100_000), epoch, seed).uniform(number)

    neighbours = [uniform(**{name: 1}) for name in ("index", "number", "epoch", "seed")]
    found = torch.corrcoef(torch.stack([uniform(), *neighbours]).double()) - torch.eye(5)
    assert found.abs().max() < 0.015  # 4.7 standard errors


def test_no_stream_is_another_one_moved():
    """What adding seed, epoch, index and number up would lead to: (index, number + 1) as (index + 1, number)."""

    def addressed(index=0, number=0, epoch=0, seed=0):
        return Draws(torch.arange(index, index + 1000), epoch, seed).uniform(number)

    names = ("index", "number", "epoch", "seed")
    for i, a in enumerate(names):
        for b in names[:i]:
            assert (addressed(**{a: 1}) == addressed(**{b: 1})).double().mean() < 0.01


def test_normals_are_normal_within_a_sample_and_across_samples():
    found = Draws(torch.arange(500), epoch=0, seed=0).normal((400,)).double()  # (B, P)
    assert found.mean() == pytest.approx(0, abs=0.01)
    assert found.var() == pytest.approx(1, abs=0.015)
    assert (found**4).mean() == pytest.approx(3, abs=0.1)
    assert (found.abs() < 1).double().mean() == pytest.approx(0.6827, abs=0.005)
    for one, next_one in ((found[1:], found[:-1]), (found[:, 1:], found[:, :-1])):
        assert (one * next_one).mean() == pytest.approx(0, abs=0.01)


def test_the_global_generators_are_left_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    changed(**ALL)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()


# --- a function of seed, epoch and index alone ---


@KINDS
def test_a_sample_comes_out_alike_in_every_batch(augment, samples):
    whole = augment(samples, EVERY, 2, 5)
    order = torch.randperm(NUM_IMAGES, generator=torch.Generator().manual_seed(3))
    for size in (1, 2, 7, 64, 150):
        for indices in order.split(size):
            assert torch.equal(augment(samples[indices], indices, 2, 5), whole[indices])


@KINDS
def test_every_epoch_and_every_seed_changes_samples_in_its_own_way(augment, samples):
    one, same = (augment(samples, EVERY, 0, 0) for _ in range(2))
    assert torch.equal(one, same)
    # Epoch and seed do not stand for one another: (1, 0) is not (0, 1).
    made = [augment(samples, EVERY, *pair) for pair in [(0, 0), (1, 0), (0, 1), (1, 1), (2, 0)]]
    assert all(not torch.equal(a, b) for i, a in enumerate(made) for b in made[:i])


@KINDS
def test_no_two_samples_are_changed_in_the_same_way(augment, samples):
    alike = samples[:1].expand(50, *samples.shape[1:])
    made = augment(alike, torch.arange(50), 0, 0)
    assert len(made.flatten(1).unique(dim=0)) == 50


@KINDS
def test_the_samples_that_are_given_stay_as_they_were(augment, samples):
    before = samples.clone()
    augment(samples, EVERY, 0, 0)
    assert torch.equal(samples, before)


# --- music ---


def rolls(*, number: int = 300, low: int = 5, high: int = 83) -> list[torch.Tensor]:
    """Pieces (T, 88) of different lengths whose notes leave `low` keys free below, and those from `high` on."""
    generator = torch.Generator().manual_seed(0)
    pieces = [torch.zeros(3 + i % 5, 88, dtype=torch.uint8) for i in range(number)]
    for piece in pieces:
        piece[:, low:high] = (torch.rand(len(piece), high - low, generator=generator) < 0.1).byte()
    return pieces


def test_each_piece_is_moved_as_a_whole_by_as_many_keys_as_any_other_number_up_or_down():
    pieces = torch.stack([piece[:3] for piece in rolls()])  # (B, T, K)
    moved = Transpose(semitones=4)(pieces, torch.arange(len(pieces)), 0, 0)
    found = []
    for before, after in zip(pieces, moved, strict=True):
        steps = [step for step in range(-4, 5) if torch.equal(before.roll(step, 1), after)]
        assert len(steps) == 1
        found += steps
    assert {found.count(step) > 15 for step in range(-4, 5)} == {True}  # of 33 expected


def test_a_note_that_leaves_the_keyboard_is_lost_and_comes_in_nowhere_else():
    pieces = torch.zeros(200, 1, 88, dtype=torch.uint8)
    pieces[:, :, [0, 44, 87]] = 1
    moved = Transpose(semitones=1)(pieces, torch.arange(200), 0, 0)[:, 0].nonzero().tolist()
    kept = {tuple(key for row, key in moved if row == piece) for piece in range(200)}
    assert kept == {(43, 86), (0, 44, 87), (1, 45)}


def test_what_comes_next_is_in_the_key_of_what_was_whatever_the_batch_and_the_epoch_has_its_own():
    pieces = rolls()
    part = Rolls(music_batch, [piece[:-1] for piece in pieces], [piece[1:] for piece in pieces]).take(EVERY)
    made = Augmented(part, Transpose(semitones=5), seed=3)
    whole = {epoch: made[EVERY, epoch] for epoch in (0, 1)}
    for batch in whole.values():
        assert torch.equal(batch.x[:, 1:] * batch.mask[:, 1:, None], batch.target[:, :-1] * batch.mask[:, 1:, None])
        assert not batch.x[~batch.mask].any()
    assert not torch.equal(whole[0].x, whole[1].x)
    for indices in EVERY.split(7):
        some = made[indices, 0]
        assert torch.equal(some.x, whole[0].x[indices][:, : some.x.shape[1]])


# --- on the way to the model ---


def digits(**options) -> Digits:
    data = Digits(normalize=False, **options)
    data.augment = ImageAugment(**ALL)
    return data


def pixels(loader: Loader, epoch: int = 0) -> list[torch.Tensor]:
    loader.order.set_epoch(epoch)
    return [batch.image for batch in loader]


def test_each_process_sees_its_samples_as_one_process_would():
    part = digits().part("train")

    def batches(rank, world_size):
        order = BatchOrder(len(part), 100, shuffle=True, seed=4, rank=rank, world_size=world_size)
        return pixels(Loader(Augmented(part, ImageAugment(**ALL), seed=4), order), epoch=2)

    whole = batches(0, 1)
    for world_size in (2, 3):
        ranks = [batches(rank, world_size) for rank in range(world_size)]
        for step, expected in enumerate(whole):
            together = torch.empty_like(expected)
            for rank in range(world_size):
                together[rank::world_size] = ranks[rank][step]
            assert torch.equal(together, expected)


def test_the_training_batches_are_the_augmented_samples_in_the_order_of_plain_ones():
    data, plain = digits(seed=3), Digits(normalize=False, seed=3)
    raw = plain.part("train").tensors[0]
    loader, order = data.train_dataloader(), plain.train_dataloader().order
    for epoch in (0, 1):
        order.set_epoch(epoch)
        for image, indices in zip(pixels(loader, epoch), order, strict=True):
            assert torch.equal((image * 255).round().byte(), data.augment(raw[indices], indices, epoch, 3))


def test_black_comes_in_before_pixels_are_normalized():
    data = Digits()
    data.augment = ImageAugment(shift=8)
    image = next(iter(data.train_dataloader())).image
    mean, std = (data.prepare().preprocessing[key][0] for key in ("mean", "std"))
    assert image.min() == pytest.approx(-mean / std)


def test_validation_test_and_pictures_are_never_augmented():
    data, plain = digits(), Digits(normalize=False)
    for name in ("train", "val", "test"):
        assert all(map(torch.equal, pixels(data.loader(name)), pixels(plain.loader(name))))
    for name in ("val_dataloader", "test_dataloader"):
        assert all(map(torch.equal, pixels(getattr(data, name)()), pixels(getattr(plain, name)())))
    overfit = digits(overfit=True)
    assert not torch.equal(pixels(overfit.train_dataloader())[0].sum(0), pixels(overfit.val_dataloader())[0].sum(0))


def test_an_interrupted_epoch_goes_on_with_the_pixels_that_come_next():
    whole = pixels(digits().train_dataloader(), epoch=1)
    interrupted = digits().train_dataloader()
    interrupted.order.set_epoch(1)
    steps = iter(interrupted)
    first = [next(steps).image for _ in range(4)]
    resumed = digits().train_dataloader()
    resumed.load_state_dict(interrupted.state_dict())
    assert all(map(torch.equal, [*first, *pixels(resumed, epoch=1)], whole))
    assert len(whole) == len(resumed)


def photos(root, **options) -> ImageFolder:
    data = ImageFolder(root=str(root), image_size=8, batch_size=5, **options)
    data.augment = ImageAugment(**ALL)
    return data


def test_worker_processes_are_told_the_epoch(tmp_path):
    generator = np.random.default_rng(0)
    for i in range(24):
        path = tmp_path / f"class{i % 2}" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    in_memory, lazy, workers = photos(tmp_path), photos(tmp_path, in_memory_mb=0), photos(
        tmp_path, in_memory_mb=0, num_workers=2
    )  # fmt: skip
    assert isinstance(workers.part("train"), LazyImages)
    loaders = [data.train_dataloader() for data in (in_memory, lazy, workers)]
    assert [loader.num_workers for loader in loaders] == [0, 0, 2]
    seen = []
    for epoch in (0, 1):  # the second goes through the same, persistent workers
        expected, *others = (pixels(loader, epoch) for loader in loaders)
        for found in others:
            assert all(map(torch.equal, found, expected))
        indices = torch.cat(list(loaders[0].order)).argsort()
        seen.append(torch.cat(expected)[indices])
    assert not any(torch.equal(a, b) for a, b in zip(*seen, strict=True))


# --- from the command line ---


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("data=iris", "augment=shift"), "augment=shift is for images, and data=iris .*would do: noise, none\\."),
        (("data=iris", "augment=transpose"), "augment=transpose is for piano rolls, and .*would do: noise, none\\."),
        (
            ("data=digits", "augment=noise"),
            "augment=noise is for tables.*would do: brightness_contrast, .*, standard, translate\\.",
        ),
    ],
)
def test_an_augmentation_for_other_samples_is_refused_with_what_would_do(pair, message, tmp_path):
    with pytest.raises(UserError, match=message) as caught:
        build(configure(*pair, run_dir=tmp_path))
    assert "\n" not in str(caught.value)


def limits(name: str) -> dict[str, float]:
    """What a yaml of configs/augment turns on."""
    found = yaml.safe_load((CONFIGS / "augment" / f"{name}.yaml").read_text())
    return {key: value for key, value in found.items() if key not in ("_target_", "defaults") and value}


ALONE = {
    **{name: {name} for name in ("flip", "shear", "scale", "rotate", "translate", "shift", "crop", "cutout")},
    **{"pixel_noise": {"noise"}, "brightness_contrast": {"brightness", "contrast"}, "flip_crop": {"flip", "shift"}},
    **{"images": set(), "noise": {"noise"}, "none": set(), "transpose": {"semitones"}},
}


def test_each_choice_turns_on_what_its_name_says_and_standard_all_that_leaves_a_digit_what_it_is():
    assert {name: set(limits(name)) for name in options("augment") if name != "standard"} == ALONE
    every = set(yaml.safe_load((CONFIGS / "augment" / "images.yaml").read_text())) - {"_target_"}
    assert set(limits("standard")) == every - {"flip", "vertical_flip", "shift", "cutout"}


def test_standard_with_flips_is_built_and_trains_on_other_pixels(tmp_path):
    data = build(configure("data=digits", "augment=standard", "augment.flip=0.5", run_dir=tmp_path)).data
    assert data.augment.flip == 0.5
    raw = data.part("train").rows(torch.arange(100))[0]
    made = data.augment(raw, torch.arange(100), 0, data.seed)
    assert (made != raw).flatten(1).any(1).all()
    assert (made.float() - raw.float()).abs().mean() < 64, "and still looks like it"


def test_a_table_is_trained_with_noise(tmp_path):
    data = build(configure("data=iris", "augment=noise", run_dir=tmp_path)).data
    plain = build(configure("data=iris", run_dir=tmp_path)).data
    difference = torch.cat([a.x - b.x for a, b in zip(data.train_dataloader(), plain.train_dataloader(), strict=True)])
    assert difference.std() == pytest.approx(0.1, abs=0.02)


def test_a_run_with_shifted_images_trains_on_them_and_repeats(tmp_path):
    arguments = ["augment=shift", "augment.shift=1", "trainer.max_epochs=2", "logger=none", "test=false"]
    built = build(configure(*arguments, run_dir=tmp_path / "built"))
    plain = build(configure(*arguments[2:], run_dir=tmp_path / "built"))
    assert plain.data.augment is None
    one, other = (next(iter(each.data.train_dataloader())) for each in (built, plain))
    assert torch.equal(one.label, other.label)
    assert not torch.equal(one.image, other.image)
    losses = {}
    for name, chosen in {"shift": arguments, "same": arguments, "plain": arguments[2:]}.items():
        assert run(configure(*chosen, run_dir=tmp_path / name)) == 0
        losses[name] = json.loads((tmp_path / name / "metrics.json").read_text())["train/loss"]
    assert losses["shift"] == losses["same"] != losses["plain"]
    assert losses["shift"] < 2.2  # of ln 10 = 2.3


# --- as a picture ---


def test_the_picture_has_the_first_epochs_views_beside_the_images_as_they_are():
    data = digits(seed=3)
    figure = augmented(data, rows=5, epochs=4)
    axis = figure.axes[0]
    assert [text.get_text() for text in axis.texts] == ["as it is", "epoch 1", "epoch 2", "epoch 3", "epoch 4"]
    mosaic = np.asarray(axis.images[0].get_array())
    assert mosaic.shape == (5 * 9, 5 * 9, 3)  # 8 x 8 pixels and a white line before them
    indices = torch.linspace(0, len(data.part("train")) - 1, 5).long()
    raw = data.part("train").rows(indices)[0]
    columns = [raw, *(data.augment(raw, indices, epoch, 3) for epoch in range(4))]
    for i in range(5):
        for j, column in enumerate(columns):
            tile = mosaic[i * 9 + 1 : i * 9 + 9, j * 9 + 1 : j * 9 + 9]
            assert (tile == column[i, 0].numpy()[:, :, None]).all(), (i, j)
    figure.canvas.draw()


def test_there_is_no_picture_without_augmentation_or_of_a_table(tmp_path):
    assert augmented(Digits()) is None
    assert augmented(build(configure("data=iris", "augment=noise", run_dir=tmp_path)).data) is None


def test_a_run_begins_with_the_picture(tmp_path):
    few = ("augment=standard", "trainer.max_epochs=1", "data.fraction=0.1", "test=false")
    assert run(configure(*few, run_dir=tmp_path)) == 0
    (events,) = tmp_path.glob("events*")
    board = EventAccumulator(str(events))
    board.Reload()
    (picture,) = board.Images("samples/augmented")
    assert picture.step == 0
