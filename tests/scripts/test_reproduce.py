"""What is run within a budget, what becomes of a unit that was stopped, failed or is done, and the fastest recipe."""

import json
import os
import sys
import time
from pathlib import Path

import pytest

import zoo.reproduction.recipes as reproduction
from zoo.errors import UserError
from zoo.reproduction.recipes import Recipe, UnfinishedError, Workshop, duration, fitting, recipes, verdict, wanted

ROOT = Path(__file__).parent.parent.parent
# Stands for train.py: seconds, whether it fails; writes what a finished run has, and counts how often it was called.
TRAINER = """
import json, pathlib, sys, time
run_dir, seed, seconds, status = pathlib.Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
with open(run_dir / "calls.txt", "a") as file:
    file.write("x")
time.sleep(seconds)
if status:
    sys.exit("Error: the data are not there.")
(run_dir / "metrics.json").write_text(json.dumps({"status": "finished", "seconds": seconds, "test/accuracy": 0.9}))
(run_dir / "config.yaml").write_text(f"seed: {seed}\\npublished: {{metric: test/accuracy, value: 0.8}}\\n")
"""


class Pretence(Workshop):
    """A workshop whose recipes are named after what they do: "0.1" takes that many seconds, "fails" ends with 2."""

    def command(self, experiment, seed, run_dir, *words):
        self.asked = [*getattr(self, "asked", []), (experiment, seed, *words)]
        seconds, status = (0.0, 2) if experiment == "fails" else (float(experiment), 0)
        return [sys.executable, "-c", TRAINER, str(run_dir), str(seed), str(seconds), str(status)]


@pytest.fixture(autouse=True)
def pretended(monkeypatch):
    monkeypatch.setattr(reproduction, "recipe_hash", lambda name: f"hash of {name}")
    monkeypatch.setattr(reproduction, "recipe", lambda name: {"begins_with": "0.2"} if name in ("0.01", "0.02") else {})


@pytest.mark.parametrize(
    ("values", "published", "more", "expected"),
    [
        ([0.9, 0.91, 0.92], 0.85, True, "beaten"),
        ([0.9, 0.91, 0.92], 0.915, True, "matched"),
        ([0.9, 0.91, 0.92], 0.92, True, "matched"),  # 0.91 + 2 * 0.01 / sqrt(3) = 0.9215
        ([0.9, 0.91, 0.92], 0.93, True, "missed"),
        ([0.9, 0.91, 0.92], 0.85, False, "missed"),
        ([0.01, 0.011, 0.012], 0.02, False, "beaten"),
        ([0.03], 0.02, False, "missed"),
        ([0.9], 0.9, True, "reached once"),
        ([0.9], 0.91, True, "missed"),
    ],
)
def test_a_verdict_is_by_twice_the_standard_error(values, published, more, expected):
    assert verdict(values, published, more) == expected


def test_a_budget_is_a_number_and_a_unit():
    assert [duration(text) for text in ("2h", "90min", "1.5m", "30s")] == [7200, 5400, 90, 30]
    for text in ("2", "h", "two hours", "0h", "-1h", "1d"):
        with pytest.raises(UserError, match="write 2h, 90min or 30s"):
            duration(text)


def test_the_shortest_recipes_fill_the_budget_and_what_is_done_costs_nothing(tmp_path):
    done = tmp_path / "long" / "seed=0"
    done.mkdir(parents=True)
    (done / "recipe_hash.txt").write_text("hash of long")
    (done / "metrics.json").write_text('{"status": "finished"}')
    (done / "config.yaml").write_text("seed: 0\n")
    asked = [Recipe("long", 1, 500), Recipe("middle", 2, 20), Recipe("short", 3, 1), Recipe("unknown", 1, None)]
    chosen, left = fitting(asked, 3600 * 0.4, 2, tmp_path)  # 48 minutes of two workers
    assert [one.name for one in chosen] == ["short", "middle", "long"]
    assert [one.name for one in left] == ["unknown"]
    assert [one.name for one in fitting(asked, 3600 * 0.4, 1, tmp_path)[0]] == ["short", "long"]


def test_a_recipe_has_as_many_seeds_as_its_result_unless_told(tmp_path):
    (tmp_path / "folds.json").write_text('{"n": 10, "minutes_per_seed": 3.5}')
    assert wanted("folds", None, tmp_path) == Recipe("folds", 10, 3.5)
    assert wanted("folds", 2, tmp_path) == Recipe("folds", 2, 3.5)
    assert wanted("mlp_mnist1d", None, tmp_path).minutes is not None  # of the zoo's own result
    assert wanted("new", None, tmp_path) == Recipe("new", 3, None)


def test_what_fails_leaves_the_others_and_what_is_done_is_not_done_again(tmp_path):
    asked = [Recipe("0.1", 2, 1), Recipe("fails", 1, 1), Recipe("0.0", 1, 1)]
    for _ in range(2):
        ended = {one.name: runs for one, runs in Pretence(tmp_path, 2).run(asked)}
        assert [run["config"]["seed"] for run in ended["0.1"]] == [0, 1]
        assert len(ended["0.0"]) == 1
        assert "fails seed=0 ended with status 1: Error: the data are not there." in str(ended["fails"])
    assert (tmp_path / "0.1" / "seed=1" / "calls.txt").read_text() == "x"
    assert (tmp_path / "fails" / "seed=0" / "calls.txt").read_text() == "xx"


def test_what_still_trains_at_the_deadline_is_stopped_and_nothing_is_begun(tmp_path):
    begun = time.monotonic()
    asked = [Recipe("0.0", 1, 1), Recipe("600.0", 2, 1)]
    ended = {one.name: runs for one, runs in Pretence(tmp_path, 2, begun + 2).run(asked)}
    assert len(ended["0.0"]) == 1
    assert isinstance(ended["600.0"], UnfinishedError)
    assert time.monotonic() - begun < 60
    assert not list(tmp_path.glob("600.0/*/metrics.json"))


def test_a_start_that_two_recipes_share_is_trained_once(tmp_path):
    workshop = Pretence(tmp_path, 2)
    ended = {one.name: runs for one, runs in workshop.run([Recipe("0.01", 1, 1), Recipe("0.02", 1, 1)])}
    start = f"pretrained={tmp_path / '0.2' / 'seed=0'}"  # of the same seed
    assert sorted(workshop.asked) == [("0.01", 0, start), ("0.02", 0, start), ("0.2", 0)]
    assert (tmp_path / "0.2" / "seed=0" / "calls.txt").read_text() == "x"
    assert ended["0.02"][0]["metrics"]["seconds"] == pytest.approx(0.22)  # what it begins with counts


def test_other_code_makes_room(tmp_path, monkeypatch):
    list(Pretence(tmp_path).run([Recipe("0.0", 1, 1)]))
    monkeypatch.setattr(reproduction, "recipe_hash", lambda name: "another")
    list(Pretence(tmp_path).run([Recipe("0.0", 1, 1)]))
    assert (tmp_path / "0.0" / "seed=0" / "calls.txt").read_text() == "x"  # in a folder of its own again


@pytest.mark.docs
def test_the_fastest_recipe_gives_its_recorded_number_again(tmp_path, monkeypatch):
    """The whole way, train.py included; on another processor rounding differs, hence a tolerance."""
    if not os.environ.get("ZOO_DATA"):
        pytest.skip("ZOO_DATA names no folder with the data sets")
    monkeypatch.undo()
    results = [json.loads((ROOT / "results" / f"{name}.json").read_text(encoding="utf-8")) for name in recipes()]
    fastest = min(results, key=lambda result: result["minutes_per_seed"])
    ((_, runs),) = Workshop(tmp_path).run([Recipe(fastest["experiment"], 1, None)])
    assert not isinstance(runs, Exception), runs
    now, then = (metrics[fastest["metric"]] for metrics in (runs[0]["metrics"], fastest["seeds"]["0"]))
    assert now == pytest.approx(then, abs=max(4 * fastest["standard_deviation"], 0.005))
