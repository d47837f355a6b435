"""Bad input ends in one line that says what to do and exit status 2; a bug of ours ends in a traceback and status 1."""

import contextlib
import io
import json
import os
import pickle
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import warnings
from pathlib import Path

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

from zoo.checkpoint import read

TRAIN = Path(__file__).parent.parent / "train.py"
QUICK = ("data=digits", "trainer.max_epochs=1", "logger=none")

NETS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, in_features, num_classes, width=16):
        super().__init__()
        self.a, self.b = nn.Linear(in_features, width), nn.Linear(width, num_classes)
    def forward(self, x):
        return self.b(torch.relu(self.a(x.flatten(1))))

class Deep(nn.Module):
    def __init__(self, in_features, depth):
        super().__init__()

class Plain: ...

class Narrow(Net):
    def forward(self, x):
        return super().forward(x)[:, :3]

class Pair(Net):
    def forward(self, x):
        return super().forward(x), x

class Raises(Net):
    def forward(self, x):
        raise KeyError("no such thing")
"""

SOUR = """
class Sour(Net):
    steps = 0
    def forward(self, x):
        Sour.steps += self.training
        return super().forward(x) * (float("nan") if self.training and Sour.steps > 20 else 1.0)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with what the inputs below name: tables, a finished run, checkpoints of every broken kind."""
    folder = tmp_path_factory.mktemp("bad")
    rows = [f"{i * 7 % 31}.5,{i * 3 + 100}.5,{'ab'[i % 2]}" for i in range(40)]
    (folder / "t.csv").write_text("\n".join(["area,price,kind", *rows]) + "\n")
    (folder / "ragged.csv").write_text("\n".join(["area,price", "1,2", "3", "4,5"]) + "\n")
    (folder / "text.ckpt").write_text("no checkpoint")
    (folder / "pickle.ckpt").write_bytes(pickle.dumps({"state_dict": {}}))
    (folder / "badnets.py").write_text(NETS)
    raw = folder / "cut" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in (
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    ):
        (raw / name).write_bytes(b"\x00\x00\x08\x01\x00\x00")
    status, _, stderr = train(*QUICK, f"run_dir={folder}/done")
    assert status == 0, stderr
    whole = (folder / "done" / "checkpoints" / "last.ckpt").read_bytes()
    (folder / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    flipped = bytearray(whole)
    flipped[whole.index(b"state_dict") + len(whole) // 2] ^= 1
    (folder / "flipped.ckpt").write_bytes(flipped)
    torch.save({"state_dict": {}, "evil": Path("x")}, folder / "hostile.ckpt")
    torch.save({"weight": torch.ones(2, 2)}, folder / "weights.ckpt")
    torch.save({"state_dict": {}, "format_version": 99}, folder / "newer.ckpt")
    return folder


def train(*arguments, cwd=None):
    """`python train.py <arguments>` in this process -> (exit status, stdout, stderr)."""
    GlobalHydra.instance().clear()
    stdout, stderr = io.StringIO(), io.StringIO()
    argv, path, variable = sys.argv[:], sys.path[:], os.environ.pop("HYDRA_FULL_ERROR", None)
    sys.argv[:] = [str(TRAIN), *arguments]
    threads, status = torch.get_num_threads(), None
    try:
        with (
            contextlib.chdir(cwd or Path.cwd()),
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(stderr),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            runpy.run_path(str(TRAIN), run_name="__main__")
    except SystemExit as end:
        status = end.code
    finally:
        sys.argv[:], sys.path[:] = argv, path
        torch.set_num_threads(threads)
        os.environ.pop("HYDRA_FULL_ERROR", None)
        if variable is not None:
            os.environ["HYDRA_FULL_ERROR"] = variable
    return status, stdout.getvalue(), stderr.getvalue()


def start(*arguments, run_dir, **options):
    """The same in a process of its own, as a user would."""
    environment = {k: v for k, v in os.environ.items() if k != "HYDRA_FULL_ERROR"}
    command = [sys.executable, str(TRAIN), *arguments, "logger=none", f"run_dir={run_dir}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
    return subprocess.Popen(command, **pipes, **options)


def assert_one_line(status, stderr, telling, expected=2):
    lines = stderr.strip().splitlines()
    assert "Traceback" not in stderr, stderr
    assert status == expected, stderr
    assert len(lines) == 1, stderr
    assert lines[0].startswith("Error: ")
    assert telling in lines[0]
    assert len(lines[0]) < 600


# What is typed (words after QUICK; {} is the folder above), and what the line must contain.
CASES = [
    # names of groups and options
    ("model=mpl", "There is no model=mpl; did you mean 'mlp'?"),
    ("data=digit", "did you mean 'digits'?"),
    ("optimizer=adamm", "did you mean 'adam'?"),
    ("task=clasification", "did you mean 'classification'?"),
    ("finetune=tail", "There is: discriminative_lr, full, "),
    ("logger=wandb", "There is: csv, none, tensorboard."),
    ("debug=none", "There is no debug=none. There is: anomaly, fast,"),
    ("experiment=nothing", "pathology/, "),
    ("experiment=pathology/overfiting", "did you mean 'pathology/overfitting'?"),
    ("experiment=overfitting", "did you mean 'pathology/overfitting'?"),
    ("experiment/pathology=overfitting", "is chosen by its group: experiment=pathology/overfitting."),
    ("init=he", "There is no init=he"),
    ("regularizer=l3", "There is: classic_dropout, l1, l2, max_norm, none."),
    ("regularizer.l3=1", "There is no key 'l3' in regularizer. There is: dropout, l1"),
    ("init=he_normal init.mode=fan", "did you mean 'fan_in'?"),
    ("init=he_normal init.std=1", "There is no key 'std' in init"),
    ("trainer=tpu", "There is no trainer=tpu; did you mean 'gpu'?"),
    ("model=null", "There is no model=null. There is:"),
    ("model=5", "There is no model=5"),
    ("model=mlp,lenet5", "a sweep, which needs -m"),
    ("~model", "A run needs a model"),
    # names of keys
    ("modle=mlp", "There is no key 'modle'; did you mean 'model'?"),
    ("sead=1", "did you mean 'seed'?"),
    ("optimizer.lrr=1", "There is no key 'lrr' in optimizer; did you mean 'lr'?"),
    ("optimizer.lrr=1 model.dropuot=0.5", "did you mean 'lr'?"),
    ("trainer.max_epoch=3", "did you mean 'max_epochs'?"),
    ("+new=1", "There is no key 'new'"),
    ("+model.new=1", "unexpected keyword argument 'new'"),
    ("+trainer.new=1", "unexpected keyword argument 'new'"),
    ("callbacks.progress=5", "has settings of its own"),
    ("+callbacks.mine=5", "is no callback; name its class"),
    ("~nothing", "'nothing' does not exist"),
    # the grammar
    ("hello", "'hello' is not understood; write key=value"),
    ("=5", "'=5' is not understood"),
    ("--lr=0.1", "There is no option --lr"),
    ("--multrun", "did you mean '--multirun'?"),
    ('optimizer.lr="abc', "must be a number"),
    ("optimizer..lr=1", "is not understood"),
    ("opt(imizer=1", "is not understood"),
    ("optimizer.lr=[1,2", "must be a number"),
    ("optimizer.lr=", "optimizer.lr= must be a number, for instance optimizer.lr=0.001"),
    # kinds and ranges of values
    ("seed=-1", "seed=-1 must be a whole number from 0 to 4294967295"),
    ("seed=abc", "must be a whole number"),
    ("seed=null", "must be a whole number"),
    ("compile=maybe", "must be true or false"),
    ("checkpoint_every=0", "must be a whole number from 1 on"),
    ("checkpoint_every=abc", "must be a whole number from 1 on"),
    ("trainer.max_epochs=-3", "must be a whole number from 1 on, or -1"),
    ("trainer.max_epochs=0", "must be a whole number from 1 on, or -1"),
    ("trainer.max_epochs=x", "must be a whole number"),
    ("trainer.devices=500 trainer=cpu", "more processes than"),
    ("trainer.devices=0", "must be a whole number from 1 on"),
    ("trainer.num_threads=-2", "must be a whole number from 1 on"),
    ("trainer.precision=17", "Precision 17 is invalid"),
    ("trainer.accelerator=tpu", "tpu"),
    ("trainer.accelerator=xyz", "invalid accelerator name"),
    ("trainer.strategy=nope", "invalid strategy name"),
    ("trainer.profiler=nope", "it can only be one of"),
    ("trainer.limit_train_batches=0", "leaves nothing to train on"),
    ("trainer.gradient_clip_val=-1", "must be a number from 0 on"),
    ("trainer.accumulate_grad_batches=0", "must be a whole number from 1 on"),
    ("trainer.log_every_n_steps=0", "must be a whole number from 1 on"),
    ("data.batch_size=0", "must be a whole number from 1 on"),
    ("data.batch_size=-4", "must be a whole number from 1 on"),
    ("data.batch_size=1.5", "must be a whole number or full"),
    ("data.batch_size=half", "must be a whole number or full"),
    ("data.fraction=0", "must be above 0 and at most 1"),
    ("data.fraction=2", "must be above 0 and at most 1"),
    ("data.num_classes=7", "does not agree with the data, which has 10"),
    ("model.dropout=1.5", "must be a number from 0 to 0.999"),
    ("model.dropout=1", "must be a number from 0 to 0.999"),  # no unit would ever speak
    ("callbacks.ema.decay=1", "must be a number from 0 to 0.9999999"),  # the average would stay where it began
    ("optimizer=momentum optimizer.momentum=1.5", "must be a number from 0 to 0.99999"),  # would grow without bound
    ("model.hidden_features=5", "must be a list of numbers, for instance model.hidden_features=[5]"),
    ("model.hidden_features=[0]", "must be whole numbers from 1 on"),
    ("model.activation=Relu", "did you mean 'ReLU'?"),
    ("model.in_features=10", "cannot take a sample of data=digits, of shape (1, 8, 8)"),
    ("model.out_features=3", "task=classification needs (10,)"),
    ("optimizer.lr=-1", "must be a number from 0 on"),
    ("optimizer.lr=abc", "must be a number"),
    ("optimizer.betas=[0.9]", "The optimizer or its schedule refuses its settings"),
    ("optimizer._target_=torch.optim.Nope", "is not there"),
    ("scheduler=step scheduler.step_size=0", "must be a whole number from 1 on"),
    ("scheduler=plateau scheduler.monitor=val/nothing", "scheduler.monitor=val/nothing: there is no such metric"),
    ("scheduler=plateau scheduler.monitor=val/los", "did you mean 'val/loss'? There is: val/accuracy, "),
    (
        "scheduler=plateau trainer.limit_val_batches=0 trainer.max_epochs=9999",
        "scheduler.monitor=val/loss never comes, since trainer.limit_val_batches=0 leaves validation out",
    ),
    (
        "data=mnist1d data.val_size=0 callbacks.early_stopping.patience=2 trainer.max_epochs=9999",
        "callbacks.early_stopping.monitor=val/accuracy never comes, since the data has no validation part",
    ),
    ("task.loss=mse", "is not a loss of this task"),
    ("model.output_activation=Softmax", "losses that would do: cross_entropy_of_probabilities, half_squared_error"),
    ("task.loss=cross_entropy_of_probabilities", "gives logits (or model.output_activation=Softmax)"),
    ("task.loss=hinge task.label_smoothing=0.1", "knows no label_smoothing; losses that would do: cross_entropy"),
    ("task.loss=huber task.delta=0", "must be a number from"),
    ("data=xor model.output_activation=Softmax", "makes one output always 1; use model.output_activation=Sigmoid"),
    ("task.class_weights=[1,2]", "a list of 10 numbers"),
    ("task.label_smoothing=3", "must be a number from 0 to 1"),
    (
        "callbacks.early_stopping.monitor=val/nothing callbacks.early_stopping.patience=2",
        "callbacks.early_stopping.monitor=val/nothing: there is no such metric",
    ),
    # pairs that cannot work
    ("model=lenet5 data=xor", "Data sets that do: bars, cifar10, digits"),
    ("task=regression", "Data sets that do: adding, csv, diabetes, features."),
    ("task=language_modeling data=python_topics model=lstm", "LanguageModeling is for a TokenBatch"),
    ("task=sequence_prediction data=python_topics model=lstm", "needs a target at each step"),
    ("task=sequence_prediction data=adding data.num_train=50 model=gru", "needs a target at each step"),
    (
        "task=classification data=copy_memory data.num_train=50 model=lstm task.loss=cross_entropy",
        "one answer for a whole sequence",
    ),
    ("task=forecasting", "Data sets that do: etth1, series_csv, waves."),
    ("task=binary", "use task=classification"),
    ("model=mlp task=adversarial", "is trained on labels or values. Models for it: dcgan, gan."),
    ("model=mlp task=variational", "Models for it: cvae, vae."),
    ("optimizer=perceptron", "Use model=perceptron, or one of these optimizers"),
    ("model=perceptron data=diabetes", "use data with classes"),
    ("model=perceptron data=diabetes task.loss=mean_squared_error", "use data with classes"),
    ("model=dlinear data=waves baselines=true", "baselines=true is for images and tables"),
    ("model=lstm data=python_docs baselines=true", "baselines=true is for images and tables"),
    ("model=lstm data=python_docs model.bidirectional=true", "would see the next step"),
    ("model=lstm model.pooling=first", "There is no model.pooling=first"),
    ("model=mlp data=python_docs", "Data sets that do:"),
    (
        "model=textcnn data=python_topics optimizer=sparse_adam model.sparse_embedding=true "
        "trainer.gradient_clip_val=1 trainer.gradient_clip_algorithm=value",
        "trainer.gradient_clip_algorithm=value needs whole gradients",
    ),
    *(
        (
            f"model=textcnn data=python_topics optimizer=sparse_adam model.sparse_embedding=true {regularizer}",
            "needs whole gradients; use model.sparse_embedding=false",
        )
        for regularizer in (
            "regularizer=l2 regularizer.l2=1e-4 regularizer.l2_kind=coupled",
            "regularizer=l1 regularizer.l1=1e-4 regularizer.l1_kind=subgradient",
        )
    ),
    ("model=textcnn data=digits", "Data sets that do:"),
    ("model=dlinear data=digits", "Data sets that do:"),
    # data
    ("data=csv", "data=csv needs data.path and data.target"),
    ("data=csv data.path={}/no.csv data.target=price", "There is no file"),
    ("data=csv data.path={}/t.csv data.target=prize", "did you mean 'price'?"),
    ("data=csv data.path={}/ragged.csv data.target=price", "row 3: 2 fields expected"),
    ("data=csv data.path={}/t.csv data.target=price data.ignore=area", "for instance data.ignore=[area]"),
    ("data=image_folder data.root={}/no", "does not exist"),
    ("data=shards", "data=shards needs data.root"),
    ("data=shards data.root={}/no", "is no folder; give one with .tar files"),
    ("data=shards data.root={}", "There are no shards (.tar)"),
    ("data=mnist data_dir={}/no", "Put train-images-idx3-ubyte.gz"),
    ("data=mnist data_dir={}/cut", "train-images-idx3-ubyte"),
    ("data=mnist data_dir=null", "data_dir is empty"),
    ("run_dir=", "run_dir is empty"),
    # checkpoints
    ("resume={}/no", "There is no checkpoint"),
    ("resume={}/text.ckpt", "is no checkpoint, or it was cut off"),
    ("resume={}/weights.ckpt", "weights.ckpt"),
    ("resume={}/done model=lenet5", "done"),
    ("pretrained={}/no.ckpt", "There is no checkpoint"),
    ("pretrained=~no_such_user", "the home of a user who is not there"),
    ("pretrained={}/text.ckpt", "is no checkpoint"),
    ("pretrained={}/pickle.ckpt", "is no checkpoint"),
    ("pretrained={}/hostile.ckpt", "was refused"),
    ("pretrained={}/newer.ckpt", "update the zoo"),
    ("pretrained={}/cut.ckpt", "is no checkpoint, or it was cut off"),
    ("pretrained={}/flipped.ckpt", "is damaged"),
    ("pretrained={}/done model=lenet5", "does not fit this model"),
    # generators
    ("model=vae model.num_classes=5", "which has 10 classes"),
    ("model=gan model.num_classes=20", "which has 10 classes"),
    ("model=vae task=classification", "returns a VAEOutput, and task=classification needs a tensor"),
    # a network of the user's own
    ("model=custom", "model._target_=mypackage.MyNetwork"),
    ("model._target_=nowhere.Net", "No module named 'nowhere'"),
    ("model._target_=badnets.Nett", "badnets.Nett"),
    ("model._target_=badnets.Net model.widht=3", "unexpected keyword argument 'widht'"),
    ("model._target_=badnets.Deep", "'depth'"),
    ("model._target_=badnets.Plain", "not a torch.nn.Module"),
    ("model._target_=badnets.Narrow", "returns (3,) values a sample"),
    ("model._target_=badnets.Pair", "returns a tuple"),
    ("model._target_=badnets.Raises", "no such thing"),
]


@pytest.mark.parametrize(("typed", "telling"), CASES, ids=[typed for typed, _ in CASES])
def test_bad_input_is_one_line_and_status_2(typed, telling, place, tmp_path, monkeypatch):
    def unreachable(*_, **__):
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    words = typed.replace("{}", str(place)).split()
    keys = {word.split("=")[0] for word in words}
    given = [word for word in QUICK if word.split("=")[0] not in keys]
    given += [] if "run_dir" in keys else [f"run_dir={tmp_path}/run"]
    status, _, stderr = train(*given, *words, cwd=place)
    assert_one_line(status, stderr, telling)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there(tmp_path):
    status, _, stderr = train(*QUICK, "trainer=gpu", f"run_dir={tmp_path}/run")
    assert_one_line(status, stderr, "use trainer=cpu")


def test_a_network_of_the_users_own_trains_as_typed(place, tmp_path):
    typed = ("model._target_=badnets.Net", "model.width=64")
    status, _, stderr = train(*QUICK, *typed, f"run_dir={tmp_path}/run", cwd=place)
    assert (status, stderr) == (0, "")
    weights = read(tmp_path / "run")["state_dict"]
    assert weights["model.a.weight"].shape == (64, 64)
    assert weights["model.b.weight"].shape == (10, 64), "in_features and num_classes are filled by name"


def test_a_bug_of_ours_is_not_swallowed(tmp_path, monkeypatch):
    def broken(*_):
        return 1 // 0

    monkeypatch.setattr("zoo.build.check_pair", broken)
    with pytest.raises(ZeroDivisionError):
        train(*QUICK, f"run_dir={tmp_path}/run")


def test_a_traceback_is_shown_to_those_who_ask_for_it():
    code = (
        "from zoo.config.commandline import guarded; from zoo.errors import UserError\ndef f(): raise UserError('no')\n"
    )
    command = [sys.executable, "-c", f"{code}import sys; sys.exit(guarded(f))"]
    environment = {k: v for k, v in os.environ.items() if k != "ZOO_GUARDED"} | {"HYDRA_FULL_ERROR": "1"}
    ended = subprocess.run(command, cwd=TRAIN.parent, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "Traceback" in ended.stderr
    assert ended.stderr.strip().endswith("Error: no")


def test_a_run_below_a_file_is_one_line(place):
    process = start(*QUICK, run_dir=place / "t.csv" / "run")
    _, stderr = process.communicate(timeout=60)
    assert_one_line(process.returncode, stderr, "choose another run_dir=")


def test_a_loss_that_is_no_number_keeps_the_checkpoints(tmp_path):
    typed = ("optimizer=sgd", "optimizer.lr=1e30", "checkpoint_every=1", "logger=none")
    status, _, stderr = train(*typed, f"run_dir={tmp_path}/run")
    assert_one_line(status, stderr, "at iteration ")
    assert read(tmp_path / "run" / "checkpoints" / "last.ckpt")["state_dict"]
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["status"] == "failed"


def test_the_best_checkpoint_outlives_a_loss_that_is_no_number(place, tmp_path):
    """Well for one epoch; then a network that has turned sour."""
    sour = place / "sour.py"
    sour.write_text(NETS.split("class Deep")[0] + SOUR)
    typed = ("data=digits", "trainer.max_epochs=3", "logger=none", "model._target_=sour.Sour")
    status, _, stderr = train(*typed, f"run_dir={tmp_path}/run", cwd=place)
    assert_one_line(status, stderr, "at iteration 21 (epoch 2)")
    best = read(tmp_path / "run" / "checkpoints" / "best.ckpt")
    assert all(value.isfinite().all() for value in best["state_dict"].values())


def test_ctrl_c_ends_with_130_and_saves_the_batch_it_was_at(tmp_path):
    def listening():  # a runner started in the background ignores Ctrl-C, and its children would with it
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    typed = ("trainer.max_epochs=100000", "trainer.log_every_n_steps=1000000")  # the clock would write in 30 s
    process = start(*typed, run_dir=tmp_path / "run", preexec_fn=listening)
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "run" / "config.yaml").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(3)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["status"] == "interrupted"
    last = read(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert last["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["ready"] == metrics["iteration"] > 0


@pytest.fixture
def small_disk(tmp_path):
    """(folder, options of Popen) where files have no room: a tmpfs of 1 MB for root, else a limit on a file's size."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    mounted = os.geteuid() == 0 and shutil.which("mount") and not subprocess.run(mount, capture_output=True).returncode
    if mounted:
        yield folder, {}
        subprocess.run(["umount", str(folder)], check=True)
    else:
        limit = (700_000, 700_000)  # Python ignores SIGXFSZ, so that a write fails instead
        yield folder, {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit)}


def test_a_full_disk_is_one_line_and_keeps_the_older_checkpoint(small_disk):
    folder, options = small_disk
    wide = ("model.hidden_features=[700]", "trainer.max_epochs=3", "checkpoint_every=20")  # a checkpoint has 0.6 MB
    process = start(*wide, run_dir=folder / "run", **options)
    _, stderr = process.communicate(timeout=60)
    assert_one_line(process.returncode, stderr, "no space is left on the disk")
    left = sorted(path.name for path in (folder / "run" / "checkpoints").glob("*"))
    assert not [name for name in left if name.endswith(".tmp")]
    for name in left:
        assert read(folder / "run" / "checkpoints" / name)["state_dict"]
