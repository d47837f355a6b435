"""scripts/translate.py: each line is answered by what the checkpoint's model writes of it, and by nothing else."""

import io
import json

import pytest
import torch
from PIL import Image

from zoo.checkpoint import load_model, read
from zoo.data.captions import CaptionPreprocessing, Captions
from zoo.data.made_pairs import Dates
from zoo.data.pair_preprocessing import PairPreprocessing
from zoo.metrics.texts import bleu, exact_match
from zoo.models.captioner import Captioner
from zoo.trained import translate
from zoo.trained.translate import load

TEXTS = ["3 may 1979", "the 1st of june, 2001", "wed 5 jan 2011", "5.7.2001", "12/24/99", "1999/12/31", "june 7, 1964"]


def by_hand(folder, text):
    """The likeliest tokens, with all of them read anew at each step and nothing of zoo.decoding."""
    model, prepare = load_model(folder), PairPreprocessing.from_dict(read(folder)["preprocessing"])
    src, mask = prepare.encode([text])[0][torch.tensor([0])]
    numbers = [2]
    with torch.no_grad():
        while len(numbers) < 2 * src.shape[1] + 11 and numbers[-1] != 3:
            logits = model(src.long(), mask, torch.tensor([numbers]))[0, -1]
            logits[:3] = -torch.inf
            numbers.append(int(logits.argmax()))
    return prepare.tgt_tokenizer.decode(number for number in numbers if number > 3)


def test_one_beam_is_the_likeliest_token_again_and_again(dates, call_script, tmp_path):
    (tmp_path / "in.txt").write_text("\n".join(TEXTS))
    ran = call_script("translate", f"ckpt={dates}", f"input={tmp_path / 'in.txt'}", "beams=1")
    assert (ran.status, ran.err.count("\n")) == (0, 1)
    assert ran.out.splitlines() == [by_hand(dates, text) for text in TEXTS]


def test_by_default_the_search_is_that_of_the_runs_own_test(dates, call_script, tmp_path):
    """So the same texts have the scores that the run has written down."""
    data = Dates(num_train=1500, num_val=20, num_test=60)
    (tmp_path / "test.txt").write_text("".join(f"{source}\n" for source, _ in data.read().parts["test"]))
    found = call_script("translate", f"ckpt={dates}", f"input={tmp_path / 'test.txt'}").out.splitlines()
    written = json.loads((dates / "metrics.json").read_text())
    assert written["test/bleu"] == pytest.approx(bleu(found, data.references("test")).score)
    assert written["test/exact_match"] == pytest.approx(exact_match(found, data.references("test")))
    assert written["test/bleu"] > 0
    assert (load(dates).beams, load(dates).length_penalty) == (3, 0.6)


def test_answers_stand_in_their_order_however_they_are_put_together(dates, monkeypatch):
    translator = load(dates)
    texts = ["", *TEXTS, " \t", TEXTS[0]]
    singly = [next(translator.answers([text], beams=2)).text for text in texts]
    monkeypatch.setattr(translate, "BLOCK", 4)
    monkeypatch.setattr(translate, "BATCH", 2)
    answers = list(translator.answers(iter(texts), beams=2))
    assert [answer.text for answer in answers] == singly
    assert [answer.source for answer in answers] == texts
    assert singly[0] == singly[8] == ""


@pytest.mark.docs
def test_as_a_new_user_types_it(dates, type_script, tmp_path):
    ran = type_script("translate", f"ckpt={dates}", "input=3 May 1979 é", "beams=1", "alignment=true", cwd=tmp_path)
    assert (ran.status, ran.out) == (0, f"{by_hand(dates, '3 May 1979 é')}\n")
    said = ran.err.splitlines()
    assert said[0] == "Seq2Seq, from date to ISO date, which it writes in 11 characters."
    assert "read as <unk>: 'é'" in said[1]
    assert said[2:] == ["Written: alignment.png"]
    assert (tmp_path / "alignment.png").read_bytes().startswith(b"\x89PNG")


def test_an_empty_line_has_an_empty_answer_and_is_named(dates, call_script, tmp_path):
    (tmp_path / "in.txt").write_text(f"{TEXTS[0]}\n\n{TEXTS[1]} \u2028 june\n")  # what begins no line in a file
    ran = call_script("translate", f"ckpt={dates}", f"input={tmp_path / 'in.txt'}")
    assert [bool(line) for line in ran.out.splitlines()] == [True, False, True]
    assert "Empty, and answered with nothing: line 2." in ran.err


def test_what_is_longer_than_the_model_takes_is_cut_and_its_lines_are_named(dates, call_script, tmp_path, monkeypatch):
    texts = [TEXTS[0], "1" * 40, TEXTS[1], "2" * 30]
    (tmp_path / "in.txt").write_text("\n".join(texts))
    monkeypatch.setattr("zoo.models.seq2seq.Seq2Seq.max_len", 30)  # as learned positions have it
    ran = call_script("translate", f"ckpt={dates}", f"input={tmp_path / 'in.txt'}", "beams=1")
    assert ran.status == 0
    assert "2 of 4 sources are longer than 29 characters and are cut\nCut: lines 2, 4.\n" in ran.err
    assert ran.out.splitlines()[3] == by_hand(dates, "2" * 29)


def test_what_looks_like_a_file_of_another_kind_is_no_text(dates, call_script, tmp_path):
    for value, kind in ((tmp_path, "a folder"), (tmp_path / "photo.png", "an image")):
        ran = call_script("translate", f"ckpt={dates}", f"input={value}")
        assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
        assert f"is {kind}, and this model was trained on texts" in ran.err
    assert call_script("translate", f"ckpt={dates}", "input=~nobody, " + 300 * "3").status == 0


@pytest.mark.parametrize("at_a_terminal", [False, True])
def test_lines_are_answered_until_there_are_no_more(dates, call_script, monkeypatch, at_a_terminal):
    lines = io.StringIO(f"{TEXTS[0]}\n\n  {TEXTS[1]} é  \n")
    monkeypatch.setattr(lines, "isatty", lambda: at_a_terminal, raising=False)
    monkeypatch.setattr("sys.stdin", lines)
    ran = call_script("translate", f"ckpt={dates}", "interactive=true", "beams=1")
    assert ran.status == 0
    assert ran.out.splitlines() == [by_hand(dates, TEXTS[0]), "", by_hand(dates, f"{TEXTS[1]} é")]
    assert ran.err.count("> ") == (4 if at_a_terminal else 0)
    assert "read as <unk>: 'é'" in ran.err


def test_pictures_of_several_texts_have_several_names(dates, call_script, tmp_path):
    (tmp_path / "in.txt").write_text("\n".join(TEXTS[:2]))
    name = tmp_path / "seen.png"
    call_script("translate", f"ckpt={dates}", f"input={tmp_path / 'in.txt'}", f"alignment={name}")
    assert {path.name for path in tmp_path.glob("*.png")} == {"seen.png", "seen_2.png"}


def test_a_checkpoint_of_another_task_is_one_line(csv_classification_run, call_script):
    ran = call_script("translate", f"ckpt={csv_classification_run}", "input=a")
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert "was trained by Classification" in ran.err
    assert "python scripts/predict.py ckpt=" in ran.err
    assert "model=seq2seq data=dates" in ran.err


def test_a_vocabulary_that_is_not_the_models_is_one_line(dates, call_script, tmp_path):
    checkpoint = torch.load(dates / "checkpoints" / "best.ckpt", weights_only=True)
    checkpoint["preprocessing"]["tgt_tokenizer"]["tokens"].append("x")
    torch.save(checkpoint, tmp_path / "other.ckpt")
    ran = call_script("translate", f"ckpt={tmp_path / 'other.ckpt'}", "input=a")
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert "has 16 tokens, and its model tgt_vocab_size=15" in ran.err


def test_pieces_of_words_are_named_as_such(call_script, train_dates, tmp_path):
    small = ("trainer.max_epochs=1", "data.num_train=64", "data.num_test=2", "data.num_val=2")
    folder = train_dates(tmp_path / "run", *small, "data.tokenizer=wordpiece")
    ran = call_script("translate", f"ckpt={folder}", "input=3 may 1979")
    assert ran.status == 0
    assert "word pieces" in ran.err
    ran = call_script("neighbours", f"ckpt={folder}", "word=may")
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert "is a model of pairs, with words of two sides; train word vectors first" in ran.err


def test_a_model_without_attention_has_nothing_to_draw(call_script, train_dates, tmp_path):
    small = ("model.attention=none", "model.bidirectional=false", "trainer.max_epochs=1", "data.num_train=64")
    folder = train_dates(tmp_path / "run", *small, "data.num_test=2", "data.num_val=2")
    ran = call_script("translate", f"ckpt={folder}", "input=3 may 1979", "alignment=true")
    assert (ran.status, ran.err.splitlines()[-1].startswith("Error: This Seq2Seq has no attention")) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["input="], "input= is empty"),
        (["input= "], "input= is empty"),
        ([], "input= is missing"),
        (["input=a", "ckpt="], "ckpt= is missing"),
        (["input=a", "beams=0"], "beams=0 must be a whole number"),
        (["input=a", "beams=2.5"], "beams=2.5 must be a whole number"),
        (["input=a", "length_penalty=-1"], "length_penalty=-1 must be a number"),
        (["input=a", "length_penalty=nan"], "length_penalty=nan must be a number"),
        (["input=a", "length_penalty=much"], "length_penalty=much must be a number"),
        (["input=a", "alignment=a.jpg"], "the name of a .png file"),
        (["input=a", "interactive=yes"], "interactive=yes must be true or false"),
        (["input=a", "interactive=true"], "leave one out"),
        (["interactive=true", "alignment=true"], "leave interactive= out"),
        (["input=not/there.txt"], "There is no file not/there.txt"),
        (["input=\udcff"], "no text in the encoding"),
        (["inptu=a"], "did you mean 'input'?"),
        (["input=a", "alignment=not/there/a.png"], "not/there is no folder that can be written to"),
    ],
)
def test_bad_input_is_one_line(dates, call_script, arguments, said):
    ran = call_script("translate", f"ckpt={dates}", *arguments)
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert said in ran.err


@pytest.mark.parametrize(
    ("content", "said"), [(b" \n\n", "is empty"), (b"a\n\xff\xfe", "is no text in UTF-8 (byte 2)")]
)
def test_a_file_that_holds_no_text_is_one_line(dates, call_script, tmp_path, content, said):
    (tmp_path / "in.txt").write_bytes(content)
    ran = call_script("translate", f"ckpt={dates}", f"input={tmp_path / 'in.txt'}")
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert said in ran.err


# ---- captions of images


@pytest.fixture(scope="session")
def captioner(tmp_path_factory):
    """The checkpoint of a captioner whose weights were drawn so large that it says other things of other images."""
    data = Captions(num_train=50, num_val=2, num_test=2)
    found = data.prepare()
    settings = {"image_shape": [3, 32, 32], "tgt_vocab_size": found.facts["tgt_vocab_size"], "channels": [8, 8]}
    settings |= {"hidden_size": 16, "embedding_dim": 8}
    torch.manual_seed(0)
    model = Captioner(**settings)
    for parameter in model.parameters():
        parameter.data *= 3
    task = {"_target_": "zoo.tasks.translation.Translation", "head": "sequence", "beams": 1, "max_steps": 12}
    saved = {"state_dict": {f"model.{name}": value for name, value in model.state_dict().items()}}
    saved["config"] = {"model": {"_target_": "zoo.models.captioner.Captioner"} | settings, "task": task}
    path = tmp_path_factory.mktemp("captioner") / "best.ckpt"
    torch.save(saved | {"preprocessing": found.preprocessing}, path)
    return path


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Five images of shapes, one of them larger, one without colours, and one that is broken."""
    folder = tmp_path_factory.mktemp("photos")
    images, _ = Captions(num_train=1, num_val=1, num_test=5).made("test")
    shown = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    shown[1], shown[2] = shown[1].resize((100, 60)), shown[2].convert("L")
    for number, image in enumerate(shown):
        image.save(folder / f"{number}.png")
    (folder / "a broken one.jpg").write_bytes(b"no image")
    return folder


def caption_by_hand(checkpoint, path):
    """The likeliest words, with all of them read anew at each step."""
    model, prepare = load_model(checkpoint), CaptionPreprocessing.from_dict(read(checkpoint)["preprocessing"])
    numbers = [2]
    with torch.no_grad():
        while len(numbers) < 13 and numbers[-1] != 3:
            logits = model(prepare.image(prepare.image.open(path)[None]), None, torch.tensor([numbers]))[0, -1]
            logits[:3] = -torch.inf
            numbers.append(int(logits.argmax()))
    return prepare.tgt_tokenizer.decode(number for number in numbers if number > 3)


def test_captions_of_a_folder_are_what_the_model_writes_of_each_image(captioner, photos, call_script):
    ran = call_script("translate", f"ckpt={captioner}", f"input={photos}")
    expected = {photos / f"{i}.png": caption_by_hand(captioner, photos / f"{i}.png") for i in range(5)}
    assert ran.status == 0
    assert ran.out.splitlines() == [f"{path}: {text}" for path, text in expected.items()]
    assert len(set(expected.values())) > 2
    said = ran.err.splitlines()
    assert said[0].startswith("Captioner, from an image (3x32x32) to a sentence, which it writes in ")
    assert said[1].startswith(f"Skipped: {photos / 'a broken one.jpg'} is not an image that can be read")
    assert said[2] == "1 of 6 could not be read and were skipped."
    assert said[3:] == [f"Without colours, and the model was trained on some: {photos / '2.png'}."]


def test_images_are_answered_the_same_however_they_are_put_together(captioner, photos, monkeypatch):
    describer = load(captioner)
    files = [str(photos / f"{i}.png") for i in (3, 0, 4, 3)]
    together = [answer.text for answer in describer.answers(files)]
    monkeypatch.setattr(translate, "BATCH", 1)
    assert [answer.text for answer in describer.answers(files, beams=1)] == together


def test_the_words_of_a_caption_are_drawn_over_their_image(captioner, photos, call_script, tmp_path, monkeypatch):
    drawn, draw = [], translate.over_image
    monkeypatch.setattr(translate, "over_image", lambda *given: drawn.append(given) or draw(*given))
    path, name = photos / "1.png", tmp_path / "seen.png"
    ran = call_script("translate", f"ckpt={captioner}", f"input={path}", f"alignment={name}")
    assert ran.out == f"{path}: {caption_by_hand(captioner, path)}\n"
    assert (ran.status, ran.err.splitlines()[1:]) == (0, [f"Written: {name}"])
    assert name.read_bytes().startswith(b"\x89PNG")
    ((image, weights, words, title),) = drawn
    prepare = CaptionPreprocessing.from_dict(read(captioner)["preprocessing"]).image
    assert torch.equal(image, prepare(prepare.open(path)[None])[0])
    assert ([word for word in words if word != "<eos>"], title) == (ran.out.split(": ")[1].split(), "1.png")
    assert weights.shape == (len(words), 16 * 16)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["input={photos}/a broken one.jpg"], "a broken one.jpg is not an image that can be read"),
        (["input={photos}/none.png"], "There is no image at"),
        (["input=a red circle"], "There is no image at a red circle; this model says what an image shows"),
        (["input={tmp}"], "There is no image in"),
        (["input={tmp}/in.txt"], "is no image, and this model was trained on images"),
        (["interactive=true"], "has no answer to a text"),
    ],
)
def test_what_is_no_image_is_one_line(captioner, photos, call_script, tmp_path, arguments, said):
    if "in.txt" in arguments[0]:
        (tmp_path / "in.txt").write_text("a")
    given = [argument.format(photos=photos, tmp=tmp_path) for argument in arguments]
    ran = call_script("translate", f"ckpt={captioner}", *given)
    assert (ran.status, ran.out, said in ran.err) == (2, "", True)
    assert [line.startswith("Error: ") for line in ran.err.splitlines()][-1:] == [True]
    assert len(ran.err.splitlines()) == 1 + ("broken" in arguments[0])  # the model was named first


def test_images_of_other_channels_than_the_models_are_one_line(captioner, photos, call_script, tmp_path):
    checkpoint = torch.load(captioner, weights_only=True)
    checkpoint["preprocessing"]["image"] |= {"channels": 1, "mean": [0.5], "std": [0.25]}
    torch.save(checkpoint, tmp_path / "other.ckpt")
    ran = call_script("translate", f"ckpt={tmp_path / 'other.ckpt'}", f"input={photos / '0.png'}")
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert "are [1, 32, 32] (channels, height, width), and its model has image_shape=[3, 32, 32]" in ran.err
