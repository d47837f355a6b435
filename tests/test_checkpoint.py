"""What a checkpoint gives back, to whom, and what it refuses."""

import json
import os

import pytest
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from safetensors.torch import save_file

from zoo.build import build
from zoo.callbacks.checkpointing import AtomicCheckpointIO
from zoo.checkpoint import (
    check_targets,
    find,
    load_model,
    model_weights,
    read,
)
from zoo.errors import UserError
from zoo.models.lenet5 import LeNet5
from zoo.models.mlp import MLP
from zoo.run import configure, run
from zoo.running.loading import adapt_channels, load_pretrained, renamed


def lenet(channels=1, classes=10):
    return LeNet5(in_channels=channels, image_size=28, num_classes=classes)


def saved(tmp_path, model, name="weights.safetensors", **metadata):
    save_file(model.state_dict(), tmp_path / name, {key: json.dumps(value) for key, value in metadata.items()})
    return tmp_path / name


def test_other_classes_get_a_new_head_and_keep_the_rest(tmp_path):
    source, target = lenet(), lenet(classes=5)
    before = target.output.weight.clone()
    report = load_pretrained(target, saved(tmp_path, source))
    assert report.new == ["output.weight (10, 84) -> (5, 84)", "output.bias (10,) -> (5,)"]
    assert (len(report.loaded), report.adapted, report.skipped) == (8, [], [])
    assert torch.equal(target.c5.weight, source.c5.weight)
    assert torch.equal(target.output.weight, before)


CLOTHES = ["shirt", "coat", "bag"]


@pytest.mark.parametrize(
    ("classes", "rows", "said"),
    [
        (CLOTHES, [0, 1, 2], "(10, 0, 0)"),
        (["bag", "shirt", "coat"], [2, 0, 1], "(8, 2, 0)"),  # the same in another order
        (["coat", "bag"], [1, 2], "(8, 2, 0)"),  # some of them
        (["cat", "dog", "owl"], None, "(8, 0, 2)"),  # as many, and others
        (["coat", "bag", "cat"], None, "(8, 0, 2)"),
        (["cat", "dog"], None, "(8, 0, 2)"),
        ([], [0, 1, 2], "(10, 0, 0)"),  # outputs that stand for no classes
    ],
)
def test_an_output_layer_goes_by_the_names_of_its_classes(tmp_path, classes, rows, said):
    source, target = lenet(classes=3), lenet(classes=len(classes) or 3)
    before = target.output.weight.clone()
    report = load_pretrained(target, saved(tmp_path, source, classes=CLOTHES), classes)
    assert str(tuple(len(names) for names in (report.loaded, report.adapted, report.new))) == said
    assert torch.equal(target.output.weight, before if rows is None else source.output.weight[rows])
    assert torch.equal(target.c5.weight, source.c5.weight)


def test_one_output_of_two_other_classes_begins_anew(tmp_path):
    source, target = lenet(classes=1), lenet(classes=1)
    before = target.output.weight.clone()
    report = load_pretrained(target, saved(tmp_path, source, classes=["no", "yes"]), ["ham", "spam"])
    assert report.new == ["output.weight (it was for other classes)", "output.bias (it was for other classes)"]
    assert torch.equal(target.output.weight, before)


def test_a_perceptron_that_has_an_output_layer_alone_fits_other_classes(tmp_path):
    source, target = (MLP(in_features=4, out_features=3, hidden_features=[]) for _ in range(2))
    report = load_pretrained(target, saved(tmp_path, source, classes=CLOTHES), ["cat", "dog", "owl"])
    assert (report.loaded, len(report.new)) == ([], 2)


def test_a_run_on_as_many_other_classes_begins_its_output_layer_anew(tmp_path):
    few = ["model=lenet5", "debug=fast", "callbacks.progress=null"]
    run(configure(*few, "data.classes=[0,1,2]", run_dir=tmp_path / "source"))
    source = f"pretrained={tmp_path / 'source'}"
    notes = build(configure(*few, "data.classes=[3,4,5]", source, run_dir=tmp_path / "target")).notes
    assert "output.weight (it was for other classes)" in " ".join(notes)


def test_outputs_that_are_no_classes_are_kept_whatever_the_data_shows(tmp_path):
    few = ["model=autoencoder", "model.hidden_features=[8]", "debug=fast", "callbacks.progress=null"]
    run(configure(*few, "data.classes=[0,1,2]", run_dir=tmp_path / "source"))
    source = f"pretrained={tmp_path / 'source'}"
    notes = build(configure(*few, "data.classes=[3,4,5]", source, run_dir=tmp_path / "target")).notes
    assert "0 newly initialized" in " ".join(notes)


def test_a_checkpoint_with_a_name_is_called_by_it(tmp_path):
    model = build(configure("pretrained=mlp-fashion", "data=digits", run_dir=tmp_path / "run"))
    assert any(note.startswith("Pretrained mlp-fashion: ") for note in model.notes)


def test_colour_images_answer_a_grey_one_as_the_grey_net_did(tmp_path):
    source, target = lenet(), lenet(channels=3)
    report = load_pretrained(target, saved(tmp_path, source))
    assert report.adapted == ["c1.weight (6, 1, 5, 5) -> (6, 3, 5, 5)"]
    grey = torch.rand(2, 1, 28, 28)
    torch.testing.assert_close(target(grey.expand(-1, 3, -1, -1)), source(grey))


def test_kernels_of_another_size_are_not_bent_to_fit():
    assert adapt_channels(torch.rand(6, 1, 5, 5), torch.Size((6, 3, 3, 3))) is None
    assert adapt_channels(torch.rand(10, 84), torch.Size((5, 84))) is None


def test_what_the_file_has_and_the_model_has_not_is_named(tmp_path):
    source = MLP(in_features=4, out_features=3, hidden_features=[8, 8])
    target = MLP(in_features=4, out_features=3, hidden_features=[8])
    report = load_pretrained(target, saved(tmp_path, source))
    assert sorted(report.skipped) == ["hidden.1.linear.bias", "hidden.1.linear.weight"]
    assert "2 skipped tensors" in report.lines()[0]


class Renamed(MLP):
    also_known_as = {"last.": "output."}  # noqa: RUF012


def foreign(model, *, without=()):
    """How such weights are published: wrapped for several processes, under other names, beside other numbers."""
    weights = {name.replace("output.", "last."): value for name, value in model.state_dict().items()}
    weights = {f"module.{name}": value for name, value in weights.items() if not name.endswith(without)}
    return {"state_dict": weights, "best_prec1": 91.7}


@pytest.mark.parametrize("old_torch", [False, True])
def test_published_weights_load_under_the_names_that_the_class_knows(tmp_path, old_torch):
    settings = {"in_features": 4, "out_features": 3, "hidden_features": [5]}
    source, target = Renamed(**settings), Renamed(**settings)
    torch.save(foreign(source), tmp_path / "weights.th", _use_new_zipfile_serialization=not old_torch)
    report = load_pretrained(target, tmp_path / "weights.th")
    assert (set(report.loaded), report.new, report.skipped) == (set(source.state_dict()), [], [])
    x = torch.rand(2, 4)
    assert torch.equal(target(x), source(x))


def test_a_class_that_knows_no_other_names_gets_none(tmp_path):
    settings = {"in_features": 4, "out_features": 3, "hidden_features": [5]}
    torch.save(foreign(MLP(**settings)), tmp_path / "weights.th")
    report = load_pretrained(MLP(**settings), tmp_path / "weights.th")
    assert (report.new, report.skipped) == (["output.weight", "output.bias"], ["last.weight", "last.bias"])


def test_names_are_only_changed_where_they_begin():
    weights = {"linear.weight": 1, "head.linear.weight": 2, "linearized.weight": 3}
    assert renamed(weights, {"linear.": "fc."}) == {"fc.weight": 1, "head.linear.weight": 2, "linearized.weight": 3}


def test_counters_that_old_weights_do_not_have_are_not_called_new(tmp_path):
    settings = {"in_features": 4, "out_features": 3, "hidden_features": [5, 5], "normalization": "BatchNorm1d"}
    source, target = Renamed(**settings), Renamed(**settings)
    torch.save(foreign(source, without=("num_batches_tracked",)), tmp_path / "weights.th")
    report = load_pretrained(target, tmp_path / "weights.th")
    assert (len(report.loaded), report.new) == (len(source.state_dict()) - 2, [])


@pytest.mark.parametrize("share", [0.001, 0.3, 0.9, 0.999])
def test_weights_of_old_torch_that_were_cut_off_are_refused(tmp_path, share):
    path = tmp_path / "weights.th"
    torch.save(lenet().state_dict(), path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UserError, match="no whole checkpoint"):
        read(path)


def test_code_in_weights_of_old_torch_is_refused_and_not_run(tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "was_run"),)

    torch.save({"state_dict": {"w": Hostile()}}, tmp_path / "weights.th", _use_new_zipfile_serialization=False)
    with pytest.raises(UserError, match="was refused"):
        read(tmp_path / "weights.th")
    assert not (tmp_path / "was_run").exists()


def test_a_half_loaded_model_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not fit this model"):
        load_pretrained(MLP(in_features=4, out_features=3), saved(tmp_path, lenet()))


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"_target_": "zoo.models.mlp.MLP", "hidden_features": [9]}, "with model.hidden_features=[5]; say the same."),
        ({"_target_": "zoo.models.mlp.MLP"}, "other sizes: hidden.0.linear.weight (5, 4) -> (9, 6), hidden.0.linear"),
        ({"_target_": "zoo.models.lenet5.LeNet5"}, "It has the weights of MLP; choose that with model=."),
        (None, "other sizes: hidden.0.linear.weight (5, 4) -> (9, 6)"),
    ],
)
def test_what_does_not_fit_says_what_would(tmp_path, settings, line):
    config = {"model": {"_target_": "zoo.models.mlp.MLP", "in_features": 4, "hidden_features": [5]}}
    path = saved(tmp_path, MLP(in_features=4, out_features=3, hidden_features=[5]), config=config)
    with pytest.raises(UserError) as refused:
        load_pretrained(MLP(in_features=6, out_features=2, hidden_features=[9]), path, settings=settings)
    assert line in str(refused.value)


def test_weights_that_fit_tell_of_another_activation_but_not_of_dropout(tmp_path):
    config = {"_target_": "zoo.models.mlp.MLP", "in_features": 4, "activation": "ReLU", "dropout": 0.5}
    path = saved(tmp_path, MLP(in_features=4, out_features=3), config={"model": config})
    model, now = MLP(in_features=4, out_features=3, activation="Tanh"), config | {"activation": "Tanh", "dropout": 0.0}
    report = load_pretrained(model, path, settings=now)
    assert report.lines()[-1] == "  trained with model.activation=ReLU, unlike this model"
    assert len(load_pretrained(model, path, settings=config).lines()) == 1


def test_a_safetensors_file_with_its_configuration_is_a_model(tmp_path):
    config = {"model": {"_target_": "zoo.models.mlp.MLP", "in_features": 4, "out_features": 3, "hidden_features": [5]}}
    source = MLP(in_features=4, out_features=3, hidden_features=[5])
    model = load_model(saved(tmp_path, source, config=config))
    x = torch.rand(7, 4)
    assert torch.equal(model(x), source(x))


@pytest.mark.parametrize("prefix", ["", "_orig_mod.", "module."])
def test_keys_are_plain_whatever_wrapped_the_model(prefix):
    weights = {f"{prefix}{name}": value for name, value in lenet().state_dict().items()}
    assert set(model_weights({"state_dict": weights})) == set(lenet().state_dict())


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "torch.load",
        "pathlib.Path.write_text",
        "numpy.save",
        "builtins.eval",
        "subprocess.run",
        "hydra.utils.call",
        "zoo.checkpoint.torch.load",
        "zoo.config.commandline.os.system",
        "zoo.run.run",
        "zoomed.models.mlp.MLP",
        "zoo.models.mlp.MLP; import os",
        "zoo..models.mlp.MLP",
    ],
)
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_configuration_may_call_only_the_zoo_at_any_depth(target, depth):
    config = {"_target_": target}
    for _ in range(depth):
        config = {"_target_": "zoo.models.mlp.MLP", "hidden_features": [1, config]}
    with pytest.raises(UserError, match="refused"):
        check_targets(config)


def test_a_write_that_fails_leaves_the_old_checkpoint_and_no_rubbish(tmp_path, monkeypatch):
    target = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"state_dict": {"a": torch.ones(3)}}, target)

    def half(checkpoint, file):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(UserError, match="no space is left"):
        AtomicCheckpointIO().save_checkpoint({}, target)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
    assert torch.equal(read(target)["state_dict"]["a"], torch.ones(3))


def test_one_flipped_byte_is_found(tmp_path):
    path = tmp_path / "last.ckpt"
    TorchCheckpointIO().save_checkpoint({"state_dict": {"a": torch.ones(1000)}}, path)
    content = bytearray(path.read_bytes())
    place = content.index(torch.ones(4).numpy().tobytes())
    content[place + 2] ^= 1
    path.write_bytes(content)
    assert not torch.equal(torch.load(path)["state_dict"]["a"], torch.ones(1000)), "torch alone does not notice"
    with pytest.raises(UserError, match="damaged"):
        read(path)


def test_a_flipped_bit_in_the_table_of_contents_is_found_or_harmless(tmp_path):
    """zipfile takes some of them for an encrypted file or another compression; torch reads a folder as no bytes."""
    path = tmp_path / "last.ckpt"
    TorchCheckpointIO().save_checkpoint({"state_dict": {"a": torch.ones(100)}}, path)
    content, outcomes = path.read_bytes(), set()
    start = content.rindex(b"PK\1\2", 0, content.rindex(b"/data/0"))
    for place in range(start, start + 80):
        for bit in range(8):
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            path.write_bytes(changed)
            try:
                assert torch.equal(read(path)["state_dict"]["a"], torch.ones(100)), (place - start, bit)
            except UserError as error:
                outcomes.add("damaged" in str(error) or "refused" in str(error) or "cut off" in str(error))
    assert outcomes == {True}


def test_a_run_folder_means_its_best_and_else_its_last(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    for name in ("last.ckpt", "best.ckpt"):
        (tmp_path / "checkpoints" / name).touch()
        assert find(tmp_path).name == name


def test_a_broken_module_of_ours_is_no_fault_of_the_checkpoint(monkeypatch):
    def broken(name):
        raise RuntimeError("a bug")

    monkeypatch.setattr("zoo.checkpoint.importlib.import_module", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        check_targets({"_target_": "zoo.models.mlp.MLP"})
    with pytest.raises(UserError, match="cannot be imported: a bug"):
        check_targets({"_target_": "mine.Net"}, allow=["mine."])
