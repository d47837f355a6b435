"""Files of the projector: as many labels as vectors, those of the most frequent words."""

from types import SimpleNamespace

import torch

from zoo.callbacks import projector
from zoo.callbacks.projector import Projector


def test_of_many_words_the_first_are_shown_each_with_its_vector(tmp_path, monkeypatch):
    monkeypatch.setattr(projector, "pictured", lambda trainer: True)
    monkeypatch.setattr(projector, "writers", lambda trainer: [SimpleNamespace(log_dir=str(tmp_path))])
    words, vectors = ["<pad>", "the", "a\tb", "cat", "dog"], torch.arange(10.0).view(5, 2)
    trainer = SimpleNamespace(datamodule=SimpleNamespace(tokenizer=SimpleNamespace(tokens=words)))
    Projector(most=3).on_train_epoch_end(trainer, SimpleNamespace(model=SimpleNamespace(vectors=vectors)))
    rows = (tmp_path / "projector" / "word_vectors.tsv").read_text().splitlines()
    assert [[float(x) for x in row.split("\t")] for row in rows] == vectors[:3].tolist()
    assert (tmp_path / "projector" / "words.tsv").read_text().splitlines() == ["<pad>", "the", "a\\tb"]
