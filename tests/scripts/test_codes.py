"""scripts/codes.py: numbers of a small run, what it writes, and a line for whatever cannot be."""

import json

import numpy as np
import pytest
import torch
from sklearn import decomposition
from sklearn.metrics import roc_auc_score

from zoo.checkpoint import load_model
from zoo.data.digits import Digits

SMALL = ("data.fraction=0.3", "trainer.max_epochs=2", "trainer.num_threads=1", "logger=none", "test=false")


def trained(folder, *overrides):
    from zoo.run import configure, run

    assert run(configure(*SMALL, *overrides, run_dir=folder)) == 0
    return folder


@pytest.fixture(scope="module")
def without_threes(tmp_path_factory):
    """A linear autoencoder of digits that has never seen a 3."""
    folder = tmp_path_factory.mktemp("codes") / "run"
    return trained(folder, "model=autoencoder", "model.hidden_features=[]", "data.leave_out=[3]", "optimizer.lr=0.01")


def test_the_numbers_are_those_of_the_test_part(without_threes, call_script, tmp_path):
    ran = call_script("codes", without_threes, f"out={tmp_path}/codes.npz", f"metrics={tmp_path}/codes.json")
    assert ran.status == 0, ran.err
    found, arrays = json.loads((tmp_path / "codes.json").read_text()), np.load(tmp_path / "codes.npz")
    data, model = Digits(normalize=False, fraction=0.3, leave_out=[3]), load_model(without_threes)
    parts = {name: data.part(name)[torch.arange(len(data.part(name)))] for name in ("train", "test")}
    x, labels = parts["test"].image, parts["test"].label
    assert 3 in labels
    assert 3 not in parts["train"].label
    with torch.no_grad():
        errors = (model(x) - x).square().flatten(1).sum(1)
        np.testing.assert_allclose(arrays["codes"], model.encode(x).numpy(), rtol=1e-5, atol=1e-6)
    assert found["squared_error"] == pytest.approx(errors.mean().item(), rel=1e-5)
    assert found["auroc"] == pytest.approx(roc_auc_score(labels == 3, errors), abs=1e-3)
    pca = decomposition.PCA(8).fit(parts["train"].image.flatten(1).double().numpy())
    rows = x.flatten(1).double().numpy()
    odd = np.square(pca.inverse_transform(pca.transform(rows)) - rows).sum(1)
    assert found["pca_squared_error"] == pytest.approx(odd.mean())
    assert found["pca_auroc"] == pytest.approx(roc_auc_score(labels == 3, odd))
    assert found["r2"] == pytest.approx(1 - found["squared_error"] / found["constant_squared_error"])
    np.testing.assert_allclose(np.abs(arrays["pca_codes"]), np.abs(pca.transform(rows)), atol=1e-6)
    np.testing.assert_allclose(arrays["errors"], errors.numpy(), rtol=1e-4)
    assert arrays["labels"].tolist() == labels.tolist()
    assert arrays["class_names"].tolist() == [str(k) for k in range(10)]
    assert 0.5 < found["nmi_pca"] < 1, "digits are nearly apart, whether one has codes or not"
    for piece in (f"{len(x)} samples of 64 values, 8 codes", "k-means, 10 groups, NMI", "Class 3, never seen"):
        assert piece in ran.out


def test_the_class_left_out_is_asked_for_by_itself_where_the_part_has_it(without_threes, call_script):
    named, val = (call_script("codes", without_threes, given) for given in ("anomaly=3", "part=val"))
    assert "Class 3, never seen" in named.out
    assert val.status == 0
    assert "never seen" not in val.out


def test_another_class_that_was_left_out_is_neither_odd_nor_usual(call_script, tmp_path):
    small = ("model=autoencoder", "model.hidden_features=[]", "trainer.max_epochs=1", "data.leave_out=[3,7]")
    folder = trained(tmp_path / "run", *small)
    ran = call_script("codes", folder, "anomaly=3", f"out={tmp_path}/codes.npz", f"metrics={tmp_path}/codes.json")
    assert ran.status == 0, ran.err
    found, arrays = json.loads((tmp_path / "codes.json").read_text()), np.load(tmp_path / "codes.npz")
    asked = arrays["labels"] != 7
    expected = roc_auc_score(arrays["labels"][asked] == 3, arrays["errors"][asked])
    assert found["auroc"] == pytest.approx(expected, abs=1e-9)
    assert found["auroc"] != pytest.approx(roc_auc_score(arrays["labels"] == 3, arrays["errors"]), abs=1e-3)


def test_a_model_that_asks_for_the_class_is_told_it(call_script, tmp_path):
    folder = trained(tmp_path / "run", "model=cvae", "model.hidden_features=[16]", "optimizer.lr=0.01")
    ran = call_script("codes", folder, f"metrics={tmp_path}/codes.json")
    assert ran.status == 0, ran.err
    data, model = Digits(normalize=False, fraction=0.3), load_model(folder)
    batch = data.part("test")[torch.arange(len(data.part("test")))]
    with torch.no_grad():
        said = model.decode(model.encode(batch.image, batch.label).mean, batch.label).sigmoid()
    error = (said - batch.image).square().flatten(1).sum(1).mean().item()
    assert json.loads((tmp_path / "codes.json").read_text())["squared_error"] == pytest.approx(error, rel=1e-4)


def test_a_table_has_no_classes_to_compare_with(call_script, tmp_path):
    run = trained(tmp_path / "run", "model=autoencoder", "data=diabetes", "model.latent_size=2")
    ran = call_script("codes", f"ckpt={run}", f"out={tmp_path}/codes.npz")
    assert ran.status == 0, ran.err
    assert "k-means" not in ran.out
    assert set(np.load(tmp_path / "codes.npz")) == {"codes", "pca_codes", "errors"}
    for wrong, told in (("clusters=3", "this data has none"), ("anomaly=3", "such as data=digits")):
        ran = call_script("codes", f"ckpt={run}", wrong)
        assert (ran.status, told in ran.err) == (2, True), ran.err


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["part=tets"], "did you mean 'test'"),
        (["clusters=0"], "clusters=0 must be a whole number from 1 on"),
        (["clusters=5000"], "5000 clusters of 269 samples"),
        (["anomaly=4"], "train one without it: data.leave_out=[4]"),
        (["anomaly=x"], "There is no class anomaly=x"),
        (["anomaly=3", "part=val"], "must have samples of the odd class"),
        (["out=codes.txt"], "must be the name of a .npz file"),
        (["out=/nowhere/codes.npz"], "/nowhere/codes.npz"),
        (["ckpt=nowhere"], "There is no checkpoint nowhere"),
        (["codes=3"], "There is no key 'codes'"),
    ],
)
def test_what_cannot_be_is_one_line(without_threes, call_script, given, told):
    given = given if given[0].startswith("ckpt") else [f"ckpt={without_threes}", *given]
    ran = call_script("codes", *given)
    assert ran.status == 2
    assert told in ran.err
    assert ran.err.count("\n") == 1


def test_a_model_without_codes_is_sent_away(call_script, tmp_path):
    ran = call_script("codes", trained(tmp_path / "run", "model=mlp"))
    assert ran.status == 2
    assert "MLP, which makes no codes; train one that does" in ran.err
    assert "ckpt= is missing" in call_script("codes").err
