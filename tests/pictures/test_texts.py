"""Texts beside what a model says of them, as markdown shows them."""

import html

from zoo.pictures.texts import LONGEST, answered


def test_each_text_has_a_line_and_what_would_have_been_right_is_bold():
    texts = ["a | b\n**c**", "x " * LONGEST]
    lines = answered(texts, ["good", "b_d"], [0.9, 0.51], ["good", "<fine>"]).splitlines()
    assert [html.unescape(line) for line in lines] == [
        "* good 0.90: a | b **c**", f"* b_d 0.51, **is <fine>**: {('x ' * LONGEST)[:LONGEST - 1]}…"
    ]  # fmt: skip
    assert not set("|<>_`") & set("".join(lines)), "nothing of a text is taken for markdown"
    assert "**is" in lines[1]
    assert "**" not in lines[0]
