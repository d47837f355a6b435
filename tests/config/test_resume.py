"""A run that was interrupted goes on: in which folder, with which settings, from which checkpoint, with what curves."""

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlencode

import pytest
import torch
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from zoo.build import build
from zoo.callbacks.checkpointing import RunCheckpoint
from zoo.callbacks.curves import iterations_done
from zoo.checkpoint import check_resume, find_resume, load_model, read
from zoo.config.resume import command, newest_unfinished
from zoo.errors import UserError
from zoo.run import configure, run, unfinish
from zoo.running.signals import LISTENER

pytestmark = pytest.mark.usefixtures("no_pictures_at_all")  # curves are what is compared

ROOT = Path(__file__).parent.parent.parent
SMALL = ("model.hidden_features=[8]", "model.dropout=0.2", "optimizer.lr=0.01", "trainer.max_epochs=3")
SMALL += ("trainer.log_every_n_steps=3",)  # 20 iterations an epoch
SILENT = (*SMALL, "logger=none")

NETS = """
import torch
from torch import nn

class Own(nn.Module):
    def __init__(self, in_features, num_classes, width=16):
        super().__init__()
        self.a, self.b = nn.Linear(in_features, width), nn.Linear(width, num_classes)
    def forward(self, x):
        return self.b(torch.relu(self.a(x.flatten(1))))

def made(num_classes=10):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))
"""


def go(*overrides, run_dir=None):
    """Runs it; everything is said to end well."""
    assert run(configure(*overrides, run_dir=run_dir)) == 0


def cut(*overrides, after, run_dir=None, number=signal.SIGTERM):
    """Runs it until a signal asks it to stop, in iteration `after`."""
    real = RunCheckpoint.on_train_batch_start

    def hear(self, trainer, *arguments):
        if iterations_done(trainer) == after:
            LISTENER.asked = number
        real(self, trainer, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunCheckpoint, "on_train_batch_start", hear)
        status = run(configure(*overrides, run_dir=run_dir))
    assert status == (130 if number == signal.SIGINT else 75)
    assert metrics(run_dir or source_of(overrides))["status"] == "interrupted"


def source_of(overrides):
    return next(text.removeprefix("resume=") for text in overrides if text.startswith("resume="))


def metrics(folder):
    return json.loads((Path(folder) / "metrics.json").read_text())


def names(folder):
    return sorted(path.name for path in (Path(folder) / "checkpoints").iterdir())


def scalars(folder):
    """Steps and values of every tag but those of the clock."""
    board = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    board.Reload()
    tags = [tag for tag in board.Tags()["scalars"] if not tag.startswith("speed/")]
    return {tag: [(event.step, event.value) for event in board.Scalars(tag)] for tag in tags}


def assert_same_end(one, other):
    """The same weights, optimizer and metrics, to the bit."""
    a, b = (read(Path(folder) / "checkpoints" / "last.ckpt") for folder in (one, other))
    assert all(torch.equal(a["state_dict"][name], b["state_dict"][name]) for name in a["state_dict"])
    steps = [checkpoint["optimizer_states"][0]["state"] for checkpoint in (a, b)]
    assert all(torch.equal(x[k], steps[1][i][k]) for i, x in steps[0].items() for k in x)
    own = ("seconds", "peak_memory_mb", "resumed_from_iteration")
    first, second = ({k: v for k, v in metrics(folder).items() if k not in own} for folder in (one, other))
    assert first == second


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    go(*SMALL, run_dir=folder)
    return folder


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """The same, stopped in iteration 27 of 60; copy it before use."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    cut(*SMALL, after=27, run_dir=folder)
    return folder


@pytest.fixture
def half(stopped, tmp_path):
    return Path(shutil.copytree(stopped, tmp_path / "half"))


# ---- which folder


def test_the_folder_alone_is_enough(half, whole):
    before = metrics(half)["seconds"]
    go(f"resume={half}")
    found = metrics(half)
    assert (found["resumed_from_iteration"], found["iteration"], found["status"]) == (27, 60, "finished")
    assert found["seconds"] > before > 0
    assert_same_end(whole, half)
    assert scalars(half) == scalars(whole)
    assert len(list(half.glob("events.out.tfevents.*"))) == 1
    left = sorted(path.name for path in half.iterdir() if "tfevents" not in path.name)
    assert left == ["checkpoints", "config.yaml", "metrics.json", "projector", "projector_config.pbtxt"]
    assert OmegaConf.load(half / "config.yaml").resume is None


def test_a_moved_run_goes_on_in_its_new_place(stopped, whole, tmp_path):
    old, new = tmp_path / "old", tmp_path / "it's, a new=place"
    shutil.copytree(stopped, old)
    cfg = OmegaConf.load(old / "config.yaml")
    cfg.run_dir = cfg.logger.save_dir = str(old)  # as if it had been started there
    OmegaConf.save(cfg, old / "config.yaml")
    old.rename(new)
    go(f"resume={new}")
    assert not old.exists()
    assert scalars(new) == scalars(whole)
    stored = OmegaConf.load(new / "config.yaml")
    assert stored.run_dir == stored.logger.save_dir == str(new)


def test_a_copy_leaves_the_first_alone(half, stopped, whole):
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    go(f"resume={half}", "logger=none")
    assert {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()} == before
    assert_same_end(whole, half)


@pytest.mark.parametrize(
    ("where", "source"),
    [("", "."), ("", "checkpoints"), ("", "checkpoints/last.ckpt"), ("checkpoints", "last.ckpt"), ("..", "half")],
)
def test_a_run_is_found_from_wherever_one_stands(half, monkeypatch, where, source):
    monkeypatch.chdir(half / where)
    assert Path(configure(f"resume={source}").run_dir).resolve() == half.resolve()


def test_the_checkpoint_before_is_kept_when_a_relative_name_was_given(half, monkeypatch):
    monkeypatch.chdir(half.parent)
    cut("resume=half", "logger=none", after=35, run_dir=half)
    assert "epoch=1-step=27.ckpt" in names(half)


def test_another_run_dir_is_refused(half, tmp_path):
    with pytest.raises(UserError, match="goes on in its own folder"):
        configure(f"resume={half}", run_dir=tmp_path / "elsewhere")


def test_auto_starts_and_then_goes_on(tmp_path, whole):
    typed = [*SILENT, "resume=auto"]
    cut(*typed, after=27, run_dir=tmp_path / "run")
    go(*typed, run_dir=tmp_path / "run")
    assert metrics(tmp_path / "run")["resumed_from_iteration"] == 27
    assert_same_end(whole, tmp_path / "run")


def test_auto_without_a_folder_names_the_newest_unfinished_run(half, whole, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="No run below outputs/ is unfinished"):
        configure("resume=auto")
    shutil.copytree(whole, tmp_path / "outputs" / "finished")
    for name in ("worked_on_last", "begun_last"):
        shutil.copytree(half, tmp_path / "outputs" / name)
    os.utime(tmp_path / "outputs" / "worked_on_last" / "checkpoints", (2**32, 2**32))
    with pytest.raises(UserError, match=r"unfinished run: python train.py resume=outputs/worked_on_last"):
        configure("resume=auto")
    assert newest_unfinished(tmp_path / "nowhere") is None


def test_a_folder_that_holds_a_run_is_not_overwritten(half):
    with pytest.raises(UserError, match=r"holds a run already\. python train.py resume=.* goes on with it"):
        go(*SMALL, run_dir=half)


def test_the_command_is_quoted(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert command(tmp_path / "it's a run") == "python train.py 'resume=it'\"'\"'s a run'"


def test_a_folder_without_a_checkpoint_begins_anew(half, whole):
    shutil.rmtree(half / "checkpoints")
    go(f"resume={half}")
    assert metrics(half)["resumed_from_iteration"] == 0
    assert_same_end(whole, half)
    assert scalars(half) == scalars(whole)


# ---- which settings


@pytest.mark.parametrize(
    "typed",
    [
        SMALL,
        ["optimizer.lr=1e-2"],
        ["model.hidden_features=[ 8 ]", "optimizer.betas=[0.9,0.999]"],
        ["model=mlp", "optimizer=adam", "data=digits", "scheduler=none"],
        ["trainer=auto"],
        ["compile=false", "pretrained=null", "seed=0"],
        ["++model.dropout=0.2"],
        ["data.seed=${seed}"],
    ],
)
def test_what_agrees_may_be_typed_again(half, typed):
    cfg = configure(*typed, f"resume={half}")
    stored = OmegaConf.load(half / "config.yaml")
    assert all(cfg[key] == stored[key] for key in ("model", "data", "task", "optimizer", "trainer", "seed"))


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["optimizer.lr=0.02"], r"optimizer.lr=0.02 \(the run has 0.01\)"),
        (["optimizer=sgd"], r"optimizer=sgd \(the run has adam\)"),
        (["model=lenet5", "seed=1"], r"model=lenet5 .*, seed=1 \(the run has 0\)"),
        (["model.hidden_features=[8,8]"], r"hidden_features=\[8,8\] \(the run has \[8\]\)"),
        (["+model.new=1"], r"\+model.new=1 \(the run has None\)"),
        (["~trainer.precision"], r"~trainer.precision \(the run has 32-true\)"),
        (["~scheduler"], r"~scheduler \(the run has none\)"),
        (["trainer=cpu"], "trainer.accelerator=cpu"),
        (["trainer.num_threads=7"], "trainer.num_threads=7"),
        (["checkpoint_every=5"], "checkpoint_every=5"),
    ],
)
def test_what_differs_is_listed(half, typed, told):
    before = (half / "config.yaml").read_bytes()
    with pytest.raises(UserError, match=told) as error:
        configure(*typed, f"resume={half}")
    assert "What may differ: trainer.max_epochs, trainer.devices, logger, launcher" in str(error.value)
    assert (half / "config.yaml").read_bytes() == before


def test_what_may_differ(half):
    typed = ["trainer.max_epochs=9", "trainer=ddp", "trainer.devices=4", "logger=csv", "launcher=elastic"]
    cfg = configure(*typed, f"resume={half}")
    found = (cfg.trainer.max_epochs, cfg.trainer.devices, cfg.trainer.strategy, cfg.logger._target_)
    assert found == (9, 4, "ddp", "zoo.callbacks.loggers.Csv")
    assert cfg.choices.launcher == "elastic"
    assert cfg.logger.save_dir == str(half)
    assert configure("logger.flush_secs=1" if "flush_secs" in cfg.logger else "+logger.flush_secs=1",
                     f"resume={half}").logger.flush_secs == 1  # fmt: skip


def test_the_usual_one_process_may_be_asked_for_again(half):
    cfg = OmegaConf.load(half / "config.yaml")
    cfg.trainer.strategy, cfg.trainer.devices, cfg.choices.trainer = "ddp", 2, "ddp"
    OmegaConf.save(cfg, half / "config.yaml")
    again = configure("trainer=auto", f"resume={half}")
    assert (again.trainer.strategy, again.trainer.devices, again.trainer.max_epochs) == ("auto", 1, 3)
    cfg.trainer.accelerator = "cpu"
    OmegaConf.save(cfg, half / "config.yaml")
    with pytest.raises(UserError, match=r"trainer.accelerator=auto"):
        configure("trainer=auto", f"resume={half}")


def test_keys_that_were_added_and_deleted_may_be_typed_again(tmp_path):
    typed = ["debug=fast", "logger=none", "+trainer.barebones=false", "~trainer.precision", "~callbacks.ema"]
    cut(*typed, after=1, run_dir=tmp_path / "run")
    go(*typed, f"resume={tmp_path}/run")
    assert metrics(tmp_path / "run")["status"] == "finished"


def write_table(path, rows=60):
    lines = [f"{i * 7 % 31}.5,{i % 5},{'abb'[i % 3]}" for i in range(rows)]
    path.write_text("\n".join(["area,rooms,kind", *lines]) + "\n")


def test_settings_that_the_data_filled_in(tmp_path):
    write_table(tmp_path / "t.csv")
    typed = ["data=csv", f"data.path={tmp_path}/t.csv", "data.target=kind", "data.batch_size=full", "logger=none"]
    typed += ["task=auto", "task.class_weights=balanced", "trainer.max_epochs=6"]
    go(*typed, run_dir=tmp_path / "whole")
    cut(*typed, after=3, run_dir=tmp_path / "run")
    stored = OmegaConf.load(tmp_path / "run" / "config.yaml")
    assert (stored.choices.task, len(stored.task.class_weights)) == ("binary", 2)
    cut(*typed, f"resume={tmp_path}/run", after=5, run_dir=tmp_path / "run")
    go("task=binary", f"resume={tmp_path}/run")
    assert_same_end(tmp_path / "whole", tmp_path / "run")


def test_data_that_has_changed_is_refused(tmp_path):
    write_table(tmp_path / "t.csv")
    typed = ["data=csv", f"data.path={tmp_path}/t.csv", "data.target=kind", "logger=none", "trainer.max_epochs=3"]
    cut(*typed, after=2, run_dir=tmp_path / "run")
    text = (tmp_path / "t.csv").read_text()
    (tmp_path / "t.csv").write_text(text.replace("7.5", "8.5", 1))
    with pytest.raises(UserError, match="The data has changed since"):
        go(f"resume={tmp_path}/run")
    (tmp_path / "t.csv").write_text(text)
    go(f"resume={tmp_path}/run")


def test_the_number_of_threads_comes_back(tmp_path, monkeypatch):
    before = torch.get_num_threads()
    try:
        cut(*SILENT, "trainer.max_epochs=1", "trainer.num_threads=2", after=7, run_dir=tmp_path / "run")
        torch.set_num_threads(1)
        go(f"resume={tmp_path}/run")
        assert metrics(tmp_path / "run")["num_threads"] == torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


# ---- a run that is finished


def test_a_finished_run_says_so_and_stays_as_it_is(whole, caplog):
    before = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    with caplog.at_level("INFO"):
        go(f"resume={whole}")
        go(*SMALL, "resume=auto", run_dir=whole)
        go(f"resume={whole}/checkpoints/last.ckpt", "trainer.max_epochs=2")
    assert caplog.text.count("has finished 3 epochs, and nothing is left to do; trainer.max_epochs=6") == 3
    assert {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()} == before


def test_more_epochs_equal_a_longer_run(whole, tmp_path):
    longer, more = tmp_path / "longer", tmp_path / "more"
    go(*SMALL, "trainer.max_epochs=4", run_dir=longer)
    shutil.copytree(whole, more)
    go(f"resume={more}", "trainer.max_epochs=4")
    assert_same_end(longer, more)
    assert scalars(longer) == scalars(more)


def test_a_finished_run_that_went_on_and_was_killed_is_not_finished(whole, tmp_path, monkeypatch):
    more = Path(shutil.copytree(whole, tmp_path / "more"))

    def killed(*_):
        raise SystemExit

    monkeypatch.setattr("zoo.running.session.Run.fit", killed)
    monkeypatch.setattr("zoo.running.session.Run.metrics", killed)  # nothing is written any more
    with pytest.raises(SystemExit):
        run(configure(f"resume={more}", "trainer.max_epochs=5"))
    monkeypatch.undo()
    go(f"resume={more}", "logger=none")
    assert metrics(more)["epoch"] == 5


# ---- which checkpoint


def test_an_older_checkpoint_goes_back_to_where_it_was(tmp_path, whole):
    folder = tmp_path / "run"
    go(*SMALL, "checkpoint_every=8", run_dir=folder)
    assert names(folder) == ["best.ckpt", "epoch=2-step=48.ckpt", "epoch=2-step=56.ckpt", "last.ckpt"]
    cut(f"resume={folder}/checkpoints/epoch=2-step=48.ckpt", after=52, run_dir=folder)
    assert names(folder) == ["best.ckpt", "epoch=2-step=48.ckpt", "last.ckpt"], "what came after it is no more"
    assert max(step for step, _ in scalars(folder)["train/loss"]) == 51
    go(f"resume={folder}")
    assert metrics(folder)["resumed_from_iteration"] == 52
    assert_same_end(whole, folder)
    assert scalars(folder) == scalars(whole)


def test_a_lone_checkpoint_begins_a_folder_with_its_own_settings(half, whole, tmp_path):
    lone = Path(shutil.copy(half / "checkpoints" / "last.ckpt", tmp_path / "lone.ckpt"))
    with pytest.raises(UserError, match=r"optimizer.lr=0.5 \(the run has 0.01\)"):
        configure(f"resume={lone}", "optimizer.lr=0.5", run_dir=tmp_path / "new")
    go(f"resume={lone}", run_dir=tmp_path / "new")
    new = OmegaConf.load(tmp_path / "new" / "config.yaml")
    assert (new.optimizer.lr, new.run_dir, new.logger.save_dir) == (0.01, *2 * [str(tmp_path / "new")])
    assert metrics(tmp_path / "new")["resumed_from_iteration"] == 27
    a, b = (read(folder / "checkpoints" / "last.ckpt")["state_dict"] for folder in (whole, tmp_path / "new"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_folder_beside_a_strange_config_yaml_is_no_run(half, tmp_path):
    place = tmp_path / "project" / "saved"
    place.mkdir(parents=True)
    (tmp_path / "project" / "config.yaml").write_text("name: something else\n")
    shutil.copy(half / "checkpoints" / "last.ckpt", place / "mine.ckpt")
    assert configure(f"resume={place}/mine.ckpt", run_dir=tmp_path / "new").run_dir == str(tmp_path / "new")


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """A run stopped in iteration 29 with checkpoints of 20, 25 and 29; copy it before use."""
    folder = tmp_path_factory.mktemp("several") / "run"
    cut(*SILENT, "checkpoint_every=5", after=29, run_dir=folder)
    assert names(folder) == ["best.ckpt", "epoch=1-step=20.ckpt", "epoch=1-step=25.ckpt", "last.ckpt"]
    return folder


def damage(path, how):
    content = bytearray(path.read_bytes())
    if how == "cut":
        content = content[: len(content) // 2]
    elif how == "flipped":
        middle = len(content) // 2
        content[middle : middle + 64] = bytes(byte ^ 1 for byte in content[middle : middle + 64])
    path.write_bytes(b"" if how == "empty" else content)


@pytest.mark.parametrize("how", ["cut", "flipped", "empty"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(several, whole, tmp_path, caplog, how):
    folder = Path(shutil.copytree(several, tmp_path / "run"))
    damage(folder / "checkpoints" / "last.ckpt", how)
    with caplog.at_level("INFO"):
        go(f"resume={folder}")
    told = [record.message for record in caplog.records if "last.ckpt" in record.message]
    assert len(told) == 1
    assert "damaged" in told[0] or "cut off" in told[0]
    assert "\n" not in told[0]
    assert "epoch=1-step=25.ckpt is used instead" in caplog.text
    assert metrics(folder)["resumed_from_iteration"] == 25
    assert_same_end(whole, folder)
    for name in names(folder):
        read(folder / "checkpoints" / name)


def test_two_damaged_checkpoints_and_none_that_is_whole(several, tmp_path):
    folder = Path(shutil.copytree(several, tmp_path / "run"))
    for name in ("last.ckpt", "epoch=1-step=25.ckpt"):
        damage(folder / "checkpoints" / name, "cut")
    path, _, notes = find_resume(str(folder))
    assert path.name == "epoch=1-step=20.ckpt"
    assert [("last.ckpt" in notes[0]), ("step=25" in notes[1]), ("used instead" in notes[2])] == [True] * 3
    for name in names(folder):
        damage(folder / "checkpoints" / name, "cut")
    with pytest.raises(UserError, match="is whole"):
        go(f"resume={folder}")


def test_a_damaged_best_checkpoint_is_told_at_once_and_does_not_end_the_run(half, caplog):
    damage(half / "checkpoints" / "best.ckpt", "cut")
    with caplog.at_level("INFO"):
        go(f"resume={half}", "logger=none")
    assert "The best epoch is chosen among those that follow." in caplog.text
    assert metrics(half)["best_epoch"] in (2, 3)
    load_model(half)


def test_a_file_with_a_name_of_the_users_own_does_no_harm(half):
    shutil.copy(half / "checkpoints" / "last.ckpt", half / "checkpoints" / "epoch=1-step=27 (copy).ckpt")
    before = read(half / "checkpoints" / "last.ckpt")["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"][
        "ready"
    ]
    go(f"resume={half}", "logger=none")
    assert metrics(half)["status"] == "finished"
    assert metrics(half)["resumed_from_iteration"] == before > 0


def test_a_checkpoint_of_another_model_is_refused(half, tmp_path):
    go("debug=fast", "logger=none", "model.hidden_features=[9]", run_dir=tmp_path / "other")
    shutil.copy(tmp_path / "other" / "checkpoints" / "last.ckpt", half / "checkpoints" / "last.ckpt")
    with pytest.raises(UserError, match="is of another model"):
        go(f"resume={half}", "logger=none")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"format_version": 99}, "update the zoo"),
        ({"format_version": 1}, "older version of the zoo"),
        ({"loops": None}, "holds weights alone"),
        ({"config": None}, "does not say how it was trained"),
    ],
)
def test_a_checkpoint_of_another_version_is_refused(half, tmp_path, change, told):
    checkpoint = read(half / "checkpoints" / "last.ckpt") | change
    checkpoint = {key: value for key, value in checkpoint.items() if value is not None}
    torch.save(checkpoint, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match=told):
        go(f"resume={tmp_path}/other.ckpt", run_dir=tmp_path / "new")
    assert not (tmp_path / "new" / "config.yaml").exists()


# ---- what may be called


HOSTILE = [
    {"_target_": "os.system", "command": "touch HACKED"},
    {"_target_": "pathlib.Path.write_text", "_args_": ["HACKED", "x"]},
    {"_target_": "torch.load", "f": "HACKED"},
    {"_target_": "zoo.config.commandline.os.system", "command": "touch HACKED"},
    {"_target_": "zoo.run.run", "cfg": {}},
    {"_target_": "builtins.exec", "_args_": ["open('HACKED', 'w')"]},
    "${oc.create:{_target_: os.system, command: touch HACKED}}",
]


@pytest.mark.parametrize(
    ("key", "evil"),
    [
        *(("callbacks.evil", evil) for evil in HOSTILE),
        *(("model.activation", evil) for evil in (HOSTILE[0], HOSTILE[-1])),
        ("optimizer", HOSTILE[1]),
        ("data.deeply.nested", HOSTILE[2]),
    ],
    ids=str,
)
def test_a_hostile_configuration_is_refused(half, tmp_path, monkeypatch, key, evil):
    monkeypatch.chdir(tmp_path)
    config = OmegaConf.load(half / "config.yaml")
    OmegaConf.update(config, key, evil, force_add=True, merge=False)
    (half / "config.yaml").write_text(OmegaConf.to_yaml(config))
    checkpoint = read(half / "checkpoints" / "last.ckpt")
    checkpoint["config"] = OmegaConf.to_container(config, resolve=False)
    torch.save(checkpoint, tmp_path / "lone.ckpt")
    for typed in ([f"resume={half}"], [f"resume={tmp_path}/lone.ckpt", f"run_dir={tmp_path}/new"]):
        with pytest.raises(UserError, match="refused"):
            go(*typed)
    assert not Path("HACKED").exists()


def test_a_hostile_pickle_is_refused(half, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/HACKED",)

    path = half / "checkpoints" / "last.ckpt"
    torch.save(read(path) | {"evil": Evil()}, path)
    for name in ("best.ckpt",):
        (half / "checkpoints" / name).unlink()
    with pytest.raises(UserError, match="may run code"):
        go(f"resume={half}")
    assert not (tmp_path / "HACKED").exists()


@pytest.fixture
def own_networks(tmp_path, monkeypatch):
    (tmp_path / "resumenets.py").write_text(NETS)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("own_networks")
def test_a_network_of_the_users_own_goes_on(tmp_path):
    typed = ["model._target_=resumenets.Own", "model.width=24", "logger=none", "trainer.max_epochs=1"]
    go(*typed, run_dir=tmp_path / "whole")
    cut(*typed, after=7, run_dir=tmp_path / "run")
    cut(f"resume={tmp_path}/run", after=11, run_dir=tmp_path / "run")
    go(*typed, f"resume={tmp_path}/run")
    assert_same_end(tmp_path / "whole", tmp_path / "run")


@pytest.mark.usefixtures("own_networks")
def test_a_function_is_called_only_where_it_is_typed_again(tmp_path):
    typed = ["model._target_=resumenets.made", "logger=none", "trainer.max_epochs=1"]
    cut(*typed, after=7, run_dir=tmp_path / "run")
    with pytest.raises(UserError, match=r"type it beside resume=, for instance model._target_=resumenets.made"):
        go(f"resume={tmp_path}/run")
    assert command(tmp_path / "run").endswith("run model._target_=resumenets.made")
    go("model._target_=resumenets.made", f"resume={tmp_path}/run")


# ---- what it does


@pytest.mark.parametrize("option", ["head", "gradual_unfreezing", "discriminative_lr", "lora"])
def test_fine_tuning_goes_on_in_the_middle_of_an_epoch_as_it_was(option, tmp_path):
    net = ["model.normalization=BatchNorm1d", *SILENT]
    go(*net, "trainer.max_epochs=1", run_dir=tmp_path / "source")
    typed = [*net, f"pretrained={tmp_path}/source", f"finetune={option}", "seed=1"]
    go(*typed, run_dir=tmp_path / "whole")
    cut(*typed, after=27, run_dir=tmp_path / "run")
    shutil.rmtree(tmp_path / "source" / "checkpoints")  # no longer needed
    go(f"resume={tmp_path}/run")
    assert_same_end(tmp_path / "whole", tmp_path / "run")


def test_rows_of_the_csv_logger_are_those_of_the_uninterrupted_run(tmp_path, whole):
    def rows(folder):
        with (folder / "metrics.csv").open() as file:
            return [{k: v for k, v in row.items() if "speed" not in k} for row in csv.DictReader(file)]

    typed = [*SMALL, "logger=csv"]
    go(*typed, run_dir=tmp_path / "whole")
    cut(*typed, "checkpoint_every=6", after=27, run_dir=tmp_path / "run")
    with (tmp_path / "run" / "metrics.csv").open("a") as file:
        file.write("what came after the checkpoint\n1,2")
    go(f"resume={tmp_path}/run")
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")
    assert_same_end(whole, tmp_path / "run")


def test_curves_are_kept_while_another_logger_is_in_use(half, whole):
    cut(f"resume={half}", "logger=none", after=33, run_dir=half)
    cut(f"resume={half}", "logger=csv", after=41, run_dir=half)
    go(f"resume={half}", "logger=tensorboard")
    found, wanted = scalars(half)["train/loss"], scalars(whole)["train/loss"]
    assert found == [(step, value) for step, value in wanted if step <= 27 or step > 41]


def steps_kept(monkeypatch, folder, *typed, **clock):
    """What is kept when the clock runs as told: names and iterations at which last.ckpt was written."""
    written = []
    real_write, real_init = RunCheckpoint.write, RunCheckpoint.__init__

    def write(self, trainer):
        if self.written_iteration != iterations_done(trainer):
            written.append(iterations_done(trainer))
        real_write(self, trainer)

    def init(self, *arguments, **options):
        real_init(self, *arguments, **(options | clock))

    monkeypatch.setattr(RunCheckpoint, "write", write)
    monkeypatch.setattr(RunCheckpoint, "__init__", init)
    go(*SILENT, *typed, run_dir=folder)
    return written, [name for name in names(folder) if name.startswith("epoch")]


@pytest.mark.parametrize(
    ("typed", "clock", "written", "kept"),
    [
        ([], {}, [60], []),
        ([], {"epoch_seconds": 0}, [20, 40, 60], ["epoch=1-step=20.ckpt", "epoch=2-step=40.ckpt"]),
        (["checkpoint_keep=0"], {"epoch_seconds": 0}, [20, 40, 60], []),
        (["checkpoint_keep=1"], {"epoch_seconds": 0}, [20, 40, 60], ["epoch=2-step=40.ckpt"]),
        (
            ["checkpoint_every=25"],
            {"epoch_seconds": 0, "batch_seconds": 0},
            [25, 50, 60],
            ["epoch=1-step=25.ckpt", "epoch=2-step=50.ckpt"],
        ),
        (["checkpoint_keep=1"], {"batch_seconds": 0}, list(range(1, 61)), ["epoch=2-step=59.ckpt"]),
    ],
)
def test_checkpoints_follow_the_clock_or_the_iterations(tmp_path, monkeypatch, typed, clock, written, kept):
    assert steps_kept(monkeypatch, tmp_path / "run", *typed, **clock) == (written, kept)


def test_the_clock_is_that_of_the_issue(tmp_path):
    keeper = RunCheckpoint(tmp_path, {}, monitor="val/loss", mode="min")
    assert (keeper.epoch_seconds, keeper.batch_seconds, keeper.keep) == (30, 600, 2)


def test_interrupted_again_and_again(half, whole):
    """At the first and last batch of an epoch, twice in one epoch, and in the very last iteration."""
    for after in (28, 40, 41, 60):
        cut(f"resume={half}", after=after, run_dir=half, number=signal.SIGINT)
    go(f"resume={half}")
    assert metrics(half)["resumed_from_iteration"] == 60
    assert_same_end(whole, half)
    assert scalars(half) == scalars(whole)


# ---- the command line


@pytest.fixture
def typed_out(warm):
    """typed_out(*arguments, cwd=...): what a command of its own says and ends with."""

    def type_it(*arguments, cwd):
        return warm.run([sys.executable, str(ROOT / "train.py"), *arguments], cwd=cwd, timeout=100)

    return type_it


def test_two_processes_do_not_work_in_one_folder(half, typed_out):
    import fcntl

    descriptor = os.open(half, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        ended = typed_out(f"resume={half}", cwd=half.parent)
    finally:
        os.close(descriptor)
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert "is going on in another process" in ended.stderr


def test_a_run_below_a_file_is_one_line(tmp_path, typed_out):
    (tmp_path / "file").touch()
    ended = typed_out("resume=auto", "run_dir=file/run", cwd=tmp_path)
    assert ended.returncode == 2, ended.stderr
    assert len(ended.stderr.splitlines()) == 1, ended.stderr


@pytest.fixture
def disk(tmp_path):
    """A tmpfs of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    if os.geteuid() or not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder):
    with (folder / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


@pytest.mark.slow
@pytest.mark.parametrize("logger", ["tensorboard", "csv", "none"])
def test_a_full_disk_loses_nothing(disk, tmp_path, logger, typed_out):
    typed = [*SMALL, f"logger={logger}", "checkpoint_every=10", "checkpoint_keep=0", "callbacks.progress=null"]
    go(*typed, run_dir=tmp_path / "whole")
    cut(*typed, after=27, run_dir=disk / "run")
    fill(disk)
    ended = typed_out(f"resume={disk}/run", cwd=tmp_path)
    assert ended.returncode == 2, ended.stderr
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert "space" in ended.stderr
    assert not list((disk / "run").rglob("*.tmp"))
    (disk / "filler").unlink()
    go(f"resume={disk}/run")
    assert metrics(disk / "run")["resumed_from_iteration"] == 27
    assert_same_end(tmp_path / "whole", disk / "run")
    if logger == "tensorboard":
        assert scalars(tmp_path / "whole") == scalars(disk / "run")


@pytest.mark.slow
@pytest.mark.parametrize("logger", ["tensorboard", "csv"])
def test_a_disk_that_fills_up_while_curves_are_written(disk, tmp_path, logger, typed_out):
    """Checkpoints are rare, so that it is the curves that find no room."""
    typed = [*SMALL, f"logger={logger}", "trainer.max_epochs=400", "trainer.log_every_n_steps=1"]
    cut(*typed, after=27, run_dir=disk / "run")
    fill(disk)
    with (disk / "filler").open("r+b") as file:
        file.truncate((disk / "filler").stat().st_size - 2 * sum(p.stat().st_size for p in (disk / "run").glob("*")))
    ended = typed_out(f"resume={disk}/run", cwd=tmp_path)
    assert ended.returncode == 2, ended.stderr
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert "The curves cannot be written" in ended.stderr
    (disk / "filler").unlink()
    _, checkpoint, notes = find_resume(str(disk / "run"))
    assert not notes
    cut(f"resume={disk}/run", after=checkpoint["global_step"] + 5, run_dir=disk / "run")


# ---- what TensorBoard's server shows


@pytest.fixture
def server():
    """serve(folder) starts TensorBoard and gives ask(path, **query)."""
    running = []

    def serve(folder):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        line = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", str(port)]
        line += ["--reload_interval", "1", "--samples_per_plugin", "scalars=100000"]
        running.append(subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

        def ask(path, **query):
            address = f"http://localhost:{port}/data/{path}?{urlencode(query)}"
            with urllib.request.urlopen(address, timeout=20) as answer:
                return json.load(answer)

        return ask

    yield serve
    for process in running:
        process.terminate()
        process.wait()


def shown(ask, name):
    """Steps and values of every tag of a run, as the server gives them."""
    tags = ask("plugin/scalars/tags").get(name, {})
    found = {tag: ask("plugin/scalars/scalars", run=name, tag=tag) for tag in tags if not tag.startswith("speed/")}
    return {tag: [(step, value) for _, step, value in rows] for tag, rows in found.items()}


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if condition():
                return True
        except (URLError, OSError):
            pass
        time.sleep(0.3)
    return False


@pytest.mark.slow
def test_the_server_shows_the_resumed_run_like_the_whole_one(server, stopped, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "whole")
    shutil.copytree(stopped, tmp_path / "resumed")
    go(f"resume={tmp_path}/resumed")
    ask = server(tmp_path)
    assert until(lambda: "test/loss" in shown(ask, "resumed") and "test/loss" in shown(ask, "whole"))
    assert shown(ask, "resumed") == shown(ask, "whole")
    assert len(shown(ask, "whole")["train/loss"]) == 20


@pytest.mark.slow
def test_a_server_that_is_watching_shows_no_point_twice(server, whole, tmp_path):
    """Stopped after iteration 27, thrown back to 24, and gone on with while the server looks."""
    shutil.copytree(whole, tmp_path / "whole")
    cut(*SMALL, "checkpoint_every=24", after=27, run_dir=tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "last.ckpt").unlink()  # as if it had been killed in iteration 27
    ask = server(tmp_path)
    assert until(lambda: [step for step, _ in shown(ask, "run")["train/loss"]][-1] == 27)
    cut(f"resume={tmp_path}/run", after=35, run_dir=tmp_path / "run")
    assert until(lambda: [step for step, _ in shown(ask, "run")["train/loss"]][-1] == 33), shown(ask, "run")
    time.sleep(2)
    go(f"resume={tmp_path}/run")
    assert until(lambda: "test/loss" in shown(ask, "run") and "test/loss" in shown(ask, "whole"))
    assert until(lambda: shown(ask, "run") == shown(ask, "whole"), 30), shown(ask, "run")


def test_a_schedule_with_an_end_is_not_made_longer(tmp_path):
    arguments = ["scheduler=one_cycle", "trainer.max_epochs=1", "logger=none"]
    assert run(configure(*arguments, run_dir=tmp_path)) == 0
    with pytest.raises(UserError, match="planned for 1 epochs and ends there"):
        configure(f"resume={tmp_path}", "trainer.max_epochs=2")


def test_other_classes_are_other_data(tmp_path):
    """Two names swapped in a file that no fingerprint of samples sees would train on the wrong labels."""
    assert run(configure("debug=fast", "logger=none", run_dir=tmp_path)) == 0
    built = build(configure("logger=none", run_dir=tmp_path / "other"))
    path, checkpoint, _ = find_resume(str(tmp_path))
    loaded = built.data.prepare()
    assert check_resume(path, checkpoint, built.task, loaded.fingerprint, loaded.class_names) == 2
    with pytest.raises(UserError, match="The data has changed"):
        check_resume(path, checkpoint, built.task, loaded.fingerprint, loaded.class_names[::-1])


def test_after_going_back_a_kill_does_not_bring_the_future_again(tmp_path):
    arguments = ["trainer.max_epochs=3", "checkpoint_every=20", "logger=none"]
    assert run(configure(*arguments, run_dir=tmp_path)) == 0
    older = tmp_path / "checkpoints" / "epoch=1-step=20.ckpt"
    assert build(configure(f"resume={older}")).resumed_from == 20  # and killed before it wrote anything
    unfinish(tmp_path)
    assert build(configure(f"resume={tmp_path}")).resumed_from == 20


def test_run_is_one_process(tmp_path):
    with pytest.raises(UserError, match=r"run\(\) is one process"):
        run(configure("trainer.devices=2", run_dir=tmp_path))
