r"""Writes new text with a trained language model, or makes new images and rows; its checkpoint alone suffices.

python scripts/generate.py ckpt=outputs/2026-01-31/12-00-00-000000_lstm_python_docs prompt="The import statement"
python scripts/generate.py ckpt=... prompt=$'ROMEO:\n' length=1000 temperature=0.7 top_p=0.9 seed=3
python scripts/generate.py ckpt=... samples=3            without a prompt, as at the beginning of a line
python scripts/generate.py ckpt=... interactive=true     goes on with each line that is typed, until Ctrl-D; a model of
                                                         pairs, as of model=seq2seq data=chat, answers it: by its
                                                         search, or drawn, where temperature= or the like is given
python scripts/generate.py ckpt=... n=64 out=samples.png             of model=vae, cvae, gan, dcgan, rbm or dbn
python scripts/generate.py ckpt=... n=4 walk=8 out=walk.png          the ways between four samples, eight steps each
python scripts/generate.py ckpt=... arithmetic="[1,4]-[2]+[7]" out=sum.png    samples by number, added and taken away
"""

import math
import sys
from pathlib import Path
from typing import Any

from zoo.config.commandline import guarded, script_arguments, whole_number
from zoo.errors import UserError

KEYS = {
    "ckpt": "run folder (its best) or .ckpt",
    "prompt": "what the text begins with; without it, as at the beginning of a line or a sentence",
    "length": "how many tokens to write: characters, words or byte pairs, as the model was trained (500)",
    "temperature": "0: always the likeliest token; 1: as the model expects; above: more surprising (0.8)",
    "top_k": "only the k likeliest tokens may come (all)",
    "top_p": "only the likeliest tokens that together reach this probability may come (all)",
    "seed": "the same seed gives the same text (0)",
    "samples": "how many texts to write (1)",
    "interactive": "true: goes on with the lines of the standard input, or answers them, one after another (false)",
    "n": "how many images or rows to make (64)",
    "out": "where they go: .png (images), .csv (rows) or .npz (samples.png, samples.csv)",
    "label": "the class of all of them, a number from 0 on, of a conditional model (all in turn)",
    "walk": "steps from each sample to the next (none)",
    "arithmetic": "a sum of samples by their numbers (none)",
    "special": "whether tokens that stand for no text, such as <unk>, may come: true or false (false)",
    "allow": "a package (with a dot at its end) or name that the checkpoint may use besides the zoo's own",
}
DEFAULTS = {"prompt": "", "length": "500", "temperature": "0.8", "seed": "0", "samples": "1", "special": "false"}
DEFAULTS |= {"interactive": "false"}
OF_SAMPLES = ("n", "out", "label", "walk", "arithmetic")  # keys for models that make images or rows
OF_BOTH = ("ckpt", "seed", "allow")
EXAMPLE = 'python scripts/generate.py ckpt=outputs/<run> prompt="..."    --help shows all keys.'


def number(given: dict[str, str], key: str) -> float:
    try:
        value = float(given[key])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{key}={given[key]} must be a number.")
    return value


def settings(given: dict[str, str]) -> dict[str, Any]:
    """What `Writer.write` needs, out of the texts of the command line. Raises UserError for what means nothing."""
    found: dict[str, Any] = {"length": whole_number(given, "length", 1), "samples": whole_number(given, "samples", 1)}
    found["seed"] = whole_number(given, "seed", 0)
    found["temperature"] = number(given, "temperature")
    if found["temperature"] < 0:
        raise UserError(f"temperature={given['temperature']} must be 0 or more.")
    if given.get("top_k"):
        found["top_k"] = whole_number(given, "top_k", 1)
    if given.get("top_p"):
        found["top_p"] = number(given, "top_p")
        if not 0 < found["top_p"] <= 1:
            raise UserError(f"top_p={given['top_p']} must be above 0 and at most 1.")
    if given["special"] not in ("true", "false"):
        raise UserError(f"special={given['special']} must be true or false.")
    return found | {"special": given["special"] == "true"}


def make_samples(asked: dict[str, str], checkpoint: Any, path: Path, allow: list[str]) -> int:
    """New images or rows of a generator's checkpoint, into a file."""
    from zoo.trained.samples import MOST, ROW, chosen_samples, sampler_of, save

    foreign = [key for key in asked if key not in (*OF_SAMPLES, *OF_BOTH)]
    if foreign:
        raise UserError(f"{foreign[0]}= is for text, and {path} makes images or rows; keys: {', '.join(OF_SAMPLES)}.")
    if asked.get("walk") and asked.get("arithmetic"):
        raise UserError("walk= and arithmetic= are both given; leave one out.")
    given = {"n": "8" if asked.get("walk") else "64", "seed": "0", **asked}
    n, seed = whole_number(given, "n", 1), whole_number(given, "seed", 0)
    label = whole_number(given, "label", 0) if given.get("label") else None
    walk = whole_number(given, "walk", 2) if given.get("walk") else None
    if n * (walk or 1) > MOST:
        raise UserError(f"n={n} would make {n * (walk or 1):,} samples; at most {MOST:,} fit into one file.")
    sampler = sampler_of(checkpoint, path, allow)
    samples = chosen_samples(sampler, n, walk=walk, arithmetic=given.get("arithmetic"), seed=seed, label=label)
    out = given.get("out") or ("samples.png" if samples.ndim == 4 else "samples.csv")
    save(out, samples, columns=walk or (len(samples) if given.get("arithmetic") else ROW))
    print(f"{len(samples)} samples of shape {tuple(samples.shape[1:])}, seed={seed}: {out}", file=sys.stderr)
    return 0


def main() -> int:
    asked = script_arguments(sys.argv[1:], KEYS)
    given = DEFAULTS | asked
    if not given.get("ckpt"):
        raise UserError(f"ckpt= is missing: {EXAMPLE}")
    chosen = settings(given)
    if given["interactive"] not in ("true", "false"):
        raise UserError(f"interactive={given['interactive']} must be true or false.")
    if given["interactive"] == "true" and given["prompt"]:
        raise UserError("prompt= and interactive=true are both given; leave one out.")
    sys.path.append(str(Path.cwd()))  # for a network of the user's own
    from zoo.checkpoint import find, read
    from zoo.trained.generate import how, writer_of
    from zoo.trained.purpose import makes_samples, misplaced
    from zoo.trained.talk import listened_to, say, speaker, talk

    allow = [name.strip() for name in given.get("allow", "").split(",") if name.strip()]
    path = find(given["ckpt"])
    checkpoint = read(path)
    if makes_samples(checkpoint):
        return make_samples(asked, checkpoint, path, allow)
    foreign = [key for key in asked if key in OF_SAMPLES]
    if foreign:
        lacks = f"{foreign[0]}= is for models that make images or rows"
        raise misplaced(path, checkpoint, lacks, "python train.py model=vae")
    with listened_to():
        if given["interactive"] == "true":
            talk(speaker(given["ckpt"], allow, chosen, asked))
            return 0
        writer = writer_of(checkpoint, path, allow)
        prompt = writer.read(given["prompt"])
        say(writer.describe(), how(chosen), *prompt.notes)
        texts = writer.write(prompt, **chosen)
        for i, text in enumerate(texts, start=1):
            if len(texts) > 1:
                print(f"--- {i} of {len(texts)} ---")
            print(writer.whole(prompt, text))
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
