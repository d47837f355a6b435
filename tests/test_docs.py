"""Every command of the README and of the pages in docs/ runs, as a new user types it (yaml: test_headers.py)."""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from functools import partial
from pathlib import Path

import pytest

from zoo.run import configure

pytestmark = pytest.mark.docs
ROOT = Path(__file__).parent.parent
# In the order in which they are read. The pages on adding something are done by tests/test_contributing.py.
PAGES = ["README.md"] + [f"docs/{name}.md" for name in ("settings", "looking", "running", "own_data", "fine_tuning")]
TEXTS = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}
BLOCKS = [block for text in TEXTS.values() for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL)]
COMMANDS = list(dict.fromkeys(line.strip() for block in BLOCKS for line in block.splitlines() if line.strip()))
# What the surrounding test run has done already, and what shows a server.
ELSEWHERE = ('pip install -e ".[test]" && pytest', "tensorboard --logdir outputs")
DOWNLOADED = "mnist|fashion_mnist|cifar10|tiny_shakespeare|mr|trec|sst2|jsb|nottingham|etth1|multi30k"
NEEDS_DOWNLOAD = re.compile(rf"(data=({DOWNLOADED})\b|experiment=|sweep=few_labels)")


# In the order of the pages: a later command uses what an earlier one has left. One process runs a whole file.
@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in ELSEWHERE])
def test_a_command_of_the_readme_and_its_pages_runs(command, workplace, typed_words, warm):
    """Those of the README as a user types them, those of its pages without waiting each time for the same imports."""
    if NEEDS_DOWNLOAD.search(command) and "ZOO_DATA" not in os.environ:
        pytest.skip("needs the data set: set ZOO_DATA to a folder that has it")
    command = command.rpartition("&& ")[2]  # what is installed was installed before the tests start
    words = typed_words(command, workplace)
    if command in TEXTS["README.md"] or words[0] != sys.executable:
        ended = subprocess.run(words, cwd=workplace, capture_output=True, text=True, check=False)
    else:
        ended = warm.run(words, cwd=workplace)
    assert ended.returncode == 0, ended.stderr
    assert "Warning" not in ended.stdout + ended.stderr
    assert "Tip" not in ended.stdout + ended.stderr
    lines = [line for line in ended.stdout.splitlines() if line.strip("-")]  # without the rules of a table
    several = "-m" in command or "sweep" in command or "--" in command  # cells say the same of themselves
    assert len(lines) == len(set(lines)) or several, "no message twice"


def test_without_waiting_for_imports_a_command_says_and_makes_the_same(workplace, warm):
    """A run, and a mistake."""
    found = []
    for run in (warm.run, partial(subprocess.run, capture_output=True, text=True, check=False)):
        run_dir = f"once{len(found)}"
        command = [sys.executable, str(ROOT / "train.py"), "debug=fast", "model.dropout=0.5", f"run_dir={run_dir}"]
        ended, wrong = run(command, cwd=workplace), run([*command[:2], "model=mpl"], cwd=workplace)
        metrics = json.loads((workplace / run_dir / "metrics.json").read_text())
        told = ended.stdout.replace(run_dir, "once")
        numbers = {key: metrics[key] for key in ("train/loss", "test/loss", "iteration", "status")}
        found.append((ended.returncode, told, ended.stderr, wrong.returncode, wrong.stdout, wrong.stderr, numbers))
    assert found[0] == found[1]
    assert (found[0][0], found[0][3]) == (0, 2)


def test_every_page_is_known_and_every_link_leads_somewhere():
    others = {"results", "pairs", "house", "add_a_model", "add_a_data_set", "add_a_task"}
    known = {Path(page).stem for page in PAGES[1:]} | others
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} == known
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_last_lines_say_where_the_run_is_and_how_to_look(workplace, typed_words):
    words = typed_words("python train.py debug=fast", workplace)
    ended = subprocess.run(words, cwd=workplace, capture_output=True, text=True, check=True)
    folder, board = ended.stdout.strip().splitlines()[-2:]
    assert (workplace / folder.removeprefix("Run folder: ") / "metrics.json").is_file()
    assert board == "Look at it: tensorboard --logdir outputs"


def test_tensorboard_shows_a_run_within_ten_seconds(workplace, typed_words):
    subprocess.run(typed_words("python train.py debug=fast", workplace), cwd=workplace, capture_output=True, check=True)
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
