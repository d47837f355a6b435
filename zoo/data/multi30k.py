"""Multi30k: 29,000 captions of photographs in English, with their translations into German and French.

Elliott, Frank, Sima'an and Specia, "Multi30K: Multilingual English-German image descriptions", 2016 (arXiv 1605.00459);
the French of Elliott et al., "Findings of the second shared task on multimodal machine translation", 2017. The files
are the raw sentences of task 1, as their authors publish them, read where they lie.

Axes: N sentence pairs
"""

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from zoo.data.images import download
from zoo.data.pairs import Found, Pairs, Part
from zoo.data.published import read_published
from zoo.errors import UserError, suggest

COMMIT = "a3d2e0d26b56f3846f66a952536ffed4e401d05a"
MIRROR = f"https://raw.githubusercontent.com/multi30k/dataset/{COMMIT}/data/task1/raw/"
LANGUAGES = {"de": "German", "en": "English", "fr": "French"}
TESTS = ("2016_flickr", "2017_flickr", "2017_mscoco")
CHECKSUMS = {
    "train.de.gz": "81ff90b99829c0cd4b1b587d394afd39",
    "train.en.gz": "0065d13af80720a55ca8153d126e6627",
    "train.fr.gz": "6cb767741dcad3931f966fefbc05203f",
    "val.de.gz": "6e0e229eb049e3fc99a1ef02fb2d5f91",
    "val.en.gz": "2b69aa9253948ac9f67e94917272dd40",
    "val.fr.gz": "93fc564584b7e5ba410c761ea5a1c682",
    "test_2016_flickr.de.gz": "efd67d314d98489b716b145475101932",
    "test_2016_flickr.en.gz": "ff2c0fcb4893a13bd73414306bc250ae",
    "test_2016_flickr.fr.gz": "08dc7cd4a662f31718412de95ca9bfe3",
    "test_2017_flickr.de.gz": "6a8d5c87f6ae19e3d35681aa6fd16571",
    "test_2017_flickr.en.gz": "005396bac545d880abe6f00bbb7dbbb4",
    "test_2017_flickr.fr.gz": "cb09af7d2b501f9112f2d6a59fa1360d",
    "test_2017_mscoco.de.gz": "e8cd6ec2bc8a11fc846fa48a46e3d0bb",
    "test_2017_mscoco.en.gz": "a7b684e0edbef1d4a23660c8e8e743fd",
    "test_2017_mscoco.fr.gz": "4995d10954a804d3cdfd907b9fd093e8",
}


class Multi30k(Pairs):
    """29,000 pairs for training, 1,014 for validation, and one of three test parts.

    Args:
        data_dir: holds `multi30k/`; what is missing there is downloaded.
        src, tgt: languages, any two of "de", "en" and "fr".
        test: the test part, one of `TESTS`, of 1,000, 1,000 and 461 pairs.
        settings: see `Pairs`.

    Raises:
        UserError: there is no such pair of languages, or no such test part.
    """

    checksums: ClassVar[Mapping[str, str]] = CHECKSUMS

    def __init__(
        self, *, data_dir: str, src: str = "de", tgt: str = "en", test: str = "2016_flickr", **settings: Any
    ) -> None:
        super().__init__(**settings)
        pairs = [f"{one}-{other}" for one in LANGUAGES for other in LANGUAGES if one != other]
        if f"{src}-{tgt}" not in pairs:
            raise UserError(f"There is no pair data.src={src} data.tgt={tgt}{suggest(f'{src}-{tgt}', pairs)}")
        if test not in TESTS:
            raise UserError(f"There is no data.test={test}{suggest(test, TESTS)}")
        self.folder = Path(data_dir).expanduser() / "multi30k"
        self.stems = {"train": "train", "val": "val", "test": f"test_{test}"}
        self.languages = (src, tgt)
        self.sides = (LANGUAGES[src], LANGUAGES[tgt])  # type: ignore[misc]

    def files(self) -> list[str]:
        return [f"{stem}.{language}.gz" for stem in self.stems.values() for language in self.languages]

    def fetch(self) -> None:
        advice = (
            f"Put {', '.join(self.files())} into {self.folder}, or let data_dir (or ZOO_DATA) name a folder that has "
            f"{self.folder.name}."
        )
        for name in self.files():
            if not (self.folder / name).is_file():
                download([MIRROR + name], self.folder, md5=self.checksums[name], advice=advice)

    def read(self) -> Found:
        return Found({part: self.pairs(stem) for part, stem in self.stems.items()})

    def pairs(self, stem: str) -> Part:
        """The sentences of both files, line by line."""
        sides = []
        for language in self.languages:
            name = f"{stem}.{language}.gz"
            content = gzip.decompress(read_published(self.folder / name, checksum=self.checksums[name]))
            sides.append([line.strip() for line in content.decode().removesuffix("\n").split("\n")])
        return list(zip(*sides, strict=True))
