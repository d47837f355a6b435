import json
from functools import partial

import pytest
import torch

from zoo.data.shifted_digits import ShiftedDigits
from zoo.errors import UserError
from zoo.losses.domains import coral, domain_confusion
from zoo.models.dann import DANN
from zoo.models.mlp import MLP
from zoo.run import configure, run
from zoo.tasks.domain_adaptation import DomainAdaptation
from zoo.tasks.supervised import Classification

pytestmark = pytest.mark.usefixtures("no_pictures_at_all")
SGD = partial(torch.optim.SGD, lr=0.1)


def accuracy(folder, *overrides):
    short = ("model=dann", "trainer.num_threads=1", "trainer.max_epochs=15", "logger=none")
    assert run(configure(*short, *overrides, run_dir=folder)) == 0
    return json.loads((folder / "metrics.json").read_text())["test/accuracy"]


def test_a_network_that_has_seen_the_target_without_labels_is_better_there(tmp_path):
    without = accuracy(tmp_path / "none", "task.method=none")
    assert accuracy(tmp_path / "coral", "task.method=coral", "task.weight=1000") > without + 0.1


@pytest.fixture(scope="module")
def batch():
    return ShiftedDigits().part("train")[torch.arange(20)]


def small(method, **options):
    torch.manual_seed(0)
    return DomainAdaptation(DANN(image_shape=(1, 8, 8), num_classes=10), SGD, num_classes=10, method=method, **options)


def test_the_loss_is_that_of_the_source_and_the_distance(batch):
    task = small("coral", weight=7.0)
    plain = Classification(task.model, SGD, num_classes=10).losses(batch)
    features = [task.model.features(x) for x in (batch.image, batch.target)]
    found, distance = task.losses(batch), coral(*features)
    torch.testing.assert_close(found["loss"], plain["loss"] + 7 * distance)
    assert found["accuracy"] == plain["accuracy"]
    torch.testing.assert_close(small("none").losses(batch)["loss"], plain["loss"])
    confusion, told = domain_confusion(*(task.model.domain(x) for x in features))
    found = small("dann").losses(batch)
    torch.testing.assert_close(found["loss"], plain["loss"] + confusion)
    assert found["domain_accuracy"] == told


def test_the_target_moves_the_trunk_and_its_labels_are_not_there(batch):
    for method in ("dann", "coral"):
        gradients = []
        for target in (batch.target, batch.target.flip(-1)):
            task = small(method, weight=1000.0)
            task.losses(batch._replace(target=target))["loss"].backward()
            gradients.append(task.model.conv1.weight.grad)
        assert not torch.allclose(*gradients), method
    assert batch._fields == ("image", "label", "target")


def test_in_a_run_the_reversal_grows_from_nothing(tmp_path):
    from zoo.build import build

    ready = build(configure("model=dann", "data.fraction=0.2", "trainer.max_epochs=2", "logger=none", run_dir=tmp_path))
    seen = []
    plain = ready.task.strength
    ready.task.strength = lambda: seen.append(plain()) or seen[-1]
    ready.fit()
    assert seen[0] == 0
    assert seen == sorted(seen)
    assert len(seen) == 2 * ready.task.updates // 2
    assert 0.09 < seen[-1] <= 0.1


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["task.method=coal"], "did you mean 'coral'"),
        (["task.weight=-1"], "task.weight=-1"),
        (["model=mlp", "data=shifted_digits"], "use model=dann, or task.method=none"),
        (["data=digits", "task=domain_adaptation"], "is for a DomainBatch"),
        (["task=classification"], "the data gives a DomainBatch"),
    ],
)
def test_what_cannot_be_is_one_line(wrong, told, tmp_path):
    with pytest.raises(UserError, match=told) as error:
        run(configure("model=dann", *wrong, run_dir=tmp_path))
    assert "\n" not in str(error.value)


def test_a_network_without_features_can_stand_beside(batch):
    task = DomainAdaptation(MLP(in_features=64, out_features=10), SGD, num_classes=10, method="none")
    task.check(batch)
    assert task.losses(batch)["loss"].isfinite()
