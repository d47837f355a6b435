"""What a run says of itself while it trains."""

import logging
import re

from zoo.run import configure, run

SHORT = ["data=digits", "data.fraction=0.2", "trainer.max_epochs=2", "trainer.num_threads=1", "logger=none"]


def test_each_line_has_the_mean_of_the_epoch_so_far_from_its_first_batch_on(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    assert run(configure(*SHORT, "+callbacks.progress.line_seconds=0", run_dir=tmp_path / "run")) == 0
    lines = [line for line in caplog.messages if line.startswith("epoch ")]
    begun = {epoch: [line for line in lines if line.startswith(f"epoch {epoch}/2")] for epoch in (1, 2)}
    assert len(begun[2]) == len(begun[1]) + 1 > 3  # the last epoch ends with a line
    for line in lines:
        assert re.search(r"  loss \d", line), line
    assert not any("val/loss" in line for line in begun[1])
    assert all("val/loss" in line for line in begun[2])
