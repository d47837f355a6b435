"""Turns sequences into sequences with a trained model: translations, summaries, answers, captions of images.

python scripts/translate.py ckpt=outputs/2026-01-31/12-00-00-000000_transformer_multi30k input="Ein Mann liest."
python scripts/translate.py ckpt=... input=sentences.txt beams=8 length_penalty=1 > translations.txt
python scripts/translate.py ckpt=... input="3rd of May 1979" alignment=true
python scripts/translate.py ckpt=outputs/<a captioner's run> input=photo.png alignment=true
python scripts/translate.py ckpt=... interactive=true            answers each line that is typed, until Ctrl-D
"""

import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.config.commandline import guarded, script_arguments, whole_number
from zoo.errors import UserError

if TYPE_CHECKING:  # torch is loaded once the arguments are found good
    from zoo.trained.translate import Answer, Translator

KEYS = {
    "ckpt": "run folder (its best) or .ckpt",
    "input": "a text, or a text file (UTF-8) with one text a line; of a captioner an image, or a folder of images",
    "beams": "texts that the search follows; 1: always the likeliest token (as in the test of the run)",
    "length_penalty": "0: the likeliest text; towards 1: longer ones (as in the test of the run)",
    "alignment": "true: draws what the model looked at into alignment.png; or the name of another .png (false)",
    "interactive": "true: answers the lines of the standard input, one after another (false)",
    "allow": "a package (with a dot at its end) or name that the checkpoint may use besides the zoo's own",
}
EXAMPLE = 'python scripts/translate.py ckpt=outputs/<run> input="..."    --help shows all keys.'
PICTURED = 10  # answers


def check(given: dict[str, str]) -> None:
    if not given.get("ckpt"):
        raise UserError(f"ckpt= is missing: {EXAMPLE}")
    if given["interactive"] not in ("true", "false"):
        raise UserError(f"interactive={given['interactive']} must be true or false.")
    if given["interactive"] == "true" and "input" in given:
        raise UserError("input= and interactive=true are both given; leave one out.")
    if given["interactive"] == "false" and not given.get("input", "").strip():
        missing = "is empty; give it a text" if "input" in given else "is missing"
        raise UserError(f"input= {missing}: {EXAMPLE}")
    if given["alignment"] not in ("true", "false") and not given["alignment"].endswith(".png"):
        raise UserError(f"alignment={given['alignment']} must be true, false, or the name of a .png file.")
    if given["alignment"] != "false" and given["interactive"] == "true":
        raise UserError("alignment= draws what input= gives; leave interactive= out.")


def search(given: dict[str, str]) -> dict[str, Any]:
    """What is asked of the search. Raises UserError for what means nothing."""
    found: dict[str, Any] = {}
    if given.get("beams"):
        found["beams"] = whole_number(given, "beams", 1, 1000)
    if given.get("length_penalty"):
        try:
            found["length_penalty"] = float(given["length_penalty"])
        except ValueError:
            found["length_penalty"] = math.nan
        if not 0 <= found["length_penalty"] < math.inf:
            raise UserError(f"length_penalty={given['length_penalty']} must be a number from 0 on.")
    return found


def place_of(name: str) -> Path:
    """Where pictures go. Raises UserError, before anything is answered, where they cannot."""
    path = Path("alignment.png" if name == "true" else os.path.expanduser(name))  # noqa: PTH111 - see zoo.trained.translate
    if not os.access(path.parent, os.W_OK | os.X_OK) or not path.parent.is_dir():
        raise UserError(f"alignment={name} cannot be written: {path.parent} is no folder that can be written to.")
    return path


def draw(translator: "Translator", found: "list[Answer]", path: Path) -> Iterator[str]:
    """Writes pictures of answers beside one another: name.png, name_2.png, ..., and those of heads. Says which."""
    pictured = [answer for answer in found if answer.numbers]
    for number, answer in enumerate(pictured[:PICTURED], start=1):
        for kind, figure in translator.look(answer).items():
            ending = ("" if kind == "attention" else f"_{kind}") + (f"_{number}" if number > 1 else "")
            place = path.with_name(path.stem + ending + ".png")
            figure.savefig(place)
            yield f"Written: {place}"
    if len(pictured) > PICTURED:
        yield f"The first {PICTURED} of {len(pictured)} are drawn."


def main() -> int:
    given = {"alignment": "false", "interactive": "false"} | script_arguments(sys.argv[1:], KEYS)
    check(given)
    options = search(given)
    place = None if given["alignment"] == "false" else place_of(given["alignment"])
    sys.path.append(str(Path.cwd()))  # for a network of the user's own
    from zoo.trained.talk import answering, listened_to, say, talk
    from zoo.trained.translate import load, remarks

    translator = load(given["ckpt"], [name.strip() for name in given.get("allow", "").split(",") if name.strip()])
    if given["interactive"] == "true":
        with listened_to():
            talk(answering(translator, **options))
        return 0
    sources = translator.open(given["input"])
    say(translator.describe(), *translator.notes(sources))
    found: list[Answer] = []  # those that are spoken of again
    with listened_to():
        for answer in translator.answers(sources, **options):
            found += [answer] if place or answer.problem or answer.grey else []
            if not answer.problem:
                print(translator.line(answer))
            elif len(sources) > 1:
                say(f"Skipped: {answer.problem}")
    say(*remarks(found, len(sources)))
    for line in draw(translator, found, place) if place else ():
        say(line)
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
