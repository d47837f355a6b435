"""Your own images with masks: what is found, what becomes of it, and what is refused with a line."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.data.images import ImagePreprocessing
from zoo.data.mask_folder import MaskFolder, as_classes, open_mask
from zoo.errors import UserError
from zoo.run import configure, run


def picture(generator, *, height=20, width=30, classes=3):
    """Blocks of 5 x 5 pixels; a block's class is its colour."""
    blocks = generator.integers(0, classes, (height // 5, width // 5))
    mask = np.kron(blocks, np.ones((5, 5))).astype(np.uint8)
    colours = np.array([[20, 20, 20], [220, 40, 40], [40, 220, 40]], np.uint8)
    return colours[mask], mask


def write(folder, number=20, *, image_ending="png", unknown_rows=0, **options):
    generator = np.random.default_rng(len(str(folder)) + number)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for i in range(number):
        image, mask = picture(generator, **options)
        mask[:unknown_rows] = 255
        Image.fromarray(image).save(folder / "images" / f"{i}.{image_ending}")
        Image.fromarray(mask).save(folder / "masks" / f"{i}.png")
    return folder


def test_an_image_comes_with_its_mask_and_parts_share_none(tmp_path):
    data = MaskFolder(root=str(write(tmp_path)), image_size=20, normalize=False)
    loaded = data.prepare()
    assert (loaded.facts["mask_classes"], loaded.facts["image_shape"]) == (3, [3, 20, 20])
    assert loaded.class_names == ["0", "1", "2"]
    names = [name for part in loaded.names.values() for name in part]
    assert sorted(names) == sorted(f"images/{i}.png" for i in range(20))
    assert {part: len(loaded.parts[part]) for part in loaded.parts} == {"train": 14, "val": 3, "test": 3}
    for part, listed in loaded.names.items():
        batch = loaded.parts[part][torch.arange(len(listed))]
        for image, mask, name in zip(batch.image, batch.mask, listed, strict=True):
            with Image.open(tmp_path / "masks" / name.removeprefix("images/")) as whole:
                crop = np.asarray(whole)[:, 5:25]
            assert torch.equal(mask, torch.from_numpy(crop.astype(np.int64)))
            assert torch.equal(mask == 1, (image[0] > 0.5))
            assert torch.equal(mask == 2, (image[1] > 0.5))


def test_folders_of_the_parts_are_kept_and_what_is_missing_is_cut_from_train(tmp_path):
    write(tmp_path / "train", 10)
    write(tmp_path / "val", 4)
    loaded = MaskFolder(root=str(tmp_path), image_size=10).prepare()
    assert loaded.names["val"] == [f"val/images/{i}.png" for i in range(4)]
    assert (len(loaded.names["train"]), len(loaded.names["test"])) == (8, 2)
    assert all(name.startswith("train/") for name in loaded.names["train"] + loaded.names["test"])
    assert loaded.notes == ["No folder for test: 2 for test cut by the seed from 10 images."]
    again = MaskFolder(root=str(tmp_path), image_size=10, seed=1).prepare()
    assert again.names["test"] != loaded.names["test"]


@pytest.mark.parametrize("size", [(40, 25), (25, 40), (9, 61)])
def test_a_mask_is_scaled_and_cropped_as_its_image_is(size, tmp_path):
    """Blocks of which the image shows what the mask says stay together, whatever the size and the format."""
    generator = np.random.default_rng(0)
    image, mask = picture(generator, height=5 * size[1], width=5 * size[0], classes=2)
    Image.fromarray(image).save(tmp_path / "a.jpg", quality=100)
    Image.fromarray(mask).save(tmp_path / "a.png")
    plain = ImagePreprocessing.plain(3, 48, 48)
    found = open_mask(tmp_path / "a.png", (48, 48), tmp_path / "a.jpg")
    shown = plain.open(tmp_path / "a.jpg")[0] > 120
    assert (torch.from_numpy(found == 1) == shown).float().mean() > 0.9
    assert set(np.unique(found)) == {0, 1}


def test_a_photo_that_lies_on_its_side_goes_with_a_mask_that_stands(tmp_path):
    image, mask = picture(np.random.default_rng(0), height=20, width=30)
    on_its_side = Image.fromarray(np.rot90(image))  # 20 x 30; a viewer turns it to the right
    exif = on_its_side.getexif()
    exif[0x0112] = 6
    on_its_side.save(tmp_path / "a.png", exif=exif)
    Image.fromarray(mask).save(tmp_path / "m.png")
    found = open_mask(tmp_path / "m.png", (30, 20), tmp_path / "a.png")
    shown = ImagePreprocessing.plain(3, 20, 30).open(tmp_path / "a.png")
    assert np.array_equal(found == 1, (shown[0] > 120).numpy())


@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
def test_numbers_are_read_from_every_kind_of_mask(mode, tmp_path):
    mask = np.array([[0, 1], [2, 255]], np.uint8)
    image = Image.fromarray(mask.astype(np.uint16)) if mode == "I;16" else Image.fromarray(mask)
    if mode == "P":
        image.putpalette([5, 6, 7] * 256)
    image.save(tmp_path / "m.png")
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    with Image.open(tmp_path / "m.png") as written:
        assert written.mode == mode
    assert np.array_equal(open_mask(tmp_path / "m.png", (2, 2), tmp_path / "a.png"), mask)


def test_black_and_white_are_two_classes_where_they_are_said_to_be(tmp_path):
    masks = torch.tensor([[[0, 255], [255, 0]]], dtype=torch.uint8)
    write(tmp_path, 5, classes=1, unknown_rows=2)
    with pytest.raises(UserError, match=r"data.values=\[0,255\]"):
        MaskFolder(root=str(tmp_path), image_size=10).prepare()
    assert MaskFolder(root=str(tmp_path), image_size=10, values=[0, 255]).prepare().class_names == ["0", "255"]
    assert as_classes(masks, [0, 255]).tolist() == [[[0, 1], [1, 0]]]
    assert as_classes(masks, [255, 0]).tolist() == [[[1, 0], [0, 1]]]
    some = torch.tensor([[[0, 254], [7, 255]]], dtype=torch.uint8)
    with pytest.raises(UserError, match=r"hold 254, which is not in data.values=\[0, 7\]"):
        as_classes(some, [0, 7])
    assert as_classes(some, [7, 0, 254]).tolist() == [[[1, 2], [0, 255]]]  # nobody knows the last
    three = torch.tensor([[[0, 255], [1, 0]]], dtype=torch.uint8)
    assert torch.equal(as_classes(three, None), three)


def remove(name):
    return lambda root: (root / name).unlink()


def save(name, picture):
    return lambda root: picture.save(root / name)


@pytest.mark.parametrize(
    ("break_it", "options", "telling"),
    [
        (lambda root: (root / "masks").rename(root / "labels"), {}, "There is no folder .*masks"),
        (remove("masks/3.png"), {}, "3 is only in images/; both files of an image have the same name"),
        (remove("images/3.png"), {}, "3 is only in masks/"),
        (save("masks/3.png", Image.new("RGB", (30, 20))), {}, r"3.png has colours \(RGB\)"),
        (save("masks/3.png", Image.new("L", (20, 30))), {}, "3.png is 20 x 30 and its image another size"),
        (lambda root: (root / "masks/3.png").write_bytes(b"no"), {}, "3.png cannot be read as a mask"),
        (lambda root: (root / "images/3.png").write_bytes(b"no"), {}, "3.png is not an image that can be read"),
        (lambda root: (root / "masks/3.png").rename(root / "masks/3.jpg"), {}, "save masks as png"),
        (lambda root: None, {"classes": ["ground", "tree"]}, "there is class 2, and there are 2 classes: ground, tree"),
        (lambda root: None, {"values": [0, 0]}, r"data.values=\[0, 0\] must be different"),
        (lambda root: None, {"values": [0, "x"]}, r"must be different whole numbers from 0 to 255, two or more"),
        (lambda root: None, {"values": 5}, "data.values=5 must be different"),
        (lambda root: None, {"values": [0, 1], "classes": ["a"]}, "has 1 names and data.values 2 numbers"),
        (lambda root: None, {"root": "nowhere"}, "data.root=nowhere is no folder"),
    ],
)
def test_what_is_no_data_set_is_refused_in_a_line_that_says_why(break_it, options, telling, tmp_path):
    break_it(write(tmp_path / "scans", 5))
    with pytest.raises(UserError, match=telling) as caught:
        MaskFolder(**{"root": str(tmp_path / "scans"), "image_size": 10} | options).prepare()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [{}, {"values": [0, 7]}, {"classes": ["ground", "tree"]}])
def test_masks_of_one_class_teach_nothing_and_may_be_asked_about(options, tmp_path):
    data = MaskFolder(root=str(write(tmp_path, 5, classes=1, unknown_rows=2)), image_size=10, **options)
    with pytest.raises(UserError, match="hold one class alone"):
        data.prepare()
    data.prepare_as(ImagePreprocessing.plain(3, 10, 10).to_dict(), ["ground", "tree", "road"])
    assert data.prepare().facts["mask_classes"] == 3


def test_pixels_are_normalized_by_the_training_part_or_as_an_earlier_run_did(tmp_path):
    data = MaskFolder(root=str(write(tmp_path)), image_size=20)
    part = data.prepare().parts["train"]
    train = part[torch.arange(len(part))].image
    assert train.mean((0, 2, 3)).abs().max() < 1e-5
    assert train.std((0, 2, 3)).tolist() == pytest.approx([1, 1, 1], abs=1e-3)
    earlier = ImagePreprocessing(3, 20, 20, mean=[0.5, 0.25, 0.0], std=[0.1, 0.2, 0.3])
    data.prepare_as(earlier.to_dict(), ["a", "b", "c"])
    pixels = MaskFolder(root=str(tmp_path), image_size=20, normalize=False).prepare().parts["train"]
    raw = pixels[torch.arange(len(part))].image  # in [0, 1]
    mean, std = torch.tensor(earlier.mean).view(3, 1, 1), torch.tensor(earlier.std).view(3, 1, 1)
    loaded = data.prepare()
    torch.testing.assert_close(loaded.parts["train"][torch.arange(len(part))].image, (raw - mean) / std)
    assert loaded.class_names == ["a", "b", "c"]
    other = MaskFolder(root=str(tmp_path), image_size=10)
    other.prepare_as(earlier.to_dict(), ["a", "b", "c"])
    with pytest.raises(UserError, match="the model was trained on 3x20x20"):
        other.prepare()


def test_another_mask_is_another_data_set_and_grey_images_have_one_channel(tmp_path):
    write(tmp_path)
    before = MaskFolder(root=str(tmp_path), image_size=10, channels=1).prepare()
    assert before.facts["image_shape"] == [1, 10, 10] == list(before.parts["train"][torch.arange(1)].image.shape[1:])
    Image.new("L", (30, 20), 1).save(tmp_path / "masks" / "0.png")
    after = MaskFolder(root=str(tmp_path), image_size=10, channels=1).prepare()
    assert after.fingerprint != before.fingerprint


@pytest.mark.usefixtures("no_pictures")
def test_a_network_learns_them_and_one_that_was_trained_on_others_goes_on(tmp_path):
    small = ["model.channels=[8,16]", "data.image_size=20", "trainer.num_threads=1", "logger=none"]
    write(tmp_path / "first", 40, classes=2, unknown_rows=3)
    write(tmp_path / "second", 40, classes=3, image_ending="jpg")
    of = {name: f"data.root={tmp_path / name}" for name in ("first", "second")}
    one = ["model=unet", "data=mask_folder", of["first"], "trainer.max_epochs=8", "data.classes=[ground,tree]"]
    assert run(configure(*one, *small, run_dir=tmp_path / "one")) == 0
    metrics = json.loads((tmp_path / "one" / "metrics.json").read_text())
    assert metrics["test/mean_iou"] > 0.9
    assert {"test/iou_ground", "test/iou_tree"} <= set(metrics)
    other = [f"pretrained={tmp_path / 'one'}", "data=mask_folder", of["second"], "trainer.max_epochs=20"]
    assert run(configure(*other, *small[1:], run_dir=tmp_path / "two")) == 0
    assert json.loads((tmp_path / "two" / "metrics.json").read_text())["test/mean_iou"] > 0.4
