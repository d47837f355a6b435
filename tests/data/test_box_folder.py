"""Your own images with boxes: what is read, where boxes go when an image is cropped, and what is refused."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.data.box_folder import BoxFolder, fit_boxes, read_boxes
from zoo.errors import UserError
from zoo.run import configure, run


def write(folder, number=20, *, width=60, height=40):
    """A red or a green rectangle on black in each image but the last, which has none."""
    generator = np.random.default_rng(number)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for i in range(number):
        pixels, lines = np.zeros((height, width, 3), np.uint8), []
        if i < number - 1:
            kind, w, h = i % 2, int(generator.integers(12, 20)), int(generator.integers(12, 20))
            left, top = int(generator.integers(10, width - 10 - w)), int(generator.integers(0, height - h))
            pixels[top : top + h, left : left + w, kind] = 255
            lines = [f"{kind} {(left + w / 2) / width} {(top + h / 2) / height} {w / width} {h / height}"]
        Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
        (folder / "labels" / f"{i}.txt").write_text("\n".join(lines))
    return folder


@pytest.mark.parametrize(("width", "height"), [(60, 40), (40, 60), (120, 80)])
def test_boxes_lie_around_what_is_to_be_seen_after_the_image_is_scaled_and_cropped(width, height, tmp_path):
    loaded = BoxFolder(root=str(write(tmp_path, width=width, height=height)), image_size=40, normalize=False).prepare()
    assert (loaded.facts["box_classes"], loaded.facts["image_shape"]) == (2, [3, 40, 40])
    there = 0
    for part, names in loaded.names.items():
        batch = loaded.parts[part][torch.arange(len(names))]
        for image, (box,), (label,) in zip(batch.image, batch.boxes, batch.labels, strict=True):
            if label < 0:
                assert box.tolist() == [0, 0, 0, 0]
                continue
            there += 1
            rows, columns = (image[label] > 0.5).nonzero(as_tuple=True)
            around = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert box.tolist() == pytest.approx([float(edge) for edge in around], abs=1.01)
            assert image[1 - label].max() < 0.1
    assert there >= 15


def test_a_box_is_cut_off_at_the_edge_and_left_out_where_little_of_it_is_left():
    boxes = torch.tensor([[0.0, 0.0, 0.5, 1.0], [0.0, 0.0, 0.3, 1.0], [0.4, 0.2, 0.6, 0.4]])
    found, seen = fit_boxes(boxes, 200, 100, 50)  # of 100 x 50 pixels the middle 50
    torch.testing.assert_close(found[[0, 2]], torch.tensor([[0.0, 0, 25, 50], [15, 10, 35, 20]]))
    assert seen.tolist() == [True, False, True]  # halves, a sixth, all


def test_a_line_is_a_class_and_a_box_in_shares(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("2 0.5 0.5 0.2 0.4\n\n0 0.95 0.5 0.1 1\n")
    labels, boxes = read_boxes(path)
    assert labels == [2, 0]
    assert boxes.flatten().tolist() == pytest.approx([0.4, 0.3, 0.6, 0.7, 0.9, 0.0, 1.0, 1.0])
    path.write_text("1 0.1 0.5 0.21 0.2")  # rounded: half a hundredth outside
    assert read_boxes(path)[1].flatten().tolist() == pytest.approx([0.0, 0.4, 0.205, 0.6])
    path.write_text("1 0.1 0.5 0.23 0.2")
    with pytest.raises(UserError, match="not in the image"):
        read_boxes(path)
    path.write_bytes(b"\xef\xbb\xbf1 0.5 0.5 0.2 0.4\n")
    assert read_boxes(path)[0] == [1]
    path.write_text("")
    assert (read_boxes(path)[0], read_boxes(path)[1].shape) == ([], (0, 4))


def test_names_are_those_of_classes_txt_unless_others_are_given(tmp_path):
    write(tmp_path, 5)
    assert BoxFolder(root=str(tmp_path), image_size=16).prepare().class_names == ["0", "1"]
    (tmp_path / "classes.txt").write_text("red\ngreen\nblue\n")
    assert BoxFolder(root=str(tmp_path), image_size=16).prepare().class_names == ["red", "green", "blue"]
    assert BoxFolder(root=str(tmp_path), image_size=16, classes=["a", "b"]).prepare().class_names == ["a", "b"]
    (tmp_path / "classes.txt").write_bytes(b"\xef\xbb\xbfred\ngreen\n\n")  # as Windows writes it
    assert BoxFolder(root=str(tmp_path), image_size=16).prepare().class_names == ["red", "green"]
    (tmp_path / "classes.txt").write_text("red\n\nblue\n")
    with pytest.raises(UserError, match="an empty line between its names"):
        BoxFolder(root=str(tmp_path))
    (tmp_path / "classes.txt").write_text("red\ngreen\nblue\n")
    (tmp_path / "classes.txt").rename(tmp_path / "labels" / "classes.txt")  # where labelling tools write it
    assert BoxFolder(root=str(tmp_path), image_size=16).prepare().class_names == ["red", "green", "blue"]


def line(text):
    return lambda root: (root / "labels" / "3.txt").write_text(text)


@pytest.mark.parametrize(
    ("break_it", "options", "telling"),
    [
        (lambda root: (root / "labels" / "3.txt").unlink(), {}, "3 is only in images/"),
        (lambda root: (root / "images" / "3.png").unlink(), {}, "3 is only in labels/"),
        (line("0 0.5 0.5 0.1"), {}, "3.txt, line 1, is no box: '0 0.5 0.5 0.1'; a line is a class number"),
        (line("cat 0.5 0.5 0.1 0.1"), {}, "is no box"),
        (line("0 0.5 0.5 0.1 0.1\n0 30 20 10 10"), {}, "line 2: the box is not in the image"),
        (line("0 0.5 0.5 0 0.1"), {}, "not in the image"),
        (line("-1 0.5 0.5 0.1 0.1"), {}, "not in the image"),
        (line("0 nan 0.5 0.1 0.1"), {}, "not in the image"),
        (lambda root: (root / "labels" / "3.txt").write_bytes(b"\xff\xfe"), {}, "cannot be read as text"),
        (lambda root: (root / "images" / "3.png").write_bytes(b"no"), {}, "3.png is not an image"),
        (lambda root: None, {"classes": ["a", "b", "a"]}, "Two classes have the name 'a'"),
        (lambda root: None, {"classes": ["red"]}, "there is class 1, and there are 1 classes: red"),
        (lambda root: [f.write_text("") for f in (root / "labels").iterdir()], {}, "There is no box in .*labels"),
    ],
)
def test_what_is_no_data_set_is_refused_in_a_line_that_says_why(break_it, options, telling, tmp_path):
    break_it(write(tmp_path / "street", 5))
    with pytest.raises(UserError, match=telling) as caught:
        BoxFolder(root=str(tmp_path / "street"), image_size=16, **options).prepare()
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("no_pictures")
def test_a_network_learns_them_and_its_checkpoint_finds_them(tmp_path, call_script, monkeypatch):
    write(tmp_path / "street", 60)
    (tmp_path / "street" / "classes.txt").write_text("red\ngreen\n")
    words = ["model=yolo", "data=box_folder", f"data.root={tmp_path / 'street'}", "data.image_size=40", "logger=none"]
    words += ["trainer.max_epochs=40", "model.channels=[8,16,16]", "optimizer.lr=0.01", "trainer.num_threads=1"]
    assert run(configure(*words, run_dir=tmp_path / "run")) == 0
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["test/map50"] > 0.7
    monkeypatch.chdir(tmp_path)
    ran = call_script("predict", f"ckpt={tmp_path / 'run'}", f"input={tmp_path / 'street' / 'images' / '0.png'}")
    assert ran.status == 0, ran.err
    assert "red" in ran.out
