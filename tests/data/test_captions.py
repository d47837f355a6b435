"""Images of shapes: what the sentence says can be seen, and nothing else can be known without looking."""

import io
import re
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.batches import PairBatch
from zoo.data.captions import ALONE, COLOURS, CaptionPreprocessing, Captions, Scenes, outlines, paint, sentences
from zoo.errors import UserError

SMALL = {"num_train": 600, "num_val": 40, "num_test": 50}
LEVELS = torch.tensor(list(COLOURS.values()), dtype=torch.float32)  # (6, 3)


def found_in(image):
    """The colours that are seen in an image without noise, (3, H, W), each with its mean place and its pixels."""
    seen = {}
    for name, level in zip(COLOURS, LEVELS, strict=True):
        y, x = torch.nonzero((image == level.view(3, 1, 1).to(torch.uint8)).all(0), as_tuple=True)
        if len(y):
            seen[name] = (float(y.double().mean()), float(x.double().mean()), len(y))
    return seen


def test_the_colours_and_places_of_a_sentence_are_those_of_its_image():
    images, texts = Captions(noise=0.0, **SMALL).made("train")
    kinds = Counter()
    for image, text in zip(images, texts, strict=True):
        seen = found_in(image)
        two = re.fullmatch(r"a (\w+) (\w+) (above|left of) a (\w+) (\w+)", text)
        if two is None:
            colour, _, place = re.fullmatch(r"a (\w+) (\w+) ((?:in|at) the .*)", text).groups()
            assert set(seen) == {colour}
            y, x, _ = seen[colour]
            wanted = dict(ALONE)[place]
            assert abs(y - wanted[0]) < 4.5
            assert abs(x - wanted[1]) < 3
            kinds[place] += 1
            continue
        assert set(seen) == {two[1], two[4]}
        kinds[two[3]] += 1
        if two[1] != two[4]:
            (y1, x1, _), (y2, x2, _) = seen[two[1]], seen[two[4]]
            down, right = y2 - y1, x2 - x1
            assert (down > 8 and abs(right) < 7) if two[3] == "above" else (right > 8 and abs(down) < 7)
    assert len(kinds) == 7
    assert 300 < kinds["above"] + kinds["left of"] < 500


def test_shapes_have_the_areas_and_outlines_of_their_names():
    shape, radius = torch.arange(3), torch.full((3,), 10.0)
    covered = outlines(shape, torch.full((3, 2), 15.5), radius)
    areas = covered.sum((1, 2)).double() / 100  # in units of the squared radius
    assert areas.tolist() == pytest.approx([3.1416, 3.24, 2.0], rel=0.05)
    circle, square, triangle = covered
    assert torch.equal(circle, circle.T)
    assert square[7:25, 7:25].all()
    widths = triangle.sum(1)
    assert (widths.diff()[6:25] >= 0).all()  # it widens from its tip down
    assert widths[6] <= 2 < 18 <= widths[25]


def test_a_single_shape_leaves_no_trace_of_a_second():
    scenes = Scenes(
        shape=torch.zeros(2, 2, dtype=torch.int64),
        colour=torch.tensor([[0, 2], [0, 2]]),
        centre=torch.tensor([[[8.0, 8.0], [23.0, 23.0]]] * 2),
        radius=torch.full((2, 2), 4.0),
        pair=torch.tensor([True, False]),
        place=torch.tensor([0, 1]),
    )
    images = paint(scenes, torch.Generator(), noise=0.0)
    assert [set(found_in(image)) for image in images] == [{"red", "blue"}, {"red"}]
    assert sentences(scenes) == ["a red circle above a blue circle", "a red circle at the top left"]


def test_a_batch_has_images_without_a_mask_and_sentences_one_step_apart():
    data = Captions(batch_size=16, **SMALL)
    facts, seen = data.prepare().facts, []
    for batch in data.train_dataloader():
        assert isinstance(batch, PairBatch)
        assert batch.src_mask is None
        assert list(batch.src.shape[1:]) == facts["image_shape"]
        assert batch.src.dtype == torch.float32
        assert batch.tgt_mask.any(0).all()  # nothing is padded further than the longest
        for before, out, i in zip(batch.tgt_in, batch.tgt_out, batch.index.tolist(), strict=True):
            numbers = out[out != 0].tolist()
            assert before[before != 0].tolist() == [2, *numbers[:-1]]
            assert numbers[-1] == 3
            assert data.tgt_tokenizer.decode(numbers[:-1]) == data.references("train")[i]
            seen.append(i)
    assert sorted(seen) == list(range(600))
    whole = data.part("train")[torch.arange(600)].src
    assert whole.mean((0, 2, 3)).abs().max() < 1e-3
    assert (whole.std((0, 2, 3)) - 1).abs().max() < 1e-3
    assert facts["tgt_vocab_size"] == data.tgt_tokenizer.vocab_size
    assert data.src_tokenizer is None
    assert [tuple(x.shape) for x in data.part("val")[torch.arange(0)] if x is not None][1:] == [(0, 1), (0, 1), (0,)]


def test_the_seed_makes_the_images_no_image_comes_twice_and_no_part_depends_on_anothers_size():
    first, again, other = Captions(seed=3, **SMALL), Captions(seed=3, **SMALL), Captions(seed=4, **SMALL)
    assert first.prepare().fingerprint == again.prepare().fingerprint != other.prepare().fingerprint
    alike = Captions(num_train=40, num_val=40, num_test=40)
    images = torch.cat([alike.made(part)[0] for part in ("train", "val", "test")])
    different = len({image.numpy().tobytes() for image in images})
    assert different == 120
    larger = Captions(seed=3, **SMALL | {"num_train": 700})
    assert torch.equal(larger.made("test")[0], first.made("test")[0])


def test_the_baseline_says_the_same_of_every_image():
    data = Captions(num_train=2000, num_val=10, num_test=1000)
    loaded = data.prepare()
    frequent = Counter(data.references("train")).most_common(1)[0][0]
    share = data.references("test").count(frequent) / 1000
    assert loaded.facts["baseline_exact_match"] == share < 0.05
    assert f"'{frequent}' is right in {share:.1%} of the test part" in loaded.notes[1]


def test_blind_pictures_are_all_alike_and_their_sentences_stay():
    seeing, blind = Captions(**SMALL), Captions(blind=True, **SMALL)
    assert blind.references("test") == seeing.references("test")
    images = blind.part("test")[torch.arange(20)].src
    assert torch.equal(images, images[:1].expand_as(images))
    assert not torch.equal(seeing.part("test")[torch.arange(20)].src, images)


def test_a_checkpoint_alone_prepares_a_picture_as_training_did(tmp_path):
    data, file = Captions(**SMALL), io.BytesIO()
    torch.save(data.prepare().preprocessing, file)
    file.seek(0)
    prepare = CaptionPreprocessing.from_dict(torch.load(file, weights_only=True))
    pixels = data.made("test")[0][0]
    Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())).save(tmp_path / "a.png")
    opened = prepare.image.open(tmp_path / "a.png")
    assert torch.equal(prepare.image(opened.unsqueeze(0)), data.part("test")[torch.tensor([0])].src)
    assert prepare.tgt_tokenizer.tokens == data.tgt_tokenizer.tokens
    again = Captions(seed=9, **SMALL)
    again.prepare_as(data.prepare().preprocessing)
    assert again.prepare().preprocessing == data.prepare().preprocessing
    again.prepare_as({"kind": "pairs"})
    with pytest.raises(UserError, match="trained on data of kind 'pairs'; give it that, not captions"):
        again.prepare()


def test_one_batch_is_all_there_is_where_that_is_asked_for():
    data = Captions(overfit=True, batch_size=8, **SMALL)
    batch = data.part("val")[torch.arange(8)]
    said = [data.tgt_tokenizer.decode([n for n in row.tolist() if n > 3]) for row in batch.tgt_out]
    assert said == [data.references("val")[i] for i in batch.index.tolist()]


@pytest.mark.parametrize(
    ("options", "said"), [({"num_test": 0}, r"data\.num_test=0"), ({"noise": -1}, r"data\.noise=-1")]
)
def test_settings_that_cannot_be_are_one_line(options, said):
    with pytest.raises(UserError, match=said):
        Captions(**options)
