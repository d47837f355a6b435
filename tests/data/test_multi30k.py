"""Multi30k: the published pairs, side by side."""

import gzip
import os
import shutil
from pathlib import Path

import pytest
import torch

from zoo.data.multi30k import CHECKSUMS, COMMIT, Multi30k
from zoo.errors import UserError

DATA = os.environ.get("ZOO_DATA", "")
needs_data = pytest.mark.skipif(
    not (Path(DATA) / "multi30k").is_dir(), reason="ZOO_DATA names no folder with multi30k/"
)

FIRST = {
    "de": "Zwei junge weiße Männer sind im Freien in der Nähe vieler Büsche.",
    "en": "Two young, White males are outside near many bushes.",
    "fr": "Deux jeunes hommes blancs sont dehors près de buissons.",
}


@needs_data
@pytest.mark.parametrize(("src", "tgt"), [("de", "en"), ("en", "de"), ("fr", "en"), ("de", "fr")])
def test_every_pair_of_languages_has_its_sentences_side_by_side(src, tgt):
    parts = Multi30k(data_dir=DATA, src=src, tgt=tgt).read().parts
    assert [len(parts[name]) for name in ("train", "val", "test")] == [29_000, 1014, 1000]
    assert parts["train"][0] == (FIRST[src], FIRST[tgt])
    assert all(one and other for pairs in parts.values() for one, other in pairs)


@needs_data
@pytest.mark.parametrize(("test", "number"), [("2016_flickr", 1000), ("2017_flickr", 1000), ("2017_mscoco", 461)])
def test_each_test_part_is_its_own(test, number):
    pairs = Multi30k(data_dir=DATA, test=test).pairs(f"test_{test}")
    assert len(pairs) == number
    others = [name for name in ("2016_flickr", "2017_flickr", "2017_mscoco") if name != test]
    assert not any(set(pairs) & set(Multi30k(data_dir=DATA).pairs(f"test_{name}")) for name in others)


@needs_data
def test_words_of_the_training_part_make_the_vocabularies_and_references_stay_as_published():
    data = Multi30k(data_dir=DATA, min_count=2, batch_tokens=4096, max_len=100)
    facts = data.prepare().facts
    assert (facts["src_vocab_size"], facts["tgt_vocab_size"]) == (7880, 5949)
    batch = data.part("test")[torch.tensor([0])]
    assert data.references("test")[0] == "A man in an orange hat starring at something."
    assert data.tgt_tokenizer.decode(batch.tgt_out[0, :-1].tolist()) == "a man in an orange hat starring at something."
    sizes = [b.src.shape for b in data.train_dataloader()]
    assert sum(number for number, _ in sizes) == 29_000
    assert len(sizes) < 120  # 29,000 pairs of 14 tokens make 100 batches of 4,096


@needs_data
def test_a_model_of_another_pair_of_languages_is_one_line():
    data = Multi30k(data_dir=DATA, src="fr")
    data.prepare_as({"kind": "pairs", "sides": ["German", "English"], "max_len": 9, "lower": True} | TINY)
    with pytest.raises(
        UserError, match="trained to go from German to English, and the data goes from French to English"
    ):
        data.prepare()


TINY = {
    "src_tokenizer": None,
    "tgt_tokenizer": {"kind": "word", "tokens": ["<pad>", "<unk>", "<bos>", "<eos>", "a"], "lower": True},
}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"src": "de", "tgt": "de"}, "There is no pair data.src=de data.tgt=de"),
        ({"src": "es"}, r"no pair data\.src=es data\.tgt=en.*There is: de-en, de-fr, en-de, en-fr, fr-de, fr-en"),
        ({"test": "2016"}, r"no data\.test=2016.*2016_flickr, 2017_flickr, 2017_mscoco"),
    ],
    ids=str,
)
def test_what_there_is_not_is_one_line_that_says_what_there_is(options, said):
    with pytest.raises(UserError, match=said) as error:
        Multi30k(data_dir="unused", **options)
    assert "\n" not in str(error.value)


def test_missing_files_are_fetched_from_the_published_commit(tmp_path, monkeypatch):
    from torchvision.datasets import utils

    asked = []

    def offline(url, folder, md5):
        asked.append((url, md5))
        raise OSError("no route to host")

    monkeypatch.setattr(utils, "download_url", offline)
    with pytest.raises(UserError, match="no route to host") as error:
        Multi30k(data_dir=tmp_path, src="fr", tgt="en", test="2017_mscoco").prepare()
    assert "Put train.fr.gz, train.en.gz, val.fr.gz, val.en.gz, test_2017_mscoco.fr.gz" in str(error.value)
    assert asked == [
        (
            f"https://raw.githubusercontent.com/multi30k/dataset/{COMMIT}/data/task1/raw/train.fr.gz",
            CHECKSUMS["train.fr.gz"],
        )
    ]


@needs_data
def test_a_changed_file_is_named(tmp_path):
    shutil.copytree(Path(DATA) / "multi30k", tmp_path / "multi30k")
    path = tmp_path / "multi30k" / "val.en.gz"
    path.chmod(0o644)
    path.unlink()
    path.write_bytes(gzip.compress(b"A dog.\n" * 1014))
    with pytest.raises(UserError, match=r"val\.en\.gz is not the published file"):
        Multi30k(data_dir=tmp_path).prepare()
