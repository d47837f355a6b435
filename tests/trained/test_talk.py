"""zoo.trained.talk and .purpose: lines are answered as they come; a model for something else is told where to go."""

import io
import os
import sys
from pathlib import Path

import pytest

from zoo.errors import UserError
from zoo.trained.purpose import USES, misplaced
from zoo.trained.talk import Speaker, listened_to, talk

SCRIPTS = Path(__file__).parent.parent.parent / "scripts"
ECHO = Speaker(["Echo."], lambda text: [f"({len(text)})"], lambda text, number: f"{number} {text}")


def typed(monkeypatch, content, encoding="utf-8"):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding=encoding))


def test_lines_are_answered_in_turn_with_white_space_as_it_was_typed(monkeypatch, capsys):
    typed(monkeypatch, b"a \r\n\n\tb")
    talk(ECHO)
    assert capsys.readouterr() == ("0 a \n1 \n2 \tb\n", "Echo.\n(2)\n(0)\n(2)\n")


def test_nothing_to_read_is_no_mistake(monkeypatch, capsys):
    typed(monkeypatch, b"")
    talk(ECHO)
    assert capsys.readouterr() == ("", "Echo.\n")


def test_a_line_that_is_no_text_is_named_once_those_before_it_are_answered(monkeypatch, capsys):
    typed(monkeypatch, b"a\n\xff\nb\n")
    with pytest.raises(UserError, match="Line 2 of the standard input is no text in utf-8"):
        talk(ECHO)
    assert capsys.readouterr().out == "0 a\n"


def test_a_standard_input_that_cannot_be_read_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UserError, match="There is no standard input"):
        talk(ECHO)
    with (tmp_path / "in").open("w") as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        with pytest.raises(UserError, match="cannot be read"):
            talk(ECHO)


def test_a_reader_that_has_seen_enough_ends_it_without_a_word(monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with listened_to():
            print("a")
        print("b", flush=True)  # to nobody


@pytest.mark.parametrize(("head", "kind"), USES)
def test_a_model_for_something_else_is_told_which_script_is_for_it(head, kind):
    checkpoint = {"config": {"task": {"_target_": "zoo.tasks.x.Y", "head": head}}, "preprocessing": {"kind": kind}}
    said = str(misplaced(Path("my runs/best.ckpt"), checkpoint, "does not do this", "python train.py"))
    assert said.startswith(f"my runs/best.ckpt was trained by Y on {kind}, and does not do this. It ")
    commands = [part.split(" ")[0] for part in said.split("python scripts/")[1:]]
    assert commands
    for command in commands:
        assert (SCRIPTS / command).is_file()
    assert said.count("ckpt='my runs/best.ckpt'") == len(commands)


@pytest.mark.parametrize("checkpoint", [{}, {"config": None, "preprocessing": None}, {"config": {"task": None}}])
def test_what_does_not_say_what_it_is_for_is_told_how_to_train_one_that_does(checkpoint):
    said = str(misplaced(Path("a.ckpt"), checkpoint, "does not", "python train.py"))
    assert said == "a.ckpt was trained by no task, and does not; train a model that does first, for instance " \
        "python train.py."  # fmt: skip
