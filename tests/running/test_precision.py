"""Mixed precision: every model trains in it, gradients are seen and clipped as they are, recurrent layers too."""

import json
import statistics

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from zoo.build import optimizer_settings
from zoo.checkpoint import read
from zoo.config.commandline import options
from zoo.layers.real_steps import over_all_steps, over_real_steps
from zoo.models.lstm import LSTM
from zoo.models.seq2seq import Seq2Seq
from zoo.onednn import where_it_can
from zoo.run import configure, run

MODELS = [name for name in options("model") if name != "custom"]
LAYERS = nn.LSTM(3, 4, batch_first=True)


def points(folder, key="norms/gradient"):
    return [event.value for event in EventAccumulator(str(folder), {"scalars": 0}).Reload().Scalars(key)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "16"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", [nn.RNN, nn.GRU, nn.LSTM])
def test_recurrent_layers_say_in_mixed_precision_what_they_say_in_full(cell, bidirectional, dtype):
    torch.manual_seed(0)
    layers = cell(3, 8, 2, batch_first=True, bidirectional=bidirectional)
    x, lengths = torch.randn(4, 6, 3, requires_grad=True), torch.tensor([6, 2, 5, 2])
    whole, some = layers(x)[0], over_real_steps(layers, x, lengths)[0]
    with torch.autocast("cpu", dtype, cache_enabled=False):
        mixed = over_all_steps(layers, x)[0], over_real_steps(layers, x, lengths)[0]
    for exact, found in zip((whole, some), mixed, strict=True):
        torch.testing.assert_close(found.float(), exact, rtol=0, atol=0.02)
        wanted, given = (
            torch.autograd.grad(y.float().square().sum(), [x, *layers.parameters()]) for y in (exact, found)
        )
        for one, other in zip(wanted, given, strict=True):
            torch.testing.assert_close(other, one, rtol=0, atol=0.02 * one.abs().max().item())
    assert not mixed[1][1, 2:].any()


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
@pytest.mark.parametrize(
    ("layers", "mixed", "able", "stays"),
    [(LAYERS, True, False, False), (LAYERS, True, True, True), (LAYERS, False, False, True),
     (nn.GRU(3, 4, batch_first=True), True, False, True)],
    ids=["cannot", "can", "in full", "a GRU"],
)  # fmt: skip
def test_onednn_stays_away_only_from_an_lstm_that_it_cannot_compute(layers, mixed, able, stays, monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: able, raising=False)
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed), where_it_can(layers):
        assert torch.backends.mkldnn.enabled is stays
    assert torch.backends.mkldnn.enabled


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
@pytest.mark.parametrize("padded", [False, True], ids=["all steps", "real steps"])
@pytest.mark.parametrize("name", ["lstm", "encoder and decoder"])
def test_every_lstm_of_a_model_is_called_where_it_can_be_computed(name, padded, monkeypatch):
    """On any processor: oneDNN says that it cannot, and is away in each call."""
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False, raising=False)
    seen = []

    def noted(function):
        def call(*arguments):
            seen.append(torch.backends.mkldnn.enabled)
            return function(*arguments)

        return call

    monkeypatch.setattr(nn.LSTM, "forward", noted(nn.LSTM.forward))
    monkeypatch.setattr(torch, "lstm", noted(torch.lstm))  # one direction of several
    tokens = torch.randint(4, 9, (3, 5))
    mask = torch.arange(5) < torch.tensor([[5], [2 if padded else 5], [5]])
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        if name == "lstm":
            LSTM(num_outputs=2, vocab_size=9, embedding_dim=4, hidden_size=4)(tokens, mask)
        else:
            sizes = {"embedding_dim": 4, "hidden_size": 4, "cell": "lstm", "attention": "general"}
            Seq2Seq(src_vocab_size=9, tgt_vocab_size=9, **sizes)(tokens, mask, tokens)
    assert len(seen) >= (1 if name == "lstm" else 2)
    assert not any(seen)


@pytest.mark.usefixtures("no_pictures")
def test_gradients_are_clipped_by_their_own_length(tmp_path):
    """As long as in full precision, and clipping sees them as they are; in 16-mixed, tests/test_gpu.py."""
    common = ["optimizer=adam", "trainer.max_epochs=1", "trainer.log_every_n_steps=1", "optimizer.fused=true"]
    mixed = "trainer.precision=bf16-mixed"
    for name, typed in (("full", []), ("free", [mixed]), ("clipped", [mixed, "trainer.gradient_clip_val=0.5"])):
        assert run(configure(*common, *typed, run_dir=tmp_path / name)) == 0
    full, free, clipped = (points(tmp_path / name) for name in ("full", "free", "clipped"))
    assert statistics.mean(free) == pytest.approx(statistics.mean(full), rel=0.05)
    assert clipped[0] == pytest.approx(free[0], rel=1e-3)  # before it is cut
    assert all(points(tmp_path / "clipped", "norms/clipped_share"))


@pytest.mark.parametrize(
    ("precision", "clip", "fused"),
    [("32-true", 1.0, True), ("bf16-true", 1.0, True), ("bf16-mixed", None, True), ("bf16-mixed", 0, True),
     ("bf16-mixed", 1.0, None), ("16-mixed", None, None), ("16-mixed", 1.0, None),
     ("bf16", None, True), ("bf16", 1.0, None), (16, None, None), ("16-true", 1.0, True)],
)  # fmt: skip
def test_a_fused_kernel_is_used_wherever_it_can_be(precision, clip, fused):
    config = {"optimizer": {"lr": 0.1, "fused": True}, "trainer": {"precision": precision, "gradient_clip_val": clip}}
    assert optimizer_settings(config) == {"lr": 0.1, "fused": fused}
    assert config["optimizer"]["fused"] is True


def test_weights_stay_in_full_precision_and_a_run_goes_on(tmp_path):
    typed = ["model=lstm", "model.bidirectional=true", "data=python_topics", "trainer.precision=bf16-mixed"]
    typed += ["trainer.max_steps=4", "data.batch_size=4", "test=false", "logger=none"]
    assert run(configure(*typed, "model.hidden_size=8", run_dir=tmp_path)) == 0
    end = read(tmp_path / "checkpoints" / "last.ckpt")
    assert {value.dtype for value in end["state_dict"].values() if value.is_floating_point()} == {torch.float32}
    assert json.loads((tmp_path / "metrics.json").read_text())["iteration"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
@pytest.mark.parametrize("model", MODELS)
def test_every_model_takes_its_steps(model, precision, tmp_path):
    typed = [f"model={model}", f"trainer.precision={precision}", "trainer.gradient_clip_val=1.0"]
    assert run(configure(*typed, "debug=fast", "logger=none", run_dir=tmp_path)) == 0
    assert json.loads((tmp_path / "metrics.json").read_text())["status"] == "finished"
