from zoo.pictures.bars import bars


def test_bars_are_sorted_by_size_and_no_more_than_can_be_read(is_no_blank):
    values = {f"feature ${i}": (-1.0) ** i * i for i in range(50)}
    figure = bars(values, xlabel="share", title="fifty", most=20)
    assert is_no_blank(figure)
    axis = figure.axes[0]
    assert [bar.get_width() for bar in axis.patches] == [(-1.0) ** i * i for i in range(30, 50)]  # from the bottom up
    assert axis.get_yticklabels()[-1].get_text() == "feature $49"
    assert axis.get_title() == "fifty (20 of 50)"
    assert bars({"a": 0.0}, xlabel="", title="one").axes[0].get_title() == "one"
