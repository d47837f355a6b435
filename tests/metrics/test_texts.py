import logging
import math

import pytest

from zoo.metrics.texts import bleu, chrf, exact_match


def test_bleu_is_the_mean_precision_of_the_whole_set_by_hand():
    """Of one to four words 7/8, 4/6, 2/4 and 1/3 are found, "the" once though it stands twice; 8 words against 11."""
    texts, references = ["the cat sat on the mat", "a b"], ["the cat sat on a mat", "a b c d e"]
    found = bleu(texts, references)
    precisions = 7 / 8 * 4 / 6 * 2 / 4 * 1 / 3
    assert found.score == pytest.approx(100 * math.exp(1 - 11 / 8) * precisions**0.25)
    assert found.signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    singly = [bleu([text], [reference]).score for text, reference in zip(texts, references, strict=True)]
    assert abs(found.score - sum(singly) / 2) > 1, "not the mean over texts"


def test_bleu_cuts_words_itself_and_ignores_case_only_where_asked(caplog):
    texts, references = ["a dog runs , and barks ."] * 200, ["A dog runs, and barks."] * 200
    assert bleu(texts, references, lowercase=True).score == pytest.approx(100)
    assert "case:lc" in bleu(texts, references, lowercase=True).signature
    assert bleu(texts, references).score < 90
    assert bleu(texts, references, lowercase=True, tokenize="none").score < 60
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_chrf_is_the_share_of_characters_found_by_hand():
    """Of one, two and three characters 2/3, 1/2 and 0 are found, and as many of the reference's."""
    found = chrf(["abc"], ["abd"])
    assert found.score == pytest.approx(100 * (2 / 3 + 1 / 2) / 3)
    assert "nc:6|nw:0" in found.signature
    assert chrf(["ABC"], ["abc"]).score == 0
    assert chrf(["ABC"], ["abc"], lowercase=True).score == pytest.approx(100)


def test_an_exact_match_is_one_in_all_but_white_space():
    texts, references = ["a b", " a  b\n", "a b.", "A b"], ["a b"] * 4
    assert exact_match(texts, references) == 0.5
    assert exact_match(texts, references, lowercase=True) == 0.75


@pytest.mark.parametrize("metric", [bleu, chrf, exact_match])
def test_an_empty_text_counts_and_one_that_is_missing_is_an_error(metric):
    full = metric(["one two three four five"], ["one two three four five"])
    half = metric(["one two three four five", ""], ["one two three four five"] * 2)
    score, less = (found if metric is exact_match else found.score for found in (full, half))
    assert 0 < less < score
    for texts in ([], ["a"]):
        with pytest.raises(ValueError, match="cannot be compared"):
            metric(texts, ["a", "b"])
