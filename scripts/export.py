"""Writes a trained network for use elsewhere, and checks that it answers as the checkpoint does.

python scripts/export.py ckpt=outputs/2026-01-31/12-00-00-000000_lenet5_digits out=lenet5.safetensors half=true
python scripts/export.py ckpt=... out=lenet5.pt2
python scripts/export.py ckpt=... out=lenet5.onnx

.safetensors holds weights, configuration, classes and how inputs were prepared: the zoo's scripts take it as ckpt=.
.pt2 is torch.export's, and runs without the zoo. .onnx runs without torch; it is written with the extra `onnx`:
pip install "torch-reference-zoo[onnx]".
"""

import sys

from zoo.config.commandline import guarded, script_arguments
from zoo.errors import UserError

KEYS = {
    "ckpt": "run folder (its best), .ckpt or .safetensors file",
    "out": "the file to write: .safetensors, .pt2 or .onnx",
    "half": "true: weights in 16 bits; for .safetensors (false)",
    "allow": "a package (with a dot at its end) or name that the checkpoint may use besides the zoo's own",
}
EXAMPLE = "python scripts/export.py ckpt=outputs/<run> out=model.onnx    --help shows all keys."


def main() -> int:
    given = script_arguments(sys.argv[1:], KEYS)
    for key in ("ckpt", "out"):
        if not given.get(key):
            raise UserError(f"{key}= is missing: {EXAMPLE}")
    if given.get("half", "false") not in ("true", "false"):
        raise UserError(f"half={given['half']} must be true or false.")
    from zoo.trained.export import export

    allow = [given["allow"]] if given.get("allow") else []
    print(export(given["ckpt"], given["out"], half=given.get("half") == "true", allow=allow))
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
