r"""Which words are alike, by the vectors that a run has learnt; its checkpoint alone suffices.

python scripts/neighbours.py ckpt=outputs/2026-01-31/12-00-00-000000_skipgram_words_docs word=import
python scripts/neighbours.py ckpt=... word=import top=20
python scripts/neighbours.py ckpt=... analogy="list lists class"      what is to class as lists is to list
"""

import sys
from pathlib import Path
from typing import Any

from zoo.config.commandline import guarded, script_arguments, whole_number
from zoo.errors import UserError

KEYS = {
    "ckpt": "run folder (its best) or .ckpt, of model=skipgram, model=cbow or another that reads words",
    "word": "whose neighbours are wanted; several with a space between them",
    "analogy": "three words, a b c: what is to c as b is to a",
    "top": "how many answers (10)",
    "allow": "a package (with a dot at its end) or name that the checkpoint may use besides the zoo's own",
}
DEFAULTS = {"word": "", "analogy": "", "top": "10", "allow": ""}
EXAMPLE = "python scripts/neighbours.py ckpt=outputs/<run> word=import    --help shows all keys."


def words_of(source: str, allow: list[str]) -> Any:
    """The words of a checkpoint with their vectors. Raises UserError where it has none."""
    from torch import nn

    from zoo.checkpoint import build_model, find, read
    from zoo.metrics.embeddings import Words
    from zoo.text import BOS, EOS, MASK, PAD, UNKNOWN, load

    path = find(source)
    checkpoint = read(path)
    preprocessing = checkpoint.get("preprocessing")
    saved = preprocessing.get("tokenizer") if isinstance(preprocessing, dict) else None
    if not isinstance(saved, dict):
        of_pairs = isinstance(preprocessing, dict) and "tgt_tokenizer" in preprocessing
        has = "is a model of pairs, with words of two sides" if of_pairs else "has no vocabulary"
        raise UserError(f"{path} {has}; train word vectors first, for instance python train.py model=skipgram.")
    tokenizer, model = load(saved), build_model(checkpoint, path, allow)
    tables = (module.weight for module in model.modules() if isinstance(module, nn.Embedding))
    fitting = [table for table in tables if len(table) == tokenizer.vocab_size]
    vectors = getattr(model, "vectors", fitting[0] if fitting else None)
    if vectors is None:
        raise UserError(f"{path} is of a {type(model).__name__}, which has no vectors of words; use model=skipgram.")
    return Words(tokenizer.tokens, vectors, leave_out=(PAD, UNKNOWN, BOS, EOS, MASK))


def line(title: str, found: list[tuple[str, float]]) -> str:
    return f"{title}: " + (", ".join(f"{word} {similar:.3f}" for word, similar in found) or "no other word")


def main() -> int:
    given = DEFAULTS | script_arguments(sys.argv[1:], KEYS)
    if not given.get("ckpt"):
        raise UserError(f"ckpt= is missing: {EXAMPLE}")
    asked, three = given["word"].split(), given["analogy"].split()
    if not asked and not three:
        raise UserError(f"word= or analogy= is missing: {EXAMPLE}")
    if three and len(three) != 3:
        raise UserError(f'analogy="{given["analogy"]}" must be three words, for instance analogy="list lists class".')
    top = whole_number(given, "top", 1)
    sys.path.append(str(Path.cwd()))  # for a network of the user's own
    words = words_of(given["ckpt"], [name.strip() for name in given["allow"].split(",") if name.strip()])
    for word in (*asked, *three):
        words.find(word)  # one that is unknown is said before any answer
    for word in asked:
        print(line(word, words.neighbours(word, top)))
    if three:
        a, b, c = three
        print(line(f"{a} : {b} = {c} : ?", words.analogy(a, b, c, top)))
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
