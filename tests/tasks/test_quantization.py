import json
import math

import pytest
import torch

from zoo.checkpoint import load_model
from zoo.data.digits import Digits
from zoo.errors import UserError
from zoo.run import configure, run

FEW = ("model=vq_vae", "trainer.max_epochs=5", "logger=none")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vq_vae") / "run"
    assert run(configure(*FEW, run_dir=folder)) == 0
    return folder, json.loads((folder / "metrics.json").read_text())


def test_a_few_words_of_the_codebook_say_more_than_the_mean(finished):
    folder, found = finished
    data = Digits(normalize=False)
    train, test = (data.part(name)[torch.arange(len(data.part(name)))].image for name in ("train", "test"))
    constant = (test - train.mean(0)).square().flatten(1).sum(1).mean().item()
    assert found["test/squared_error"] < 0.6 * constant
    model = load_model(folder)
    with torch.no_grad():
        numbers, said = model.encode(test), model(test)
    error = (said - test).square().flatten(1).sum(1).mean().item()
    assert found["test/squared_error"] == pytest.approx(error, rel=1e-4)
    share = torch.bincount(numbers.flatten(), minlength=32).double() / numbers.numel()
    assert found["test/entries_used"] == (share > 0).sum()
    assert found["test/perplexity"] == pytest.approx(math.exp(-(share * share.clamp(min=1e-12).log()).sum()), rel=1e-6)
    assert found["test/perplexity"] > 20, "the codebook has not collapsed"


def test_the_loss_is_the_sum_of_its_terms(finished):
    _, found = finished
    whole = found["test/squared_error"] + 1.25 * found["test/codebook"]
    assert found["test/loss"] == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["task.beta=-1"], "task.beta=-1"),
        (["data.image_size=10"], "another number of layers"),
        (["model=mlp", "task=quantization"], "task=quantization is not for model=mlp"),
        (["model=conv_autoencoder", "task=quantization"], "use model=vq_vae"),
        (["data=iris"], "Data sets that do:"),
    ],
)
def test_what_cannot_be_is_one_line(wrong, told, tmp_path):
    given = ["model=vq_vae"] if not any(word.startswith("model=") for word in wrong) else []
    with pytest.raises(UserError, match=told) as error:
        run(configure(*given, *wrong, run_dir=tmp_path))
    assert "\n" not in str(error.value)
