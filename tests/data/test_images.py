"""Reading photos, normalizing, resizing, and the image sets that lie in memory."""

import hashlib
import pickle
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.build import build
from zoo.data.cifar import Cifar10, read_batch
from zoo.data.digits import Digits
from zoo.data.images import ImagePreprocessing, resize
from zoo.errors import UserError
from zoo.run import configure

COLOUR = ImagePreprocessing.plain(3, 8, 8)
GREY = ImagePreprocessing.plain(1, 8, 8)


def random_images(num_images: int = 5, channels: int = 3, size: int = 16) -> torch.Tensor:
    shape = (num_images, channels, size, size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


# --- normalization ---


def test_fitted_images_have_mean_0_and_deviation_1_in_each_channel():
    images = random_images(200)
    images[:, 1] //= 4
    x = ImagePreprocessing.fit(images)(images)
    assert x.dtype == torch.float32
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5, rtol=0)


def test_normalizing_is_the_textbook_formula():
    images = random_images()
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    expected = (images / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(ImagePreprocessing(3, 16, 16, mean, std)(images), expected)


def test_normalizing_leaves_its_input_alone():
    images = random_images().float()
    kept = images.clone()
    COLOUR(images)
    assert torch.equal(images, kept)


def test_a_channel_that_never_changes_does_not_divide_by_zero():
    images = torch.full((4, 1, 8, 8), 7, dtype=torch.uint8)
    assert torch.isfinite(ImagePreprocessing.fit(images)(images)).all()


def test_preprocessing_survives_a_checkpoint_that_loads_weights_only(tmp_path):
    fitted = ImagePreprocessing.fit(random_images())
    torch.save(fitted.to_dict(), tmp_path / "x.pt")
    saved = torch.load(tmp_path / "x.pt", weights_only=True)
    assert saved["kind"] == "image"
    assert ImagePreprocessing.from_dict(saved) == fitted


def test_a_batch_maker_that_was_used_can_still_be_pickled():
    make_batch = ImagePreprocessing.fit(random_images()).batch
    expected = make_batch(random_images(), torch.arange(5)).image
    again = pickle.loads(pickle.dumps(make_batch))
    assert torch.equal(again(random_images(), torch.arange(5)).image, expected)


# --- reading any photo ---


def test_a_rotated_photo_is_set_upright(tmp_path):
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:8] = 255  # as the camera stored it: white above; turned clockwise for viewing: white on the right
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=100, exif=exif)
    image = COLOUR.open(tmp_path / "a.jpg").float()
    assert image[:, :, 5:].mean() > 250
    assert image[:, :, :3].mean() < 5


def test_what_is_transparent_becomes_white(tmp_path):
    Image.new("RGBA", (8, 8), (200, 0, 0, 0)).save(tmp_path / "a.png")
    assert (COLOUR.open(tmp_path / "a.png") == 255).all()
    assert (GREY.open(tmp_path / "a.png") == 255).all()


def test_a_transparent_palette_colour_becomes_white(tmp_path):
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.save(tmp_path / "opaque.png")
    image.save(tmp_path / "clear.png", transparency=1)
    assert COLOUR.open(tmp_path / "opaque.png")[:, 0, 0].tolist() == [10, 20, 30]
    assert COLOUR.open(tmp_path / "clear.png")[:, 0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bits_are_scaled_and_not_clipped(tmp_path, name):
    ramp = np.linspace(0, 65535, 8).round().astype(np.uint16)
    Image.fromarray(np.tile(ramp, (8, 1))).save(tmp_path / name)
    assert GREY.open(tmp_path / name)[0, 0].tolist() == (ramp / 257).round().astype(int).tolist()


@pytest.mark.parametrize("scale", [1.0, 255.0, 65535.0])
def test_floats_are_scaled_to_the_range_they_use(tmp_path, scale):
    ramp = np.linspace(0, scale, 8, dtype=np.float32)
    Image.fromarray(np.tile(ramp, (8, 1))).save(tmp_path / "a.tif")
    assert GREY.open(tmp_path / "a.tif")[0, 0].tolist() == np.linspace(0, 255, 8).round().astype(int).tolist()


@pytest.mark.parametrize(("mode", "white"), [("CMYK", (0, 0, 0, 0)), ("L", 255), ("1", 1), ("LA", (255, 255))])
def test_white_is_white_in_every_mode(tmp_path, mode, white):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new(mode, (8, 8), white).save(path)
    assert COLOUR.open(path).shape == (3, 8, 8)
    assert (COLOUR.open(path) == 255).all()
    assert (GREY.open(path) == 255).all()


def test_a_wide_photo_keeps_its_aspect_ratio_and_its_centre(tmp_path):
    pixels = np.zeros((20, 60), np.uint8)
    pixels[:, 20:40] = 255  # the middle third
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = GREY.open(tmp_path / "a.png")
    assert (image[..., 1:-1] == 255).all()
    assert (image > 200).all()  # at the cut, antialiasing sees a little of the black beside it


def lines() -> np.ndarray:
    """(64, 64) pixels: every eighth column is white, which sampling without a filter would miss."""
    return np.tile(np.array([255] + 7 * [0], np.uint8), (64, 8))


def test_shrinking_is_antialiased(tmp_path):
    Image.fromarray(lines()).save(tmp_path / "a.png")
    inner = GREY.open(tmp_path / "a.png")[0, 1:-1, 1:-1].float()
    torch.testing.assert_close(inner, torch.full((6, 6), 255 / 8), atol=1, rtol=0)


def test_a_large_jpeg_looks_like_the_same_photo_stored_without_loss(tmp_path):
    y, x = np.mgrid[0:400, 0:600]
    Image.fromarray((127 + 100 * np.sin(x / 40) * np.cos(y / 30)).astype(np.uint8)).save(tmp_path / "a.png")
    Image.open(tmp_path / "a.png").save(tmp_path / "a.jpg", quality=95)
    difference = GREY.open(tmp_path / "a.png").float() - GREY.open(tmp_path / "a.jpg").float()
    assert difference.abs().max() <= 4


def truncated(path):
    Image.fromarray(random_images(1, 3, 64)[0].permute(1, 2, 0).numpy()).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.gif", "a.bmp", "a.webp", "a.tif"])
def test_a_truncated_file_is_named_in_one_line(tmp_path, name):
    truncated(tmp_path / name)
    with pytest.raises(UserError, match=rf"{name}[^\n]*$"):
        COLOUR.open(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_a_file_that_is_no_image_is_named_in_one_line(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.png[^\n]*$"):
        COLOUR.open(tmp_path / "a.png")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no image at .*a\.png"):
        COLOUR.open(tmp_path / "a.png")


# --- resizing tensors ---


def test_resizing_in_chunks_is_resizing_at_once():
    images = random_images(7)
    assert torch.equal(resize(images, 9, chunk=3), resize(images, 9))


def test_resizing_is_antialiased():
    inner = resize(torch.from_numpy(lines())[None, None], 8)[0, 0, 1:-1, 1:-1].float()
    torch.testing.assert_close(inner, torch.full((6, 6), 255 / 8), atol=1, rtol=0)


def test_enlarging_keeps_white_white():
    assert (resize(torch.full((1, 1, 8, 8), 255, dtype=torch.uint8), 28) == 255).all()


# --- digits ---


def test_digits_are_split_by_the_seed_each_class_alike():
    loaded, again, other = (Digits(seed=seed).prepare() for seed in (1, 1, 2))
    sizes = {name: len(part) for name, part in loaded.parts.items()}
    assert sum(sizes.values()) == 1797
    assert abs(sizes["val"] - 0.15 * 1797) < 5
    assert abs(sizes["test"] - 0.15 * 1797) < 5
    assert torch.equal(loaded.train_labels, again.train_labels)
    assert not torch.equal(loaded.train_labels, other.train_labels)
    assert loaded.fingerprint == other.fingerprint  # the same data, cut in another way
    assert max(loaded.facts["label_counts"]) - min(loaded.facts["label_counts"]) <= 6


@pytest.mark.parametrize("size", [8, 28])
def test_digits_have_the_facts_that_their_images_have(size):
    data = Digits(image_size=size, batch_size=16)
    facts = data.prepare().facts
    batch = next(iter(data.train_dataloader()))
    assert list(batch.image.shape[1:]) == facts["image_shape"] == [1, size, size]
    assert facts["num_features"] == batch.image[0].numel()
    assert (facts["num_classes"], facts["kind"]) == (10, "multiclass")
    assert sum(facts["label_counts"]) == len(data.part("train"))


def test_normalization_comes_from_the_training_part_alone():
    parts = Digits().prepare().parts
    train, test = (parts[name][torch.arange(len(parts[name]))].image for name in ("train", "test"))
    assert abs(train.mean()) < 1e-4
    assert abs(train.std() - 1) < 1e-3
    assert abs(test.mean()) > 1e-4


def test_without_normalization_pixels_lie_between_0_and_1():
    part = Digits(normalize=False).part("train")
    image = part[torch.arange(len(part))].image
    assert (image.min(), image.max()) == (0, 1)


@pytest.mark.parametrize("bad", [0, -1, 2.5, True, "8"])
def test_an_impossible_image_size_is_named(bad):
    with pytest.raises(UserError, match="image_size"):
        Digits(image_size=bad)


# --- CIFAR-10 ---


def published_pickle(pixels: np.ndarray, labels: list[int]) -> bytes:
    """The bytes that Python 2 and an old numpy wrote, as they are in the published files."""
    count, raw = struct.pack("<H", len(pixels)), pixels.tobytes()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01M" + count + b"M\x00\x0c\x86"
    )
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    data = array + dtype + b"\x89T" + struct.pack("<I", len(raw)) + raw + b"tb"
    label_list = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(U\x06labels" + label_list + b"U\x04data" + data + b"u."


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """Six small files in the published format; -> (data_dir, the pixels of the first one)."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    random, checksums = np.random.default_rng(0), {}
    for name in Cifar10.checksums:
        pixels = random.integers(0, 256, (20, 3072), dtype=np.uint8)
        first = pixels if not checksums else first  # noqa: F821
        content = published_pickle(pixels, [k % 10 for k in range(20)])
        (folder / name).write_bytes(content)
        checksums[name] = hashlib.md5(content).hexdigest()
    monkeypatch.setattr(Cifar10, "checksums", checksums)
    return tmp_path, first


def test_cifar_is_read_from_the_published_pickles(cifar):
    data_dir, first = cifar
    loaded = Cifar10(data_dir=str(data_dir), val_size=10).prepare()
    assert {name: len(part) for name, part in loaded.parts.items()} == {"train": 90, "val": 10, "test": 20}
    assert loaded.facts["image_shape"] == [3, 32, 32]
    images = Cifar10(data_dir=str(data_dir), val_size=0).read()["train"][0]
    assert torch.equal(images[:20].flatten(1), torch.from_numpy(first))


def test_a_changed_cifar_file_is_refused(cifar):
    path = cifar[0] / "cifar-10-batches-py" / "data_batch_3"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserError, match="data_batch_3 is not the published file"):
        Cifar10(data_dir=str(cifar[0])).prepare()


class Evil:
    def __reduce__(self):
        return print, ("run",)


def test_a_pickle_that_would_run_code_is_refused_even_with_the_right_checksum(tmp_path, capsys):
    content = pickle.dumps({"data": Evil(), "labels": []}, protocol=2)
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(UserError, match="print"):
        read_batch(tmp_path / "x", hashlib.md5(content).hexdigest())
    assert capsys.readouterr().out == ""


def test_cifar_that_is_missing_and_cannot_be_fetched_says_what_to_put_where(tmp_path):
    (tmp_path / "file").touch()  # nothing can be written below a file, so no network is asked
    with pytest.raises(UserError, match=r"data_batch_1.*data_dir[^\n]*$"):
        Cifar10(data_dir=str(tmp_path / "file")).prepare()


# --- some classes alone, and classes left out ---


def test_some_classes_alone_are_numbered_anew_in_their_order():
    whole, some = Digits(), Digits(classes=["7", 2, 9])
    facts = some.prepare().facts
    assert (facts["num_classes"], some.prepare().class_names) == (3, ["7", "2", "9"])
    (images, labels), wanted = some.read()["train"], []
    for name in ("train", "val", "test"):
        wanted += some.part(name).tensors[1].tolist()
    assert len(wanted) == int(sum((labels == k).sum() for k in (7, 2, 9)))
    everything = torch.cat([whole.part(name).tensors[0] for name in ("train", "val", "test")])
    theirs = torch.cat([whole.part(name).tensors[1] for name in ("train", "val", "test")])
    known = {image.numpy().tobytes(): int(label) for image, label in zip(everything, theirs, strict=True)}
    for name in ("train", "val", "test"):
        images, labels = some.part(name).tensors
        for image, label in zip(images, labels.tolist(), strict=True):
            assert known[image.numpy().tobytes()] == (7, 2, 9)[label]
    assert some.prepare().fingerprint != whole.prepare().fingerprint


def test_a_class_left_out_is_one_of_those_that_there_are():
    data = Digits(classes=[5, 6, 7], leave_out=["6"])
    assert data.part("train").tensors[1].unique().tolist() == [0, 2]
    assert data.part("test").tensors[1].unique().tolist() == [0, 1, 2]
    with pytest.raises(UserError, match=r"data\.leave_out: there is no class 3"):
        Digits(classes=[5, 6, 7], leave_out=["3"])


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        ([10], r"data\.classes: there is no class 10"),
        (3, r"for instance \[3\]"),
        ([], "at least one"),
        ([1, 1], "each once"),
    ],
)
def test_classes_that_are_none_are_refused(classes, told):
    with pytest.raises(UserError, match=told):
        Digits(classes=classes)


def test_a_network_has_an_output_for_each_class_that_there_is(tmp_path):
    cfg = configure("model=mlp", "data=digits", "data.classes=[0,1,2]", run_dir=tmp_path)
    assert cfg.data.num_classes == 3
    assert build(cfg).task.model(torch.zeros(1, 64)).shape == (1, 3)


def test_a_class_left_out_is_in_the_test_part_alone():
    whole, without = Digits(), Digits(leave_out=[3, "7"])
    for name in ("train", "val", "test"):
        kept, labels = without.part(name).tensors[1], whole.part(name).tensors[1]
        wanted = labels if name == "test" else labels[(labels != 3) & (labels != 7)]
        assert torch.equal(kept, wanted)
        assert len(wanted) == len(without.part(name))
    facts = without.prepare().facts
    assert facts["num_classes"] == 10
    assert [k for k, count in enumerate(facts["label_counts"]) if count == 0] == [3, 7]
    assert without.prepare().fingerprint == whole.prepare().fingerprint
    assert len(without.prepare().train_labels) == len(without.part("train"))


@pytest.mark.parametrize(
    ("leave_out", "told"),
    [
        ([10], "there is no class 10"),
        (["dog"], "there is no class dog"),
        (3, r"for instance \[3\]"),
        ([True], "class True"),
    ],
)
def test_a_class_that_is_not_there_cannot_be_left_out(leave_out, told):
    with pytest.raises(UserError, match=told):
        Digits(leave_out=leave_out)
