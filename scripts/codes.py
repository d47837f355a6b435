"""What the codes of an autoencoder are worth, on the data of its run: its checkpoint alone suffices.

python scripts/codes.py ckpt=outputs/2026-01-31/12-00-00-000000_autoencoder_digits
python scripts/codes.py ckpt=... part=val clusters=20 out=codes.npz metrics=codes.json
python scripts/codes.py ckpt=... anomaly=3        of a run with data.leave_out=[3]: is the class that it never saw odd?

Dimension reduction: the squared error of a sample, summed over its values, beside that of PCA with as many codes.
Clustering: k-means in the codes, in those of PCA and in the inputs, against the classes. Anomaly detection: the error
of what is said as a sign that a sample is of the class left out, beside that of PCA's error. PCA is fitted to the
training part.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from zoo.config.commandline import guarded, script_arguments, whole_number
from zoo.errors import UserError, suggest

KEYS = {
    "ckpt": "run folder (its best) or .ckpt, of model=autoencoder or another that encodes and decodes",
    "part": "train, val or test (test)",
    "clusters": "groups of k-means (as many as there are classes)",
    "anomaly": "a class that the run left out of training (that of its data.leave_out)",
    "out": "a .npz file for codes, codes of PCA, errors, labels and class names",
    "metrics": "a .json file for the numbers in full precision",
    "allow": "a package (with a dot at its end) or name that the checkpoint may use besides the zoo's own",
}
EXAMPLE = "python scripts/codes.py ckpt=outputs/<run>    --help shows all keys."
PARTS = ("train", "val", "test")
CHUNK = 1024  # samples


class Seen(NamedTuple):
    """A part through the model: inputs (N, F), codes (N, Z), errors (N,), labels (N,) or None where there are none."""

    x: Any
    codes: Any
    errors: Any
    labels: Any


def check(given: dict[str, str]) -> None:
    if not given.get("ckpt"):
        raise UserError(f"ckpt= is missing: {EXAMPLE}")
    if given["part"] not in PARTS:
        raise UserError(f"There is no part '{given['part']}'{suggest(given['part'], PARTS)}")
    if "clusters" in given:
        whole_number(given, "clusters", 1)
    for key, ending in (("out", ".npz"), ("metrics", ".json")):
        if key in given and not given[key].endswith(ending):
            raise UserError(f"{key}={given[key]} must be the name of a {ending} file.")


def odd_class(wanted: str | None, data: Any, names: list[str]) -> int | None:
    """The number of the class whose samples are to be found odd; None where the run left none out."""
    left_out = list(getattr(data, "left_out", []))
    if wanted is None:
        return left_out[0] if len(left_out) == 1 else None
    if not names or not hasattr(data, "left_out"):
        raise UserError(f"anomaly={wanted} is for images with classes that can be left out, such as data=digits.")
    if wanted not in names:
        raise UserError(f"There is no class anomaly={wanted}{suggest(wanted, names)}")
    if names.index(wanted) not in left_out:
        raise UserError(
            f"anomaly={wanted}: the run was trained on that class; train one without it: data.leave_out=[{wanted}]."
        )
    return names.index(wanted)


def through(model: Any, part: Any, config: dict[str, Any]) -> Seen:
    """Every sample of a part, encoded and said again. A distribution over codes stands for its mean."""
    import torch

    from zoo.losses.reconstruction import squared_errors

    logits = (config.get("task") or {}).get("loss") == "bce" or getattr(model, "likelihood", "") == "bernoulli"
    rows, codes, errors, labels = [], [], [], []
    with torch.inference_mode():
        for places in torch.arange(len(part)).split(CHUNK):
            batch = part[places]
            x, label = batch.inputs[0], (batch.targets,) if getattr(model, "num_classes", None) else ()
            found = model.encode(x, *label)
            found = found[0] if isinstance(found, tuple) else found  # (n, Z)
            said = model.decode(found, *label)
            rows.append(x.flatten(1))
            codes.append(found)
            errors.append(squared_errors(said.sigmoid() if logits else said, x).double())
            labels.append(batch.targets)
    known = torch.cat(labels)
    classes = known.ndim == 1 and not known.is_floating_point()
    return Seen(torch.cat(rows), torch.cat(codes), torch.cat(errors), known if classes else None)


def load(source: str, allow: list[str]) -> tuple[Path, dict[str, Any], Any, Any]:
    """Path, contents, model and data of a checkpoint. Raises UserError where its model makes no codes."""
    from zoo.checkpoint import build_model, check_targets, find, read
    from zoo.trained.evaluate import build_data, prepare_torch

    path = find(source)
    checkpoint = read(path)
    model: Any = build_model(checkpoint, path, allow)
    if not (hasattr(model, "encode") and hasattr(model, "decode") and hasattr(model, "latent_size")):
        raise UserError(
            f"{path} holds {type(model).__name__}, which makes no codes; train one that does, for instance "
            "python train.py model=autoencoder."
        )
    if not isinstance(checkpoint.get("preprocessing"), dict):
        raise UserError(f"{path} does not say how its data was prepared; only checkpoints of train.py can be used.")
    check_targets(checkpoint["config"].get("data"), allow, "data")
    prepare_torch(checkpoint["config"])
    return path, checkpoint, model, build_data(checkpoint, {})


def judge(
    seen: Seen, pca: Any, clusters: int | None, odd: int | None, left_out: Sequence[int] = ()
) -> dict[str, float]:
    """All numbers, by name.

    Args:
        odd: the class whose samples are to be found odd.
        left_out: all that training never saw; those besides `odd` are neither odd nor usual.
    """
    import torch

    from zoo.losses.reconstruction import squared_errors
    from zoo.metrics.codes import auroc, clustering

    constant = float(squared_errors(seen.x.double(), pca.mean).mean())
    errors = {"": seen.errors, "pca_": pca.squared_errors(seen.x)}
    found: dict[str, float] = {"constant_squared_error": constant}
    for name, values in errors.items():
        found[f"{name}squared_error"] = float(values.mean())
        if constant > 0:
            found[f"{name}r2"] = 1 - float(values.mean()) / constant
    if clusters is not None:
        spaces = {"codes": seen.codes, "pca": pca.encode(seen.x), "inputs": seen.x}
        for name, space in spaces.items():
            found[f"nmi_{name}"], found[f"ari_{name}"] = clustering(space, seen.labels, clusters)
    if odd is not None:
        usual = ~torch.isin(seen.labels, torch.tensor([*left_out], dtype=seen.labels.dtype))
        asked = usual | (seen.labels == odd)
        for name, values in errors.items():
            found[f"{name}auroc"] = auroc(values[asked], seen.labels[asked] == odd)
    return found


def lines(found: dict[str, float], size: int, clusters: int | None, odd: str | None) -> list[str]:
    """The numbers, for people."""
    ours, pca, constant = (found[f"{name}squared_error"] for name in ("", "pca_", "constant_"))
    told = [f"Squared error of a sample: {ours:.4g}, PCA with {size} codes {pca:.4g}, its mean alone {constant:.4g}"]
    if "r2" in found:
        told.append(f"Variance explained: {found['r2']:.1%}, PCA {found['pca_r2']:.1%}")
    if clusters is not None:
        for name in ("nmi", "ari"):
            values = [f"{space} {found[f'{name}_{space}']:.3f}" for space in ("codes", "pca", "inputs")]
            told.append(f"k-means, {clusters} groups, {name.upper()} against the classes: {', '.join(values)}")
    if odd is not None:
        told.append(f"Class {odd}, never seen, by its error: AUROC {found['auroc']:.3f}, PCA {found['pca_auroc']:.3f}")
    return told


def main() -> int:
    given = {"part": "test"} | script_arguments(sys.argv[1:], KEYS, positional="ckpt")
    check(given)
    sys.path.append(str(Path.cwd()))  # for a network of the user's own
    import numpy as np
    import torch

    from zoo.metrics.codes import fit_pca
    from zoo.running.report import write_json

    allow = [name.strip() for name in given.get("allow", "").split(",") if name.strip()]
    path, checkpoint, model, data = load(given["ckpt"], allow)
    part, train = data.part(given["part"]), data.part("train")
    seen = through(model, part, checkpoint["config"])
    names = [str(name) for name in checkpoint.get("classes") or ()] if seen.labels is not None else []
    odd = odd_class(given.get("anomaly"), data, names)
    if odd is not None and "anomaly" not in given and not bool((seen.labels == odd).any()):
        odd = None  # nobody asked, and this part has none of it
    if "clusters" in given and seen.labels is None:
        raise UserError("clusters= are compared with classes, and this data has none; leave it out.")
    clusters = None
    if seen.labels is not None:
        clusters = int(given.get("clusters", min(len(names) or len(seen.labels.unique()), len(seen.x))))
    size = int(model.latent_size)
    chunks = (train[places].inputs[0].flatten(1) for places in torch.arange(len(train)).split(CHUNK))
    pca = fit_pca(chunks, size)
    found = judge(seen, pca, clusters, odd, getattr(data, "left_out", ()))
    print(f"{path}, {given['part']} part: {len(seen.x)} samples of {seen.x.shape[1]} values, {size} codes")
    for line in lines(found, size, clusters, None if odd is None else names[odd]):
        print(line)
    if "out" in given:
        labels = {} if seen.labels is None else {"labels": seen.labels.numpy(), "class_names": np.array(names)}
        arrays = {"codes": seen.codes, "pca_codes": pca.encode(seen.x), "errors": seen.errors}
        np.savez(Path(given["out"]).expanduser(), **{name: x.numpy() for name, x in arrays.items()}, **labels)
        print(f"Written: {given['out']}")
    if "metrics" in given:
        print(f"Written: {write_json(given['metrics'], found)}")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
