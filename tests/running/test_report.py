from zoo.running.report import closing_lines


def test_tensorboard_is_named_where_it_has_something_to_show(tmp_path):
    assert [line.partition(":")[0] for line in closing_lines(tmp_path)] == ["Run folder"]
    (tmp_path / "events.out.tfevents.1.host.2.0").touch()
    assert closing_lines(tmp_path)[1] == f"Look at it: tensorboard --logdir {tmp_path}"
