"""Every command that is written down runs: the README's as a new user types them, the yaml headers' in process."""

import os
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from zoo.commandline import CONFIGS
from zoo.provenance import recipe
from zoo.run import configure, run

pytestmark = pytest.mark.docs
ROOT = Path(__file__).parent.parent
# In the order in which they are read. The pages on adding something are done by tests/test_contributing.py.
PAGES = ["README.md"] + [f"docs/{name}.md" for name in ("settings", "looking", "running", "own_data", "fine_tuning")]
TEXTS = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}
BLOCKS = [block for text in TEXTS.values() for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL)]
COMMANDS = list(dict.fromkeys(line.strip() for block in BLOCKS for line in block.splitlines() if line.strip()))
# What the surrounding test run has done already, and what shows a server.
ELSEWHERE = ('pip install -e ".[test]" && pytest', "tensorboard --logdir outputs")
HEADERS = sorted(
    {
        match.strip()
        for path in CONFIGS.rglob("*.yaml")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("#")
        for match in re.findall(r"python train\.py ?[^#(]*$", line)
    }
)
DOWNLOADED = "mnist|fashion_mnist|cifar10|tiny_shakespeare|mr|trec|sst2|jsb|nottingham|etth1|multi30k"
CUT_SHORT = (
    *("trainer.limit_train_batches=2", "trainer.max_epochs=1", "trainer.limit_val_batches=1"),
    "trainer.limit_test_batches=1",
)
NEEDS_DOWNLOAD = re.compile(rf"(data=({DOWNLOADED})\b|experiment=|sweep=few_labels)")


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


# In the order of the pages: a later command uses what an earlier one has left. One process runs a whole file.
@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in ELSEWHERE])
def test_a_command_of_the_readme_and_its_pages_runs(command, workplace):
    if NEEDS_DOWNLOAD.search(command) and "ZOO_DATA" not in os.environ:
        pytest.skip("needs the data set: set ZOO_DATA to a folder that has it")
    command = command.rpartition("&& ")[2]  # what is installed was installed before the tests start
    ended = subprocess.run(typed(command, workplace), cwd=workplace, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "Warning" not in ended.stdout + ended.stderr
    assert "Tip" not in ended.stdout + ended.stderr
    lines = [line for line in ended.stdout.splitlines() if line.strip("-")]  # without the rules of a table
    several = "-m" in command or "sweep" in command or "--" in command  # cells say the same of themselves
    assert len(lines) == len(set(lines)) or several, "no message twice"


def test_every_page_is_known_and_every_link_leads_somewhere():
    others = {"results", "pairs", "house", "add_a_model", "add_a_data_set", "add_a_task"}
    known = {Path(page).stem for page in PAGES[1:]} | others
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} == known
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_last_lines_say_where_the_run_is_and_how_to_look(workplace):
    words = typed("python train.py debug=fast", workplace)
    ended = subprocess.run(words, cwd=workplace, capture_output=True, text=True, check=True)
    folder, board = ended.stdout.strip().splitlines()[-2:]
    assert (workplace / folder.removeprefix("Run folder: ") / "metrics.json").is_file()
    assert board == "Look at it: tensorboard --logdir outputs"


def test_tensorboard_shows_a_run_within_ten_seconds(workplace):
    subprocess.run(typed("python train.py debug=fast", workplace), cwd=workplace, capture_output=True, check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    board = Path(sys.executable).with_name("tensorboard")
    server = subprocess.Popen(
        [board, "--logdir", "outputs", "--host", "127.0.0.1", "--port", str(port)], cwd=workplace,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        shown = ""
        for _ in range(60):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/data/plugin/scalars/tags", timeout=5) as answer:
                    shown = answer.read().decode()
            except OSError:
                shown = ""
            if "train/loss" in shown:
                break
            time.sleep(0.5)
        assert "train/loss" in shown
    finally:
        server.terminate()
        server.wait(20)


def test_every_wish_of_the_table_can_be_composed(tmp_path):
    section = TEXTS["docs/settings.md"].split("| wish | write |")[1].split("\n\n")[0]
    wishes = [code for code in re.findall(r"`([^`]+)`", section) if "=" in code]
    assert len(wishes) > 15
    for wish in wishes:
        configure(*shlex.split(wish), run_dir=tmp_path)


def begin_recipes(recipes):
    """The runs that recipes begin with, where they say they lie, seen from where we stand."""
    for name in recipes:
        start, run_dir = recipe(name).get("begins_with"), str(recipe(name).get("pretrained"))
        if start and run_dir.startswith("outputs/") and not Path(run_dir).exists():
            assert run(configure(f"experiment={start}", *CUT_SHORT, run_dir=run_dir)) == 0


@pytest.mark.parametrize("header", HEADERS)
def test_a_command_of_a_yaml_header_runs(header, workplace, monkeypatch):
    """In process and cut short; what it says is what is run."""
    if NEEDS_DOWNLOAD.search(header) and ("ZOO_DATA" not in os.environ or "cifar10" in header):
        pytest.skip("needs the data set: set ZOO_DATA to a folder that has it")
    words = shlex.split(header)[2:]
    if set(words) & {"--help", "--cfg"}:
        return  # the README's test runs these
    monkeypatch.chdir(workplace)
    monkeypatch.syspath_prepend(workplace)
    for option, missing in (("gpu", not torch.cuda.is_available()), ("ddp", True)):
        if f"trainer={option}" in words and missing:
            configure(*words, run_dir=workplace / "composed")  # runs in tests/test_gpu.py and tests/test_launch.py
            return
    if "-m" in words or any(word.startswith("sweep=") for word in words):
        for name in [word.partition("=")[2] for word in words if word.startswith("sweep=")]:
            begin_recipes(OmegaConf.load(CONFIGS / "sweep" / f"{name}.yaml").get("space", {}).get("experiment", []))
        place = workplace / "sweeps" / str(HEADERS.index(header))
        words = [*typed(header, workplace), "debug=fast", f"run_dir={place}"]
        words += ["sweep.num_trials=2"] if "sweep=optuna" in words else []
        ended = subprocess.run(words, cwd=workplace, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        return
    if "data=shards" in words and not (workplace / "shards").exists():
        pack = "python scripts/shard.py data=image_folder root=photos/ out=shards/ samples=10"
        subprocess.run(typed(pack, workplace), cwd=workplace, check=True, capture_output=True)
    source = workplace / "source"
    if any("outputs/..." in word for word in words):
        if not source.exists():
            run(configure("debug=fast", "logger=none", run_dir=source))
        words = [word.replace("outputs/...", str(source)) for word in words]
    for run_dir in [word.partition("=")[2] for word in words if word.startswith("pretrained=outputs/")]:
        if not (workplace / run_dir).exists():  # what another line of the same header leaves there
            model = [word for word in words if word.startswith("model=")]
            recipes = [word.partition("=")[2] for word in words if word.startswith("experiment=")]
            model += [f"experiment={recipe(name)['begins_with']}" for name in recipes]
            assert run(configure(*model, *CUT_SHORT, run_dir=workplace / run_dir)) == 0
    assert run(configure(*words, *CUT_SHORT, run_dir=workplace / "runs" / str(HEADERS.index(header)))) == 0
