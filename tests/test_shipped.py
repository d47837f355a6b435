"""The checkpoints that come with the zoo: small, whole, as good as their cards say, and the cards as the results."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from zoo.checkpoint import find, load_model
from zoo.errors import UserError
from zoo.pretrained import registry
from zoo.trained.evaluate import evaluate

ROOT = Path(__file__).parent.parent
CARDS = {name: registry.card(name) for name in registry.names()}
SHIPPED = [name for name, card in CARDS.items() if card["sha256"]]
MADE = [name for name in CARDS if name not in SHIPPED]
DOWNLOADED = ("fashion_mnist", "tiny_shakespeare")
# Measured again by the quick tests; the others take longer.
QUICK = ("seq2seq-addition", "rbm-digits", "mlp-fashion", "lenet5-fashion", "vae-fashion")


def test_they_are_small_together_too():
    sizes = {name: registry.file_of(name, Path()).stat().st_size for name in SHIPPED}
    assert sizes == {name: CARDS[name]["bytes"] for name in SHIPPED}
    assert max(sizes.values()) <= 4 * 2**20
    assert sum(sizes.values()) <= 15 * 2**20


@pytest.mark.parametrize("name", CARDS)
def test_a_card_says_what_the_results_say(name):
    recipe = CARDS[name]["recipe"]
    result = json.loads((ROOT / "results" / f"{recipe['name']}.json").read_text(encoding="utf-8"))
    for key in ("mean", "standard_deviation", "n", "minutes_per_seed"):
        assert recipe[key] == result[key], f"python scripts/publish.py {name} recipe={recipe['name']}"
    assert CARDS[name]["metric"] == result["metric"]
    assert recipe["published"] == result["published"]["value"]
    if name in SHIPPED:
        ours = CARDS[name]["metrics"][result["metric"]]
        assert ours == pytest.approx(result["seeds"][str(recipe["seed"])][result["metric"]], rel=0.01)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_file_is_read_and_names_no_place(name):
    card = CARDS[name]
    model = load_model(name)
    assert type(model).__name__ == card["architecture"]
    assert sum(x.numel() for x in model.parameters()) == card["parameters"]
    assert all(torch.isfinite(x).all() for x in model.state_dict().values() if x.is_floating_point())
    with safe_open(str(find(name)), framework="pt") as file:
        told = " ".join(file.metadata().values())
    assert '"/' not in told, "a path of the machine that it was made on"
    assert card["terms_of_data"]


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.slow]) for n in SHIPPED])
def test_a_shipped_checkpoint_is_as_good_as_its_card_says(name):
    card = CARDS[name]
    if card["data"] in DOWNLOADED and not os.environ.get("ZOO_DATA"):
        pytest.skip("ZOO_DATA names no folder with the data sets")
    measured = evaluate(name, card["metric"].partition("/")[0]).metrics
    assert measured == pytest.approx(card["metrics"], rel=2e-3, abs=2e-3)


def test_what_the_zoo_must_not_ship_says_how_it_is_made(tmp_path):
    assert {CARDS[name]["data"] for name in MADE}.isdisjoint(CARDS[name]["data"] for name in SHIPPED)
    for name in MADE:
        with pytest.raises(UserError, match=f"python scripts/models.py {name} build=true"):
            registry.file_of(name, tmp_path)


def test_a_shipped_file_that_was_changed_is_refused(tmp_path, monkeypatch):
    name = SHIPPED[0]
    content = bytearray(find(name).read_bytes())
    content[-1] ^= 1
    (tmp_path / f"{name}.safetensors").write_bytes(content)
    (tmp_path / f"{name}.json").write_text(json.dumps(CARDS[name]), encoding="utf-8")
    monkeypatch.setattr(registry, "HERE", tmp_path)
    with pytest.raises(UserError, match="not what its card says"):
        registry.file_of(name, tmp_path)
