"""Sweeps: what is enumerated and ranked, and that neither a failing cell nor an interruption costs the others."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from zoo.config.commandline import CONFIGS, options
from zoo.errors import UserError
from zoo.sweeps import ranking
from zoo.sweeps.space import Axis, axis, grid, literal, random_point, space_axis, typed_axes
from zoo.sweeps.study import Study
from zoo.sweeps.sweep import Sweep, begin, is_sweep

TRAIN = CONFIGS.parent / "train.py"
QUICK = ("debug=fast", "callbacks.progress=null")
optuna_installed = pytest.mark.skipif(
    not __import__("importlib.util").util.find_spec("optuna"), reason="needs the extra 'sweep'"
)


@pytest.fixture(autouse=True, scope="module")
def without_waiting_for_imports(warm):
    global start_from
    start_from = warm


start_from = None


def start(*arguments, cwd):
    environment = {key: value for key, value in os.environ.items() if key != "HYDRA_FULL_ERROR"}
    return start_from.start([sys.executable, TRAIN, *arguments], cwd=cwd, env=environment)


def sweep(*arguments, cwd):
    process = start(*arguments, cwd=cwd)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def states(folder):
    return [cell["status"] for cell in Sweep.read(folder).cells]


def metrics(folder, n):
    return json.loads((folder / str(n) / "metrics.json").read_text())


# What is asked


@pytest.mark.parametrize(
    ("typed", "ours"),
    [
        ("-m seed=0,1", True),
        ("--multirun model=mlp,lenet5", True),
        ("sweep=learning_rate", True),
        ("sweep.space={seed:[0,1]}", True),
        ("model=mlp seed=1", False),
        ("sweep=none", False),
        ("-m seed=0,1 hydra/sweeper=optuna", False),
        ("-m seed=0,1 hydra/launcher=joblib", False),
        ("-m seed=0,1 --cfg job", False),
        ("sweep=optuna --help", False),
        ("-m seed=0,1 --config-dir elsewhere", False),
        ("resume=auto", False),
    ],
)
def test_what_is_a_sweep_of_ours(typed, ours):
    assert is_sweep(typed.split()) is ours


def test_cells_are_numbered_as_hydra_numbers_them():
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    typed = ["seed=range(0,3)", "trainer.max_epochs=2", "model.hidden_features=[],[8]", "optimizer.lr=choice(0.1,1e-2)"]
    parsed = OverridesParser.create().parse_overrides(typed)
    fixed, axes = typed_axes(typed, None)
    ours = [sorted([*fixed, *(f"{k}={v}" for k, v in point.items())]) for point in grid(axes)]
    assert ours == [sorted(cell) for cell in BasicSweeper.split_arguments(parsed, None)[0]]


@pytest.mark.parametrize("name", [name for name in options("sweep") if name != "none"])
def test_every_prepared_sweep_fits_the_default_run(name, tmp_path):
    found = begin([f"sweep={name}"], tmp_path)
    assert found.axes
    others = {"overfitting": ("loss_gap", "min"), "posterior_collapse": ("val/loss", "min")}
    others |= {"strong_discriminator": ("test/parzen", "max"), "mode_collapse": ("test/modes", "max")}
    others |= {"few_labels": ("test/accuracy", "max")}  # it has no validation part
    assert (found.settings["metric"], found.settings["mode"]) == others.get(name, ("val/accuracy", "max"))
    assert found.common == []


@pytest.mark.parametrize(
    ("typed", "ranked"),
    [
        ("model=gan task.monitor=parzen", ("val/parzen", "max")),
        ("model=rbm", ("val/pseudo_likelihood", "max")),
        ("model=rbm data=iris", ("val/loss", "min")),  # Gaussian units have none
        ("model=dbn", ("val/loss", "min")),  # whose layers say which epoch counts, not which run
        ("model=autoencoder", ("val/loss", "min")),
        ("model=seq2seq data=dates task.monitor=bleu", ("val/bleu", "max")),
        ("model=mlp", ("val/accuracy", "max")),
    ],
)
def test_cells_are_ranked_by_what_their_task_watches(typed, ranked, tmp_path):
    found = begin(["-m", "seed=0,1", *typed.split()], tmp_path)
    assert (found.settings["metric"], found.settings["mode"]) == ranked


def test_the_depth_ladder_has_nine_rungs(tmp_path):
    points = [cell["point"]["model.hidden_features"] for cell in begin(["sweep=depth_ladder"], tmp_path).cells]
    assert [point.count("64") for point in points] == list(range(9))


def test_what_is_typed_wins_over_the_prepared_space(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # two jobs would share the cores
    typed = begin(["sweep=learning_rate", "optimizer.lr=0.5,0.25", "seed=1"], tmp_path)
    assert [cell["point"] for cell in typed.cells] == [{"optimizer.lr": "0.5"}, {"optimizer.lr": "0.25"}]
    replaced = begin(["sweep=learning_rate", "sweep.space={seed:[3,4],model:[mlp,lenet5]}", "sweep.jobs=2"], tmp_path)
    assert [list(cell["point"].values()) for cell in replaced.cells][1] == ["3", "lenet5"]
    assert len(replaced.cells) == 4


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("sweep=lerning_rate", "learning_rate"),
        ("sweep=learning_rate sweep.sampler=gird", "did you mean 'grid'"),
        ("sweep=learning_rate sweep.space={optimizer.lrr:[1,2]}", "optimizer.lrr"),
        ("sweep=learning_rate sweep.space={optimizer.lr:[]}", "optimizer.lr has no values"),
        ("sweep=learning_rate sweep.space={}", "varies nothing"),
        ("sweep=learning_rate sweep.space={optimizer.lr:0.1}", "neither values nor a range"),
        ("sweep=optuna sweep.space={optimizer.lr:{low:1,high:0.1}}", "low must be smaller"),
        ("sweep=optuna sweep.space={optimizer.lr:{low:0,high:0.1,log:true}}", "greater than 0"),
        ("sweep=optuna sweep.space={optimizer.lr:{low:a,high:0.1}}", "must be numbers"),
        ("sweep.space={optimizer.lr:{low:0.1,high:1}}", "needs the values of optimizer.lr"),
        ("sweep=learning_rate sweep.jobs=0", "sweep.jobs=0 must be"),
        ("sweep=learning_rate sweep.jobs=1.5", "sweep.jobs=1.5 must be"),
        ("sweep=optuna sweep.num_trials=0", "sweep.num_trials=0 must be"),
        ("sweep=learning_rate sweep.metric=val/loss", "sweep.mode=min"),
        ("sweep.jobs=2", "varies nothing"),
        ("-m model=gan seed=0,1", "sweep.metric=test/parzen sweep.mode=max"),
        ("-m model=mlp,lenet6", "lenet6"),
        ("-m run_dir=a,b", "run_dir is the folder"),
    ],
)
def test_what_cannot_be_is_said_before_any_cell_runs(typed, message, tmp_path):
    from hydra.errors import HydraException

    with pytest.raises((UserError, HydraException)) as error:
        begin(typed.split(), tmp_path)
    assert message in str(error.value) + str(error.value.__cause__)


@pytest.mark.parametrize(
    ("value", "typed"),
    [
        (None, "null"),
        (True, "true"),
        (1e-05, "1e-05"),
        ([64, []], "[64,[]]"),
        ("mlp", "mlp"),
        ("true", '"true"'),
        ("12", '"12"'),
        ("a b,c", '"a b,c"'),
    ],
)
def test_a_value_of_a_space_is_typed_so_that_it_comes_back(value, typed):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    assert literal(value) == typed
    assert OverridesParser.create().parse_override(f"key={typed}").value() == value


def test_a_random_point_depends_on_its_number_alone():
    axes = [space_axis("lr", {"low": 1e-4, "high": 0.1, "log": True}), space_axis("width", {"low": 8, "high": 64})]
    points = [random_point(axes, 0, n) for n in range(50)]
    assert points[7] == random_point(axes, 0, 7) != random_point(axes, 1, 7)
    assert all(1e-4 <= float(point["lr"]) <= 0.1 and 8 <= int(point["width"]) <= 64 for point in points)
    assert 15 < sum(float(point["lr"]) < 10**-2.5 for point in points) < 35, "even on a log scale"


def test_a_sweep_is_read_back_as_it_was_written(tmp_path):
    axes = [Axis("model.hidden_features", ("[]", "[64]")), Axis("optimizer.lr", low=1e-4, high=0.1, log=True)]
    assert [axis(one.plain()) for one in axes] == axes
    written = Sweep(tmp_path, ["data.path='${x}'"], ["seed=0"], axes, {"sampler": "tpe", "jobs": 2}, [])
    written.add({"model.hidden_features": "[64]", "optimizer.lr": "0.001"})
    written.write()
    assert Sweep.read(tmp_path) == written


def test_the_table_ranks_finished_cells_and_lists_the_others_last(tmp_path):
    for n, value in enumerate([0.5, 0.9, None, 0.7]):
        (tmp_path / str(n)).mkdir()
        found = {"val/accuracy": value, "test/accuracy": value, "seconds": 1.25}
        (tmp_path / str(n) / "metrics.json").write_text(json.dumps(found))
    ends = ["finished", "finished", "failed", "pruned"]
    cells = [{"cell": n, "point": {"optimizer.lr": f"{n}e-3"}, "status": end} for n, end in enumerate(ends)]
    rows = ranking.rows(cells, tmp_path, "val/accuracy", "max")
    assert [(row["rank"], row["cell"]) for row in rows] == [(1, 1), (2, 0), ("", 2), ("", 3)]
    assert [row["cell"] for row in ranking.rows(cells, tmp_path, "val/accuracy", "min")][:2] == [0, 1]
    lines = ranking.as_text(rows).splitlines()
    assert lines[0].split() == ["rank", "cell", "optimizer.lr", "val/accuracy", "test/accuracy", "seconds", "status"]
    assert lines[1].split() == ["1", "1", "0.001", "0.9000", "0.9000", "1.2", "finished"]
    ranking.write_csv(tmp_path / "results.csv", rows)
    with (tmp_path / "results.csv").open() as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["finished", "finished", "failed", "pruned"]


def test_where_no_cell_has_ended_the_table_is_there_all_the_same(tmp_path):
    rows = ranking.rows([{"cell": 0, "point": {"seed": "0"}, "status": "interrupted"}], tmp_path, "val/loss", "min")
    ranking.write_csv(tmp_path / "results.csv", rows)
    assert (tmp_path / "results.csv").read_text().splitlines()[0] == "rank,cell,seed,val/loss,seconds,status"
    assert ranking.as_text(rows).splitlines()[1].split() == ["0", "0", "interrupted"]


# What runs


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """(cwd, status, out, err) of a grid of three, one of which cannot work; its folder is `it's a sweep`."""
    cwd = tmp_path_factory.mktemp("sweep")
    return cwd, *sweep(*QUICK, "-m", "seed=0,-1,1", "run_dir=it's a sweep", cwd=cwd)


def test_a_failing_cell_is_one_line_and_the_others_go_on(ran):
    cwd, status, out, err = ran
    assert status == 3, err
    errors = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert "seed=-1" in errors[0]
    assert "Traceback" not in err
    assert states(cwd / "it's a sweep") == ["finished", "failed", "finished"]
    table = out[out.index("rank  cell") :].splitlines()
    assert [line.split()[-1] for line in table[1:4]] == ["finished", "finished", "failed"]
    best = max((0, 2), key=lambda n: metrics(cwd / "it's a sweep", n)["val/accuracy"])
    assert table[1].split()[:2] == ["1", str(best)]


def test_hparams_has_a_row_for_every_cell(ran):
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    seeds = {}
    for n in (0, 2):
        events = EventAccumulator(str(ran[0] / "it's a sweep" / str(n))).Reload()
        found = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        values = HParamsPluginData.FromString(found).session_start_info.hparams
        seeds[n] = values["seed"].number_value
        assert "test/accuracy" in events.Tags()["scalars"]
        assert not [key for key in values if "sweep" in key]
        declared = HParamsPluginData.FromString(events.SummaryMetadata("_hparams_/experiment").plugin_data.content)
        in_front = {column.name for column in declared.experiment.hparam_infos if column.differs}
        typed = {key.partition("=")[0] for key in QUICK} & set(values)
        assert in_front == {"model", "data", "seed"} | typed, (
            "TensorBoard selects what was typed, not the first letters"
        )
    assert seeds == {0: 0, 2: 1}


@pytest.mark.slow
def test_cells_side_by_side_give_what_they_give_one_by_one(ran, tmp_path):
    status, out, err = sweep(*QUICK, "sweep.space={seed:[0,1]}", "sweep.jobs=2", "run_dir=two", cwd=tmp_path)
    assert (status, states(tmp_path / "two")) == (0, ["finished", "finished"]), err
    one = ran[0] / "it's a sweep"
    for n, number in ((0, 0), (1, 2)):
        alone, beside = metrics(one, number), metrics(tmp_path / "two", n)
        for key in ("train/loss", "val/loss", "test/loss", "test/accuracy", "iteration"):
            assert alone[key] == beside[key], key
    assert "Best of" not in out, "the console has a line for start and end of each"
    assert "Best of" in (tmp_path / "two" / "0" / "run.log").read_text()


def test_a_finished_sweep_prints_its_table_again_and_refuses_another_one(ran):
    cwd = ran[0]
    before = (cwd / "it's a sweep" / "0" / "metrics.json").stat().st_mtime
    status, out, _ = sweep("resume=it's a sweep", cwd=cwd)
    assert (status, "rank  cell" in out) == (3, True), "the failing cell was tried again"
    assert (cwd / "it's a sweep" / "0" / "metrics.json").stat().st_mtime == before
    status, _, err = sweep(*QUICK, "-m", "seed=5,6", "run_dir=it's a sweep", cwd=cwd)
    assert (status, len(err.strip().splitlines())) == (2, 1)
    assert "holds a sweep already" in err
    status, _, err = sweep("resume=it's a sweep", "optimizer.lr=3", cwd=cwd)
    assert (status, "goes on as it was begun" in err) == (2, True)


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 75, marks=pytest.mark.slow)]
)
def test_an_interrupted_sweep_goes_on_with_what_is_left(number, expected, tmp_path):
    folder = tmp_path / "run"
    process = start("-m", "trainer.max_epochs=1,1000,2", "logger=none", f"run_dir={folder}", cwd=tmp_path)
    try:
        deadline = time.monotonic() + 60
        while not (folder / "1" / "config.yaml").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == expected, err
    assert "Traceback" not in err
    assert states(folder) == ["finished", "interrupted", "waiting"]
    assert out.strip().splitlines()[-1] == f"python {TRAIN} resume=run"
    before = metrics(folder, 0)
    stopped = metrics(folder, 1)
    text = (folder / "sweep.yaml").read_text().replace("'1000'", f"'{stopped['epoch'] + 2}'")  # or it would take long
    (folder / "sweep.yaml").write_text(text)
    status, out, err = sweep("resume=run", cwd=tmp_path)
    assert (status, states(folder)) == (0, ["finished"] * 3), err
    assert metrics(folder, 0) == before
    assert metrics(folder, 1)["resumed_from_iteration"] == stopped["iteration"] > 0
    assert "Cell 0 (" not in out


@pytest.mark.slow
@optuna_installed
def test_optuna_prunes_and_goes_on_with_the_same_trials(tmp_path):
    space = "sweep.space={optimizer.lr:{low:1e-6,high:0.1,log:true},model.hidden_features:{choices:[[],[8]]}}"
    typed = ["sweep=optuna", space, "trainer.max_epochs=3", "logger=none", "trainer.limit_train_batches=5"]
    folder = tmp_path / "run"
    status, _, err = sweep(*typed, "sweep.num_trials=4", "run_dir=run", cwd=tmp_path)
    assert status == 0, err
    status, out, err = sweep("resume=run", "sweep.num_trials=7", cwd=tmp_path)
    assert status == 0, err
    assert ("Cell 3 (" in out, "Cell 4 (" in out) == (False, True)
    found = Sweep.read(folder)
    assert {"finished", "pruned"} == {cell["status"] for cell in found.cells}
    for cell in found.cells:
        assert metrics(folder, cell["cell"]).get("pruned", False) == (cell["status"] == "pruned")
    with (folder / "results.csv").open() as file:
        ranks = [row["rank"] for row in csv.DictReader(file)]
    assert ranks == sorted(ranks, key=lambda rank: int(rank or 99)), "pruned cells come last"
    again = Study(tmp_path, found.settings["mode"], found.settings["seed"])
    for cell in found.cells:
        assert again.ask(cell["cell"], found.axes) == cell["point"] == again.ask(cell["cell"], found.axes)
        again.tell(cell["cell"], cell["status"], metrics(folder, cell["cell"])["val/accuracy"])


def test_without_optuna_a_grid_still_runs_and_the_rest_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert begin(["sweep=learning_rate"], tmp_path).cells
    with pytest.raises(UserError, match=r'pip install -e "\.\[sweep\]"'):
        begin(["sweep=optuna"], tmp_path)


def test_sweeps_cost_other_commands_no_import():
    code = "import sys, zoo.sweeps.sweep; sys.exit('torch' in sys.modules or 'optuna' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=TRAIN.parent, check=False).returncode == 0


def test_the_folder_of_a_sweep_is_below_outputs():
    assert Path(begin(["sweep=learning_rate"], None).folder).match("outputs/*/*_sweep")


def test_a_sweep_is_not_put_into_the_folder_of_a_run(tmp_path):
    from zoo.sweeps.sweep import sweep

    (tmp_path / "config.yaml").write_text("seed: 0\n")
    with pytest.raises(UserError, match="holds a run already"):
        sweep(["-m", "seed=0,1", f"run_dir={tmp_path}"], lambda arguments: 0)
