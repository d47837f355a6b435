"""Data is asked for what models and recipes wish of it as far as it has such a setting."""

import numpy as np
import pytest
from PIL import Image

from zoo.config.prepare import build_data, data_settings
from zoo.run import configure


@pytest.fixture
def photos(tmp_path):
    for i, kind in enumerate(["cats", "dogs"] * 10):
        (tmp_path / "photos" / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((9, 9), 10 * i, np.uint8)).save(tmp_path / "photos" / kind / f"{i}.png")
    return tmp_path / "photos"


def test_a_recipe_on_ones_own_images_leaves_out_what_they_have_no_setting_for(photos, tmp_path):
    cfg = configure("experiment=lenet5_fashion_mnist", "data=image_folder", f"data.root={photos}", run_dir=tmp_path)
    first, *_ = build_data(cfg).prepare().notes
    assert first == "data=image_folder has no such setting, and the recipe's is left out: data.val_size=0"
    assert "val_size" not in cfg.data
    assert cfg.data.batch_size == 256, "what it has is as the recipe says"


def test_nothing_is_said_of_what_a_model_wishes(tmp_path):
    cfg = configure("model=autoencoder", "data=iris", run_dir=tmp_path)
    assert not any("no such setting" in note for note in build_data(cfg).prepare().notes)
    cfg = configure("experiment=rbm_digits", run_dir=tmp_path)
    assert not any("no such setting" in note for note in build_data(cfg).prepare().notes)


def test_a_recipe_asks_what_it_is_based_on_asks():
    assert {"classes", "val_size", "batch_size", "fraction"} <= set(data_settings("experiment", "few_labels/finetuned"))
    assert data_settings("experiment", "nobody") == []
