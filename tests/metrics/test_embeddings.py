"""Word vectors: what is near, what an analogy asks for, words that are not there."""

import pytest
import torch

from zoo.errors import UserError
from zoo.metrics.embeddings import Words, analogy, cosine, nearest, pmi

ROYAL = torch.tensor(
    # royal, female, young, a thing
    [
        [9.0, 9, 9, 9],
        [1, 0, 0, 0],
        [1, 1, 0, 0],
        [0, 0, 0.2, 0],
        [0, 1, 0.2, 0],
        [1, 0, 2, 0],
        [1, 1, 2, 0],
        [0, 0, 0, 1],
    ]
)
NAMES = ["<unk>", "king", "queen", "man", "woman", "prince", "princess", "stone"]


def royal():
    return Words(NAMES, ROYAL, leave_out=["<unk>"])


def test_cosines_are_those_of_torch_and_the_nearest_come_first():
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(40, 7, generator=generator, dtype=torch.float64)
    expected = torch.nn.functional.cosine_similarity(vectors[:5, None], vectors[None], dim=2)  # (5, 40)
    torch.testing.assert_close(cosine(vectors[:5, None], vectors), expected, rtol=0, atol=1e-12)
    numbers, found = nearest(3 * vectors, vectors[:5] / 7, 10, leave_out=[3, 11])
    assert numbers[:3, 0].tolist() == [0, 1, 2]
    assert not set(numbers.flatten().tolist()) & {3, 11}
    torch.testing.assert_close(found, expected.gather(1, numbers), rtol=0, atol=1e-12)
    kept = expected.index_fill(1, torch.tensor([3, 11]), -2)
    assert torch.equal(numbers, kept.topk(10).indices)


def test_no_more_answers_than_words_and_none_that_is_left_out():
    numbers, _ = nearest(torch.eye(4), torch.eye(4)[:1], 99, leave_out=[0, 0, 2])
    assert numbers.tolist() == [[1, 3]]
    assert [word for word, _ in royal().neighbours("king", 99)] == [
        "queen",
        "prince",
        "princess",
        "man",
        "woman",
        "stone",
    ]


def test_an_analogy_adds_the_difference_of_unit_vectors():
    words = royal()
    assert words.analogy("man", "woman", "king", top=1)[0][0] == "queen"
    assert words.analogy("king", "prince", "queen", top=1)[0][0] == "princess"
    unit = ROYAL / ROYAL.norm(dim=1, keepdim=True)
    torch.testing.assert_close(analogy(ROYAL, 3, 4, 1), unit[4] - unit[3] + unit[1])
    assert not {"man", "woman", "king"} & {word for word, _ in words.analogy("man", "woman", "king", top=99)}


def test_mutual_information_is_zero_where_words_meet_by_chance():
    share = torch.tensor([0.5, 0.3, 0.2])
    torch.testing.assert_close(pmi(1000 * share[:, None] * share), torch.zeros(3, 3).double(), rtol=0, atol=1e-6)
    found = pmi(torch.tensor([[8, 0], [2, 10]]))
    assert found[0, 0] == pytest.approx(torch.tensor(8 * 20 / (8 * 10)).log().item())
    assert found[0, 1] == -torch.inf


def test_a_word_that_is_not_there_is_one_line_with_what_is_spelled_alike():
    words = royal()
    assert words.find("Queen") == 2
    with pytest.raises(
        UserError, match=r"'pince' is not among the 7 words .* did you mean 'prince'( or '.*')?\?$"
    ) as error:
        words.neighbours("pince")
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="no word there is spelled like it"):
        words.analogy("king", "xyzzy", "man")
    with pytest.raises(UserError, match="'<unk>' is not among"):
        words.neighbours("<unk>")
    with pytest.raises(UserError, match="do not belong together"):
        Words(["one"], ROYAL)
