"""Features that a network has made are what its output layer sees, and another network learns from them."""

import io
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.checkpoint import load_model, read
from zoo.data.features import Features, read_features
from zoo.errors import UserError
from zoo.layers.depth import entering, head
from zoo.run import configure, run
from zoo.trained.evaluate import build_data

QUICK = ("trainer.max_epochs=2", "trainer.num_threads=1", "logger=none")


@pytest.fixture(scope="module")
def digits_file(tmp_path_factory):
    return tmp_path_factory.mktemp("features") / "digits.npz"


@pytest.fixture
def made(digits_run, digits_file, call_script):
    """A file of features of all parts of the digits."""
    if not digits_file.exists():
        ran = call_script("predict", f"ckpt={digits_run}", f"features={digits_file}")
        assert (ran.status, ran.out) == (0, "")
        assert "1,797 samples of 84 features; labels: 0, 1, 2" in ran.err
    return digits_file


def test_the_output_layer_turns_features_into_the_networks_answers(digits_run, made):
    stored, model, data = read_features(made), load_model(digits_run), build_data(read(digits_run), {})
    for part in ("train", "val", "test"):
        dataset = data.part(part)
        batch = dataset[torch.arange(len(dataset))]
        places = np.flatnonzero(stored.split == part)
        with torch.no_grad():
            torch.testing.assert_close(head(model)(stored.features[places]), model(*batch.inputs), atol=1e-4, rtol=1e-4)
        assert torch.equal(stored.label[places], batch.label)
    assert stored.classes == [str(k) for k in range(10)]


def test_features_of_other_classes_have_the_names_of_those(digits_run, tmp_path, call_script):
    file = tmp_path / "high.npz"
    ran = call_script("predict", f"ckpt={digits_run}", f"features={file}", "data.classes=[5,6,7]")
    assert (ran.status, ran.out) == (0, ""), ran.err
    stored = read_features(file)
    assert stored.classes == ["5", "6", "7"]
    assert set(stored.label.tolist()) == {0, 1, 2}


def test_a_linear_network_on_features_learns_what_finetune_head_learns(digits_run, made, tmp_path):
    """The same start, the same order of samples, the same steps: the same output layer."""
    same = (*QUICK, f"pretrained={digits_run}", "optimizer=sgd", "optimizer.lr=0.05")
    assert run(configure("model=lenet5", "data=digits", "finetune=head", *same, run_dir=tmp_path / "head")) == 0
    cached = ("data=features", f"data.path={made}", "data.standardize=false", "model=mlp", "model.hidden_features=[]")
    assert run(configure(*cached, *same, run_dir=tmp_path / "cached")) == 0
    start, ours, theirs = (head(load_model(path)) for path in (digits_run, tmp_path / "cached", tmp_path / "head"))
    torch.testing.assert_close(ours.weight, theirs.weight, atol=1e-5, rtol=1e-4)
    assert (ours.weight - start.weight).abs().max() > 1e-3


def test_a_probe_is_evaluated_and_used_on_other_features(made, tmp_path, call_script):
    arguments = ("model=mlp", "data=features", f"data.path={made}", *QUICK)
    assert run(configure(*arguments, run_dir=tmp_path / "probe")) == 0
    assert read(tmp_path / "probe")["config"]["data"]["num_features"] == 84
    ran = call_script("evaluate", f"ckpt={tmp_path / 'probe'}", f"data.path={made}")
    assert (ran.status, "1797 samples" in ran.out) == (0, True)
    ran = call_script("predict", f"ckpt={tmp_path / 'probe'}", f"input={made}", "format=json")
    assert len(ran.out.splitlines()) == 1797
    assert '"input": "train 0", "label": "0"' in ran.out


def paint(folder, classes, *, number=6):
    for k, name in enumerate(classes):
        for i in range(number):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), 40 * k + i).save(folder / name / f"{i}.png")


@pytest.mark.parametrize("layout", ["classes", "parts", "heap"])
def test_labels_and_parts_of_images_come_from_their_folders(layout, digits_run, tmp_path, call_script):
    place, classes = tmp_path / "photos", ["cats", "dogs"]
    for part in ("train", "val", "test") if layout == "parts" else (".",):
        paint(place / part, classes if layout != "heap" else ["."])
    next(place.rglob("0.png")).write_bytes(b"broken")
    out = tmp_path / "photos.npz"
    ran = call_script("predict", f"ckpt={digits_run}", f"input={place}", f"features={out}")
    assert ran.status == 0, ran.err
    assert "Skipped: " in ran.err
    stored = read_features(out)
    assert stored.features.shape == ({"classes": 11, "parts": 35, "heap": 5}[layout], 84)
    if layout == "heap":
        assert (stored.label, stored.split, stored.names[0]) == (None, None, "1.png")
        with pytest.raises(UserError, match="features without labels"):
            Features(path=str(out)).prepare()
        return
    names = [stored.classes[k] for k in stored.label]
    assert names == [name.split("/")[-2] for name in stored.names]
    assert set(Features(path=str(out)).prepare().parts) == {"train", "val", "test"}
    if layout == "parts":
        assert stored.split.tolist() == [name.split("/")[0] for name in stored.names]


def test_a_column_of_a_table_is_the_label_in_its_own_units(csv_regression_run, tmp_path, call_script):
    path, out = csv_regression_run.parent / "houses.csv", tmp_path / "houses.npz"
    prices = np.loadtxt(path, delimiter=",", skiprows=1, usecols=4)
    given = (f"ckpt={csv_regression_run}", f"features={out}")
    assert call_script("predict", *given, f"input={path}").status == 0
    np.testing.assert_allclose(read_features(out).label[:, 0], prices, rtol=1e-6)
    assert call_script("predict", *given).status == 0  # of the run's data
    np.testing.assert_allclose(np.sort(read_features(out).label[:, 0]), np.sort(prices), rtol=1e-5)
    facts = Features(path=str(out)).prepare().facts
    assert (facts["kind"], facts["num_targets"]) == ("regression", 1)
    assert call_script("predict", *given, f"input={path}", "data.target=town").status == 0
    assert read_features(out).classes == ["Rom", "Ulm"]
    ran = call_script("predict", *given, f"input={path}", "data.target=twon")
    assert (ran.status, "did you mean 'town'?" in ran.err) == (2, True)


class Hostile:
    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return os.mkdir, (self.place,)


def header(shape):
    """A member of a .npz file that claims a shape."""
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return content.getvalue()


def bad_files(place, whole):
    """name: (what is done to a file, what is said of it)."""
    x, names = np.ones((4, 3), np.float32), np.array(list("abcd"))
    of_classes = {"features": x, "label": np.arange(4), "kind": np.array("multiclass"), "classes": names}

    def saved(**arrays):
        return lambda path: np.savez(path, **arrays)

    def claiming(shape):
        def write(path):
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("features.npy", header(shape))

        return write

    objects = np.array([Hostile(place), 1], dtype=object)
    return {
        "objects": (saved(features=objects, names=names), "refused"),
        "pickle": (lambda path: path.write_bytes(pickle.dumps(Hostile(place))), "refused"),
        "text": (lambda path: path.write_text("no features"), "refused"),
        "empty": (lambda path: path.touch(), "refused"),
        "cut": (lambda path: path.write_bytes(whole[: len(whole) // 2]), "refused"),
        "flipped": (lambda path: path.write_bytes(whole[:9000] + b"flip" + whole[9004:]), "refused"),
        "one array": (lambda path: path.write_bytes(header((4, 3)) + x.tobytes()), "refused"),
        "huge": (claiming((10**9, 10**9)), "refused"),
        "short": (claiming((40, 30)), "refused"),
        "other names": (saved(codes=x), "no array 'features'"),
        "images": (saved(features=x[:, :, None]), "no array 'features'"),
        "no number": (saved(features=x * np.nan), "no finite numbers"),
        "few names": (saved(features=x, names=names[:3]), "'names' in "),
        "parts": (saved(features=x, names=names, split=names), "says something else"),
        "few labels": (saved(**of_classes | {"label": np.arange(3)}), "do not fit 4 rows"),
        "no such kind": (saved(**of_classes | {"kind": np.array("os.system")}), "do not fit 4 rows"),
        "no such class": (saved(**of_classes | {"classes": names[:3]}), "no name in 'classes'"),
        "no labels": (saved(features=x), "features without labels"),
    }


@pytest.mark.parametrize("kind", list(bad_files("", b"")))
def test_a_file_that_is_no_features_is_refused_with_one_line(kind, made, tmp_path):
    spoil, said = bad_files(str(tmp_path / "was_run"), made.read_bytes())[kind]
    spoil(tmp_path / "bad.npz")
    with pytest.raises(UserError, match=said) as refused:
        Features(path=str(tmp_path / "bad.npz")).prepare()
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "was_run").exists()


def test_what_a_user_of_features_can_mend_is_one_line(digits_run, made, tmp_path, call_script):
    run_dir = tmp_path / "probe"
    assert run(configure("model=mlp", "data=features", f"data.path={made}", *QUICK, run_dir=run_dir)) == 0
    np.savez(tmp_path / "narrow.npz", features=np.ones((4, 3), np.float32))
    (tmp_path / "bad.npz").write_bytes(pickle.dumps([1]))
    for arguments, said in (
        ((f"ckpt={run_dir}", f"input={tmp_path / 'narrow.npz'}"), "has 3 features a sample"),
        ((f"ckpt={run_dir}", f"input={tmp_path / 'bad.npz'}"), "was refused"),
        ((f"ckpt={digits_run}", "features=out.csv"), "must be the name of a .npz file"),
        ((f"ckpt={digits_run}", f"features={tmp_path}/a.npz", "text=seven"), "text= and features= are both given"),
        ((f"ckpt={digits_run}", f"features={tmp_path}/a.npz", "data.sed=1"), "did you mean 'seed'?"),
        ((f"ckpt={digits_run}", f"features={tmp_path}/no/a.npz"), "No such file or directory"),
        ((f"ckpt={digits_run}", "input=photo.png", "data.target=a"), "data.target= is for features="),
    ):
        ran = call_script("predict", *arguments)
        assert (ran.status, ran.out) == (2, ""), ran
        assert said in ran.err
        assert ran.err.splitlines()[-1].startswith("Error: ")
    assert not list(tmp_path.glob("*.tmp"))


def test_a_layer_that_is_never_called_or_twice_gives_no_features():
    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.idle = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)

        def forward(self, x):
            return self.layer(self.layer(x))

    model = Twice()
    for layer, times in ((model.layer, 2), (model.idle, 0)):
        with pytest.raises(ValueError, match=f"called {times} times"):
            entering(model, layer, torch.ones(1, 2))
    assert not model.layer._forward_pre_hooks
