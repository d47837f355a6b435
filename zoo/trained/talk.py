"""A talk with a trained model: each line that is typed is answered, or written on, until there are no more.

Who answers is a model of pairs of texts or a language model, whichever the checkpoint has.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.checkpoint import find, read
from zoo.errors import UserError
from zoo.trained.generate import Writer, how, writer_of
from zoo.trained.purpose import PAIRS, purpose

if TYPE_CHECKING:  # it brings the rooms of data, which a language model has no need of
    from zoo.trained.translate import Translator

SAMPLING = ("temperature", "top_k", "top_p", "seed")  # what an answer to a text can be drawn with


@dataclass(frozen=True)
class Speaker:
    """Who answers.

    Args:
        lines: what is said of it at first.
        notes: of a line that was typed, what the user should know, a line each.
        reply: the answer to a line, given its number, from 0 on.
    """

    lines: Sequence[str]
    notes: Callable[[str], Sequence[str]]
    reply: Callable[[str, int], str]


def speaker(source: str, allow: Sequence[str], chosen: dict[str, Any], asked: Mapping[str, str]) -> Speaker:
    """The model of a checkpoint that draws what it says, or searches for it.

    Args:
        source, allow: see `zoo.checkpoint.load_model`.
        chosen: settings of `zoo.trained.generate.Writer.write`.
        asked: those that the user has typed.

    Raises:
        UserError: the model neither answers nor writes, or has no use for one of `asked`.
    """
    path = find(source)
    checkpoint = read(path)
    if purpose(checkpoint) != PAIRS:
        return writing(writer_of(checkpoint, path, allow), chosen)
    for key in asked:
        if key in chosen and key not in SAMPLING:
            raise UserError(
                f"{key}= is for language models, and this one answers a text with another; leave it out. What it can "
                f"be drawn with: {', '.join(SAMPLING)}."
            )
    sampling = {key: chosen[key] for key in SAMPLING if key in chosen}
    from zoo.trained.translate import translator_of

    translator = translator_of(checkpoint, path, allow)
    return answering(translator, sampling if any(asked.get(key) for key in SAMPLING) else None)


def writing(writer: Writer, chosen: dict[str, Any]) -> Speaker:
    """A language model: each line is a prompt."""

    def reply(text: str, number: int) -> str:
        prompt = writer.read(text)
        texts = writer.write(prompt, **chosen | {"seed": chosen["seed"] + number})
        return "\n".join(writer.whole(prompt, text) for text in texts)

    return Speaker([writer.describe(), line_by_line(chosen)], lambda text: writer.read(text).notes, reply)


def answering(translator: "Translator", sampling: dict[str, Any] | None = None, **search: Any) -> Speaker:
    """A model of pairs of texts.

    Args:
        sampling: temperature, top_k, top_p and seed, where answers are drawn.
        search: beams and length_penalty, where they are not.

    Raises:
        UserError: it answers to images.
    """
    if not hasattr(translator.prepare, "src_tokenizer"):
        raise UserError(
            "This model says what an image shows, and has no answer to a text: python scripts/translate.py ckpt=... "
            "input=photo.png."
        )

    def reply(text: str, number: int) -> str:
        if sampling is None:
            return next(translator.answers([text.strip()], **search)).text
        return translator.draw(text.strip(), **sampling | {"seed": sampling["seed"] + number}).text

    lines = [translator.describe()] + ([line_by_line(sampling)] if sampling else [])
    return Speaker(lines, lambda text: translator.notes([text.strip()]), reply)


def line_by_line(chosen: dict[str, Any]) -> str:
    """How lines are drawn. One that is typed again may be answered in another way."""
    said = how(chosen)
    return said if chosen["temperature"] == 0 else f"{said[:-1]}, each line with the next seed."


def talk(with_whom: Speaker) -> None:
    """Answers the lines of the standard input. Raises UserError for one that is no text, once those before are."""
    say(*with_whom.lines)
    for number, line in enumerate(typed_lines()):
        say(*with_whom.notes(line))
        print(with_whom.reply(line, number), flush=True)


def typed_lines() -> Iterator[str]:
    """The lines of the standard input as they come, each asked for where somebody types."""
    stream = sys.stdin
    if stream is None:
        raise UserError("There is no standard input; leave interactive= out, or do not close it.")
    shown, number = stream.isatty(), 0
    if hasattr(stream, "reconfigure"):  # else what is no text would be found before the lines in front of it are read
        stream.reconfigure(errors="surrogateescape")
    while True:
        if shown:
            print("> ", end="", file=sys.stderr, flush=True)
        try:
            line = stream.readline()
            line.encode()
        except UnicodeError:
            raise UserError(
                f"Line {number + 1} of the standard input is no text in {stream.encoding}, the encoding of this "
                "terminal; the lines before it are answered."
            ) from None
        except OSError as error:
            raise UserError(f"The standard input cannot be read: {error.strerror}.") from None
        if not line:
            say(*[""] * shown)  # the next line of the terminal
            return
        number += 1
        yield line.rstrip("\r\n")


def say(*lines: str) -> None:
    """What is no answer goes beside them."""
    for line in lines:
        print(line, file=sys.stderr)


@contextmanager
def listened_to() -> Iterator[None]:
    """What prints answers ends without a word where their reader, such as `head`, has seen enough."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
