"""Turns sequences into sequences with a trained model: translations, summaries, answers. Its checkpoint alone suffices.

python scripts/translate.py ckpt=outputs/2026-01-31/12-00-00-000000_transformer_multi30k input="Ein Mann liest."
python scripts/translate.py ckpt=... input=sentences.txt beams=8 length_penalty=1 > translations.txt
python scripts/translate.py ckpt=... input="3rd of May 1979" alignment=true
python scripts/translate.py ckpt=... interactive=true            answers each line that is typed, until Ctrl-D
"""

import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.commandline import guarded, script_arguments
from zoo.errors import UserError, listed

if TYPE_CHECKING:  # torch is loaded once the arguments are found good
    from zoo.translate import Answer, Translator

KEYS = {
    "ckpt": "run folder (its best) or .ckpt",
    "input": "a text, or a text file (UTF-8) with one text a line",
    "beams": "texts that the search follows; 1: always the likeliest token (as in the test of the run)",
    "length_penalty": "0: the likeliest text; towards 1: longer ones (as in the test of the run)",
    "alignment": "true: draws what the model looked at into alignment.png; or the name of another .png (false)",
    "interactive": "true: answers the lines of the standard input, one after another (false)",
    "allow": "a package (with a dot at its end) or name that the checkpoint may use besides the zoo's own",
}
EXAMPLE = 'python scripts/translate.py ckpt=outputs/<run> input="..."    --help shows all keys.'
ENDINGS = (".txt", ".tsv", ".csv", ".src")
PICTURED = 10  # texts


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
        if not (given["beams"].isdecimal() and 1 <= int(given["beams"]) <= 1000):
            raise UserError(f"beams={given['beams']} must be a whole number from 1 to 1000.")
        found["beams"] = int(given["beams"])
    if given.get("length_penalty"):
        try:
            found["length_penalty"] = float(given["length_penalty"])
        except ValueError:
            found["length_penalty"] = math.nan
        if not 0 <= found["length_penalty"] < math.inf:
            raise UserError(f"length_penalty={given['length_penalty']} must be a number from 0 on.")
    return found


def texts_of(value: str) -> list[str]:
    """The lines of a file, or the value itself. Raises UserError for a file that is missing, empty or no text."""
    path = Path(value).expanduser()
    named = path.suffix.lower() in ENDINGS and len(value.split()) == 1
    if not named and not (len(value) < 256 and "\n" not in value and path.is_file()):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise UserError("input= holds bytes that are no text in the encoding of this terminal.") from None
        return [" ".join(value.splitlines())]
    if not path.is_file():
        raise UserError(f"There is no file {path}; give the name of one, or a text.")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text in UTF-8 (byte {error.start}); save it as UTF-8.") from None
    if not any(line.strip() for line in lines):
        raise UserError(f"{path} is empty; write one text a line into it.")
    return lines


def say(*lines: str) -> None:
    for line in lines:
        print(line, file=sys.stderr)


def typed(translator: "Translator") -> Iterator[str]:
    """The lines of the standard input; what the model cannot read of one is said before it is answered."""
    shown = sys.stdin.isatty()
    while True:
        if shown:
            print("> ", end="", file=sys.stderr, flush=True)
        try:
            line = sys.stdin.readline()
        except UnicodeDecodeError:
            raise UserError("The standard input is no text in the encoding of this terminal.") from None
        if not line:
            if shown:
                say("")
            return
        text = line.strip()
        say(*translator.notes([text] if text else []))
        yield text


def draw(translator: "Translator", found: "list[Answer]", name: str) -> None:
    """Writes pictures of answers beside one another: name.png, name_2.png, ..., and those of heads."""
    path = Path("alignment.png" if name == "true" else name).expanduser()
    pictured = [answer for answer in found if answer.numbers]
    for number, answer in enumerate(pictured[:PICTURED], start=1):
        for kind, figure in translator.look(answer).items():
            ending = ("" if kind == "attention" else f"_{kind}") + (f"_{number}" if number > 1 else "")
            place = path.with_name(path.stem + ending + ".png")
            figure.savefig(place)
            say(f"Written: {place}")
    if len(pictured) > PICTURED:
        say(f"The first {PICTURED} of {len(pictured)} are drawn.")


def main() -> int:
    given = {"alignment": "false", "interactive": "false"} | script_arguments(sys.argv[1:], KEYS)
    check(given)
    options = search(given)
    texts = None if given["interactive"] == "true" else texts_of(given["input"])
    sys.path.append(str(Path.cwd()))  # for a network of the user's own
    from zoo.translate import load

    translator = load(given["ckpt"], [name.strip() for name in given.get("allow", "").split(",") if name.strip()])
    say(translator.describe())
    try:
        if texts is None:
            for text in typed(translator):
                print(*(answer.text for answer in translator.answers([text], **options)), flush=True)
            return 0
        say(*translator.notes(texts))
        empty = [str(i) for i, text in enumerate(texts, start=1) if not text.strip()]
        if empty:
            say(f"Empty, and answered with nothing: line{'s' * (len(empty) > 1)} {listed(empty)}.")
        found = []
        for answer in translator.answers(texts, **options):
            print(answer.text)
            found += [answer] if given["alignment"] != "false" else []
        sys.stdout.flush()
    except BrokenPipeError:  # who reads the answers, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    draw(translator, found, given["alignment"])
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
