"""What a checkpoint gives back, to whom, and what it refuses."""

import json

import pytest
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from safetensors.torch import save_file

from zoo.callbacks.checkpointing import AtomicCheckpointIO
from zoo.checkpoint import adapt_channels, check_targets, find, load_model, load_pretrained, model_weights, read
from zoo.errors import UserError
from zoo.models.lenet5 import LeNet5
from zoo.models.mlp import MLP


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


def test_a_half_loaded_model_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not fit this model"):
        load_pretrained(MLP(in_features=4, out_features=3), saved(tmp_path, lenet()))


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
        "zoo.commandline.os.system",
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
