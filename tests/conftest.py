"""Small finished runs that several tests look at; none of them may change a run's folder."""

import importlib.util
import os
import pickle
import random
import shlex
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import hydra
import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

# Tests run side by side, one process a core; more threads than cores would wait for one another. Before torch is there.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parent.parent


class Ran(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture(scope="session", autouse=True)
def configurations_are_read_once():
    """A start reads some forty yaml files, many of them twice; of a thousand starts in one process that is half."""
    load, seen = OmegaConf.load, {}
    fixed = (str(ROOT / "configs"), str(Path(hydra.__file__).parent))  # folders that no test writes to

    def load_once(file):
        path = str(getattr(file, "name", file))
        if not path.startswith(fixed):
            return load(file)
        if path not in seen:
            seen[path] = pickle.dumps(load(file))
        return pickle.loads(seen[path])  # a fifth of the time of a deep copy

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OmegaConf, "load", load_once)
        yield


@contextmanager
def drawing_nothing():
    """Runs within it write curves and texts, and no pictures, which take longer than all else in a short run."""
    from torch.utils.tensorboard import SummaryWriter

    from zoo.callbacks import showing

    with pytest.MonkeyPatch.context() as patch:
        for name in ("add_figure", "add_image"):
            patch.setattr(SummaryWriter, name, lambda *arguments, **options: None)
        for name in ("pixels", "captioned"):
            patch.setattr(showing, name, lambda *arguments: None)
        yield


@pytest.fixture
def no_pictures():
    """For a test whose runs need their curves alone."""
    with drawing_nothing():
        yield


@pytest.fixture(scope="module")
def no_pictures_at_all():
    """For a file of such tests."""
    with drawing_nothing():
        yield


def load_script(name: str, folder: str = "scripts") -> ModuleType:
    """scripts/<name>.py, or tests/drivers/<name>.py, as a module."""
    path = ROOT / folder / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def warm():
    """Commands without waiting for their imports: tests/drivers/warm.py."""
    runner = load_script("warm", "tests/drivers").Warm()
    yield runner
    runner.close()


@pytest.fixture
def script_module():
    """script_module("models") -> scripts/models.py as a module, for its functions."""
    return load_script


@pytest.fixture
def call_script(monkeypatch, capsys):
    """call("evaluate", "ckpt=...") runs a script in this process, as its last lines would: (status, out, err)."""
    from zoo.config.commandline import guarded

    def call(name, *arguments):
        module = load_script(name)
        monkeypatch.setattr(sys, "argv", [f"scripts/{name}.py", *map(str, arguments)])
        monkeypatch.setattr(sys, "path", list(sys.path))
        capsys.readouterr()
        status = guarded(module.main)
        return Ran(status, *capsys.readouterr())

    return call


@pytest.fixture
def type_script():
    """type("evaluate", "ckpt=...", cwd=...) runs a script in a process of its own: (status, out, err)."""

    def type_it(name, *arguments, cwd):
        command = [sys.executable, str(ROOT / "scripts" / f"{name}.py"), *map(str, arguments)]
        ended = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)
        return Ran(ended.returncode, ended.stdout, ended.stderr)

    return type_it


def train(folder, *overrides):
    from zoo.run import configure, run

    short = ("trainer.max_epochs=3", "trainer.num_threads=1", "logger=none")
    assert run(configure(*overrides, *short, run_dir=folder)) == 0
    return folder


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory):
    """The folder of a LeNet-5 on digits, 3 epochs."""
    return train(tmp_path_factory.mktemp("digits") / "run", "model=lenet5", "data=digits")


def write_fruit(path):
    generator = random.Random(0)
    rows = ["weight,colour,kind"]
    for _ in range(90):
        kind, weight = generator.choice([("apple", 150), ("cherry", 8), ("melon", 1500)])
        rows.append(f"{weight * generator.uniform(0.8, 1.2):.1f},{generator.choice(['red', 'green'])},{kind}")
    path.write_text("\n".join(rows) + "\n")
    return path


def write_houses(path, *, num_rows=90, seed=0):
    generator = random.Random(seed)
    rows = ["id,area,rooms,town,price"]
    for i in range(num_rows):
        area, rooms, town = generator.uniform(30, 200), generator.randint(1, 6), generator.choice(["Ulm", "Rom"])
        price = 1000 * area + 5000 * rooms + 20000 * (town == "Rom") + generator.gauss(0, 3000)
        rows.append(f"{i},{area:.1f},{rooms},{town},{price:.0f}")
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="session")
def csv_classification_run(tmp_path_factory):
    """The folder of an MLP that learned `kind` (3 classes) of fruit.csv; the file lies beside it."""
    folder = tmp_path_factory.mktemp("fruit")
    path = write_fruit(folder / "fruit.csv")
    return train(folder / "run", "data=csv", f"data.path={path}", "data.target=kind")


@pytest.fixture(scope="session")
def csv_regression_run(tmp_path_factory):
    """The folder of an MLP that learned `price` of houses.csv; the file lies beside it."""
    folder = tmp_path_factory.mktemp("houses")
    path = write_houses(folder / "houses.csv")
    return train(folder / "run", "data=csv", f"data.path={path}", "data.target=price")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with the files that the documents speak of."""
    folder = tmp_path_factory.mktemp("workplace")
    generator = np.random.default_rng(0)
    rows = [f"{size:.1f},{town},{2.5 * size + (30 if town == 'Ulm' else 0) + noise:.2f}"
            for size, town, noise in zip(generator.uniform(20, 200, 200), ["Ulm", "Jena"] * 100,
                                         generator.normal(0, 5, 200), strict=True)]  # fmt: skip
    for name in ("my houses (2).csv", "houses.csv", "my.csv"):
        (folder / name).write_text("\n".join(["size,town,price", *rows]) + "\n")
    (folder / "new_houses.csv").write_text("town,size\nUlm,90.5\nBonn,40\n")
    weather = [f"{wind:.1f},{int(wind > 5)},{int(wind > 8)}" for wind in generator.uniform(0, 12, 200)]
    (folder / "weather.csv").write_text("\n".join(["speed,wind,rain", *weather]) + "\n")
    waves = np.sin(np.arange(600) / 9)[:, None] + generator.normal(0, 0.1, (600, 2))
    for name, steps in (("series.csv", waves), ("recent.csv", waves[-300:])):
        (folder / name).write_text("\n".join(["north,south", *(f"{a:.3f},{b:.3f}" for a, b in steps)]) + "\n")
    reviews = [f"it was {('good', 'bad')[i % 2]} and I was {('glad', 'sad')[i % 2]} {i},{i % 2}" for i in range(200)]
    (folder / "reviews.csv").write_text("\n".join(["review,stars", *reviews]) + "\n")
    colours, things = {"rot": "red", "blau": "blue", "alt": "old"}, {"Haus": "house", "Auto": "car", "Buch": "book"}
    pairs = [f"das {c}e {t}\tthe {colours[c]} {things[t]}" for c in colours for t in things]
    (folder / "pairs.tsv").write_text("\n".join(pairs * 12) + "\n")
    (folder / "talk.tsv").write_text("\n".join(pairs * 12) + "\n")
    (folder / "other_pairs.tsv").write_text("\n".join(f"ein {pair}" for pair in pairs * 12) + "\n")
    for column, name in enumerate(("a.txt", "b.txt")):
        (folder / name).write_text("\n".join(pair.split("\t")[column] for pair in pairs * 12) + "\n")
    (folder / "my.txt").write_text("The rain in Spain stays mainly in the plain. " * 400)
    for name in ("images", "labels"):
        (folder / "street" / name).mkdir(parents=True)
    (folder / "street" / "classes.txt").write_text("car\nbus\n")
    for i in range(20):
        scene = np.zeros((48, 60, 3), np.uint8)
        scene[12:36, 18:42, i % 2] = 255
        Image.fromarray(scene).save(folder / "street" / "images" / f"{i}.png")
        (folder / "street" / "labels" / f"{i}.txt").write_text(f"{i % 2} 0.5 0.5 0.4 0.5\n")
    rows = generator.normal(size=(60, 5)).astype(np.float32)
    kinds = {"label": (rows[:, 0] > 0).astype(np.int64), "kind": "multiclass", "classes": ["cats", "dogs"]}
    np.savez(folder / "features.npz", features=rows, **kinds)
    for i in range(80):
        root, kinds = ("photos", ("dogs", "cats")) if i < 40 else ("other_photos", ("hens", "pigs"))
        place = folder / root / kinds[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 120, (40, 50, 3), dtype=np.uint8)
        pixels[:, : 25 if i % 2 else 50] += 100
        Image.fromarray(pixels).save(place / f"{i}.png")
    Image.fromarray(pixels).save(folder / "photo.png")
    for root, white in (("scans", 2), ("cells", 255)):
        for name in ("images", "masks"):
            (folder / root / name).mkdir(parents=True)
        for i in range(20):
            there = generator.random((48, 60)) < 0.3
            Image.fromarray((200 * there).astype(np.uint8)).save(folder / root / "images" / f"{i}.png")
            Image.fromarray((white * there).astype(np.uint8)).save(folder / root / "masks" / f"{i}.png")
    (folder / "mypkg.py").write_text(
        "from torch import nn\n\n\nclass Net(nn.Sequential):\n"
        "    def __init__(self, in_features: int, num_classes: int, width: int):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(in_features, width), nn.ReLU(), "
        "nn.Linear(width, num_classes))\n"
    )
    return folder


def newest(folder, model):
    """The newest run of a model below outputs/."""
    runs = sorted((folder / "outputs").glob(f"*/*_{model}_*"), key=lambda path: path.name)
    return runs[-1]


def typed(command, folder):
    """The words of a command, with this Python and this copy of the zoo, and a real run in place of a placeholder."""
    if "<run>" in command:
        run_dir = newest(folder, "lenet5").relative_to(folder)
        command = command.replace("outputs/<date>/<run>/", f"{run_dir}/")
    if "<sweep>" in command:
        run_dir = sorted((folder / "outputs").glob("*/*_sweep"))[-1].relative_to(folder)
        command = command.replace("outputs/<date>/<sweep>/", f"{run_dir}/")
    words = shlex.split(command)
    if words[0] == "torchrun":
        words = [Path(sys.executable).with_name("torchrun"), *words[1:]]
        words[words.index("train.py")] = str(ROOT / "train.py")
    if words[0] == "python":
        words[:2] = [sys.executable, str(ROOT / words[1])]
    return words


@pytest.fixture(scope="session")
def typed_words():
    """typed_words("python train.py ...", folder) -> the words to be run; see `typed`."""
    return typed
