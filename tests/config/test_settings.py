"""Pairs of model and data, before anything is read: who is refused, who is left alone, and what is offered instead."""

import pytest
from omegaconf import open_dict

from zoo.config.compatibility import check_pair
from zoo.config.settings import check_settings
from zoo.errors import UserError
from zoo.run import configure


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (
            ["model=vit", "data=captions"],
            "model=vit gives one answer for a sample, and task=translation needs a sequence; use model=captioner or "
            "seq2seq or transformer, or other data",
        ),
        (
            ["model=gpt", "data=python_topics"],
            "model=gpt answers as next_step, and task=classification needs a classifier; use another model, for "
            "instance model=gru, or other data",
        ),
        (["model=captioner", "data=xor"], "Data sets that do: bars, captions, "),
        (["model=unet", "data=digits"], "model=unet needs data.mask_classes, and data=digits does not give it"),
        (["model=yolo", "data=shapes"], "Data sets that do: box_folder, boxed_shapes."),
        (["model=resnet", "data=shapes"], "task=segmentation needs a segmenter; use model=unet, or other data"),
        (["model=vit", "data=boxed_shapes"], "task=detection needs a detector; use model=yolo, or other data"),
        (["model=vit", "data=xor"], "Data sets that do: bars, cifar10, digits, "),
    ],
    ids=["one answer", "other heads", "with captions", "no masks", "no boxes", "masks", "boxes", "without captions"],
)
def test_what_cannot_answer_as_the_task_asks_is_one_line_with_what_could(overrides, told, tmp_path):
    with pytest.raises(UserError) as error:
        check_pair(configure(*overrides, run_dir=tmp_path))
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("of_its_own", ["class", "name", "nothing"])
def test_a_network_whose_heads_no_yaml_names_is_not_asked_for_them(of_its_own, tmp_path):
    """Else what is refused above: a class of the user's, a yaml from elsewhere, a configuration without a name."""
    cfg = configure("model=vit", "data=captions", run_dir=tmp_path)
    with open_dict(cfg):
        if of_its_own == "class":
            cfg.model._target_ = "mypackage.Net"
        elif of_its_own == "name":
            cfg.choices.model = "mine"
        else:
            del cfg.choices["model"]
    check_pair(cfg)


@pytest.mark.parametrize("key", ["data.max_len", "data.max_vocab_size"])
def test_null_is_no_limit_also_where_a_yaml_has_one(key, tmp_path):
    cfg = configure("model=seq2seq", "data=chat", f"{key}=null", run_dir=tmp_path)
    check_settings(cfg)
    cfg = configure("model=seq2seq", "data=chat", f"{key}=many", run_dir=tmp_path)
    with pytest.raises(UserError, match=f"{key}=many must be a .*null"):
        check_settings(cfg)
