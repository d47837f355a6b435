"""Files of the projector: as many labels as vectors and images, and each where the network has it."""

from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from PIL import Image
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig
from torch import nn

from zoo.build import build
from zoo.callbacks import projector
from zoo.callbacks.projector import CONFIG, Projector
from zoo.checkpoint import load_model
from zoo.models.vae import Posterior
from zoo.pictures.sprite import sprite
from zoo.run import configure, run


def test_of_many_words_the_first_are_shown_each_with_its_vector(tmp_path, monkeypatch):
    monkeypatch.setattr(projector, "pictured", lambda trainer: True)
    monkeypatch.setattr(projector, "writers", lambda trainer: [SimpleNamespace(log_dir=str(tmp_path))])
    words, vectors = ["<pad>", "the", "a\tb", "cat", "dog"], torch.arange(10.0).view(5, 2)
    trainer = SimpleNamespace(datamodule=SimpleNamespace(tokenizer=SimpleNamespace(tokens=words)))
    Projector(most=3).on_train_epoch_end(trainer, SimpleNamespace(model=SimpleNamespace(vectors=vectors)))
    rows = (tmp_path / "projector" / "word_vectors.tsv").read_text().splitlines()
    assert [[float(x) for x in row.split("\t")] for row in rows] == vectors[:3].tolist()
    assert (tmp_path / "projector" / "labels.tsv").read_text().splitlines() == ["<pad>", "the", "a\\tb"]


def as_it_ended(folder, typed):
    """The last model of a run, the first 60 images of its validation part, names of the classes."""
    data = build(configure(*typed, "logger=none", run_dir=folder / "again")).data
    loader = data.loader("val", batch_size=60)
    return load_model(folder / "checkpoints" / "last.ckpt"), next(iter(loader)), data.prepare().class_names


def before_output(model, images):
    """What the last linear layer is given, (B, F)."""
    seen = []
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    handle = last.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    model(images)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize(
    ("words", "columns", "size"),
    [
        (["model=lenet5", "data.image_size=28"], {"true", "said"}, 84),
        (["model=mlp", "model.hidden_features=[300]"], {"true", "said"}, 256),
        (["model=autoencoder"], {"true"}, 8),
        (["model=vae"], {"true"}, 20),
        (["model=cvae"], set(), 0),
        (["model=gan"], set(), 0),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_images_stand_where_the_network_has_them_with_their_classes(words, columns, size, tmp_path):
    typed = [*words, "data=digits", "data.fraction=0.5", "trainer.max_epochs=1", "trainer.max_steps=2", "test=false"]
    assert (
        run(configure(*typed, "trainer.limit_val_batches=1", "callbacks.projector.most_images=60", run_dir=tmp_path))
        == 0
    )
    if not columns:
        assert not (tmp_path / CONFIG).exists()
        return
    rows = (tmp_path / "projector" / "images.tsv").read_text().splitlines()
    first, *labels = (tmp_path / "projector" / "labels.tsv").read_text().splitlines()
    labels = labels if len(columns) > 1 else [first, *labels]
    assert set(first.split("\t")) == columns or len(columns) == 1
    assert len(rows) == len(labels) == 60
    assert {len(row.split("\t")) for row in rows} == {min(size, 60) if size == 256 else size}
    assert set("".join(labels)) <= set("0123456789\t")
    config = text_format.Parse((tmp_path / CONFIG).read_text(), ProjectorConfig()).embeddings[0]
    model, batch, names = as_it_ended(tmp_path, typed)
    placed = model.encode(batch.image) if len(columns) == 1 else before_output(model, batch.image)
    placed = (placed.mean if isinstance(placed, Posterior) else placed).detach()
    shown = torch.tensor([[float(x) for x in row.split("\t")] for row in rows])
    # On fewer axes the points are turned; how far each is from each stays.
    torch.testing.assert_close(torch.pdist(shown), torch.pdist(placed), rtol=1e-4, atol=1e-5)
    if size != 256:
        torch.testing.assert_close(shown, placed, rtol=1e-4, atol=1e-5)
    told = [[names[k] for k in batch.label.tolist()]]
    told += [[names[k] for k in model(batch.image).argmax(1).tolist()]] if len(columns) > 1 else []
    assert labels == ["\t".join(row) for row in zip(*told, strict=True)]
    width, height = config.sprite.single_image_dim
    with Image.open(tmp_path / config.sprite.image_path) as picture:
        assert picture.size == (8 * width, 8 * height)


def test_a_sprite_has_its_images_row_by_row_and_large_ones_small():
    images = torch.arange(5.0).view(5, 1, 1, 1) * torch.ones(5, 1, 64, 32)
    images[:, :, 0, 0] = -1  # what is darkest is black, what is brightest white
    file, size = sprite(images)
    assert size == (16, 32)
    picture = np.asarray(Image.open(BytesIO(file)))[..., :3]
    assert picture.shape == (3 * 32, 3 * 16, 3)
    assert (picture[33:64, 17:32] == 255).all()  # the fifth
    assert (picture[0, 0] < 255).all()
