"""Uses a trained model on new pictures, table rows, texts or a series; its checkpoint alone suffices.

python scripts/predict.py ckpt=outputs/2026-01-31/12-00-00-000000_lenet5_mnist input=photo.png
python scripts/predict.py ckpt=... input=photos top=1 format=json out=answers.jsonl
python scripts/predict.py ckpt=... input=new_houses.csv
python scripts/predict.py ckpt=... input=series.csv           the steps after its last one
python scripts/predict.py ckpt=... input=photo.png explain=true
python scripts/predict.py ckpt=... input=photos draws=20                how sure: with dropout on, 20 times
python scripts/predict.py ckpt=... text="A film to fall asleep in."
python scripts/predict.py ckpt=... input=photos drawn=seen    masks or boxes, told and drawn
python scripts/predict.py ckpt=... input=photos features=photos.npz    for another network: train.py data=features
python scripts/predict.py ckpt=... features=all.npz                    of the data of its run
"""

import contextlib
import itertools
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from zoo.config.commandline import data_settings, guarded, script_arguments, whole_number
from zoo.errors import UserError, suggest

if TYPE_CHECKING:  # torch is loaded once the arguments are found good
    from zoo.trained.overlay import Viewer
    from zoo.trained.predict import Predictor
    from zoo.trained.reasons import Reasons

KEYS = {
    "ckpt": "run folder (its best) or .ckpt",
    "input": "an image, a folder of images (with all below it), a .csv file, or a .txt file with one text a line; of a "
    "forecaster a .csv file, of which the steps after the last are told",
    "text": "a text, instead of input=, which takes one of several words, too",
    "format": "text, or json: one line of JSON for each input (text)",
    "top": "how many classes to show (3); of several labels all are shown, each with its own probability",
    "out": "a file for the answers, instead of the terminal",
    "features": "a .npz file for what goes into the output layer, of input=, or without it of the data of the run",
    "explain": "what an answer comes from: true, or gradcam, saliency, integrated_gradients (false)",
    "draws": "leave dropout on and answer so many times: the mean, and how far the draws differ (0: dropout is off)",
    "explain_class": "the class, label or target that is explained, instead of the best",
    "explain_out": "a folder for the pictures that explain (explained)",
    "drawn": "a folder for what a model of masks or boxes sees, drawn over the images (drawn)",
    "allow": "a package (with a dot at its end) or name that the checkpoint may use besides the zoo's own",
    "data.separator": "of the .csv file, where it is not found by itself",
    "data.encoding": "of the file, where it is not that of the training file (of a .txt file: where it is not UTF-8)",
    "data.text": "the column of texts of the .csv file, where it is not that of the training file",
    "data.target": "beside features=: the column of labels of the .csv file, where it is not that of the training file",
}
ANSWERS = (".csv", ".tsv", ".txt", ".json", ".jsonl")  # files that may be written anew
EXPLAIN = ("true", "false", "gradcam", "saliency", "integrated_gradients")
EXAMPLE = "python scripts/predict.py ckpt=outputs/<run> input=photo.png    --help shows all keys."


def check(given: dict[str, str]) -> None:
    if "text" in given and "input" in given:
        raise UserError("input= and text= are both given; leave one out.")
    for key in ("ckpt",) if "text" in given or "features" in given else ("ckpt", "input"):
        if not given.get(key):
            raise UserError(f"{key}= is missing: {EXAMPLE}")
    if given["format"] not in ("text", "json"):
        raise UserError(f"format={given['format']} must be text or json.")
    whole_number(given, "top", 1)
    if "out" in given and "input" in given and resolved(given["out"]) == resolved(given["input"]):
        raise UserError("out= would overwrite the input; choose another file.")
    if "out" in given and Path(given["out"]).suffix.lower() not in ANSWERS and Path(given["out"]).exists():
        raise UserError(f"out={given['out']} is there, and no file of answers ({', '.join(ANSWERS)}); choose another.")
    if not given["draws"].isdecimal() or given["draws"] == "1":
        raise UserError(f"draws={given['draws']} must be a whole number from 2 on, or 0.")
    for key in ("features", "explain"):
        if given["draws"] != "0" and given.get(key, "false") != "false":
            raise UserError(f"{key}= and draws= are both given; leave one out.")
    if "features" in given:
        check_features(given)
    elif "data.target" in given:
        raise UserError("data.target= is for features=; answers need none.")


def check_features(given: dict[str, str]) -> None:
    if not given["features"].endswith(".npz"):
        raise UserError(f"features={given['features']} must be the name of a .npz file.")
    for key in ("text", "out", "explain_out"):
        if key in given:
            raise UserError(f"{key}= and features= are both given; features are of many samples, and go to their file.")
    if given["explain"] != "false":
        raise UserError("explain= and features= are both given; leave one out.")
    if not given.get("input", "-"):
        raise UserError("input= is empty; give it a file or a folder, or leave it out for the data of the run.")
    if "input" in given and resolved(given["features"]) == resolved(given["input"]):
        raise UserError("features= would overwrite the input; choose another file.")


def resolved(path: str) -> Path:
    return Path(path).expanduser().resolve()


def check_explain(given: dict[str, str]) -> None:
    if given["explain"] not in EXPLAIN:
        raise UserError(f"There is no explain={given['explain']}{suggest(given['explain'], EXPLAIN)}")
    for key in ("explain_class", "explain_out"):
        if key in given and not given[key]:
            raise UserError(f"{key}= is empty; give it a value, or leave it out.")
        if key in given and given["explain"] == "false":
            raise UserError(f"{key}={given[key]} needs explain=true beside it.")


def explain(predictor: "Predictor", given: dict[str, str]) -> "Reasons":
    """What explains the answers of a predictor, as it was asked for."""
    from zoo.trained.reasons import Reasons

    kind = predictor.preprocessing["kind"]
    if kind not in ("image", "table"):
        what = "texts" if kind == "text" else "a series" if kind == "series" else kind
        raise UserError(f"explain= is for images and tables, and this model was trained on {what}; leave it out.")
    source, folder = (Path(path).expanduser() for path in (given["input"], given.get("explain_out", "explained")))
    method = None if given["explain"] == "true" else given["explain"]
    return Reasons(predictor, source, folder, method, given.get("explain_class"))


def write(lines: Iterable[str], out: str | None) -> int:
    """Prints lines, or writes them to a file; returns how many."""
    remaining = iter(lines)
    first = list(itertools.islice(remaining, 1))  # where nothing can be answered, earlier answers stay
    with contextlib.ExitStack() as stack:
        file = sys.stdout
        if out and first:
            file = stack.enter_context(Path(out).expanduser().open("w", encoding="utf-8"))
        count = 0
        for count, line in enumerate(itertools.chain(first, remaining), start=1):  # noqa: B007 - the last one is wanted
            print(line, file=file)
        file.flush()
    return count


def write_features(predictor: "Predictor", given: dict[str, str], settings: dict[str, Any], allow: list[str]) -> None:
    """Features of inputs, or of the data of the run, with what is known of them."""
    from zoo.trained import features

    if predictor.preprocessing["kind"] == "series":
        raise UserError("features= is for samples, and this model forecasts a series; leave it out.")
    out, notes = Path(given["features"]).expanduser(), []
    kind, classes = predictor.kind, predictor.names
    if "input" in given:
        path, reading = Path(given["input"]).expanduser(), reading_of(given)
        inputs = predictor.open(path, reading)
        target = {"target": given["data.target"]} if "data.target" in given else {}
        known = features.known_of(predictor, path, reading | target)
        kind, classes, notes = known.kind, known.classes, inputs.unreadable
        chunks = features.of_inputs(predictor, inputs, known, path)
    else:
        data = features.data_of(given["ckpt"], settings, allow)
        chunks, classes = features.of_data(predictor, data), data.prepare().class_names or classes
    bar = tqdm(chunks, disable=not sys.stderr.isatty(), unit=" chunks")
    number, width = features.write(out, bar, kind, classes)
    for line in notes:
        print(f"Skipped: {line}", file=sys.stderr)
    labelled = f"labels: {', '.join(classes)}" if kind else "no labels"
    print(f"Written: {given['features']}, {number:,} samples of {width:,} features; {labelled}", file=sys.stderr)


def write_drawn(viewer: "Viewer", given: dict[str, str]) -> int:
    """Masks or boxes of images, told and drawn."""
    for key in ("text", "features", "explain_class", "explain_out"):
        if key in given:
            raise UserError(f"{key}= is not for a model of masks or boxes; give it input=, an image or a folder.")
    if given["explain"] != "false":
        raise UserError("explain= is not for a model of masks or boxes, which says where in the image things are.")
    if not given.get("drawn", "-"):
        raise UserError("drawn= is empty; give it the name of a folder, or leave it out.")
    print(viewer.describe(), file=sys.stderr)
    folder = Path(given.get("drawn", "drawn")).expanduser()
    count = write(viewer.lines(given["input"], folder, as_json=given["format"] == "json"), given.get("out"))
    if count == 0:
        raise UserError(viewer.unreadable[0])
    for line in viewer.unreadable:
        print(f"Skipped: {line}", file=sys.stderr)
    return 0


def reading_of(given: dict[str, str]) -> dict[str, str]:
    return {key: given[f"data.{key}"] for key in ("separator", "encoding", "text") if f"data.{key}" in given}


def main() -> int:
    typed, settings = sys.argv[1:], {}
    keys = {argument.partition("=")[0] for argument in typed}
    if "features" in keys and "input" not in keys:
        typed, settings = data_settings(typed)  # of the data of the run
    given = {"format": "text", "top": "3", "explain": "false", "draws": "0"} | script_arguments(typed, KEYS)
    check(given)
    check_explain(given)
    sys.path.append(str(Path.cwd()))  # for a network of the user's own
    from zoo.checkpoint import find, read
    from zoo.trained import overlay
    from zoo.trained.doubt import Doubt
    from zoo.trained.predict import predictor_of

    allow = [name.strip() for name in given.get("allow", "").split(",") if name.strip()]
    path = find(given["ckpt"])
    checkpoint = read(path)
    if overlay.draws(checkpoint):
        return write_drawn(overlay.viewer_of(checkpoint, path, allow), given)
    if "drawn" in given:
        raise UserError("drawn= is for a model of masks or boxes, and this one answers otherwise; leave it out.")
    predictor = predictor_of(checkpoint, path, allow)
    if "features" in given:
        write_features(predictor, given, settings, allow)
        return 0
    reading = reading_of(given)
    inputs = predictor.typed(given["text"]) if "text" in given else predictor.open(given["input"], reading)
    reasons = None if given["explain"] == "false" else explain(predictor, given)
    doubt = Doubt(predictor, int(given["draws"])) if given["draws"] != "0" else None
    for line in [predictor.describe(), *inputs.notes]:
        print(line, file=sys.stderr)
    # A bar only where somebody looks, and where the answers themselves do not pass by.
    hidden = not sys.stderr.isatty() or ("out" not in given and sys.stdout.isatty())
    answers = tqdm(predictor.answers(inputs, reasons or doubt), total=inputs.total, disable=hidden, unit=" inputs")
    line_of = predictor.json if given["format"] == "json" else predictor.text
    try:
        count = write((line_of(answer, int(given["top"])) for answer in answers), given.get("out"))
    except BrokenPipeError:  # who reads the answers, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if inputs.total == len(inputs.unreadable) == 1:
        raise UserError(inputs.unreadable[0])
    for line in inputs.unreadable:
        print(f"Skipped: {line}", file=sys.stderr)
    if count == 0:
        raise UserError(f"None of the {inputs.total} inputs could be read.")
    if inputs.unreadable:
        print(f"{len(inputs.unreadable)} of {inputs.total} could not be read and were skipped.", file=sys.stderr)
    if reasons is not None:
        print(reasons.summary(), file=sys.stderr)
    if "out" in given:
        print(f"Written: {given['out']}, {count} lines", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
