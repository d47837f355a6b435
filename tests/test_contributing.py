"""A newcomer adds a model, a data set or a task as a page of docs/ says, in a copy of the zoo, and edits nothing."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.docs
ROOT = Path(__file__).parent.parent
FILE = re.compile(r"^`([\w/.]+)`\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(params=["model", "data_set", "task"])
def page(request, tmp_path):
    """(name, text of the page, a copy of the zoo)"""
    copy = tmp_path / "zoo_copy"
    leave_out = shutil.ignore_patterns("outputs", ".venv", ".git", "__pycache__", "notebooks", ".*_cache")
    shutil.copytree(ROOT, copy, ignore=leave_out)
    return request.param, (ROOT / "docs" / f"add_a_{request.param}.md").read_text(encoding="utf-8"), copy


def test_the_steps_of_a_page_do_what_they_say(page):
    name, text, copy = page
    files = FILE.findall(text)
    assert [path.rpartition(".")[2] for path, _ in files] == ["py", "yaml"]
    for path, content in files:
        assert not (copy / path).exists()
        (copy / path).write_text(content, encoding="utf-8")
    commands = [line for block in SHELL.findall(text) for line in block.splitlines() if line]
    assert commands
    for command in commands:
        ended = in_the_copy(copy, *command.replace("python ", "", 1).split(), "trainer.num_threads=1")
        assert ended.returncode == 0, ended.stderr
    found = {path.parent.name: json.loads(path.read_text()) for path in sorted(copy.glob("outputs/**/metrics.json"))}
    assert len(found) == len(commands)
    newest = list(found.values())
    expected = {
        "model": any(metrics["train/loss"] < 0.05 for metrics in newest),
        "data_set": any(metrics.get("test/accuracy", 0) > 0.9 for metrics in newest),
        "task": any(metrics["test/accuracy"] > 0.5 for metrics in newest),
    }
    assert expected[name], found
    stem = Path(files[1][0]).stem
    tests = ("tests/test_house.py", "tests/test_configs.py", "-k", f"house or {stem}")
    rules = in_the_copy(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)
    assert rules.returncode == 0, rules.stdout
    assert stem in in_the_copy(copy, "train.py", "--help").stdout


def in_the_copy(copy, *arguments):
    """Runs python there, where the copy is found before the installed zoo."""
    environment = {**os.environ, "PYTHONPATH": "."}
    return subprocess.run(
        [sys.executable, *arguments], cwd=copy, capture_output=True, text=True, check=False, env=environment
    )
