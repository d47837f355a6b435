"""How alike the texts of a system and their references are: BLEU, chrF, exact matches."""

from collections.abc import Sequence
from typing import NamedTuple


class TextScore(NamedTuple):
    """How alike the texts of a system and the references are.

    score: from 0 to 100.
    signature: sacrebleu's own line on how it was computed; scores with the same one can be compared.
    """

    score: float
    signature: str


def check_texts(texts: Sequence[str], references: Sequence[str]) -> None:
    if len(texts) != len(references) or not texts:
        raise ValueError(f"{len(texts)} texts cannot be compared with {len(references)} references")


def bleu(
    texts: Sequence[str], references: Sequence[str], *, lowercase: bool = False, tokenize: str = "13a"
) -> TextScore:
    """BLEU of a whole set: n-grams of one to four words that are in the reference, and a penalty for shortness.

    Papineni, Roukos, Ward, Zhu, "BLEU: a method for automatic evaluation of machine translation", 2002, as sacrebleu
    has it (Post, "A call for clarity in reporting BLEU scores", 2018, arXiv 1804.08771).

    Args:
        texts, references: N each, at least one, as people write them: sacrebleu cuts them into words itself.
        lowercase: case does not count.
        tokenize: sacrebleu's name of how words are cut; "none" for texts that are cut already.
    """
    from sacrebleu.metrics import BLEU

    check_texts(texts, references)
    metric = BLEU(
        lowercase=lowercase, tokenize=tokenize, force=True
    )  # without a warning of texts that look cut already
    score = metric.corpus_score(list(texts), [list(references)]).score
    return TextScore(score, str(metric.get_signature()))


def chrf(texts: Sequence[str], references: Sequence[str], *, lowercase: bool = False) -> TextScore:
    """chrF2 of a whole set: n-grams of one to six characters found in the reference, and of the reference found.

    Popović, "chrF: character n-gram F-score for automatic MT evaluation", 2015, as sacrebleu has it. Arguments as in
    `bleu`.
    """
    from sacrebleu.metrics import CHRF

    check_texts(texts, references)
    metric = CHRF(lowercase=lowercase)
    score = metric.corpus_score(list(texts), [list(references)]).score
    return TextScore(score, str(metric.get_signature()))


def exact_match(texts: Sequence[str], references: Sequence[str], *, lowercase: bool = False) -> float:
    """Share of texts that are equal to their references, from 0 to 1, whatever white space stands between words."""
    check_texts(texts, references)

    def plain(text: str) -> str:
        return " ".join((text.lower() if lowercase else text).split())

    return sum(plain(text) == plain(reference) for text, reference in zip(texts, references, strict=True)) / len(texts)
