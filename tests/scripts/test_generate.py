"""scripts/generate.py: the text is what the checkpoint's model says, and what it cannot read it names."""

import pytest
import torch

from zoo.checkpoint import load_model, read
from zoo.generate import load
from zoo.run import configure, run
from zoo.text import load as load_tokenizer

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
