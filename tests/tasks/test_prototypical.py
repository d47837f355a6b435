import json

import pytest
import torch

from zoo.checkpoint import load_model
from zoo.data.digits import Digits
from zoo.errors import UserError
from zoo.losses.prototypical import episode_loss
from zoo.run import configure, run

pytestmark = pytest.mark.usefixtures("no_pictures_at_all")
SHORT = ("task=prototypical", "trainer.num_threads=1", "data.fraction=0.3", "data.classes=[0,1,2,3,4]")


def test_a_network_learns_to_put_classes_apart(tmp_path):
    assert run(configure(*SHORT, "model=mlp", "trainer.max_epochs=5", run_dir=tmp_path)) == 0
    found = json.loads((tmp_path / "metrics.json").read_text())
    data = Digits(classes=[0, 1, 2, 3, 4], fraction=0.3)
    batch = data.part("test")[torch.arange(len(data.part("test")))]
    model = load_model(tmp_path)
    with torch.no_grad():
        loss, accuracy = episode_loss(model(batch.image), batch.label, 1)
    assert model(batch.image).shape == (len(batch.label), 64)
    assert found["test/accuracy"] == pytest.approx(accuracy.item())
    assert found["test/loss"] == pytest.approx(loss.item(), rel=1e-4)
    assert accuracy > 0.6, "0.2 is chance"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["data=diabetes"], "one class a sample"),
        (["task.shots=0"], "task.shots=0 must be a whole number"),
        (["data.batch_size=4", "task.shots=5"], "give a larger data.batch_size"),
        (["model=gpt"], "use another model"),
    ],
)
def test_what_cannot_be_is_one_line(wrong, told, tmp_path):
    other = any(word.startswith(("data=", "model=")) for word in wrong)  # which have no data.classes
    given = [word for word in SHORT if not (other and word.startswith("data."))]
    with pytest.raises(UserError, match=told) as error:
        run(configure(*given, *wrong, run_dir=tmp_path))
    assert "\n" not in str(error.value)
