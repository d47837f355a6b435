"""Word vectors: what theory says they become, what is shown of them, and runs that stop, go on and are asked."""

import bisect
import math
import re
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from zoo.batches import SkipgramBatch
from zoo.build import build
from zoo.callbacks.checkpointing import RunCheckpoint
from zoo.callbacks.curves import iterations_done
from zoo.callbacks.projector import label
from zoo.checkpoint import load_model, read
from zoo.data.base import BatchOrder, Loader
from zoo.data.masked import Anew
from zoo.data.skipgrams import DocsWords, Nearby, Rules, noise_sums
from zoo.errors import UserError
from zoo.losses.embeddings import negative_sampling
from zoo.metrics.embeddings import nearest, pmi
from zoo.models.skipgram import Skipgram as Model
from zoo.run import configure, run
from zoo.running.signals import LISTENER
from zoo.tasks.skipgram import Skipgram
from zoo.text import WordTokenizer

V, WINDOW, NEGATIVES = 14, 2, 2


def markov_text(length=40_000):
    """Words 2 to V - 1, each drawn by the one before it, so that some like to stand together and some do not."""
    generator = torch.Generator().manual_seed(0)
    chances = (1.5 * torch.randn(V, V, generator=generator)).softmax(1)
    chances[:, :2] = 0
    sums, text = (chances / chances.sum(1, keepdim=True)).cumsum(1).tolist(), [2]
    for draw in torch.rand(length - 1, generator=generator).tolist():
        text.append(min(V - 1, bisect.bisect_right(sums[text[-1]], draw)))
    return torch.tensor(text, dtype=torch.int32)


def stood_together(tokens):
    """(V, V), how often the second stood near the first, over all draws of the window: (WINDOW - d + 1) / WINDOW."""
    counts, tokens = torch.zeros(V, V, dtype=torch.float64), tokens.long()
    for away in range(1, WINDOW + 1):
        number = torch.bincount(tokens[:-away] * V + tokens[away:], minlength=V * V).view(V, V)
        counts += (number + number.T) * (WINDOW - away + 1) / WINDOW
    return counts[2:, 2:]


def trained(task, data, steps, lr, batch_size=1024):
    optimizer = torch.optim.Adam(task.model.parameters(), lr=lr, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    loader, done, epoch = Loader(Anew(data), BatchOrder(len(data), batch_size, shuffle=True)), 0, 0
    while done < steps:
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            if done < steps:
                optimizer.zero_grad()
                task.losses(batch)["loss"].backward()
                optimizer.step()
                schedule.step()
            done += 1
        epoch += 1
    return task


@pytest.mark.parametrize("power", [1.0, 0.75])
def test_products_of_vectors_become_shifted_mutual_information(power):
    """Levy and Goldberg 2014, equation 11; with another noise its own share of each word stands in the formula."""
    tokens = markov_text()
    noise = noise_sums(torch.bincount(tokens.long(), minlength=V), power)
    data = Nearby(tokens, Rules(WINDOW, NEGATIVES, False, torch.ones(V), noise, seed=0))
    torch.manual_seed(0)
    task = Skipgram(Model(num_words=V, embedding_dim=16), partial(torch.optim.Adam))
    trained(task, data, steps=300, lr=0.05)
    counts = stood_together(tokens)
    share = counts.sum(0) ** power / (counts.sum(0) ** power).sum()
    wanted = (counts / counts.sum(1, keepdim=True) / share).log() - math.log(NEGATIVES)
    if power == 1:
        torch.testing.assert_close(wanted, pmi(counts) - math.log(NEGATIVES))
    found = (task.model.words.weight @ task.model.near.weight.T).detach().double()[2:, 2:]
    met = counts > 0
    assert torch.corrcoef(torch.stack([found[met], wanted[met]]))[0, 1] > 0.98
    assert (found - wanted)[met].abs().mean() < 0.15


def test_beside_the_loss_stands_how_probable_true_and_drawn_pairs_are():
    torch.manual_seed(0)
    model = Model(num_words=V, embedding_dim=4).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    batch = SkipgramBatch(torch.tensor([2, 3]), torch.tensor([4, 5]), torch.tensor([[6, 7], [8, 9]]))
    found, probable = Skipgram(model, partial(torch.optim.Adam)).losses(batch), model(*batch.inputs).sigmoid()
    torch.testing.assert_close(found["loss"], negative_sampling(model(*batch.inputs)), rtol=0, atol=0)
    torch.testing.assert_close(found["near"], (probable[0, 0] + probable[1, 0]) / 2)
    torch.testing.assert_close(found["by_chance"], probable[:, 1:].mean())
    assert found["loss"].requires_grad
    assert not found["near"].requires_grad


def test_neighbours_of_frequent_words_are_shown():
    words = ["<pad>", "<unk>", "the", "king", "queen", "stone_age"]
    model = Model(num_words=6, embedding_dim=2)
    model.words.weight.data = torch.tensor([[1.0, 0], [1, 0], [0, 1], [1, 0.1], [1, 0.2], [-1, 1]])
    task = Skipgram(model, partial(torch.optim.Adam))
    task.trainer = SimpleNamespace(datamodule=SimpleNamespace(tokenizer=WordTokenizer(words)))
    lines = task.show(None)["neighbours"].splitlines()
    assert lines[2].startswith("| **king** | queen 1.00, the 0.10, stone\\_age -0.63")
    assert [line.split("**")[1] for line in lines[2:]] == ["king", "queen"]


# ---- whole runs

TINY = ("data=words_text", "data.min_count=1", "data.subsample=1.0", "data.batch_size=64", "optimizer.lr=0.02")
TINY += ("model.embedding_dim=8", "trainer.max_epochs=2", "trainer.num_threads=1")


@pytest.fixture(scope="module")
def typed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    (folder / "my.txt").write_text(
        "The cat sat on the mat. A dog lay on a rug! The cat lay on the rug, 'no' dog sat.\n" * 20
    )
    return [*TINY, f"data.path={folder}/my.txt"]


@pytest.fixture(scope="module")
def finished(typed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    assert run(configure("model=skipgram", *typed, run_dir=folder)) == 0
    return folder


def weights(folder):
    return read(folder / "checkpoints" / "last.ckpt")["state_dict"]


@pytest.mark.parametrize("model", ["skipgram", "cbow"])
def test_a_run_that_was_stopped_inside_an_epoch_draws_what_it_would_have_drawn(typed, finished, tmp_path, model):
    whole = finished
    if model == "cbow":
        whole = tmp_path / "whole"
        assert run(configure("model=cbow", *typed, "logger=none", run_dir=whole)) == 0
        assert read(whole / "checkpoints" / "best.ckpt")["config"]["data"]["bag"] is True
    real, middle = RunCheckpoint.on_train_batch_start, read(whole / "checkpoints" / "last.ckpt")["global_step"] * 3 // 4

    def hear(self, trainer, *arguments):
        if iterations_done(trainer) == middle:
            LISTENER.asked = 15
        real(self, trainer, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunCheckpoint, "on_train_batch_start", hear)
        assert run(configure(f"model={model}", *typed, "logger=none", run_dir=tmp_path / "half")) == 75
    assert run(configure(f"resume={tmp_path}/half")) == 0
    expected, found = weights(whole), weights(tmp_path / "half")
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_the_projector_finds_vectors_with_their_words(finished):
    from google.protobuf import text_format
    from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

    config = text_format.Parse((finished / "projector_config.pbtxt").read_text(), ProjectorConfig())
    (shown,) = config.embeddings
    table = np.loadtxt(finished / shown.tensor_path, delimiter="\t")
    words = (finished / shown.metadata_path).read_text().splitlines()
    assert words == read(finished / "checkpoints" / "last.ckpt")["preprocessing"]["tokenizer"]["tokens"]
    assert np.abs(table - weights(finished)["model.words.weight"].numpy()).max() < 1e-5
    assert not list(finished.rglob("*.tmp"))
    assert [label(word) for word in ("a b", "\n", "\t", " ")] == ["a b", "\\n", "\\t", " "]
    assert "\n" not in "".join(map(label, ["\u2028", "x\ny"]))


def test_neighbours_of_a_checkpoint_are_those_of_its_vectors(finished, call_script):
    tokens = read(finished / "checkpoints" / "best.ckpt")["preprocessing"]["tokenizer"]["tokens"]
    numbers, similar = nearest(
        load_model(finished).vectors, load_model(finished).vectors[[tokens.index("cat")]], 99, [0, 1]
    )
    expected = [f"{tokens[i]} {x:.3f}" for i, x in zip(numbers[0][1:4].tolist(), similar[0][1:4].tolist(), strict=True)]
    ran = call_script("neighbours", f"ckpt={finished}", "word=Cat", "top=3")
    assert (ran.status, ran.out) == (0, f"Cat: {', '.join(expected)}\n")
    ran = call_script("neighbours", f"ckpt={finished}", "analogy=cat dog mat", "top=2")
    assert ran.status == 0
    assert ran.out.startswith("cat : dog = mat : ?: ")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["word=rugs"], r"'rugs' is not among the \d+ words of the vocabulary; did you mean 'rug'"),
        (["analogy=cat dog"], "must be three words"),
        (["word=cat", "top=0"], "top=0 must be a whole number from 1 on"),
        ([], "word= or analogy= is missing"),
    ],
)
def test_questions_without_an_answer_are_one_line(finished, call_script, arguments, told):
    ran = call_script("neighbours", f"ckpt={finished}", *arguments)
    assert (ran.status, ran.out) == (2, "")
    assert re.search(told, ran.err)
    assert len(ran.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["model=skipgram", "data=python_docs"], "model=skipgram needs data.num_words, .*words_docs, words_text"),
        (["model=cbow", "data=digits"], "model=cbow needs data.num_words"),
        (["model=lstm", "data=words_docs"], "no model.head=nearby|model=lstm needs data.vocab_size"),
        (["model=skipgram", "data.bag=true"], "reads one word at a time"),
        (["model=cbow", "data.bag=false"], "needs data.bag=true"),
        (["model=skipgram", "task=classification"], "task=classification needs data.num_classes"),
    ],
)
def test_pairs_that_cannot_work_are_one_line(tmp_path, overrides, told):
    with pytest.raises(UserError, match=told) as error:
        build(configure(*overrides, run_dir=tmp_path / "run"))
    assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_neighbours_agree_with_gensims_about_as_well_as_gensim_with_itself():
    word2vec = pytest.importorskip("gensim.models").Word2Vec
    size, epochs, batch_size = 50, 10, 256
    data = DocsWords(shares=(1.0, 0.0, 0.0), subsample=None, batch_size=batch_size)
    part, words = data.part("train"), data.tokenizer.tokens
    text = [words[i] for i in part.tokens.tolist()]
    sentences = [text[i : i + 5000] for i in range(0, len(text), 5000)]

    def gensims(seed):
        options = {"vector_size": size, "window": 5, "min_count": 1, "sg": 1, "negative": 5, "sample": 0}
        model = word2vec(sentences, **options, epochs=epochs, seed=seed, workers=1)
        return torch.tensor(np.stack([model.wv[word] for word in words[2:]]))

    torch.manual_seed(0)
    model = Model(num_words=len(words), embedding_dim=size)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.025 * batch_size)  # a mean over the batch, not a sum
    loader = data.train_dataloader()
    steps = len(loader) * epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.004, 1 - step / steps))
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            optimizer.zero_grad()
            negative_sampling(model(*batch.inputs)).backward()
            optimizer.step()
            schedule.step()

    def neighbours(vectors):
        return [set(row[1:]) for row in nearest(vectors, vectors[:300], 11)[0].tolist()]

    def overlap(one, other):
        return sum(len(a & b) for a, b in zip(neighbours(one), neighbours(other), strict=True)) / 3000

    first, second = gensims(1), gensims(2)
    itself, ours = overlap(first, second), overlap(first, model.vectors.detach()[2:])
    print(f"of ten neighbours of 300 words, ours and gensim's share {ours:.3f}, two runs of gensim {itself:.3f}")
    assert ours > 0.8 * itself
