"""scripts/generate.py: the text is what the checkpoint's model says, and what it cannot read it names."""

import io

import numpy as np
import pytest
import torch

from zoo.checkpoint import load_model, read
from zoo.run import configure, run
from zoo.text import load as load_tokenizer
from zoo.trained.generate import load

SIZES = ("model.hidden_size=16", "model.embedding_dim=8", "data.window=16", "data.batch_size=8", "logger=none")
LIMITS = ("trainer.max_epochs=1", "trainer.limit_train_batches=20", "trainer.limit_val_batches=2")
SETTINGS = (*SIZES, *LIMITS, "trainer.limit_test_batches=2", "trainer.num_threads=1")


def train(folder, *overrides):
    assert run(configure(*overrides, *SETTINGS, run_dir=folder)) == 0
    return folder


@pytest.fixture(scope="session")
def characters(tmp_path_factory):
    """The folder of a small LSTM that has read a little of the default corpus, character by character."""
    return train(tmp_path_factory.mktemp("characters") / "run", "model=lstm", "data=python_docs")


@pytest.fixture(scope="session")
def own_text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "own.txt"
    lines = [
        f"The {a} {b} the {c}.\n" for a in ("cat", "dog") for b in ("sees", "likes") for c in ("bird", "tree", "sun")
    ]
    path.write_text("".join(lines * 20))
    return path


@pytest.fixture(scope="session")
def words(own_text):
    """Of a small GRU, word by word; the rarer words are unknown to it."""
    options = ("data.tokenizer=word", "data.max_vocab_size=8")
    return train(own_text.parent / "words", "model=gru", "data=text_file", f"data.path={own_text}", *options)


@pytest.fixture(scope="session")
def byte_pairs(own_text):
    options = ("data.tokenizer=bpe", "data.max_vocab_size=280")
    return train(own_text.parent / "pairs", "model=rnn", "data=text_file", f"data.path={own_text}", *options)


def by_hand(folder, prompt, length):
    """The likeliest text, with the whole of it read anew at each step and nothing of zoo.decoding."""
    model, tokenizer = load_model(folder), load_tokenizer(read(folder)["preprocessing"]["tokenizer"])
    tokens = tokenizer.encode(prompt)
    never = [i for i, token in enumerate(tokenizer.tokens) if token in ("<unk>", "<pad>")]
    with torch.no_grad():
        for _ in range(length):
            logits = model(torch.tensor([tokens]))[0][0, -1]
            logits[never] = -torch.inf
            tokens.append(int(logits.argmax()))
    return tokenizer.decode(tokens[-length:])


def test_a_prompt_goes_on_as_the_model_says(characters, call_script):
    ran = call_script("generate", f"ckpt={characters}", "prompt=The import", "length=40", "temperature=0")
    assert (ran.status, ran.out) == (0, f"The import{by_hand(characters, 'The import', 40)}\n")
    assert "LSTM" in ran.err
    assert "temperature=0" in ran.err


def test_words_and_byte_pairs_go_on_as_their_models_say(words, byte_pairs, call_script):
    ran = call_script("generate", f"ckpt={words}", "prompt=The Cat", "length=12", "temperature=0")
    assert ran.out == f"The Cat {by_hand(words, 'The Cat', 12)}\n"  # words are set apart
    ran = call_script("generate", f"ckpt={byte_pairs}", "prompt=The c", "length=12", "temperature=0")
    assert ran.out == f"The c{by_hand(byte_pairs, 'The c', 12)}\n"


def test_pieces_of_words_end_the_prompts_last_word_or_begin_another(own_text, call_script):
    options = ("data.tokenizer=wordpiece", "data.max_vocab_size=40")
    folder = train(own_text.parent / "pieces", "model=gru", "data=text_file", f"data.path={own_text}", *options)
    ran = call_script("generate", f"ckpt={folder}", "prompt=The c", "length=12", "temperature=0")
    said = by_hand(folder, "The c", 12)
    assert ran.out == (f"The c{said[2:]}\n" if said.startswith("##") else f"The c {said}\n")
    assert "word pieces" in ran.err
    writer = load(folder)
    prompt = writer.read("The c")
    assert writer.whole(prompt, "##at sees") == "The cat sees"
    assert writer.whole(prompt, "at sees") == "The c at sees"
    assert writer.whole(writer.read(""), "##at sees") == "at sees"


@pytest.mark.docs
def test_as_a_new_user_types_it(characters, type_script, tmp_path):
    ran = type_script("generate", f"ckpt={characters}", "prompt=a = b", "length=30", "seed=5", cwd=tmp_path)
    assert ran.status == 0, ran.err
    assert ran.out.startswith("a = b")
    assert len(ran.out) == len("a = b") + 30 + 1
    assert ran.err.splitlines()[1:] == ["Drawn with temperature=0.8 seed=5."]


def test_the_same_seed_gives_the_same_text(characters, call_script):
    def text(seed):
        return call_script("generate", f"ckpt={characters}", "prompt=def", "length=50", f"seed={seed}", "top_k=9").out

    assert text(1) == text(1)
    assert text(1) != text(2)


def test_several_texts_differ_and_do_not_depend_on_their_number(words):
    writer = load(words)
    prompt = writer.read("The cat")
    three = writer.write(prompt, length=30, samples=3)
    assert len(set(three)) == 3
    assert writer.write(prompt, length=30, samples=2) == three[:2]


def test_several_texts_are_told_apart(words, call_script):
    ran = call_script("generate", f"ckpt={words}", "prompt=the", "length=4", "samples=2")
    lines = ran.out.splitlines()
    assert lines[::2] == ["--- 1 of 2 ---", "--- 2 of 2 ---"]
    assert all(line.startswith("the ") for line in lines[1::2])


def test_unknown_characters_are_mapped_and_said_once(characters, call_script):
    ran = call_script("generate", f"ckpt={characters}", "prompt=é→ a →é", "length=20", "temperature=0")
    assert ran.status == 0
    assert ran.out == f"é→ a →é{by_hand(characters, 'é→ a →é', 20)}\n"  # the prompt as it was typed
    assert [line for line in ran.err.splitlines() if "<unk>" in line] == [
        "Not in the vocabulary, and read as <unk>: 'é', '→'."
    ]


def test_unknown_words_are_mapped_and_said(words, byte_pairs, call_script):
    ran = call_script("generate", f"ckpt={words}", "prompt=The zebra", "length=3")
    assert "read as <unk>: 'zebra'." in ran.err
    ran = call_script("generate", f"ckpt={byte_pairs}", "prompt=The zebra é→", "length=3")
    assert "<unk>" not in ran.err  # bytes know everything


def test_nothing_that_is_no_text_comes_unless_it_is_allowed(words):
    writer = load(words)
    unknown = writer.tokenizer.tokens.index("<unk>")
    with torch.no_grad():
        writer.model.output.bias[unknown] += 20.0  # by far the likeliest
    prompt = writer.read("the")
    assert "<unk>" not in "".join(writer.write(prompt, length=100, samples=3))
    assert "<unk>" in writer.write(prompt, length=10, special=True)[0]


def test_without_a_prompt_a_line_or_a_sentence_begins(characters, words, call_script):
    for folder, start in ((characters, "\n"), (words, ".")):
        for prompt in ([], ["prompt="]):
            ran = call_script("generate", f"ckpt={folder}", *prompt, "length=15", "temperature=0")
            assert ran.out == f"{by_hand(folder, start, 15)}\n"  # what it starts after is not shown
            assert f"The prompt is empty: the text begins as after {start!r}." in ran.err


def test_without_newline_and_full_stop_the_most_frequent_token_is_the_beginning(characters):
    writer = load(characters)
    writer.tokenizer = load_tokenizer({"kind": "char", "tokens": ["<unk>", "e", "t"]})
    assert writer.read("").tokens == [1]


def test_a_prompt_may_be_longer_than_the_windows_of_training(characters, call_script):
    prompt = "for x in range(10): " * 15  # 300 characters, windows of 16
    ran = call_script("generate", f"ckpt={characters}", f"prompt={prompt}", "length=10", "temperature=0")
    assert ran.out == f"{prompt}{by_hand(characters, prompt, 10)}\n"


def test_the_prompt_is_read_in_one_call_and_then_one_token_at_a_time(characters):
    writer, read_in = load(characters), []
    writer.model.steps.register_forward_pre_hook(lambda module, inputs: read_in.append(tuple(inputs[0].shape)))
    writer.write(writer.read("The import"), length=25, samples=2)
    assert read_in == [(2, 10)] + [(2, 1)] * 24


def test_a_checkpoint_of_another_task_is_one_line(csv_classification_run, call_script):
    ran = call_script("generate", f"ckpt={csv_classification_run}", "prompt=a")
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert "was trained by Classification" in ran.err
    assert "data=python_docs" in ran.err


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("length=0", "length=0 must be a whole number from 1 on"),
        ("length=many", "length=many"),
        ("samples=0", "samples=0"),
        ("seed=-1", "seed=-1"),
        ("temperature=-0.5", "temperature=-0.5 must be 0 or more"),
        ("temperature=nan", "temperature=nan must be a number"),
        ("temperature=hot", "temperature=hot must be a number"),
        ("top_k=0", "top_k=0"),
        ("top_p=0", "top_p=0 must be above 0 and at most 1"),
        ("top_p=1.01", "top_p=1.01"),
        ("special=perhaps", "special=perhaps must be true or false"),
        ("promt=a", "did you mean 'prompt'?"),
        ("prompt=\udcff", "no text in the encoding"),
        ("ckpt=", "ckpt= is missing"),
    ],
)
def test_bad_input_is_one_line(characters, call_script, argument, said):
    ran = call_script("generate", f"ckpt={characters}", "length=5", argument)
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert said in ran.err


def test_empty_filters_are_none(characters, call_script):
    plain = call_script("generate", f"ckpt={characters}", "length=30")
    assert call_script("generate", f"ckpt={characters}", "length=30", "top_k=", "top_p=").out == plain.out


# ---- talk


@pytest.fixture
def talk(call_script, monkeypatch):
    """talk(run folder, lines, "seed=3") -> what a talk has given: (status, out, err)."""

    def call(folder, lines, *arguments, script="generate"):
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        return call_script(script, f"ckpt={folder}", "interactive=true", *arguments)

    return call


SAID = ["3 may 1979", "", "the 1st of june, 2001", "3 may 1979"]


def test_a_model_of_pairs_answers_each_line_as_translate_does(dates, talk):
    ran, other = talk(dates, SAID), talk(dates, SAID, script="translate")
    assert (ran.status, ran.out) == (0, other.out)
    assert [bool(line) for line in ran.out.splitlines()] == [True, False, True, True]
    assert ran.err.splitlines() == ["Seq2Seq, from date to ISO date, which it writes in 11 characters."]


def test_an_answer_that_is_drawn_is_that_of_its_seed_and_at_temperature_0_the_likeliest(dates, talk):
    cold = talk(dates, SAID, "temperature=0")
    assert cold.out == talk(dates, SAID, "beams=1", script="translate").out
    hot = talk(dates, SAID, "temperature=3", "seed=5", "top_k=8").out.splitlines()
    assert hot[0] != hot[3]  # the same text, a later seed
    assert talk(dates, SAID[3:], "temperature=3", "seed=8", "top_k=8").out.splitlines() == hot[3:]
    assert talk(dates, SAID, "temperature=3", "seed=5", "top_k=1").out == cold.out
    ran = talk(dates, SAID[:1], "seed=2", "top_k=")
    assert ran.err.splitlines()[1:] == ["Drawn with temperature=0.8 seed=2, each line with the next seed."]


def test_a_language_model_goes_on_with_each_line(characters, call_script, talk):
    lines, options = ["The import ", "", "a →"], ("length=15", "samples=2", "top_p=0.9")
    ran = talk(characters, lines, *options, "seed=3")
    expected = []
    for number, line in enumerate(lines):
        alone = call_script("generate", f"ckpt={characters}", f"prompt={line}", *options, f"seed={3 + number}")
        expected += [text for text in alone.out.split("\n") if not text.startswith("--- ")][:-1]
    assert (ran.status, ran.out.split("\n")[:-1]) == (0, expected)
    said = ran.err.splitlines()
    assert said[1] == "Drawn with temperature=0.8 top_p=0.9 seed=3, each line with the next seed."
    assert "prompt is empty" in said[2]
    assert "'→'" in said[3]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            [],
            'python scripts/translate.py ckpt={ckpt} input="..." or python scripts/generate.py ckpt={ckpt} interactive',
        ),
        (["prompt=a"], "interactive=true"),
        (["interactive=true", "prompt=a"], "leave one out"),
        (["interactive=yes"], "interactive=yes must be true or false"),
        (["interactive=true", "length=5"], "length= is for language models"),
        (["interactive=true", "samples=2"], "samples= is for language models"),
        (["interactive=true", "special=true"], "special= is for language models"),
        (["interactive=true", "temperature=-1"], "temperature=-1 must be 0 or more"),
    ],
)
def test_what_a_model_of_pairs_has_no_use_for_is_one_line(dates, call_script, arguments, said):
    ran = call_script("generate", f"ckpt={dates}", *arguments)
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert said.format(ckpt=dates / "checkpoints" / "best.ckpt") in ran.err


@pytest.mark.parametrize("arguments", [["input=a"], ["interactive=true"]])
def test_a_language_model_is_told_that_it_is_for_generate(characters, call_script, arguments):
    ran = call_script("translate", f"ckpt={characters}", *arguments)
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert f'python scripts/generate.py ckpt={characters}/checkpoints/best.ckpt prompt="..."' in ran.err


# ---- images and rows


@pytest.fixture(scope="session")
def digits_of_class(tmp_path_factory):
    """A small conditional VAE that has seen a few digits."""
    folder = tmp_path_factory.mktemp("cvae") / "run"
    sizes = ("model.hidden_features=[8]", "model.latent_size=2", "trainer.max_epochs=1", "trainer.num_threads=1")
    assert run(configure("model=cvae", *sizes, "logger=none", run_dir=folder)) == 0
    return folder


def test_a_generator_makes_the_same_images_again_in_files(digits_of_class, call_script, tmp_path):
    for name in ("a.npz", "b.npz", "c.png"):
        ran = call_script("generate", f"ckpt={digits_of_class}", "n=5", "label=3", "seed=7", f"out={tmp_path / name}")
        assert (ran.status, ran.out) == (0, "")
        assert "5 samples of shape (1, 8, 8), seed=7" in ran.err
    first, again = (np.load(tmp_path / name)["samples"] for name in ("a.npz", "b.npz"))
    assert np.array_equal(first, again)
    assert (tmp_path / "c.png").read_bytes()[:4] == b"\x89PNG"


def test_a_walk_and_a_sum_of_samples_have_a_row_each(digits_of_class, call_script, tmp_path):
    for options, number in ((["walk=4", "n=3"], 12), (["arithmetic=[1,2]-[3]"], 3)):
        out = tmp_path / "x.npz"
        assert call_script("generate", f"ckpt={digits_of_class}", *options, f"out={out}").status == 0
        assert np.load(out)["samples"].shape == (number, 1, 8, 8)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["prompt=a"], "prompt= is for text"),
        (["interactive=true"], "interactive= is for text"),
        (["n=0"], "n=0 must be a whole number from 1 on"),
        (["walk=1"], "walk=1 must be a whole number from 2 on"),
        (["n=1000000"], "at most 100,000"),
        (["label=10"], "none of the 10 classes"),
        (["walk=2", "arithmetic=[1]"], "leave one out"),
        (["arithmetic=1+2"], "must be numbers of draws in brackets"),
        (["out=none/x.png"], "cannot be written"),
    ],
)
def test_what_a_generator_has_no_use_for_is_one_line(
    digits_of_class, call_script, tmp_path, monkeypatch, arguments, said
):
    monkeypatch.chdir(tmp_path)
    ran = call_script("generate", f"ckpt={digits_of_class}", *arguments)
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert said in ran.err
    assert not list(tmp_path.iterdir())


def test_a_language_model_makes_no_images_and_a_generator_translates_nothing(characters, digits_of_class, call_script):
    ran = call_script("generate", f"ckpt={characters}", "n=3")
    assert ran.status == 2
    assert "n= is for models that make images or rows" in ran.err
    ran = call_script("translate", f"ckpt={digits_of_class}", "input=a")
    assert ran.status == 2
    assert "out=samples.png" in ran.err
